"""Bad networks to order: what tests and benches put in front of a hub instead of ngrok.

`Edge` is a proxy in user space with delay, bandwidth, a deep buffer, outages and cuts, all settable while it runs. It
relays whatever bytes pass and knows nothing of the tunnel. In another process:

    python tests/tunnel/edge.py --listen unix:/tmp/edge.sock --to unix:/tmp/hub.sock --delay 0.05 --rate 6250000

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
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import cast

__all__ = ["PROGRAM", "Edge", "EdgeStats", "Wire"]

PROGRAM = (sys.executable, "-P", __file__)
"""The first words of the command that runs an edge as a program."""

BUFFER_BYTES = 4 * 1024 * 1024
"""What each direction of a connection holds before the edge stops reading; real edges and their TCP hold megabytes."""

CHUNK_BYTES = 16 * 1024
"""Bytes that leave at once where a rate is set: 2.6 ms at 50 Mbit/s."""

# The kernel's own buffers would add megabytes to the ones set here; TCP at loopback's speed needs no more.
_SOCKET_BUFFER_BYTES = 256 * 1024


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
        size = CHUNK_BYTES if self.rate is not None else max(1, len(data))
        for start in range(0, max(1, len(data)), size):
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
        due = max(self._free_at + self.delay_s, self._flight[-1][0] if self._flight else 0.0)
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
        self.passable = asyncio.Event()  # cleared during a blackhole
        self.passable.set()
        self._refusing = False
        self._connections = 0
        self._bytes = {"up": 0, "down": 0}

    async def __aenter__(self) -> Edge:
        loop = asyncio.get_running_loop()
        path, host, port = _endpoint(self.listening)
        if path is not None:
            self._server = await loop.create_unix_server(self._side, path)
        else:
            self._server = await loop.create_server(self._side, host, port, family=socket.AF_INET)
            self.listening = f"{host}:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self._refusing = True
        dials = [side.dial for side in self._sides if side.dial is not None]
        self.cut()
        await asyncio.sleep(0)  # an aborted socket reports itself closed in the loop's next turn
        await asyncio.gather(*dials, return_exceptions=True)
        if (path := _endpoint(self.listening)[0]) is not None:
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
        """Close every connection now, with all that is under way; new ones are welcome."""
        for side in self._sides:
            side.abort()

    def blackhole(self, on: bool) -> None:
        """Keep every connection and pass nothing; new ones hang, unanswered and unseen by the hub, until it ends."""
        if on:
            self.passable.clear()
        else:
            self.passable.set()
        for side in list(self._sides):
            side.flow()

    def refuse(self, on: bool) -> None:
        """Close new connections as soon as they come; those that are there stay."""
        self._refusing = on

    @property
    def stats(self) -> EdgeStats:
        """Counts so far."""
        nodes = sum(side.direction == "up" for side in self._sides)
        held_bytes = sum(side.wire.held_bytes for side in self._sides)
        return EdgeStats(self._connections, nodes, self._bytes["up"], self._bytes["down"], held_bytes)

    def saw(self, direction: str, data: bytes) -> None:
        """Count bytes that were read, and keep what `capture_bytes` asks for."""
        self._bytes[direction] += len(data)
        self.captured += data[: self._capture_bytes - len(self.captured)]

    def opened(self, side: _Side) -> None:
        """A socket is open: the hub's, or a node's, for which the hub is to be dialed now."""
        if self._refusing and side.other is None:
            side.abort()
            return
        self._sides.add(side)
        if side.other is None:
            self._connections += 1
            side.dial = asyncio.get_running_loop().create_task(self._dial(side))

    def closed(self, *sides: _Side | None) -> None:
        """A whole connection is gone: both sockets, or the node's whose hub was never reached."""
        self._sides.difference_update(sides)

    async def _dial(self, side: _Side) -> None:
        """Connect to the hub on behalf of the node at `side`."""
        loop = asyncio.get_running_loop()
        path, host, port = _endpoint(self._to)
        await self.passable.wait()
        try:
            if path is not None:
                await loop.create_unix_connection(lambda: self._side(side), path)
            else:
                await loop.create_connection(lambda: self._side(side), host, port)
        except OSError:
            side.abort()  # no hub: ngrok's edge would answer ERR_NGROK_8012 and close

    def _side(self, other: _Side | None = None) -> _Side:
        return _Side(self, Wire(self._delay_s, self._rate, self._buffer_bytes), other)


