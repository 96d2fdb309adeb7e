"""A carrier over a WebSocket that is two queues, what it counts, and `carry` between two links over such carriers."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.in_loop import in_loop
from tests.tunnel.carriers import at_once, carriers, data_frame
from tests.tunnel.edge import Edge
from tests.tunnel.mesh import behind_an_edge, echo, eventually, nothing_left
from tunnel.errors import LinkLost, RemoteProtocolError
from tunnel.frames import Frame, FrameType
from tunnel.keepalive import PING_EVERY_S, SILENCE_S
from tunnel.link import Event, Link
from tunnel.messages import LinkOver
from tunnel.transport import MAX_BATCH, STORE_RUN, STORED, TICK_S, Carrier, Meter, Traffic, Wake, carry


class TestCarrier:
    """Batches of frames in messages, and back."""

    @in_loop
    async def test_what_cannot_be_compressed_is_stored(self) -> None:
        """Large random batches are tried now and then only; what repeats is found again after STORE_RUN of them."""
        agent, hub, *_ = carriers()
        source = random.Random(2)
        payloads = [source.randbytes(60_000) for _ in range(3)] + [bytes(60_000)] * (STORE_RUN + 2)
        costs = []
        for payload in payloads:
            before = agent.meter.traffic.sent
            await agent.send(data_frame(payload))
            assert await hub.receive() == [Frame(FrameType.DATA, 1, 1, payload)]
            costs.append(agent.meter.traffic.sent - before > 60_000)
        assert costs == [True] * (STORE_RUN + 1) + [False] * 4

    @in_loop
    async def test_what_repeats_costs_little(self) -> None:
        """One context serves a whole direction: the second copy of random bytes is cheap; all bytes are counted."""
        agent, hub, *_ = carriers()
        payload = random.Random(1).randbytes(2_000)
        costs = []
        for _ in range(2):
            before = agent.meter.traffic.sent
            await agent.send(data_frame(payload))
            await hub.receive()
            costs.append(agent.meter.traffic.sent - before)
        assert costs[0] > 2_000
        assert costs[1] < 100
        here, there = agent.meter.traffic, hub.meter.traffic
        assert (here.sent, here.received) == (there.received, there.sent)

    def test_lying_batches_raise(self) -> None:
        """A length that is too large, or not the batch's, and bytes that are not zstd."""
        honest = zstandard.ZstdCompressor().compressobj()
        batch = honest.compress(b"12345") + honest.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        bomb = zstandard.ZstdCompressor().compress(bytes(100 * MAX_BATCH))
        for message in (
            (MAX_BATCH + 1).to_bytes(3, "big") + batch,
            (STORED | 5).to_bytes(3, "big") + bytes(4),
            (6).to_bytes(3, "big") + batch,
            (5).to_bytes(3, "big") + b"no zstd at all",
            (5).to_bytes(3, "big"),
            b"\0",
            MAX_BATCH.to_bytes(3, "big") + bomb,  # as much as a batch may be, and zeros are no frames
        ):
            assert _received_by_hub(message) is None

    @settings(deadline=None, max_examples=60)
    @given(st.binary(max_size=300))
    def test_any_bytes_inside_tls_are_frames_or_an_error(self, message: bytes) -> None:
        """A joiner with broken code raises RemoteProtocolError here and nothing else."""
        _received_by_hub(message)

    @in_loop
    async def test_close_gives_a_dead_end_half_a_second(self) -> None:
        """A WebSocket whose other end never answers the close is aborted."""
        agent, _, one, _ = carriers()
        one.stuck = True
        async with asyncio.timeout(2):
            await agent.close()
        assert one.aborted


def _received_by_hub(message: bytes) -> list[Frame] | None:
    """What the hub makes of a message inside an agent's TLS; None when it breaks the protocol."""
    agent, hub, _, into = carriers()
    agent._session.send(message)
    into.put(agent._session.data_to_send())
    try:
        return at_once(hub.receive())
    except RemoteProtocolError:
        return None


class TestMeter:
    """One end of a WebSocket."""

    @pytest.mark.parametrize(("message", "header"), [(1, 2), (125, 2), (126, 4), (65535, 4), (65536, 10)])
    def test_a_message_has_a_header(self, message: int, header: int) -> None:
        """Of the length that RFC 6455 gives it, and a mask of 4 bytes from the client on."""
        client, server = Meter(client=True), Meter(client=False)
        for meter in (client, server):
            meter.sent(message)
            meter.received(message)
        assert (client.traffic.sent, client.traffic.received) == (message + header + 4, message + header)
        assert (server.traffic.sent, server.traffic.received) == (message + header, message + header + 4)

    def test_a_message_is_divided_by_what_was_in_it(self) -> None:
        """A quarter data before compression is a quarter data on the wire; nothing is counted twice or left out."""
        meter = Meter(client=False)
        meter.sent(98, 250, 1000)
        meter.received(94, 10, 10)
        meter.received(94, 0, 0)
        assert meter.traffic == Traffic(25, 75, 100, 100)

    def test_the_http_exchange_is_control(self) -> None:
        """It carries no stream."""
        meter = Meter(client=True)
        meter.began(sent=300, received=120)
        assert meter.traffic == Traffic(0, 300, 0, 120)


