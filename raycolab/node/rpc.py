"""The local socket between a supervisor and its clients: kernels, the command line, the engine actor.

JSON lines over a unix socket that only this user may use. A client connects, sends `{"op": ..., ...}` and gets
`{"ok": true, ...}` or `{"ok": false, "error": SENTENCE, "kind": CLASS}`, where CLASS is a name in `raycolab.errors`;
that is all. A connection whose line is `{"op": "engine", ...}` lives on and turns round, as an `EngineChannel`: the
server sends `{"id": 7, "op": ...}` and gets `{"id": 7, "ok": ...}`, between them `{"progress": {...}}`; what it sends
without an id is not answered.

What the operations are is the supervisor's business, not known here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raycolab import errors
from raycolab.errors import ClusterError, NoHeadError, RaycolabError

__all__ = [
    "LINE_BYTES",
    "MAX_CLIENTS",
    "ControlClient",
    "ControlServer",
    "EngineChannel",
    "EngineLine",
    "Peer",
    "decode_line",
    "encode_line",
    "error_answer",
    "error_from",
]

LINE_BYTES = 32 * 1024 * 1024  # a MAIN with pictures in it is the longest thing sent
MAX_CLIENTS = 64  # connections at a time; a panel that asks twice a second needs one
REQUEST_TIMEOUT_S = 30.0  # a client that says nothing
SEND_TIMEOUT_S = 30.0  # a client that does not read its answer
CLOSE_GRACE_S = 2.0  # for requests that are being answered when the server closes
BUSY_READ_S = 1.0  # for the request of a client that is one too many
CHUNK = 64 * 1024

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end, as the kernel says."""

    pid: int
    uid: int


Answer = Callable[[dict[str, Any], Peer], Awaitable[dict[str, Any] | None]]
"""The fields of the answer to a request; raises RaycolabError for a no. Cancelled when the client leaves first."""


def encode_line(message: Mapping[str, Any]) -> bytes:
    """A message as one line. Raises ClusterError when it is longer than LINE_BYTES."""
    line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
    if len(line) > LINE_BYTES:
        raise ClusterError(
            f"A message of {len(line) / 2**20:.0f} MiB is too long for the head's control socket, which takes"
            f" {LINE_BYTES // 2**20} MiB: clear the outputs of MAIN and try again."
        )
    return line


def decode_line(line: bytes) -> dict[str, Any]:
    """The message of a line; ValueError for anything but a JSON object."""
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("not a JSON object")
    return message


def error_answer(error: RaycolabError) -> dict[str, Any]:
    """An error as an answer."""
    return {"ok": False, "error": str(error), "kind": type(error).__name__, "exit_code": error.exit_code}


def error_from(answer: Mapping[str, Any]) -> RaycolabError:
    """The error that an answer with `ok` false stands for, of its own class where `errors` has it, else by its code."""
    kind = answer.get("kind")
    if isinstance(kind, str) and kind in errors.__all__:
        found = getattr(errors, kind)
    else:  # one that is made where it is raised, as the store's
        alike = (errors.UsageError, ClusterError)
        found = next((each for each in alike if each.exit_code == answer.get("exit_code")), RaycolabError)
    error: RaycolabError = found(str(answer.get("error") or "The head refused without a reason."))
    return error


