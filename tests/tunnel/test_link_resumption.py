"""A link goes on when its WebSocket does not, and time does to it what the heartbeat says."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.tunnel.joined import End, Joined, data_in, opened, quiet
from tunnel.congestion import START_FLIGHT
from tunnel.errors import RemoteProtocolError
from tunnel.frames import (
    HEADER_SIZE,
)
from tunnel.keepalive import PING_EVERY_S, SILENCE_S
from tunnel.link import MessageReceived
from tunnel.messages import LinkOver
from tunnel.stream import StreamData, StreamDelivered, StreamFinished, StreamOpened
from tunnel.window import INITIAL_WINDOW


class TestResumption:
    """The link goes on when its WebSocket does not."""

    @pytest.mark.parametrize("arrives", [True, False])
    def test_nothing_is_lost_or_doubled_by_a_cut(self, arrives: bool) -> None:
        """Whether what was under way arrived before the cut or died in it."""
        joined = quiet()
        stream_id = opened(joined)
        data = bytes(range(200)) * 50
        joined.hub.link.send(stream_id, data)
        joined.hub.link.finish(stream_id)
        joined.say(joined.hub)
        if arrives:
            joined.hear(joined.agent)
        joined.resume()
        joined.settle()
        events = joined.agent.take()
        assert data_in(events, stream_id) == data
        assert events.count(StreamFinished(stream_id)) == 1

    def test_half_a_batch_that_arrived_counts_for_its_whole_frames(self) -> None:
        """The rest is repeated from the first frame that did not come whole."""
        joined = quiet()
        for word in ("one", "two", "three"):
            joined.hub.link.message({"word": word})
        joined.say(joined.hub)
        joined.hear(joined.agent, count=HEADER_SIZE * 2 + 20)
        joined.resume()
        joined.settle()
        words = [event.body["word"] for event in joined.agent.take() if isinstance(event, MessageReceived)]
        assert words == ["one", "two", "three"]

    def test_what_happened_during_the_outage_follows_what_was_cut_off(self) -> None:
        """Streams opened, fed and finished meanwhile come after the replay, in order."""
        joined = quiet()
        first = opened(joined)
        joined.hub.link.send(first, b"before ")
        joined.say(joined.hub)
        joined.cut()
        joined.hub.link.send(first, b"during")
        second = joined.hub.link.open(2, 23)
        joined.resume()
        joined.settle()
        assert second is not None
        assert joined.agent.take() == [
            StreamData(first, b"before "),
            StreamOpened(second, 2, 23),
            StreamData(first, b"during"),
        ]

    def test_an_answer_that_was_lost_means_resuming_again(self) -> None:
        """The hub may have replayed into a WebSocket whose other end never saw its WELCOME."""
        joined = quiet()
        stream_id = opened(joined)
        joined.hub.link.send(stream_id, b"once")
        joined.say(joined.hub)
        joined.cut()
        joined.welcome_back()
        joined.hub.link.send(stream_id, b" and again")
        joined.say(joined.hub)
        joined.resume()
        joined.settle()
        assert data_in(joined.agent.take(), stream_id) == b"once and again"

    def test_a_cut_in_mid_replay_costs_nothing(self) -> None:
        """Several cuts, each after one more batch of a long replay."""
        joined = quiet()
        stream_id = opened(joined)
        joined.hub.link.streams[stream_id].credit = START_FLIGHT
        joined.agent.link.streams[stream_id].window.size = START_FLIGHT
        joined.agent.link.streams[stream_id].window.outstanding = START_FLIGHT
        data = bytes(range(256)) * (START_FLIGHT // 512)
        joined.hub.link.send(stream_id, data)
        while joined.say(joined.hub):
            pass
        whole = b""
        for _ in range(4):
            joined.resume()
            for _ in range(3):
                joined.say(joined.hub)
            for _ in range(2):
                joined.hear(joined.agent)
            whole += data_in(joined.agent.take(), stream_id)
        joined.settle()
        assert whole + data_in(joined.agent.take(), stream_id) == data

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

    def test_pings_goodbyes_and_acks_of_the_old_websocket_are_not_repeated(self) -> None:
        """They meant that WebSocket; the round trip is asked anew."""
        joined = quiet()
        joined.agent.link.goodbye(LinkOver("it left", final=True))
        joined.agent.link.tick(joined.now + PING_EVERY_S)
        joined.resume()
        assert joined.agent.link.data_to_send(joined.now) == b""
        assert joined.agent.link.next_deadline() == joined.now

    def test_credit_that_was_lost_in_a_cut_is_granted_all_the_same(self) -> None:
        """A stream cannot stall for ever because of an outage."""
        joined = quiet()
        stream_id = opened(joined)
        data = bytes(10 * INITIAL_WINDOW)
        joined.hub.link.send(stream_id, data)
        joined.settle()
        whole = b""
        while piece := data_in(joined.agent.take(), stream_id):
            whole += piece
            joined.agent.link.delivered(stream_id, len(piece))
            joined.say(joined.agent)
            joined.resume()
            joined.settle()
        assert whole == data

    @pytest.mark.parametrize("count", [0, 99])
    def test_a_resumption_that_cannot_be_is_refused_and_the_true_one_still_works(self, count: int) -> None:
        """A count below what was acknowledged or above what was sent."""
        joined = quiet()
        joined.hub.link.message({"n": 1})
        joined.wait(1)
        joined.hub.link.message({"n": 2})
        joined.say(joined.hub)
        joined.agent.take()
        with pytest.raises(RemoteProtocolError):
            joined.hub.link.resume(count, joined.now)
        joined.resume()
        joined.settle()
        assert joined.agent.take() == [MessageReceived({"n": 2})]


class TestTime:
    """Deadlines; all else of the heartbeat is in test_pulse."""

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

    def test_a_day_of_pings_and_outages_leaves_no_trace(self) -> None:
        """24 simulated hours with a heartbeat stream and an outage every ten minutes: no drift and no growth."""
        joined = quiet()
        stream_id = opened(joined)
        before, words = joined.now, 0
        for minute in range(24 * 60):
            joined.hub.link.send(stream_id, b"beat")
            words += 1
            if minute % 10 == 0:
                joined.say(joined.hub)
                joined.now += 30
                joined.resume()
                joined.wait(30)
            else:
                joined.wait(60)
            joined.agent.link.delivered(stream_id, len(data_in(joined.agent.take(), stream_id)))
        joined.settle()
        joined.wait(1)
        assert joined.now - before == pytest.approx(24 * 3600 + 1)
        ledger = joined.hub.link._ledger
        assert (ledger.unacknowledged, ledger.flight, ledger.control) == (False, 0, 0)
        assert sum(event.size for event in joined.hub.take() if isinstance(event, StreamDelivered)) == 4 * words
        assert joined.agent.link.streams[stream_id].window.size == INITIAL_WINDOW
        assert joined.agent.link.next_deadline() - joined.now <= PING_EVERY_S
