"""Bad networks and clocks to order: what tests, benches and demos put in front of a hub instead of ngrok.

`Edge` is a proxy in user space with delay, bandwidth, a deep buffer, outages and cuts, all settable while it runs. It
relays whatever bytes pass and knows nothing of the tunnel. From another process:

    python -m tunnel.testing --listen unix:/tmp/edge.sock --to unix:/tmp/hub.sock --delay 0.05 --rate 6250000

It writes one JSON line once it listens, then obeys lines on stdin: `cut`, `blackhole on|off`, `refuse on|off`,
`delay SECONDS`, `rate BYTES_PER_S|none`, `stats` (answered by one JSON line), and ends when stdin does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import socket
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass

__all__ = ["Edge", "EdgeStats", "FakeClock", "Wire"]

BUFFER_BYTES = 4 * 1024 * 1024
"""What each direction of a connection holds before the edge stops reading; real edges and their TCP hold megabytes."""

CHUNK_BYTES = 16 * 1024
"""Bytes that leave at once where a rate is set: 2.6 ms at 50 Mbit/s."""

# The kernel's own buffers would add megabytes to the ones set here; TCP at loopback's speed needs no more.
_SOCKET_BUFFER_BYTES = 256 * 1024


class FakeClock:
    """A clock that stands still until it is told to advance; call it for the time in seconds."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> float:
        """Let `seconds` pass; the new time."""
        if seconds < 0:
            raise ValueError(f"time does not run backwards: {seconds}")
        self.now += seconds
        return self.now


class Wire:
    """One direction of a connection, sans-I/O: what is pushed comes out in order, as late as the network makes it.

    1. What is pushed queues in the backlog. It leaves in turn, `rate` bytes per second, and is due `delay_s` later.
    2. `full` says to read no more: the backlog holds `buffer_bytes`. Without a rate nothing queues, so there what is
       under way counts. A single push may exceed it.
    3. While stopped (an outage, a receiver that reads too slowly) nothing leaves and nothing is due; once it goes on,
       what was late comes at once and the rest of the backlog leaves from then on.
    4. Changed delays and rates hold for what has not left yet.
    """

    def __init__(self, delay_s: float, rate: float | None, buffer_bytes: int) -> None:
        self.delay_s = delay_s
        self.rate = rate
        self._buffer_bytes = buffer_bytes
        self._backlog: deque[tuple[float, bytes]] = deque()  # (pushed at, chunk); b"" is the end
        self._backlog_bytes = 0
        self._flight: deque[tuple[float, bytes]] = deque()  # (due at, chunk)
        self._flight_bytes = 0
        self._free_at = -math.inf  # when the last chunk to leave has left
        self._stopped = False

    @property
    def full(self) -> bool:
        """True while no more should be read from the sender."""
        held = self._backlog_bytes + (self._flight_bytes if self.rate is None else 0)
        return held >= self._buffer_bytes

    @property
    def held_bytes(self) -> int:
        """Bytes that were pushed and have not come out."""
        return self._backlog_bytes + self._flight_bytes

    def push(self, data: bytes, now: float) -> None:
        """Take `data` from the sender; b"" is the end of what it sends."""
        size = len(data) if self.rate is None else CHUNK_BYTES
        for start in range(0, max(1, len(data)), max(1, size)):
            self._backlog.append((now, data[start : start + size]))
        self._backlog_bytes += len(data)

    def pop(self, now: float) -> list[bytes]:
        """The chunks that are due, in order; b"" where the end is."""
        due: list[bytes] = []
        if self._stopped:
            return due
        while self._backlog and self._free_at <= now:
            self._depart()
        while self._flight and self._flight[0][0] <= now:
            due.append(self._flight.popleft()[1])
        self._flight_bytes -= sum(map(len, due))
        return due

    def next_deadline(self) -> float:
        """When `pop` has something to do again; infinity while only `push` or `go` can change anything."""
        if self._stopped:
            return math.inf
        due = self._flight[0][0] if self._flight else math.inf
        return min(due, self._free_at) if self._backlog else due

    def stop(self) -> None:
        """Let nothing leave and nothing arrive from now on."""
        self._stopped = True

    def go(self, now: float) -> None:
        """End what `stop` began."""
        if self._stopped:
            self._stopped = False
            self._free_at = max(self._free_at, now)

    def _depart(self) -> None:
        pushed_at, chunk = self._backlog.popleft()
        self._backlog_bytes -= len(chunk)
        self._free_at = max(self._free_at, pushed_at)
        if self.rate is not None:
            self._free_at += len(chunk) / self.rate
        due = self._free_at + self.delay_s
        if self._flight:
            due = max(due, self._flight[-1][0])
        self._flight.append((due, chunk))
        self._flight_bytes += len(chunk)


@dataclass(frozen=True, slots=True)
class EdgeStats:
    """What an edge has seen so far; bytes count when they are read, "up" is toward the hub."""

    connections: int  # accepted since the start, refused ones left out
    open: int
    bytes_up: int
    bytes_down: int
    held_bytes: int  # read and not handed on: in buffers or under way


