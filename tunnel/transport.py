"""One WebSocket that carries a link for a while: frames -> zstd -> TLS 1.3 -> binary messages, and back.

`Carrier` moves bytes; `carry` connects one to a link until either ends. Before `compress` is called frames travel
bare inside TLS, so a stranger has no decompressor to feed. After it each WebSocket message holds, inside TLS, the
length of its frames as u24 and those frames as one flushed zstd block of the direction's single context; the length
bounds what a lying peer can make us allocate. After a large batch that did not compress, most of the next ones are
stored as they are, marked by STORED in the length: compressing random bytes is a seventh of the whole cost.
"""

from __future__ import annotations

import asyncio
import io
import logging
import math
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import IO, Any, cast

import zstandard
from websockets.asyncio.connection import Connection
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from tunnel.congestion import BATCH
from tunnel.errors import LinkLost, RemoteProtocolError, SessionDamaged
from tunnel.frames import DATA, MAX_PAYLOAD, Frame, FrameParser, FrameType, encode_header
from tunnel.link import Event, Link
from tunnel.messages import LinkOver
from tunnel.secure import SecureSession

__all__ = ["MAX_MESSAGE", "WEBSOCKET", "WRITE_LIMIT", "Carrier", "Meter", "Traffic", "Wake", "carry"]

MAX_BATCH = BATCH + 2 * MAX_PAYLOAD
MAX_MESSAGE = 2 * MAX_BATCH  # of a WebSocket message: zstd and TLS add a little
FRAMES_AT_ONCE = 256  # of one message, before other tasks have a turn
ZSTD_LEVEL = 1  # passes incompressible bytes at memory speed, and idle chatter is repetitive enough for it
STORED = 1 << 23  # in the length of a batch: its frames are not compressed

# After a batch at least this large that did not become smaller, this many large ones are stored before one is tried.
STORE_BYTES = 16 * 1024
STORE_RUN = 7
CLOSE_S = 0.5
TICK_S = 0.05  # between two looks at a link that has something due and cannot send it
MAX_ZSTD_WINDOW = 1 << 23  # memory that a peer's compression settings may cost us
WRITE_LIMIT = 64 * 1024  # bytes waiting in the WebSocket before its writer has to wait

WEBSOCKET: dict[str, Any] = {
    "compression": None,
    "max_size": MAX_MESSAGE,
    "ping_interval": None,  # links have their own pings, which work through any proxy
    "write_limit": WRITE_LIMIT,
    "close_timeout": 2,
    "logger": logging.getLogger("tunnel.websockets"),
}
"""How both ends of a link set up their WebSocket."""

Wake = asyncio.Event
"""Set whenever a link may have something to send."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes of one or more WebSockets, seen from one end, as a provider that charges for them counts: TCP payload.

    A message is counted with its WebSocket header (RFC 6455, section 5.2), and the HTTP exchange that began the
    WebSocket with it. Compression and TLS take the frames of a message together, so what a message costs is divided
    as its bytes were before: *data* is the payload of streams, *control* all else. `+` adds two.
    """

    data_sent: int = 0
    control_sent: int = 0
    data_received: int = 0
    control_received: int = 0

    @property
    def sent(self) -> int:
        """Bytes sent, of both classes."""
        return self.data_sent + self.control_sent

    @property
    def received(self) -> int:
        """Bytes received, of both classes."""
        return self.data_received + self.control_received

    @property
    def total(self) -> int:
        """Bytes in both directions."""
        return self.sent + self.received

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(*map(sum, zip(astuple(self), astuple(other), strict=True)))


class Meter:
    """Counts what one end of a WebSocket sends and receives; the client masks, so it sends longer headers."""

    def __init__(self, *, client: bool) -> None:
        self._client = client
        self._sent = [0, 0]  # data, control
        self._received = [0, 0]

    @property
    def traffic(self) -> Traffic:
        """All so far."""
        return Traffic(*self._sent, *self._received)

    def began(self, *, sent: int, received: int) -> None:
        """Count the HTTP request and response, by their sizes."""
        self._sent[1] += sent
        self._received[1] += received

    def sent(self, message: int, data: int = 0, plain: int = 1) -> None:
        """Count a message by its size; of its `plain` bytes before compression and TLS, `data` were of streams."""
        _add(self._sent, _framed(message, masked=self._client), data, plain)

    def received(self, message: int, data: int = 0, plain: int = 1) -> None:
        """Count a message that came, as `sent` does."""
        _add(self._received, _framed(message, masked=not self._client), data, plain)


