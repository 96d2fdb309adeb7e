"""`carry` between two links, over WebSockets that are queues: order, silence, ends."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

from tests.in_loop import in_loop
from tests.tunnel.carriers import Line, carriers
from tests.tunnel.mesh import eventually, nothing_left
from tunnel.errors import LinkLost, RemoteProtocolError
from tunnel.frames import FrameType
from tunnel.keepalive import PING_EVERY_S, SILENCE_S
from tunnel.link import Event, Link, MessageReceived
from tunnel.messages import LinkOver
from tunnel.stream import StreamData, StreamDelivered, StreamOpened
from tunnel.transport import TICK_S, Carrier, Wake, carry

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


@contextlib.asynccontextmanager
async def _two_links() -> Any:
    agent, hub, one, two = carriers()
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
    hub.link.goodbye(LinkOver("enough", final=True))
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
    hub.link.goodbye(LinkOver("enough", final=True))
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
    """A link that heard nothing for as long as its pings allow gives the WebSocket up."""
    _, hub, *_ = carriers()
    heard_at = time.monotonic() - 2 * PING_EVERY_S - SILENCE_S + 0.1
    carried = Carried(Link(initiator=False, now=heard_at), hub)
    assert await carried.end() == "the other end is silent"


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
