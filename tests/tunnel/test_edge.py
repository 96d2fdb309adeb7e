"""The bad network that other tests lean on: a wire's timing without sockets, then an edge between real sockets."""

from __future__ import annotations

import asyncio
import math

from hypothesis import given
from hypothesis import strategies as st

from tests.in_loop import in_loop
from tests.tunnel.edge import CHUNK_BYTES, Edge, Wire


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