class TestAgainstAnEdge:
    """The hub's count beside what passed at the edge."""

    @in_loop
    async def test_the_hub_counts_what_the_edge_counts(self, tmp_path: Path) -> None:
        """Joining, idling, bulk and short messages, a cut and a resumption: within 2 %, each direction."""

        def counted(edge: Edge) -> tuple[int, int]:
            return edge.stats.bytes_up, edge.stats.bytes_down

        async with behind_an_edge(tmp_path) as (mesh, edge):
            one, two = await mesh.join(), await mesh.join()
            target = await mesh.serve(two, echo)
            for _ in range(3):
                await mesh.echoes(one, target)
                reader, writer = await mesh.dial(one, target)
                for _ in range(200):
                    writer.write(b"a short message")
                    assert await reader.readexactly(15)
                writer.close()
                edge.cut()
                await one.log.saw("up", times=1)
            await eventually(lambda: not edge.stats.held_bytes)
            hub = mesh.hub.traffic
            up, down = counted(edge)
            assert hub.received == pytest.approx(up, rel=0.02)
            assert hub.sent == pytest.approx(down, rel=0.02)
            peers = sum((peer.traffic for peer in mesh.hub.peers), Traffic())
            assert peers.total <= hub.total
            assert peers.data_received > 3 * 600_000


PATIENCE_S = 5.0


class Carried:
    """A link that is carried, and what came of it."""

    def __init__(self, link: Link, carrier: Carrier) -> None:
        self.link = link
        self.wake = Wake()
        self.events: list[Event] = []
        self.task = asyncio.create_task(carry(link, carrier, self.wake, self.events.extend))

    async def end(self) -> str:
        """Why it ended."""
        return await asyncio.wait_for(self.task, PATIENCE_S)


@in_loop
async def test_a_goodbye_was_lost_when_the_writer_met_the_close_first() -> None:
    """What came before the close is read, even where our own sending finds out about the close."""
    one, two, line, _ = carriers()
    agent = Carried(Link(initiator=True, now=time.monotonic()), one)
    hub = Carried(Link(initiator=False, now=time.monotonic()), two)
    await eventually(lambda: agent.link.round_trip_s is not None)
    hub.link.goodbye(LinkOver("enough", final=True))
    hub.wake.set()
    agent.link.message({"unheard": True})
    agent.wake.set()
    line._open = False  # closed by the other side, which our reader has yet to reach
    assert await agent.end() == "enough"
    hub.task.cancel()


@in_loop
async def test_silence_went_unnoticed_while_the_writer_was_stuck() -> None:
    """A black hole in mid-transfer: the WebSocket takes nothing more, and the link still notices the silence."""
    _, hub, _, two = carriers()
    two.stuck = True
    heard_at = time.monotonic() - 2 * PING_EVERY_S - SILENCE_S + 0.3
    link = Link(initiator=False, now=heard_at)
    link.message({"never": "sent"})
    carried = Carried(link, hub)
    assert await carried.end() == "the other end is silent"


class Restless(Link):
    """A link that always has something due, and counts how often it is asked."""

    asked = 0

    def tick(self, now: float) -> bool:
        """Count."""
        self.asked += 1
        return True

    def next_deadline(self) -> float:
        """Long ago."""
        return 0.0


@in_loop
async def test_a_stuck_writer_does_not_spin() -> None:
    """What is due and cannot be sent costs a few looks a second, not a whole CPU."""
    agent, _, one, _ = carriers()
    one.stuck = True
    link = Restless(initiator=True, now=time.monotonic())
    link.message({"never": "sent"})
    carried = Carried(link, agent)
    began = time.monotonic()
    await eventually(lambda: link.asked >= 6)
    assert time.monotonic() - began > 4 * TICK_S
    carried.task.cancel()


@in_loop
async def test_a_lost_link_is_let_go_while_the_writer_is_stuck() -> None:
    """The clock finds what the writer cannot look at."""
    agent, _, one, _ = carriers()
    one.stuck = True
    link = Restless(initiator=True, now=time.monotonic())
    link.message({"never": "sent"})
    carried = Carried(link, agent)
    await asyncio.sleep(0.01)
    link.lost = "the other end takes no control frames"
    with pytest.raises(LinkLost):
        await carried.end()


@in_loop
async def test_cancelling_leaves_nothing() -> None:
    """No task and no timer survive `carry`."""
    agent, *_ = carriers()
    async with nothing_left():
        carried = Carried(Link(initiator=True, now=time.monotonic()), agent)
        await asyncio.sleep(0.01)
        carried.task.cancel()
        await asyncio.wait({carried.task})
        assert carried.task.cancelled()