def _framed(message: int, *, masked: bool) -> int:
    header = 2 if message < 126 else 4 if message < 65536 else 10
    return message + header + (4 if masked else 0)


def _add(counts: list[int], size: int, data: int, plain: int) -> None:
    share = size * data // plain if plain else 0
    counts[0] += share
    counts[1] += size - share


class _Inbox(io.RawIOBase):
    """What the decompressor reads from."""

    data = b""

    def read(self, size: int = -1) -> bytes:
        """All the bytes that came, b"" when there are none: the decompressor asks for more than a message holds."""
        piece, self.data = self.data, b""
        return piece


class Carrier:
    """Sends and receives batches of frames over one WebSocket, and counts its bytes."""

    def __init__(self, websocket: Connection, session: SecureSession) -> None:
        self._websocket = websocket
        self._session = session
        self._parser = FrameParser()
        self._compressor: zstandard.ZstdCompressionObj | None = None
        self._storing = 0  # large batches that are still to be stored without trying
        self._inbox = _Inbox()
        self._reader: zstandard.ZstdDecompressionReader | None = None
        self.meter = Meter(client=session.is_client)

    def began(self, request: Request | None, response: Response | None) -> None:
        """Count the HTTP exchange that began the WebSocket."""
        sizes = [len(message.serialize()) if message is not None else 0 for message in (request, response)]
        sent, received = sizes if self._session.is_client else reversed(sizes)
        self.meter.began(sent=sent, received=received)

    async def handshake(self) -> list[Frame]:
        """Finish the inner TLS handshake; returns frames that came along. Raises PinMismatch, RemoteProtocolError."""
        await self._flush()
        plain = b""
        while not self._session.established:
            message = await self._websocket.recv(decode=False)
            self.meter.received(len(message))
            plain += self._session.receive(message)
            await self._flush()
        return self._parser.receive(plain)

    def compress(self) -> None:
        """Both ends agreed: batches are compressed from now on."""
        self._compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compressobj()
        decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW)
        self._reader = decompressor.stream_reader(cast("IO[bytes]", self._inbox), read_size=MAX_MESSAGE)

    async def send(self, batch: bytes, data: int = 0) -> None:
        """Send frames with `data` bytes of streams in them; returns when the WebSocket takes more."""
        plain = len(batch)
        for piece in (batch,) if self._compressor is None else self._pack(self._compressor, batch):
            self._session.send(piece)
        await self._flush(data, plain)

    async def say(self, kind: FrameType, payload: bytes) -> None:
        """Send one frame of the handshake."""
        await self.send(encode_header(kind, len(payload)) + payload)

    async def receive(self) -> list[Frame]:
        """The frames of the next message; raises RemoteProtocolError, or ConnectionClosed at the end."""
        message = await self._websocket.recv(decode=False)
        plain = self._session.receive(message)
        if self._reader is not None:
            plain = self._inflate(self._reader, plain)
        frames = self._parser.receive(plain)
        self.meter.received(len(message), sum(len(frame.payload) for frame in frames if frame.type in DATA), len(plain))
        return frames

    async def close(self) -> None:
        """Close the WebSocket; a dead peer sends no close frame, so wait for it no longer than CLOSE_S."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._websocket.close()
        except TimeoutError:
            self._websocket.transport.abort()

    def _pack(self, compressor: zstandard.ZstdCompressionObj, batch: bytes) -> tuple[bytes, ...]:
        large = len(batch) >= STORE_BYTES
        if large and self._storing:
            self._storing -= 1
            return (STORED | len(batch)).to_bytes(3, "big"), batch
        packed = compressor.compress(batch) + compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        if large and len(packed) >= len(batch):
            self._storing = STORE_RUN
        return (len(batch).to_bytes(3, "big") + packed,)

    def _inflate(self, reader: zstandard.ZstdDecompressionReader, plain: bytes) -> bytes:
        if not plain:
            return b""
        word = int.from_bytes(plain[:3], "big")
        length = word & ~STORED
        if len(plain) < 3 or length > MAX_BATCH:
            raise RemoteProtocolError(f"a batch of {length} bytes in {len(plain)}")
        if word & STORED:
            if len(plain) - 3 != length:
                raise RemoteProtocolError(f"a batch of {len(plain) - 3} bytes that said {length}")
            return plain[3:]
        self._inbox.data = plain[3:]
        try:
            batch = reader.read(length) if length else b""
        except zstandard.ZstdError as error:
            raise RemoteProtocolError("a batch that cannot be decompressed") from error
        if len(batch) != length:
            raise RemoteProtocolError(f"a batch of {len(batch)} bytes that said {length}")
        return batch

    async def _flush(self, data: int = 0, plain: int = 1) -> None:
        message = self._session.data_to_send()
        if message:
            self.meter.sent(len(message), data, plain)
            await self._websocket.send(message)


async def carry(link: Link, carrier: Carrier, wake: Wake, act: Callable[[list[Event]], None]) -> str:
    """Move a link's frames over a carrier until one of them ends; returns why, for a log line.

    `act` gets the link's events as they come. RemoteProtocolError and LinkLost come through.
    """
    timer = _Timer(link, wake)
    reading = asyncio.create_task(_read(link, carrier, timer, act))
    writing = asyncio.create_task(_write(link, carrier, timer))
    try:
        await asyncio.wait((reading, writing, timer.ended), return_when=asyncio.FIRST_COMPLETED)
        if writing.done() and isinstance(writing.exception(), ConnectionClosed):
            # What the other end said before it closed is still to be read, most often a GOODBYE.
            await asyncio.wait({reading}, timeout=CLOSE_S)
        if link.lost is not None:
            raise LinkLost(link.lost)
        if reading.done() and isinstance(reading.exception(), SessionDamaged):
            return str(reading.exception())  # not the peer's fault: the link goes on over another WebSocket
        for task in (reading, writing, timer.ended):
            if task.done() and not isinstance(task.exception(), ConnectionClosed):
                return task.result()
        return "the WebSocket closed"
    finally:
        timer.stop()
        for task in (reading, writing):
            task.cancel()
        await asyncio.gather(reading, writing, return_exceptions=True)


class _Timer:
    """Calls a link's `tick` when it is due, even while its writer waits for a WebSocket that takes nothing."""

    def __init__(self, link: Link, wake: Wake) -> None:
        self.wake = wake
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._link = link
        self._due = math.inf
        self._handle: asyncio.TimerHandle | None = None

    def arm(self) -> None:
        """Call `tick` when it is due; a timer that fires too early does no harm and is kept."""
        due = self._link.next_deadline()
        if due < self._due:
            self._set(due)

    def stop(self) -> None:
        """Call it no more."""
        if self._handle is not None:
            self._handle.cancel()
        self.ended.cancel()

    def _set(self, due: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._due = due
        self._handle = asyncio.get_running_loop().call_later(max(due - time.monotonic(), 0), self._fire)

    def _fire(self) -> None:
        now = time.monotonic()
        if self._link.lost is not None or not self._link.tick(now):
            self.ended.set_result("the other end is silent")
            return
        self.wake.set()
        # While nothing can be written, what is due stays due.
        self._set(max(self._link.next_deadline(), now + TICK_S))


async def _read(link: Link, carrier: Carrier, timer: _Timer, act: Callable[[list[Event]], None]) -> str:
    while True:
        frames = await carrier.receive()
        for start in range(0, len(frames), FRAMES_AT_ONCE):
            if start:
                await asyncio.sleep(0)
            events = link.receive(frames[start : start + FRAMES_AT_ONCE], time.monotonic())
            act(events)
            if link.has_data_to_send:
                timer.wake.set()
            timer.arm()
            for event in events:
                if isinstance(event, LinkOver):
                    return event.reason


async def _write(link: Link, carrier: Carrier, timer: _Timer) -> str:
    timer.arm()
    while True:
        timer.wake.clear()
        if link.lost is not None:
            raise LinkLost(link.lost)
        before = link.data_sent
        while link.has_data_to_send and (batch := link.data_to_send(time.monotonic())):
            timer.arm()
            await carrier.send(batch, link.data_sent - before)
            before = link.data_sent
        await timer.wake.wait()
