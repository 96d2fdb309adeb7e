"""A carrier over a WebSocket that is two queues, and `carry` between two links: order, limits, silence, ends."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Coroutine
from functools import cache
from typing import Any, cast

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.connection import Connection
from websockets.exceptions import ConnectionClosed

from tests.in_loop import in_loop
from tests.tunnel.mesh import NOW, eventually, nothing_left
from tunnel.errors import LinkLost, PinMismatch, RemoteProtocolError
from tunnel.events import Event, LinkOver, MessageReceived, StreamData, StreamDelivered, StreamOpened
from tunnel.frames import Frame, FrameType, encode_header
from tunnel.link import Link
from tunnel.pulse import PING_EVERY_S, SILENCE_S
from tunnel.secure import HubIdentity, SecureSession, server_context
from tunnel.transport import MAX_BATCH, STORE_RUN, STORED, Carrier, Wake, carry

PATIENCE_S = 5.0


@cache
def identity() -> HubIdentity:
    """One for all tests: making it is slow."""
    return HubIdentity.create(NOW)


class Line:
    """One end of a WebSocket without a network; `stuck` takes nothing more, as behind a full buffer."""

    def __init__(self) -> None:
        self.other: Line
        self.stuck = False
        self.aborted = False
        self.transport = self
        self._inbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._open = True

    async def send(self, data: bytes) -> None:
        """Hand a message to the other end."""
        if self.stuck:
            await asyncio.Event().wait()
        if not self._open:
            raise ConnectionClosed(None, None)
        self.other._inbox.put_nowait(data)

    async def recv(self, decode: bool | None = None) -> bytes:
        """The next message; what came before a close is still given, as websockets does."""
        message = await self._inbox.get()
        if message is None:
            raise ConnectionClosed(None, None)
        return message

    async def close(self) -> None:
        """End it for both; a stuck one waits for the other side for ever."""
        if self.stuck:
            await asyncio.Event().wait()
        for end in (self, self.other):
            if end._open:
                end._open = False
                end._inbox.put_nowait(None)

    def abort(self) -> None:
        """End it at once."""
        self.aborted = True


def line() -> tuple[Line, Line]:
    """Both ends."""
    one, two = Line(), Line()
    one.other, two.other = two, one
    return one, two


async def carriers(*, compressed: bool = True) -> tuple[Carrier, Carrier, Line, Line]:
    """A node's and a hub's carrier whose handshake is done, and their lines."""
    one, two = line()
    agent = Carrier(cast("Connection", one), SecureSession.client(identity().pin))
    hub = Carrier(cast("Connection", two), SecureSession.server(server_context(identity())))
    await asyncio.gather(agent.handshake(), hub.handshake())
    if compressed:
        agent.compress()
        hub.compress()
    return agent, hub, one, two


def data_frame(payload: bytes) -> bytes:
    """The bytes of a DATA frame."""
    return encode_header(FrameType.DATA, len(payload), 1, 1) + payload


class TestCarrier:
    """Batches of frames in messages, and back."""

    @pytest.mark.parametrize("compressed", [False, True], ids=["bare", "compressed"])
    def test_batches_arrive_whole_and_in_order(self, compressed: bool) -> None:
        """Empty, small, repetitive and incompressible ones, each as one message."""

        @in_loop
        async def main() -> None:
            agent, hub, *_ = await carriers(compressed=compressed)
            for payload in (b"", b"x", bytes(60_000), random.Random(0).randbytes(65_536), b"abc" * 9):
                await agent.send(data_frame(payload))
                assert await hub.receive() == [Frame(FrameType.DATA, 1, 1, payload)]
                await hub.send(data_frame(payload))
                assert await agent.receive() == [Frame(FrameType.DATA, 1, 1, payload)]

        main()

    @in_loop
    async def test_what_cannot_be_compressed_is_stored(self) -> None:
        """Large random batches are tried now and then only; what repeats is found again after STORE_RUN of them."""
        agent, hub, *_ = await carriers()
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
        agent, hub, *_ = await carriers()
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

    @in_loop
    async def test_another_certificate_is_told_nothing(self) -> None:
        """PinMismatch at the node, and the hub gets nothing after the node's greeting."""
        one, two = line()
        agent = Carrier(cast("Connection", one), SecureSession.client(bytes(32)))
        hub = Carrier(cast("Connection", two), SecureSession.server(server_context(identity())))
        shaking = asyncio.create_task(hub.handshake())
        with pytest.raises(PinMismatch):
            await agent.handshake()
        greeting = agent.meter.traffic.sent
        await eventually(lambda: hub.meter.traffic.received == greeting)
        assert not shaking.done()
        shaking.cancel()

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
    async def test_bytes_that_are_not_tls_raise(self) -> None:
        """Whoever alters a message in the middle ends the WebSocket, and is not heard."""
        agent, hub, one, two = await carriers()
        await agent.send(data_frame(b"x"))
        message = bytearray(await two.recv())
        message[-1] ^= 1
        await one.send(bytes(message))
        with pytest.raises(RemoteProtocolError):
            await hub.receive()

    @in_loop
    async def test_close_gives_a_dead_end_half_a_second(self) -> None:
        """A WebSocket whose other end never answers the close is aborted."""
        agent, _, one, _ = await carriers()
        one.stuck = True
        async with asyncio.timeout(2):
            await agent.close()
        assert one.aborted


