"""A link: streams inside it, what leaves first, and how credit moves.

The heartbeat, the turns, windows and sequences have tests of their own; here they work together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import pytest

from tests.tunnel.joined import End, Joined, data_in, deliver_all, frames_of, opened, quiet
from tunnel.congestion import START_FRAME
from tunnel.errors import LocalProtocolError
from tunnel.frames import (
    HEADER_SIZE,
    ResetCode,
)
from tunnel.keepalive import PING_EVERY_S, SILENCE_S
from tunnel.ledger import ACK_DELAY_S
from tunnel.messages import MAX_REASON, LinkOver
from tunnel.stream import (
    StreamAccepted,
    StreamData,
    StreamDelivered,
    StreamFinished,
    StreamId,
    StreamOpened,
    StreamReset,
)
from tunnel.window import INITIAL_WINDOW, Budget


class TestStreams:
    """Opening, sending, finishing, resetting."""

    def test_a_stream_from_open_to_the_end(self) -> None:
        """Both ends see what happens in order, and forget the stream."""
        joined = quiet()
        agent, hub = joined.agent.link, joined.hub.link
        stream_id = agent.open(3, 80)
        assert stream_id is not None
        agent.send(stream_id, b"question")
        agent.finish(stream_id)
        joined.settle()
        assert joined.hub.take() == [
            StreamOpened(stream_id, 3, 80),
            StreamData(stream_id, b"question"),
            StreamFinished(stream_id),
        ]
        hub.delivered(stream_id, 8)
        hub.opened(stream_id)
        hub.send(stream_id, b"answer")
        hub.finish(stream_id)
        joined.settle()
        assert joined.agent.take() == [
            StreamDelivered(stream_id, 8),
            StreamAccepted(stream_id),
            StreamData(stream_id, b"answer"),
            StreamFinished(stream_id),
        ]
        agent.delivered(stream_id, 6)
        assert (agent.streams, hub.streams) == ({}, {})

    def test_agents_number_odd_and_hubs_even(self) -> None:
        """So both may open without asking."""
        joined = quiet()
        assert [joined.agent.link.open(3, 80) for _ in range(3)] == [1, 3, 5]
        assert [joined.hub.link.open(2, 22) for _ in range(3)] == [2, 4, 6]

    def test_a_reset_ends_both_halves_at_once(self) -> None:
        """What was queued is gone, the reason arrives, and a second reset is harmless."""
        joined = quiet()
        stream_id = opened(joined)
        joined.hub.link.send(stream_id, bytes(100_000))
        joined.hub.link.reset(stream_id, ResetCode.CONNECTION)
        joined.hub.link.reset(stream_id, ResetCode.LOST)
        joined.settle()
        assert joined.agent.take() == [StreamReset(stream_id, ResetCode.CONNECTION)]
        assert (joined.agent.link.streams, joined.hub.link.streams) == ({}, {})

    def test_a_stream_opened_and_reset_in_one_batch_is_no_bug_of_ours(self) -> None:
        """When its StreamOpened is acted on, the link knows already that it is gone."""
        joined = quiet()
        stream_id = joined.agent.link.open(3, 80)
        assert stream_id is not None
        joined.say(joined.agent)
        joined.agent.link.reset(stream_id, ResetCode.CONNECTION)
        joined.say(joined.agent)
        joined.hub.coming = deque([b"".join(joined.hub.coming)])
        assert joined.hear(joined.hub) == [StreamOpened(stream_id, 3, 80), StreamReset(stream_id, ResetCode.CONNECTION)]
        joined.hub.link.assign(stream_id, Budget())
        joined.hub.link.opened(stream_id)
        assert "OPENED" not in frames_of(joined.hub.link.data_to_send(joined.now + 1))

    def test_a_stream_that_was_reset_wants_nothing_more(self) -> None:
        """Neither bytes that were queued nor credit that was due leave after it, and nothing of it is kept."""
        joined = quiet()
        stream_id = opened(joined)
        joined.hub.link.send(stream_id, bytes(INITIAL_WINDOW))
        joined.settle()
        joined.agent.link.send(stream_id, b"queued")
        joined.agent.link.delivered(stream_id, INITIAL_WINDOW)
        joined.agent.link.reset(stream_id, ResetCode.CONNECTION)
        assert not joined.agent.link._queue
        assert frames_of(joined.agent.link.data_to_send(joined.now)) == ["RESET"]

    def test_calls_for_a_stream_that_never_was_are_our_own_bug(self) -> None:
        """Bytes do not vanish silently."""
        link = quiet().agent.link
        with pytest.raises(LocalProtocolError, match="no stream 1"):
            link.send(StreamId(1), b"x")
        with pytest.raises(LocalProtocolError, match="no stream 1"):
            link.finish(StreamId(1))

    def test_goodbye_says_why_and_whether_to_come_back(self) -> None:
        """The reason is shown to people, so it is short and printable whatever a peer sent."""
        joined = quiet()
        joined.hub.link.goodbye(LinkOver("the head was stopped", final=True))
        joined.settle()
        assert joined.agent.take() == [LinkOver("the head was stopped", True)]
        joined.hub.link.goodbye(LinkOver("a port is taken", final=True, refused=True))
        joined.settle()
        assert joined.agent.take() == [LinkOver("a port is taken", True, refused=True)]
        joined.hub.link.goodbye(LinkOver("a\x1b[31m\nb" + "x" * 10_000, final=False))
        joined.settle()
        (event,) = joined.agent.take()
        assert isinstance(event, LinkOver)
        assert (event.reason[:8], len(event.reason), event.final) == ("a [31m b", MAX_REASON, False)


class TestOrder:
    """What leaves first."""

    def test_control_passes_bulk_and_open_comes_before_data(self) -> None:
        """Acknowledgements and pings, then control, new streams, credit, and DATA last."""
        joined = quiet()
        agent, hub = joined.agent.link, joined.hub.link
        bulk, fed, gone = opened(joined), opened(joined), opened(joined)
        agent.send(fed, bytes(INITIAL_WINDOW))
        agent.send(bulk, bytes(100))
        joined.settle()
        hub.send(bulk, bytes(10_000))
        hub.delivered(fed, INITIAL_WINDOW)
        new = hub.open(2, 23)
        assert new is not None
        hub.send(new, b"first words")
        hub.reset(gone, ResetCode.CONNECTION)
        agent.tick(joined.now + 1000)
        joined.say(joined.agent)
        joined.hear(joined.hub)
        assert frames_of(hub.data_to_send(joined.now)) == ["PONG", "RESET", "OPEN", "CREDIT", "DATA", "DATA"]

    def test_an_ack_rides_along_or_waits(self) -> None:
        """Alone it goes after ACK_DELAY_S, with other frames at once, and an idle link says nothing."""
        joined = quiet()
        stream_id = opened(joined)
        joined.wait(1)
        joined.hub.link.send(stream_id, b"tick")
        joined.say(joined.hub)
        joined.hear(joined.agent)
        assert joined.agent.link.data_to_send(joined.now) == b""
        assert joined.agent.link.next_deadline() == joined.now + ACK_DELAY_S
        joined.agent.link.send(stream_id, b"tock")
        assert frames_of(joined.agent.link.data_to_send(joined.now)) == ["ACK", "DATA"]
        assert joined.agent.link.data_to_send(joined.now) == b""

    @pytest.mark.parametrize("what", ["PING", "MESSAGE", "OPEN", "CREDIT", "FINISH"])
    def test_an_ack_rides_along_with_anything(self, what: str) -> None:
        """Whatever is said, and whatever is repeated after a cut."""
        joined = quiet()
        agent, hub = joined.agent.link, joined.hub.link
        stream_id = opened(joined)
        hub.send(stream_id, bytes(INITIAL_WINDOW))
        joined.settle()
        hub.message({})
        joined.say(joined.hub)
        joined.hear(joined.agent)
        if what == "PING":
            agent.tick(agent._keepalive.deadline(busy=False))
        elif what == "MESSAGE":
            agent.message({})
        elif what == "OPEN":
            agent.open(1, 80)
        elif what == "CREDIT":
            agent.delivered(stream_id, INITIAL_WINDOW)
        else:
            agent.finish(stream_id)
        assert frames_of(agent.data_to_send(joined.now)) == ["ACK", what]

    def test_a_batch_is_bounded(self) -> None:
        """However much there is to say, one WebSocket message stays near `batch`."""
        joined = quiet()
        congestion = joined.hub.link._ledger.congestion
        for stream_id in [opened(joined) for _ in range(30)]:
            joined.hub.link.send(stream_id, bytes(INITIAL_WINDOW))
        batch = joined.hub.link.data_to_send(joined.now)
        assert congestion.batch <= len(batch) < congestion.batch + congestion.frame + HEADER_SIZE


class TestCredit:
    """How windows and CREDIT frames work together."""

    def test_a_busy_stream_is_given_more_and_a_trickle_is_not(self) -> None:
        """The sender's word that more waits makes the window grow."""
        joined = quiet()
        bulk, trickle = opened(joined), opened(joined)
        budget = Budget()
        for stream_id in (bulk, trickle):
            joined.agent.link.assign(stream_id, budget)
        data = bytes(range(256)) * 4096
        joined.hub.link.send(bulk, data)
        joined.settle()
        assert deliver_all(joined, joined.agent, bulk) == data
        for _ in range(200):
            joined.hub.link.send(trickle, bytes(1000))
            joined.settle()
            deliver_all(joined, joined.agent, trickle)
        streams = joined.agent.link.streams
        assert streams[bulk].window.size > 16 * INITIAL_WINDOW
        assert streams[trickle].window.size == INITIAL_WINDOW

    def test_only_a_sender_without_credit_says_that_more_waits(self) -> None:
        """While credit lasts the turns alone decide when the rest goes."""
        joined = quiet()
        stream_id = opened(joined)
        joined.hub.link.streams[stream_id].credit = 3 * START_FRAME
        joined.hub.link.send(stream_id, bytes(4 * START_FRAME))
        batches = [joined.hub.link.data_to_send(joined.now) for _ in range(3)]
        assert [name for batch in batches for name in frames_of(batch)] == ["DATA", "DATA", "DATA_WAITING"]

    def test_a_half_closed_stream_gives_its_budget_back(self) -> None:
        """After the peer's FINISH no credit is announced, and what is held is all that counts."""
        joined = quiet()
        stream_id = opened(joined)
        budget = Budget()
        joined.agent.link.assign(stream_id, budget)
        joined.hub.link.send(stream_id, bytes(64 * INITIAL_WINDOW))
        joined.hub.link.finish(stream_id)
        joined.settle()
        deliver_all(joined, joined.agent, stream_id)
        assert stream_id in joined.agent.link.streams
        assert budget.reserved == 0
        assert "CREDIT" not in frames_of(joined.agent.link.data_to_send(joined.now))

    def test_a_finished_stream_is_charged_until_its_bytes_have_left(self) -> None:
        """Else programs that finish early could fill a slow node's memory stream by stream."""
        joined = quiet()
        stream_id = opened(joined)
        budget = Budget()
        joined.agent.link.assign(stream_id, budget)
        joined.hub.link.send(stream_id, bytes(64 * INITIAL_WINDOW))
        joined.hub.link.finish(stream_id)
        joined.agent.link.finish(stream_id)
        held, finished = 0, False
        while not finished:
            joined.settle()
            events = joined.agent.take()
            held += len(data_in(events, stream_id))
            finished = StreamFinished(stream_id) in events
            if not finished:
                joined.agent.link.delivered(stream_id, held // 2 + 1)
                held -= held // 2 + 1
        assert budget.reserved == held - INITIAL_WINDOW > 0
        assert joined.hub.link.streams == {}
        joined.agent.link.delivered(stream_id, held)
        assert budget.reserved == 0
        assert joined.agent.link.streams == {}


class TestResumption:
    """A new WebSocket and a silent one; all else of the pings is in test_keepalive."""

    def test_bytes_the_peer_has_are_reported_delivered_once(self) -> None:
        """Whether an ACK or a resumption tells of them."""
        joined = quiet()
        stream_id = opened(joined)
        joined.hub.take()
        joined.hub.link.send(stream_id, b"12345")
        joined.say(joined.hub)
        joined.hear(joined.agent)
        joined.resume()
        joined.wait(1)
        assert joined.hub.take() == [StreamDelivered(stream_id, 5)]

    def test_the_round_trip_is_known_to_both(self) -> None:
        """The agent measures it, the hub hears of it with the next ping."""
        joined = Joined()
        agent = joined.agent.link
        agent.tick(joined.now)
        joined.say(joined.agent)
        joined.now += 0.2
        joined.settle()
        assert agent.round_trip_s == pytest.approx(0.2)
        assert joined.hub.link.round_trip_s is None
        joined.wait(PING_EVERY_S + 1)
        assert joined.hub.link.round_trip_s == pytest.approx(0.2)

    def test_pings_goodbyes_and_acks_of_the_old_websocket_are_not_repeated(self) -> None:
        """They meant that WebSocket; the round trip is measured again."""
        joined = quiet()
        joined.agent.link.goodbye(LinkOver("it left", final=True))
        joined.agent.link.tick(joined.now + PING_EVERY_S)
        joined.resume()
        assert joined.agent.link.data_to_send(joined.now) == b""
        assert joined.agent.link.next_deadline() == joined.now

    @pytest.mark.parametrize("end", [lambda joined: joined.agent, lambda joined: joined.hub], ids=["agent", "hub"])
    def test_silence_ends_a_websocket(self, end: Callable[[Joined], End]) -> None:
        """Black-holed, either end gives it up, and before that keeps it."""
        joined = quiet()
        link = end(joined).link
        start, alive = joined.now, True
        while alive:
            joined.now = max(joined.now, link.next_deadline())
            alive = link.tick(joined.now)
            link.data_to_send(joined.now)
        assert PING_EVERY_S + SILENCE_S <= joined.now - start <= 2 * PING_EVERY_S + SILENCE_S
