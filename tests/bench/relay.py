"""What the tunnel is compared with beside OpenSSH: a bare relay of two hops, and loopback itself.

The relay is the naive thing: one WebSocket per agent, each message a stream's 4-byte number and bytes of it, b"" the
end. No encryption, no compression, no fairness, no credit, no resumption; who reads slowly holds up everybody. It runs
as `python -m tests.bench.relay hub|entry|exit`, on uvloop.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
from collections.abc import Callable, Coroutine, Iterator

import uvloop
from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.bench.openssh import free_port
from tests.bench.processes import Child, Way

__all__ = ["bare_relay", "loopback"]

READ_BYTES = 64 * 1024


@contextlib.contextmanager
def bare_relay() -> Iterator[Way]:
    """Client, entry, hub, exit, service."""
    entry, service = ("127.0.0.1", free_port()), ("127.0.0.1", free_port())
    with contextlib.ExitStack() as stack:
        hub = stack.enter_context(Child(["tests.bench.relay", "hub", "127.0.0.1:0"]))
        url = f"ws://127.0.0.1:{hub.says()['port']}"
        out = stack.enter_context(Child(["tests.bench.relay", "exit", f"127.0.0.1:{service[1]}", url]))
        out.says()
        into = stack.enter_context(Child(["tests.bench.relay", "entry", f"127.0.0.1:{entry[1]}", url]))
        into.says()
        yield Way("relay", entry, service, [hub.process, out.process, into.process])


@contextlib.contextmanager
def loopback() -> Iterator[Way]:
    """Nothing in between."""
    at = ("127.0.0.1", free_port())
    yield Way("loopback", at, at)


class _Streams:
    """One agent's TCP connections by number, over its WebSocket."""

    def __init__(self, websocket: Connection) -> None:
        self.websocket = websocket
        self.writers: dict[int, asyncio.StreamWriter] = {}
        self._reading: set[asyncio.Task[None]] = set()

    def add(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay what comes from a connection."""
        self.writers[number] = writer
        task = asyncio.create_task(self._read(number, reader))
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def write(self, message: bytes) -> None:
        """Hand a message to the connection it is for."""
        writer = self.writers[int.from_bytes(message[:4], "big")]
        with contextlib.suppress(OSError):
            if len(message) == 4:
                writer.write_eof()
            else:
                writer.write(message[4:])
                await writer.drain()

    async def _read(self, number: int, reader: asyncio.StreamReader) -> None:
        label = number.to_bytes(4, "big")
        with contextlib.suppress(OSError, ConnectionClosed):
            while data := await reader.read(READ_BYTES):
                await self.websocket.send(label + data)
            await self.websocket.send(label)


async def _entry(at: str, url: str) -> None:
    host, _, port = at.rpartition(":")
    async with connect(url, compression=None, max_size=None) as websocket:
        streams, last = _Streams(websocket), 0

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal last
            last += 1
            streams.add(last, reader, writer)

        await asyncio.start_server(accept, host, int(port))
        _say(port=int(port))
        async for message in websocket:
            assert isinstance(message, bytes)
            await streams.write(message)


async def _exit(at: str, url: str) -> None:
    host, _, port = at.rpartition(":")
    async with connect(url, compression=None, max_size=None) as websocket:
        _say(port=int(port))
        streams = _Streams(websocket)
        async for message in websocket:
            assert isinstance(message, bytes)
            number = int.from_bytes(message[:4], "big")
            if number not in streams.writers:
                streams.add(number, *await asyncio.open_connection(host, int(port)))
            await streams.write(message)


async def _hub(at: str, _: str) -> None:
    host, _, port = at.rpartition(":")
    agents: list[ServerConnection] = []

    async def switch(websocket: ServerConnection) -> None:
        agents.append(websocket)
        with contextlib.suppress(ConnectionClosed):
            async for message in websocket:
                await agents[agents.index(websocket) ^ 1].send(message)

    async with serve(switch, host, int(port), compression=None, max_size=None) as server:
        _say(port=next(iter(server.sockets)).getsockname()[1])
        await asyncio.Event().wait()


def _say(**fields: object) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


async def _until_stdin_ends(relaying: Coroutine[None, None, None]) -> None:
    relay = asyncio.create_task(relaying)
    end = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    await asyncio.wait({relay, end}, return_when=asyncio.FIRST_COMPLETED)
    relay.cancel()
    await asyncio.gather(relay, return_exceptions=True)


def main() -> None:
    """Relay until stdin ends."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.relay", description=__doc__)
    parser.add_argument("role", choices=["hub", "entry", "exit"])
    parser.add_argument("at", help="where to listen, or what to dial")
    parser.add_argument("url", nargs="?", default="")
    given = parser.parse_args()
    roles: dict[str, Callable[[str, str], Coroutine[None, None, None]]] = {"hub": _hub, "entry": _entry, "exit": _exit}
    uvloop.run(_until_stdin_ends(roles[given.role](given.at, given.url)))


if __name__ == "__main__":
    main()