def _received_by_hub(message: bytes) -> list[Frame] | None:
    """What the hub makes of a message inside an agent's TLS; None when it breaks the protocol."""

    async def main() -> list[Frame] | None:
        one, two = line()
        session = SecureSession.client(identity().pin)
        agent = Carrier(cast("Connection", one), session)
        hub = Carrier(cast("Connection", two), SecureSession.server(server_context(identity())))
        await asyncio.gather(agent.handshake(), hub.handshake())
        hub.compress()
        session.send(message)
        await one.send(session.data_to_send())
        try:
            return await hub.receive()
        except RemoteProtocolError:
            return None

    return asyncio.run(main())


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


@contextlib.asynccontextmanager
async def _two_links() -> Any:
    agent, hub, one, two = await carriers()
    now = time.monotonic()
    ends = Carried(Link(initiator=True, now=now), agent), Carried(Link(initiator=False, now=now), hub)
    async with nothing_left():
        try:
            yield *ends, one, two
        finally:
            for end in ends:
                end.task.cancel()
            await asyncio.gather(*(end.task for end in ends), return_exceptions=True)


Main = Callable[[Carried, Carried, Line, Line], Coroutine[Any, Any, None]]


def two_links(main: Main) -> Callable[[], None]:
    """Runs a test with an agent's and a hub's link, each carried."""

    @in_loop
    async def run() -> None:
        async with _two_links() as ends:
            await main(*ends)

    run.__doc__ = main.__doc__
    return run


@two_links
async def test_frames_cross_both_ways(agent: Carried, hub: Carried, one: Line, two: Line) -> None:
    """Messages and stream bytes come out as the events they are; a wake is all a link needs to be asked."""
    stream = agent.link.open(3, 10_000)
    assert stream is not None
    agent.link.send(stream, b"hello")
    agent.wake.set()
    hub.link.message({"n": 1})
    hub.wake.set()
    await eventually(lambda: len(hub.events) == 2 and len(agent.events) == 2)
    assert hub.events == [StreamOpened(stream, 3, 10_000), StreamData(stream, b"hello")]
    assert {type(event): event for event in agent.events} == {
        MessageReceived: MessageReceived({"n": 1}),
        StreamDelivered: StreamDelivered(stream, 5),
    }


@two_links
async def test_the_round_trip_is_known_at_once(agent: Carried, hub: Carried, one: Line, two: Line) -> None:
    """The first ping goes when the link is carried, not PING_EVERY_S later."""
    await eventually(lambda: agent.link.round_trip_s is not None)


@two_links
async def test_goodbye_ends_it_with_its_reason(agent: Carried, hub: Carried, one: Line, two: Line) -> None:
    """Whoever hears the goodbye stops, and knows why."""
    hub.link.goodbye("enough", final=True)
    hub.wake.set()
    assert await agent.end() == "enough"
    assert agent.events[-1] == LinkOver("enough", True)


@two_links
async def test_a_closed_websocket_ends_it(agent: Carried, hub: Carried, one: Line, two: Line) -> None:
    """Both ends stop; that is an outage, no error."""
    await one.close()
    assert {await agent.end(), await hub.end()} == {"the WebSocket closed"}


@two_links
async def test_a_goodbye_was_lost_when_the_writer_met_the_close_first(
    agent: Carried, hub: Carried, one: Line, two: Line
) -> None:
    """What came before the close is read, even where our own sending finds out about the close."""
    await eventually(lambda: agent.link.round_trip_s is not None)
    hub.link.goodbye("enough", final=True)
    hub.wake.set()
    agent.link.message({"unheard": True})
    agent.wake.set()
    one._open = False  # closed by the other side, which our reader has yet to reach
    assert await agent.end() == "enough"


@two_links
async def test_what_breaks_the_protocol_comes_through(agent: Carried, hub: Carried, one: Line, two: Line) -> None:
    """RemoteProtocolError names what was wrong; the caller gives the link up."""
    agent.link._queue_control(FrameType.CREDIT, cast("Any", 99), bytes(8))
    agent.wake.set()
    with pytest.raises(RemoteProtocolError, match="stream 99, which was never opened"):
        await hub.end()


@two_links
async def test_a_link_that_cannot_go_on_is_let_go(agent: Carried, hub: Carried, one: Line, two: Line) -> None:
    """LinkLost, with the link's own reason, as soon as it is woken."""
    hub.link.lost = "the other end takes no control frames"
    hub.wake.set()
    with pytest.raises(LinkLost, match="takes no control frames"):
        await hub.end()


@in_loop
async def test_silence_ends_it() -> None:
    """A link that heard nothing for as long as its pulse allows gives the WebSocket up."""
    _, hub, *_ = await carriers()
    heard_at = time.monotonic() - 2 * PING_EVERY_S - SILENCE_S + 0.1
    carried = Carried(Link(initiator=False, now=heard_at), hub)
    assert await carried.end() == "the other end is silent"


@in_loop
async def test_silence_went_unnoticed_while_the_writer_was_stuck() -> None:
    """A black hole in mid-transfer: the WebSocket takes nothing more, and the link still notices the silence."""
    _, hub, _, two = await carriers()
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
    agent, _, one, _ = await carriers()
    one.stuck = True
    link = Restless(initiator=True, now=time.monotonic())
    link.message({"never": "sent"})
    carried = Carried(link, agent)
    await asyncio.sleep(0.3)
    assert 2 <= link.asked <= 10
    carried.task.cancel()


@in_loop
async def test_a_lost_link_is_let_go_while_the_writer_is_stuck() -> None:
    """The clock finds what the writer cannot look at."""
    agent, _, one, _ = await carriers()
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
    agent, *_ = await carriers()
    async with nothing_left():
        carried = Carried(Link(initiator=True, now=time.monotonic()), agent)
        await asyncio.sleep(0.01)
        carried.task.cancel()
        await asyncio.wait({carried.task})
        assert carried.task.cancelled()
