"""How the API's messages travel: between clients and the head, and between the head and its engine.

One connection carries, in both directions, frames of four bytes of length (big endian) and a MessagePack array: what it
is, the number of the request, and the message as its bytes. Requests are answered in any order; a request whose client
leaves is cancelled. It is the same over a unix socket, which only this user may use, and over the mesh, which leads to
that socket. What the messages are is said in `api`.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from raycolab.errors import ClusterError, NoHeadError, RaycolabError, UsageError
from raycolab.node.api import EngineIsUp, Problem, Request, decode, encode

__all__ = [
    "FRAME_BYTES",
    "MAX_CLIENTS",
    "OTHER_VERSION",
    "Channel",
    "Client",
    "EngineLine",
    "Place",
    "Server",
    "SupervisorLine",
]

FRAME_BYTES = 32 * 1024 * 1024  # a MAIN with pictures in it is the longest thing sent
MAX_CLIENTS = 256  # connections at a time; a kernel keeps one or two, one more while it pulls
CLIENT_REQUESTS = 16  # that one client may have open; what comes after them is not read
ENGINE_REQUESTS = 1024  # the same for the supervisor, which passes on what its clients ask
SILENCE_S = 30.0  # for the first frame of a client, and for each further piece of a frame
SEND_S = 30.0  # for a client to read what it is sent
BUSY_READ_S = 1.0  # for the request of a client that is one too many
CLOSE_GRACE_S = 2.0  # for requests that are being answered when the server closes
REDIAL_S = 0.5  # between two tries of the engine to reach the supervisor
RESTART_S = 20.0  # for an engine that is being restarted
KEPT_CONNECTIONS = 4  # of a client

_CHUNK = 256 * 1024
_LENGTH = struct.Struct(">I")
_SHORTER = {  # what to do about a request that is too long
    "'Declare'": "clear the outputs of MAIN, or take large data out of its cells, and declare it again",
    "'Push'": "send fewer or shorter values",
}
_ONLY = 1  # the number of a request that is the only one of its connection

OTHER_VERSION = (
    "The head that runs here is of another version of raycolab: end it with `raycolab down`, and start it again."
)

A = TypeVar("A")

_log = logging.getLogger(__name__)


class _Kind(enum.IntEnum):
    """What a frame is."""

    REQUEST = 0
    ANSWER = 1
    PROBLEM = 2  # the answer is an error; with number 0 the end of the connection
    NOTICE = 3  # wants no answer


class _LostError(ConnectionResetError):
    """The connection ended before the answer came."""


class _Tagged(msgspec.Struct, frozen=True):
    """Any message, for its name."""

    type: str


class _Frame(msgspec.Struct, frozen=True, array_like=True):
    kind: _Kind
    number: int
    body: msgspec.Raw


Answer = Callable[[bytes, "Channel"], Awaitable[bytes]]
"""The answer to a request, both as bytes; raises RaycolabError for a no. Cancelled when the client leaves first."""

Hear = Callable[[bytes, "Channel"], None]
"""Takes a notice in."""


def _framed(kind: _Kind, number: int, body: bytes) -> bytes:
    """A frame; UsageError when it is too long to be sent."""
    frame = encode(_Frame(kind, number, msgspec.Raw(body)))
    if len(frame) > FRAME_BYTES:
        cure = _SHORTER.get(_name_of(body), "ask for less")
        raise UsageError(
            f"This takes {len(frame) / 2**20:.0f} MiB to say, and no message has more than {FRAME_BYTES // 2**20} MiB:"
            f" {cure}."
        )
    return _LENGTH.pack(len(frame)) + frame


def _problem(number: int, error: RaycolabError) -> bytes:
    return _framed(_Kind.PROBLEM, number, encode(Problem.of(error)))


class Channel:
    """One connection, at either end of it."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answer: Answer,
        hear: Hear | None = None,
        *,
        at_once: int = CLIENT_REQUESTS,
    ) -> None:
        """What comes while `at_once` requests are being answered is not read yet."""
        self._reader = reader
        self._writer = writer
        self._answer = answer
        self._hear = hear
        self._at_once = at_once
        self._asked: dict[int, asyncio.Future[bytes]] = {}
        self._last_number = 0
        self._answering: set[asyncio.Task[None]] = set()
        self._has_spoken = False  # who is at the other end
        self._has_ended = False
        self.used_at = time.monotonic()  # when the last frame came
        self.is_engine = False
        # Called once, when the connection has ended.
        self.on_end: Callable[[], None] = lambda: None

    @property
    def is_busy(self) -> bool:
        """Whether something is being answered."""
        return bool(self._answering)

    async def ask(self, body: bytes) -> bytes:
        """The answer to a request. Raises the error that is answered; _LostError when the connection ends first."""
        if self._has_ended:
            raise _LostError
        self._last_number += 1
        number = self._last_number
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._asked[number] = answered
        try:
            await self._send(_framed(_Kind.REQUEST, number, body))
            return await answered
        finally:
            del self._asked[number]

    def tell(self, body: bytes) -> None:
        """Send what needs no answer; it is dropped when the connection has ended, or nothing is read at its end."""
        if not self._has_ended and self._writer.transport.get_write_buffer_size() < FRAME_BYTES:
            self._writer.write(_framed(_Kind.NOTICE, 0, body))

    async def refuse(self, error: RaycolabError) -> None:
        """Answer whatever is asked first with this error."""
        with contextlib.suppress(TimeoutError, msgspec.DecodeError):  # closing over an unread request loses the answer
            await asyncio.wait_for(self._read(), BUSY_READ_S)
        await self._send(_problem(0, error))

    async def run(self) -> None:
        """Read until the connection ends; then whatever is being answered is cancelled."""
        try:
            while (frame := await self._read()) is not None:
                await self._take(frame)
        except msgspec.DecodeError:
            with contextlib.suppress(OSError):
                await self._send(_problem(0, ClusterError("The head received something that is not a valid request.")))
        except OSError as error:  # it left, or it is too slow (TimeoutError)
            _log.debug("a connection ended: %s", type(error).__name__)
        finally:
            await self._end()

    async def finish(self, grace_s: float) -> None:
        """Let what is being answered be answered within this time."""
        if self._answering:
            await asyncio.wait(self._answering, timeout=grace_s)

    async def _end(self) -> None:
        self._has_ended = True
        self.on_end()
        self._writer.close()
        for answered in self._asked.values():
            if not answered.done():
                answered.set_exception(_LostError())
        for task in self._answering:
            task.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)

    async def _take(self, frame: _Frame) -> None:
        match frame.kind:
            case _Kind.REQUEST:
                while len(self._answering) >= self._at_once:
                    await asyncio.wait(self._answering, return_when=asyncio.FIRST_COMPLETED)
                task = asyncio.create_task(self._answer_one(frame.number, bytes(frame.body)))
                self._answering.add(task)
                task.add_done_callback(self._answering.discard)
            case _Kind.NOTICE if self._hear is not None:
                self._hear(bytes(frame.body), self)
            case _Kind.ANSWER | _Kind.PROBLEM if answered := self._asked.get(frame.number):
                if answered.done():
                    return
                if frame.kind is _Kind.ANSWER:
                    answered.set_result(bytes(frame.body))
                else:
                    answered.set_exception(decode(frame.body, Problem).as_error())

    async def _answer_one(self, number: int, body: bytes) -> None:
        try:
            try:
                frame = _framed(_Kind.ANSWER, number, await self._answer(body, self))
            except RaycolabError as error:
                frame = _problem(number, error)
            except Exception as error:
                # A bug of ours in one request: its client is told, the others are served on.
                _log.exception("a request failed")
                what = f"The head failed in the request {_name_of(body)} ({type(error).__name__})"
                frame = _problem(number, RaycolabError(f"{what}: its log says more. Please report it."))
            await self._send(frame)
        except OSError:  # it left, or it does not read
            self._writer.transport.abort()

    async def _send(self, frame: bytes) -> None:
        self._writer.write(frame)
        async with asyncio.timeout(SEND_S):
            await self._writer.drain()

    async def _read(self) -> _Frame | None:
        """The next frame; None at the end. Raises OSError, and msgspec.DecodeError for what is none."""
        try:
            async with asyncio.timeout(None if self._has_spoken else SILENCE_S):
                (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
        except asyncio.IncompleteReadError:
            return None
        if length > FRAME_BYTES:
            raise msgspec.DecodeError("too long")
        received = bytearray()
        while len(received) < length:
            async with asyncio.timeout(SILENCE_S):
                piece = await self._reader.read(min(length - len(received), _CHUNK))
            if not piece:
                return None
            received += piece
        frame: _Frame = decode(bytes(received), _Frame)
        self._has_spoken = True
        self.used_at = time.monotonic()
        return frame


class Server:
    """Answers requests at a unix socket of mode 0600, for clients of the same user.

    The path should lie in a directory of mode 0700. Clients keep their connections: where there are too many, the one
    that has been idle for longest makes room.
    """

    def __init__(self, path: Path, answer: Answer, hear: Hear | None = None) -> None:
        self._path = path
        self._answer = answer
        self._hear = hear
        self._server: asyncio.Server | None = None
        self._clients: dict[Channel, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Listen. Raises ClusterError when the path cannot be bound."""
        try:
            self._server = await asyncio.start_unix_server(self._serve, path=self._path)
            self._path.chmod(0o600)
        except OSError as error:
            raise ClusterError(
                f"The head's control socket {self._path} cannot be made ({error}): set TMPDIR to a folder of a short"
                " path that you may write to, such as /tmp."
            ) from error

    async def close(self) -> None:
        """Stop listening; what is being answered gets CLOSE_GRACE_S to be answered."""
        if self._server is not None:
            self._server.close()
        await asyncio.sleep(0)  # whoever was accepted at this moment becomes a client
        await asyncio.gather(*(channel.finish(CLOSE_GRACE_S) for channel in self._clients if not channel.is_engine))
        tasks = list(self._clients.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from first to last."""
        task = asyncio.current_task()
        assert task is not None
        channel = Channel(reader, writer, self._answer, self._hear)
        self._clients[channel] = task
        try:
            if (user := _user_of(writer)) != os.getuid():
                _log.warning("refused a client of user %d", user)
            elif len(self._clients) > MAX_CLIENTS and not self._make_room(channel):
                await channel.refuse(ClusterError("Too many programs talk to the head at this moment: try again."))
            else:
                await channel.run()
        except (OSError, asyncio.CancelledError):
            # It left, or it is too slow (TimeoutError), or we end it: asyncio logs a cancelled task of a stream.
            pass
        finally:
            del self._clients[channel]
            writer.close()

    def _make_room(self, newest: Channel) -> bool:
        """End the connection that has been idle for longest; whether there was one."""
        idle = [channel for channel in self._clients if not (channel.is_busy or channel.is_engine or channel is newest)]
        if idle:
            self._clients[min(idle, key=lambda channel: channel.used_at)].cancel()
        return bool(idle)


def _user_of(writer: asyncio.StreamWriter) -> int:
    """The user who connected, as the kernel says: SO_PEERCRED (unix(7)) is process, user and group."""
    connection = writer.get_extra_info("socket")
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(user)


class EngineLine:
    """The head's end of the line to the engine that runs, if one does."""

    def __init__(self, why_gone: Callable[[], str | None]) -> None:
        """`why_gone` gives the sentence for an engine that will not be started again, None for one that will."""
        self._why_gone = why_gone
        self._channel: Channel | None = None
        # Set while an engine is connected.
        self.up = asyncio.Event()

    def connected(self, channel: Channel) -> None:
        """An engine dialled in; after a restart of the actor, anew."""
        self._channel = channel
        channel.is_engine = True
        channel.on_end = lambda: self._lost(channel)
        self.up.set()

    def is_heard(self, channel: Channel) -> bool:
        """Whether this is the line of the engine that runs."""
        return channel is self._channel

    def tell(self, notice: object) -> None:
        """Send what needs no answer, and no engine either."""
        if self._channel is not None:
            self._channel.tell(encode(notice))

    async def ask(self, body: bytes, *, restart_s: float = RESTART_S) -> bytes:
        """The engine's answer to a request; what the last engine took with it the next one is asked again.

        A third one is not: it may be the request that ends them. Raises what the engine answers with, and ClusterError
        when none comes back.
        """
        with contextlib.suppress(_LostError):
            return await (await self._running(restart_s)).ask(body)
        try:
            return await (await self._running(restart_s)).ask(body)
        except _LostError as error:
            raise ClusterError(self._why_gone() or "The engine ended before it answered: try again.") from error

    async def _running(self, restart_s: float) -> Channel:
        try:
            async with asyncio.timeout(0 if self._why_gone() else restart_s):
                await self.up.wait()
        except TimeoutError:
            again = "The sweep engine is restarting: try again in a few seconds."
            raise ClusterError(self._why_gone() or again) from None
        assert self._channel is not None  # it is up
        return self._channel

    def _lost(self, channel: Channel) -> None:
        if self._channel is channel:
            self._channel = None
            self.up.clear()


class SupervisorLine:
    """The engine's end of that line, dialled again whenever it is lost."""

    def __init__(self, path: str, answer: Answer, hear: Hear) -> None:
        self._path = path
        self._answer = answer
        self._hear = hear
        self._channel: Channel | None = None
        self._news: bytes | None = None  # the newest, sent again on every new connection

    def tell(self, news: object) -> None:
        """Send this now, or when the line is up again if nothing newer has come by then."""
        self._news = encode(news)
        if self._channel is not None:
            self._channel.tell(self._news)

    async def run(self) -> None:
        """Keep the line up until cancelled."""
        while True:
            with contextlib.suppress(OSError):
                await self._serve(*await asyncio.open_unix_connection(self._path))
            await asyncio.sleep(REDIAL_S)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        channel = Channel(reader, writer, self._answer, self._hear, at_once=ENGINE_REQUESTS)
        running = asyncio.create_task(channel.run())
        try:
            await channel.ask(encode(EngineIsUp()))
            self._channel = channel
            if self._news is not None:
                channel.tell(self._news)
            await running
        except RaycolabError as error:
            _log.warning("the supervisor refuses the line: %s", error)
        finally:
            self._channel = None
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


class Place(NamedTuple):
    """Where a head is reached."""

    path: str  # of a unix socket
    ended: str  # the sentence for a connection that ends before the answer
    away_s: float = 0.0  # for how long the way to it may be interrupted


class Client:
    """The synchronous client, for kernels and the command line; any number of threads may ask at once.

    It keeps its connections, so that asking again needs no new one, and connects anew after the head was restarted.
    """

    def __init__(self, locate: Callable[[], Place]) -> None:
        """`locate` says where the head is now; it is asked for each new connection."""
        self._locate = locate
        self._lock = threading.Lock()
        self._kept: list[_Connection] = []

    def ask(self, request: Request[A], *, timeout_s: float | None = None) -> A:
        """The answer. Raises the head's error as its own class, NoHeadError when nobody listens, ClusterError.

        Unless `timeout_s` is given it waits for as long as the request may take, and the way be interrupted.
        """
        began = time.monotonic()

        def deadline(place: Place) -> float:
            return began + (request.timeout_s + place.away_s if timeout_s is None else timeout_s)

        message = _framed(_Kind.REQUEST, _ONLY, encode(request))
        try:
            connection, frame = self._exchange(message, deadline)
        except TimeoutError:
            waited = f"{round(time.monotonic() - began, 1):g} s"
            raise ClusterError(f"The head did not answer within {waited}: it is busy or stalled; try again.") from None
        self._keep(connection)
        try:
            if frame.kind is _Kind.PROBLEM:
                raise decode(frame.body, Problem).as_error()
            answer: A = decode(frame.body, request.answer_type())
        except msgspec.DecodeError as error:
            raise ClusterError(OTHER_VERSION) from error
        return answer

    def close(self) -> None:
        """End the connections that are kept; asking again makes a new one."""
        with self._lock:
            kept, self._kept = self._kept, []
        for connection in kept:
            connection.close()

    def _exchange(self, message: bytes, deadline: Callable[[Place], float]) -> tuple[_Connection, _Frame]:
        """The answer, on a connection that was kept where there is one; what that one took with it is asked again."""
        if (kept := self._take()) is not None:
            with contextlib.suppress(_LostError):
                return kept, kept.exchange(message, deadline(kept.place))
        place = self._locate()
        new = _Connection(place, deadline(place))
        try:
            return new, new.exchange(message, deadline(place))
        except _LostError as error:
            raise ClusterError(new.place.ended) from error

    def _take(self) -> _Connection | None:
        """A connection that is up, the one used last."""
        while True:
            with self._lock:
                if not self._kept:
                    return None
                connection = self._kept.pop()
            if connection.is_usable():
                return connection
            connection.close()

    def _keep(self, connection: _Connection) -> None:
        with self._lock:
            if len(self._kept) < KEPT_CONNECTIONS:
                self._kept.append(connection)
                return
        connection.close()


class _Connection:
    """One connection of a client, with one request at a time. It is closed when that does not end with its answer."""

    def __init__(self, place: Place, deadline: float) -> None:
        """Raises NoHeadError when nobody listens, TimeoutError when the deadline has passed."""
        self.place = place
        self._process = os.getpid()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(_seconds_until(deadline))
            self._socket.connect(place.path)
        except OSError as error:
            self._socket.close()
            if isinstance(error, TimeoutError):
                raise
            raise NoHeadError(
                "No head answers here: start one with `raycolab head` or raycolab.start_head(), or give the --data-dir"
                " of the one that runs."
            ) from error

    def is_usable(self) -> bool:
        """Whether the head has not closed it, and this process has made it: a fork must not speak on its parent's."""
        try:
            self._socket.setblocking(False)
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return self._process == os.getpid()
        except OSError:
            return False
        return False  # its end, or words that nobody asked for

    def exchange(self, message: bytes, deadline: float) -> _Frame:
        """Send a request and give its answer. Raises _LostError when the connection ends first, TimeoutError."""
        try:
            self._socket.settimeout(_seconds_until(deadline))
            self._socket.sendall(message)
            (length,) = _LENGTH.unpack(self._receive(_LENGTH.size, deadline))
            if length > FRAME_BYTES:
                raise ConnectionResetError
            frame: _Frame = decode(self._receive(length, deadline), _Frame)
        except TimeoutError:
            self.close()
            raise
        except (OSError, msgspec.DecodeError) as error:
            self.close()
            raise _LostError from error
        except BaseException:  # interrupted: the head stops working for a client that leaves
            self.close()
            raise
        return frame

    def close(self) -> None:
        """End it."""
        self._socket.close()

    def _receive(self, size: int, deadline: float) -> bytes:
        received = bytearray()
        while len(received) < size:
            self._socket.settimeout(_seconds_until(deadline))
            data = self._socket.recv(min(size - len(received), _CHUNK))
            if not data:
                raise ConnectionResetError
            received += data
        return bytes(received)


def _seconds_until(deadline: float) -> float:
    return max(deadline - time.monotonic(), 0.001)


def _name_of(body: bytes) -> str:
    """What a request calls itself."""
    try:
        return repr(decode(body, _Tagged).type)
    except msgspec.DecodeError:
        return "that came"