class Edge:
    """A proxy that plays the network between nodes and a hub; `async with` it, in a running event loop.

    `listen` and `to` are unix:/path or HOST:PORT (port 0: any; `listening` tells it). `delay_s` is one way; `rate`
    and `buffer_bytes` hold for each direction of each connection. With `capture_bytes` the first that many bytes
    that pass, in both directions, are kept in `captured`, as whoever runs a real edge could keep them.
    """

    def __init__(
        self,
        listen: str,
        to: str,
        *,
        delay_s: float = 0.0,
        rate: float | None = None,
        buffer_bytes: int = BUFFER_BYTES,
        capture_bytes: int = 0,
    ) -> None:
        self.listening = listen
        self.captured = bytearray()
        self._to = to
        self._delay_s = delay_s
        self._rate = rate
        self._buffer_bytes = buffer_bytes
        self._capture_bytes = capture_bytes
        self._server: asyncio.Server | None = None
        self._sides: set[_Side] = set()  # both sockets of every open connection
        self._dials: dict[_Side, asyncio.Task[None]] = {}
        self._passable = asyncio.Event()  # cleared during a blackhole
        self._passable.set()
        self._refusing = False
        self._connections = 0
        self._bytes = {"up": 0, "down": 0}

    async def __aenter__(self) -> Edge:
        loop = asyncio.get_running_loop()
        path, host, port = _endpoint(self.listening)
        if path is not None:
            self._server = await loop.create_unix_server(self._downstream_side, path)
        else:
            self._server = await loop.create_server(self._downstream_side, host, port, family=socket.AF_INET)
            self.listening = f"{host}:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._dials.values(), return_exceptions=True)
        while self._sides:  # each takes itself out as its socket closes
            await asyncio.sleep(0)
        path, _, _ = _endpoint(self.listening)
        if path is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def set_delay(self, seconds: float) -> None:
        """One-way delay of what leaves from now on."""
        self._delay_s = seconds
        for side in self._sides:
            side.wire.delay_s = seconds

    def set_rate(self, bytes_per_s: float | None) -> None:
        """Bandwidth of each direction of each connection; None for as much as there is."""
        self._rate = bytes_per_s
        for side in self._sides:
            side.wire.rate = bytes_per_s
            side.flow()

    def cut(self) -> None:
        """Reset every connection now, with all that is under way; new ones are welcome."""
        for side in list(self._sides):
            side.abort()
        for dial in self._dials.values():
            dial.cancel()

    def blackhole(self, on: bool) -> None:
        """Keep every connection and pass nothing; new ones hang, unanswered and unseen by the hub, until it ends."""
        if on:
            self._passable.clear()
        else:
            self._passable.set()
        for side in list(self._sides):
            side.flow()

    def refuse(self, on: bool) -> None:
        """Reset new connections as soon as they come; those that are there stay."""
        self._refusing = on

    @property
    def passable(self) -> bool:
        """False during a blackhole."""
        return self._passable.is_set()

    @property
    def stats(self) -> EdgeStats:
        """Counts so far."""
        return EdgeStats(
            connections=self._connections,
            open=sum(side.direction == "up" for side in self._sides),
            bytes_up=self._bytes["up"],
            bytes_down=self._bytes["down"],
            held_bytes=sum(side.wire.held_bytes for side in self._sides),
        )

    def saw(self, direction: str, data: bytes) -> None:
        """Count, and keep what `capture_bytes` asks for."""
        self._bytes[direction] += len(data)
        self.captured += data[: self._capture_bytes - len(self.captured)]

    def opened(self, side: _Side) -> None:
        """A socket is open: a node's, for which the hub is dialed now, or the hub's."""
        if side.direction == "up":
            if self._refusing:
                side.abort()
                return
            self._connections += 1
            self._dials[side] = asyncio.get_running_loop().create_task(self._dial(side))
        self._sides.add(side)

    def closed(self, side: _Side) -> None:
        """A socket is closed."""
        self._sides.discard(side)
        if side in self._dials and side.other is None:
            self._dials[side].cancel()

    def _wire(self) -> Wire:
        return Wire(self._delay_s, self._rate, self._buffer_bytes)

    def _downstream_side(self) -> _Side:
        return _Side(self, "up", self._wire(), None)

    async def _dial(self, side: _Side) -> None:
        """Connect to the hub on behalf of the node at `side`."""
        loop = asyncio.get_running_loop()
        path, host, port = _endpoint(self._to)
        try:
            await self._passable.wait()
            if path is not None:
                await loop.create_unix_connection(lambda: _Side(self, "down", self._wire(), side), path)
            else:
                await loop.create_connection(lambda: _Side(self, "down", self._wire(), side), host, port)
        except OSError:
            side.abort()  # no hub: ngrok's edge would answer ERR_NGROK_8012 and close
        finally:
            del self._dials[side]


class _Side(asyncio.Protocol):
    """One socket of a connection: what it reads goes through its wire and out of the other side's socket."""

    def __init__(self, edge: Edge, direction: str, wire: Wire, other: _Side | None) -> None:
        self.edge = edge
        self.direction = direction  # of what is read here: "up" from a node, "down" from the hub
        self.wire = wire
        self.other = other  # None at a node's side until the hub is dialed
        self._transport: asyncio.Transport | None = None
        self._writable = True
        self._read_ended = False
        self._write_ended = False
        self._lost: Exception | None = None  # why this socket is gone, when it was not closed in peace
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER_BYTES)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER_BYTES)
        self.edge.opened(self)
        if self.other is not None:
            self.other.other = self
            self.other.flow()