class EngineChannel:
    """The supervisor's end of the engine's connection: requests with an id, answers and progress in any order."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._next_id = 1
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}  # bounded by the callers, each with a deadline
        self._lost = asyncio.Event()
        # What is told of every progress line; set it before awaiting anything.
        self.on_progress: Callable[[dict[str, Any]], None] = lambda progress: None
        # Called once, when the connection has ended.
        self.on_lost: Callable[[], None] = lambda: None

    async def request(self, message: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """Send an operation and give the fields of its answer; raises the engine's error, or ClusterError."""
        if self._lost.is_set():
            raise ClusterError("The engine is gone: wait until the head has started it again, and try again.")
        number, self._next_id = self._next_id, self._next_id + 1
        answered = asyncio.get_running_loop().create_future()
        self._waiting[number] = answered
        try:
            async with asyncio.timeout(timeout_s):
                self._writer.write(encode_line({**message, "id": number}))
                await self._writer.drain()
                answer = await answered
        except TimeoutError:
            raise ClusterError(
                f"The engine did not answer within {timeout_s:g} s: it is busy or stalled; try again."
            ) from None
        except OSError as error:
            raise ClusterError("The engine ended before it answered: try again.") from error
        finally:
            del self._waiting[number]
        return _fields(answer, drop=("ok", "id"))

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send what needs no answer; to an engine that is gone it is not worth sending."""
        if not self._lost.is_set():
            self._writer.write(encode_line(message))

    async def lost(self) -> None:
        """Return when the engine's connection has ended."""
        await self._lost.wait()

    async def run(self) -> None:
        """Read until the connection ends; the server's task for this connection does this."""
        try:
            while line := await self._reader.readline():
                self._take(decode_line(line))
        except (OSError, ValueError) as error:
            _log.warning("the engine's connection ended: %s", type(error).__name__)
        finally:
            self._lost.set()
            self.on_lost()
            for answered in self._waiting.values():
                if not answered.done():
                    answered.set_exception(ConnectionResetError())

    def _take(self, message: dict[str, Any]) -> None:
        progress = message.get("progress")
        if isinstance(progress, dict):
            self.on_progress(progress)
            return
        number = message.get("id")
        answered = self._waiting.get(number) if isinstance(number, int) else None
        if answered is not None and not answered.done():
            answered.set_result(message)


class ControlServer:
    """Answers requests at a unix socket of mode 0600, for clients of the same user.

    `answer` gives the fields of an answer (None for none); `engine` gets each engine's channel before anything is read
    from it. The path should lie in a directory of mode 0700.
    """

    def __init__(self, path: Path, answer: Answer, engine: Callable[[EngineChannel], None] | None = None) -> None:
        self._path = path
        self._answer = answer
        self._engine = engine
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._answering: set[asyncio.Task[None]] = set()  # those of `_clients` that owe an answer

    async def start(self) -> None:
        """Listen. Raises ClusterError when the path cannot be bound."""
        try:
            self._server = await asyncio.start_unix_server(self._serve, path=self._path, limit=LINE_BYTES)
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
        for task in self._clients - self._answering:
            task.cancel()
        if self._answering:
            await asyncio.wait(self._answering, timeout=CLOSE_GRACE_S)
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from first to last."""
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            peer = _peer(writer)
            if peer.uid != os.getuid():
                _log.warning("refused a client of user %d", peer.uid)
            elif len(self._clients) > MAX_CLIENTS:
                busy = ClusterError("Too many programs talk to the head at this moment: try again.")
                with contextlib.suppress(
                    TimeoutError, ValueError
                ):  # closing over an unread request would lose the answer
                    await asyncio.wait_for(reader.readline(), BUSY_READ_S)
                await _send(writer, encode_line(error_answer(busy)))
            else:
                await self._converse(reader, writer, peer)
        except OSError:
            pass  # it left, or it is too slow (TimeoutError)
        finally:
            self._clients.discard(task)
            self._answering.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                line = await reader.readline()
            if not line:
                return
            message = decode_line(line)
        except ValueError:  # no JSON object, or longer than LINE_BYTES
            await _send(writer, encode_line(error_answer(ClusterError("The head was sent what is no request."))))
            return
        if message.get("op") == "engine" and self._engine is not None:
            channel = EngineChannel(reader, writer)
            self._engine(channel)
            await channel.run()
            return
        task = asyncio.current_task()
        assert task is not None
        self._answering.add(task)
        answer = await self._answer_unless_left(message, peer, reader)
        if answer is not None:
            await _send(writer, answer)

    async def _answer_unless_left(
        self, message: dict[str, Any], peer: Peer, reader: asyncio.StreamReader
    ) -> bytes | None:
        """The answer's line, or None when the client left first, as on Ctrl-C; the work for it is cancelled then."""
        working = asyncio.create_task(self._answer_or_error(message, peer))
        leaving = asyncio.create_task(reader.read(1))  # a client has nothing more to say
        try:
            await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            working.cancel()
            leaving.cancel()
            await asyncio.gather(working, leaving, return_exceptions=True)

    async def _answer_or_error(self, message: dict[str, Any], peer: Peer) -> bytes:
        try:
            return encode_line({"ok": True, **(await self._answer(message, peer) or {})})
        except RaycolabError as error:
            return encode_line(error_answer(error))
        except Exception as error:
            # A bug of ours in one operation: its client is told, the others are served on.
            _log.exception("the operation %r failed", message.get("op"))
            what = f"The head failed in the operation {message.get('op')!r} ({type(error).__name__})"
            return encode_line(error_answer(RaycolabError(f"{what}: its log says more. Please report it.")))


