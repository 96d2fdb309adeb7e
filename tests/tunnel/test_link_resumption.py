"""A link goes on when its WebSocket does not, and time does to it what the heartbeat says."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.tunnel.joined import End, Joined, opened, quiet
from tunnel.keepalive import PING_EVERY_S, SILENCE_S
from tunnel.messages import LinkOver
from tunnel.stream import StreamData, StreamDelivered, StreamOpened


class TestResumption:
    """The link goes on when its WebSocket does not."""

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
        """They meant that WebSocket; the round trip is measured again."""
        joined = quiet()
        joined.agent.link.goodbye(LinkOver("it left", final=True))
        joined.agent.link.tick(joined.now + PING_EVERY_S)
        joined.resume()
        assert joined.agent.link.data_to_send(joined.now) == b""
        assert joined.agent.link.next_deadline() == joined.now


class TestTime:
    """Deadlines; all else of the pings is in test_keepalive."""

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
