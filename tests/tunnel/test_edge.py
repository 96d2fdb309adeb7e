"""The bad network that other tests lean on: a wire's timing without sockets, then an edge between real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.in_loop import in_loop
from tests.tunnel.edge import CHUNK_BYTES, PROGRAM, Edge, Wire
from tests.tunnel.mesh import echo

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class TestWire:
    """One direction of a connection, without sockets."""

    def test_delay_holds_each_chunk_from_its_own_push(self) -> None:
        """Due at send time plus delay, not a moment before."""
        wire = Wire(0.5, None, 1000)
        wire.push(b"a", 1.0)
        wire.push(b"b", 1.2)
        assert wire.pop(1.2) == []
        assert wire.next_deadline() == 1.5
        assert wire.pop(1.5) == [b"a"]
        assert wire.next_deadline() == 1.7
        assert wire.pop(1.7) == [b"b"]

    def test_rate_spaces_the_chunks(self) -> None:
        """Chunks of 16 KiB leave one after the other at the rate, each then delayed."""
        wire = Wire(1.0, CHUNK_BYTES * 10, 10**9)
        wire.push(bytes(CHUNK_BYTES * 3), 0.0)
        arrivals = []
        wire.pop(0.0)
        while (deadline := wire.next_deadline()) < math.inf:
            arrivals += [round(deadline, 6)] * len(wire.pop(deadline))
        assert arrivals == [1.1, 1.2, 1.3]

    def test_full_when_the_backlog_holds_the_buffer(self) -> None:
        """With a rate what waits for its turn counts, what is under way does not."""
        wire = Wire(10.0, CHUNK_BYTES, CHUNK_BYTES * 2)
        wire.push(bytes(CHUNK_BYTES * 3), 0.0)
        assert wire.full
        wire.pop(0.0)
        assert wire.full
        wire.pop(1.0)
        assert not wire.full
        assert wire.held_bytes == CHUNK_BYTES * 3

    def test_stopped_wire_gives_nothing_then_catches_up(self) -> None:
        """After an outage what was late comes at once, and the backlog leaves at the rate from then on."""
        wire = Wire(0.0, CHUNK_BYTES, 10**9)
        wire.push(bytes(CHUNK_BYTES * 2), 0.0)
        wire.pop(0.0)
        wire.stop()
        assert wire.pop(50.0) == []
        assert wire.next_deadline() == math.inf
        wire.go(50.0)
        assert len(wire.pop(50.0)) == 1
        assert wire.pop(50.9) == []
        assert len(wire.pop(51.0)) == 1

    @given(
        st.lists(st.tuples(st.sampled_from(["push", "pop", "stop", "go", "rate", "delay"]), st.integers(0, 60_000))),
    )
    def test_every_byte_comes_out_once_and_in_order(self, steps: list[tuple[str, int]]) -> None:
        """Whatever is changed on the way, nothing is lost, doubled or reordered."""
        wire, now = Wire(0.05, None, 10**6), 1000.0
        pushed, popped = b"", b""
        for step, number in steps:
            now += number / 1e6
            match step:
                case "push":
                    data = number.to_bytes(4, "big") * (number // 4 + 1)
                    wire.push(data, now)
                    pushed += data
                case "pop":
                    popped += b"".join(wire.pop(now))
                case "stop":
                    wire.stop()
                case "go":
                    wire.go(now)
                case "rate":
                    wire.rate = number * 100 or None
                case "delay":
                    wire.delay_s = number / 1e5
            assert wire.held_bytes == len(pushed) - len(popped)
        wire.go(now)
        popped += b"".join(wire.pop(now))
        while (deadline := wire.next_deadline()) < math.inf:
            popped += b"".join(wire.pop(deadline))
        assert popped == pushed


@contextlib.asynccontextmanager
async def echo_hub(path: Path) -> AsyncIterator[str]:
    """A hub that sends back what it gets; its endpoint."""
    async with await asyncio.start_unix_server(echo, path):
        yield f"unix:{path}"


async def timed_echo(streams: Streams, data: bytes) -> float:
    """Seconds until all of `data` is back."""
    reader, writer = streams
    start = asyncio.get_running_loop().time()
    writer.write(data)
    assert await reader.readexactly(len(data)) == data
    return asyncio.get_running_loop().time() - start


@in_loop
async def test_a_blackhole_passes_nothing_until_it_ends(tmp_path: Path) -> None:
    """Old connections stay and stall, new ones hang; afterwards all that was sent arrives."""
    path = tmp_path / "edge.sock"
    async with echo_hub(tmp_path / "hub.sock") as hub, Edge(f"unix:{path}", hub) as edge:
        old = await asyncio.open_unix_connection(path)
        await timed_echo(old, b"before")
        edge.blackhole(True)
        new = await asyncio.open_unix_connection(path)
        for _, writer in (old, new):
            writer.write(b"during")
        for reader, _ in (old, new):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.1)
        edge.blackhole(False)
        for reader, _ in (old, new):
            assert await reader.readexactly(6) == b"during"
    assert edge.stats.open == 0


@in_loop
async def test_a_close_arrives_after_what_was_sent_before_it() -> None:
    """The delay holds for the close too, and the hub gets every byte first."""
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.set_result(await reader.read())
        writer.close()

    hub = await asyncio.start_server(keep, "127.0.0.1", 0)
    endpoint = f"127.0.0.1:{hub.sockets[0].getsockname()[1]}"
    async with hub, Edge("127.0.0.1:0", endpoint, delay_s=0.1) as edge:
        host, _, port = edge.listening.partition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        await asyncio.sleep(0.01)
        writer.write(b"last words")
        writer.close()
        start = asyncio.get_running_loop().time()
        assert await got == b"last words"
        assert asyncio.get_running_loop().time() - start >= 0.09


@in_loop
async def test_edge_runs_as_a_program_with_lines_for_control(tmp_path: Path) -> None:
    """Another process starts it, steers it by lines on stdin, and ends it by closing stdin."""
    async with echo_hub(tmp_path / "hub.sock") as hub:
        program = await asyncio.create_subprocess_exec(
            *(*PROGRAM, "--listen", f"unix:{tmp_path}/edge.sock", "--to", hub),
            *("--delay", "0.01", "--rate", "6250000", "--buffer", "100000"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert program.stdin is not None
        assert program.stdout is not None
        assert json.loads(await program.stdout.readline()) == {"listening": f"unix:{tmp_path}/edge.sock"}
        streams = await asyncio.open_unix_connection(tmp_path / "edge.sock")
        assert await timed_echo(streams, b"x") >= 0.02
        program.stdin.write(b"delay 0.1\nrate none\nrefuse off\nblackhole off\nnonsense\nstats\n")
        assert json.loads(await program.stdout.readline()) == {"error": "unknown line: nonsense"}
        assert json.loads(await program.stdout.readline())["bytes_up"] == 1
        assert await timed_echo(streams, b"x") >= 0.2
        program.stdin.write(b"cut\n")
        assert await streams[0].read() == b""
        program.stdin.close()
        assert await program.wait() == 0
        assert not (tmp_path / "edge.sock").exists()