class _Side(asyncio.Protocol):
    """One socket of a connection: what it reads, and at last its close, goes through its wire to the other side."""

    def __init__(self, edge: Edge, wire: Wire, other: _Side | None) -> None:
        self.direction = "up" if other is None else "down"  # where what is read here goes
        self.wire = wire
        self.other = other  # at a node's side None until the hub is dialed
        self.dial: asyncio.Task[None] | None = None  # at a node's side, reaching the hub for it
        self.gone = False
        self._edge = edge
        self._transport: asyncio.Transport  # from connection_made on, before which nothing here is called
        self._writable = True  # False while its peer reads too slowly
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, option, _SOCKET_BUFFER_BYTES)
        self._edge.opened(self)
        if self.other is not None:
            self.other.other = self
            self.other.flow()

    def data_received(self, data: bytes) -> None:
        self._edge.saw(self.direction, data)
        self.wire.push(data, time.monotonic())
        self.flow()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        if self.dial is not None:
            self.dial.cancel()
        if self.other is None or self.other.gone:
            self._edge.closed(self, self.other)
            return
        self.wire.push(b"", time.monotonic())
        self.flow()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        if self.other is not None:
            self.other.flow()

    def abort(self) -> None:
        """Close this socket at once, with what it holds."""
        self._transport.abort()

    def flow(self) -> None:
        """Hand on what is due, read on or stop reading, and come back when more is due."""
        now = time.monotonic()  # uvloop's own clock is coarse
        if self._timer is not None:
            self._timer.cancel()
        target = self.other
        if target is None or target._transport.is_closing() or not target._writable or not self._edge.passable.is_set():
            self.wire.stop()
        else:
            self.wire.go(now)
            target._write(self.wire.pop(now))
        if not self._transport.is_closing():
            (self._transport.pause_reading if self.wire.full else self._transport.resume_reading)()
        deadline, self._timer = self.wire.next_deadline(), None
        if deadline < math.inf:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, deadline - now), self.flow)

    def _write(self, chunks: list[bytes]) -> None:
        self._transport.write(b"".join(chunks))
        if b"" in chunks:
            self._transport.close()


def _endpoint(text: str) -> tuple[str | None, str, int]:
    """(path, "", 0) of unix:/path, (None, host, port) of HOST:PORT."""
    if text.startswith("unix:"):
        return "/" + text.removeprefix("unix:").lstrip("/"), "", 0
    host, _, port = text.rpartition(":")
    return None, host, int(port)


def _obey(edge: Edge, line: str) -> str:
    """Do what one control line says; the answer to write, or nothing."""
    match line.split():
        case ["cut"]:
            edge.cut()
        case ["blackhole", "on" | "off" as state]:
            edge.blackhole(state == "on")
        case ["refuse", "on" | "off" as state]:
            edge.refuse(state == "on")
        case ["delay", seconds]:
            edge.set_delay(float(seconds))
        case ["rate", rate]:
            edge.set_rate(None if rate == "none" else float(rate))
        case ["stats"]:
            return json.dumps(asdict(edge.stats)) + "\n"
        case _:
            return json.dumps({"error": f"unknown line: {line.strip()}"}) + "\n"
    return ""


async def _run(arguments: argparse.Namespace) -> None:
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    given = vars(arguments)
    async with Edge(given.pop("listen"), given.pop("to"), **given) as edge:
        sys.stdout.write(json.dumps({"listening": edge.listening}) + "\n")
        sys.stdout.flush()
        while line := await lines.readline():
            sys.stdout.write(_obey(edge, line.decode()))
            sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one edge until stdin ends."""
    parser = argparse.ArgumentParser(description="A bad network in front of a hub.")
    for option in ("--listen", "--to"):
        parser.add_argument(option, required=True, metavar="unix:/PATH|HOST:PORT")
    parser.add_argument("--delay", dest="delay_s", type=float, default=0.0, metavar="SECONDS", help="one way")
    parser.add_argument("--rate", type=float, metavar="BYTES_PER_S", help="each direction of each connection")
    parser.add_argument("--buffer", dest="buffer_bytes", type=int, default=BUFFER_BYTES, metavar="BYTES")
    asyncio.run(_run(parser.parse_args(arguments)))


if __name__ == "__main__":
    main()