class ControlClient:
    """The synchronous client, for kernels and the command line: one connection for each request."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)

    def request(self, op: str, *, timeout_s: float = 60.0, **fields: Any) -> dict[str, Any]:
        """The fields of the answer. Raises the head's error as its own class; NoHeadError when nobody listens."""
        deadline = time.monotonic() + timeout_s
        line = encode_line({"op": op, **fields})
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            try:
                connection.settimeout(timeout_s)
                connection.connect(self._path)
            except TimeoutError:
                raise _silent(timeout_s) from None
            except OSError as error:
                raise NoHeadError(
                    "No head answers here: start one with `raycolab head` or raycolab.start_head(), or give the"
                    " --data-dir of the one that runs."
                ) from error
            try:
                answer = _exchange(connection, line, deadline)
            except TimeoutError:
                raise _silent(timeout_s) from None
            except (OSError, ValueError) as error:
                raise ClusterError("The head ended before it answered: start it again; its log says why.") from error
        return _fields(answer, drop=("ok",))


def _exchange(connection: socket.socket, line: bytes, deadline: float) -> dict[str, Any]:
    """Send a line and give the message that comes back, all before the deadline."""
    connection.sendall(line)
    received = bytearray()
    while not received.endswith(b"\n"):
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        data = connection.recv(CHUNK)
        received += data
        if not data or len(received) > LINE_BYTES:
            raise ConnectionResetError
    return decode_line(bytes(received))


def _silent(timeout_s: float) -> ClusterError:
    return ClusterError(f"The head did not answer within {timeout_s:g} s: it is busy or stalled; try again.")


def _fields(answer: dict[str, Any], drop: tuple[str, ...]) -> dict[str, Any]:
    if answer.get("ok") is not True:
        raise error_from(answer)
    return {name: value for name, value in answer.items() if name not in drop}


def _peer(writer: asyncio.StreamWriter) -> Peer:
    """SO_PEERCRED (unix(7)): process, user and group of who connected."""
    credentials = struct.Struct("3i")
    option = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size)
    pid, uid, _ = credentials.unpack(option)
    return Peer(pid, uid)


async def _send(writer: asyncio.StreamWriter, line: bytes) -> None:
    writer.write(line)
    async with asyncio.timeout(SEND_TIMEOUT_S):
        await writer.drain()


ANSWER_S = 30.0
RESTART_S = 20.0


class EngineLine:
    """The channel of the engine that runs, if one does."""

    def __init__(self, on_progress: Callable[[dict[str, Any]], None]) -> None:
        """`on_progress` is told of every progress line."""
        self._on_progress = on_progress
        self._channel: EngineChannel | None = None
        # Set while an engine is connected.
        self.up = asyncio.Event()

    def connected(self, channel: EngineChannel) -> None:
        """An engine dialed in; after a restart of the actor, anew."""
        self._channel = channel
        channel.on_progress = self._on_progress
        channel.on_lost = lambda: self._lost(channel)
        self.up.set()

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send what needs no answer, and no engine either."""
        if self._channel is not None:
            self._channel.tell(message)

    async def ask(self, message: Mapping[str, Any], *, restart_s: float = RESTART_S) -> dict[str, Any]:
        """The engine's answer; what the last engine took with it the next one is asked again.

        A third one is not: it may be the question that ends them. Raises what the engine answers with, and
        ClusterError when none comes back.
        """
        channel = await self._running(restart_s)
        try:
            return await channel.request(message, ANSWER_S)
        except ClusterError:
            if self._channel is channel:
                raise
        return await (await self._running(restart_s)).request(message, ANSWER_S)

    async def _running(self, restart_s: float) -> EngineChannel:
        try:
            async with asyncio.timeout(restart_s):
                await self.up.wait()
        except TimeoutError:
            raise ClusterError("The sweep engine is restarting: try again in a few seconds.") from None
        assert self._channel is not None  # it is up
        return self._channel

    def _lost(self, channel: EngineChannel) -> None:
        if self._channel is channel:
            self._channel = None
            self.up.clear()
