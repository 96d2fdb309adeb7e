"""The heartbeat: who pings when, what the round trip is, and when silence is death."""

from __future__ import annotations

import pytest

from tunnel.errors import RemoteProtocolError
from tunnel.frames import Frame, FrameType, pack_pair, unpack_pair
from tunnel.keepalive import PING_BUSY_S, PING_EVERY_S, SILENCE_S, Keepalive

START = 100.0


def agent() -> Keepalive:
    """The end that pings."""
    return Keepalive(initiator=True, now=START)


def pong(ping: bytes | None) -> Frame:
    """The answer to a PING that was sent."""
    assert ping is not None
    return Frame(FrameType.PONG, payload=ping)


def answered(now: float = START, round_trip_s: float = 0.1) -> Keepalive:
    """An agent's end after its first ping was answered, and the one after it."""
    keepalive = agent()
    for _ in range(2):
        ping = keepalive.ping(now)
        now += round_trip_s
        keepalive.heard(now)
        keepalive.ponged(pong(ping), now)
    return keepalive


def test_the_first_ping_is_due_at_once() -> None:
    """The round trip is known as early as possible."""
    assert agent().deadline(busy=False) == START


def test_an_answer_tells_the_round_trip_and_the_next_ping_waits() -> None:
    """An idle link is asked every PING_EVERY_S."""
    keepalive = answered(round_trip_s=0.1)
    assert keepalive.round_trip_s == pytest.approx(0.1)
    assert keepalive.deadline(busy=False) == pytest.approx(START + 0.2 + PING_EVERY_S)


def test_the_first_answer_is_passed_on_at_once() -> None:
    """The hub should know the round trip too, which the next ping tells."""
    keepalive = agent()
    keepalive.ponged(pong(keepalive.ping(START)), START + 0.25)
    assert keepalive.deadline(busy=False) == START + 0.25
    ping = keepalive.ping(START + 0.25)
    assert ping is not None
    assert unpack_pair(pong(ping))[1] == 250_000


def test_a_silence_while_something_is_not_acknowledged_is_asked_sooner() -> None:
    """And not while the other end talks."""
    keepalive = answered(round_trip_s=0.0)
    assert keepalive.deadline(busy=True) == START + PING_BUSY_S
    keepalive.heard(START + 3)
    assert keepalive.deadline(busy=True) == START + 3 + PING_BUSY_S
    keepalive.heard(START + 19)
    assert keepalive.deadline(busy=True) == START + PING_EVERY_S


def test_an_unanswered_ping_means_death_after_silence_s() -> None:
    """At the deadline there is no second ping; anything heard counts as a sign of life."""
    keepalive = agent()
    assert keepalive.ping(START) is not None
    assert keepalive.deadline(busy=False) == START + SILENCE_S
    keepalive.heard(START + 10)
    assert keepalive.deadline(busy=True) == START + 10 + SILENCE_S
    assert keepalive.ping(START + 10 + SILENCE_S) is None


def test_a_new_websocket_is_asked_at_once_and_owes_no_old_answer() -> None:
    """A PONG of the old one, if any came, would mean nothing."""
    keepalive = agent()
    old = keepalive.ping(START)
    keepalive.resume(START + 60)
    assert keepalive.deadline(busy=False) == START + 60
    new = keepalive.ping(START + 60)
    keepalive.ponged(pong(old), START + 61)
    assert keepalive.round_trip_s is None
    keepalive.ponged(pong(new), START + 62)
    assert keepalive.round_trip_s == pytest.approx(2.0)


def test_a_clock_that_stands_still_gives_no_negative_round_trip() -> None:
    """Nor does one that was set back."""
    assert answered(round_trip_s=-5).round_trip_s == 0.0


def test_the_hub_learns_the_round_trip_from_the_next_ping() -> None:
    """In microseconds; the first ping knows none."""
    keepalive = answered(round_trip_s=0.25)
    ping = keepalive.ping(START + 30)
    assert ping is not None
    assert unpack_pair(Frame(FrameType.PING, payload=ping)) == (3, 250_000)
    hub = Keepalive(initiator=False, now=START)
    hub.pinged(Frame(FrameType.PING, payload=pack_pair(1, 0)))
    assert hub.round_trip_s is None
    hub.pinged(Frame(FrameType.PING, payload=ping))
    assert hub.round_trip_s == 0.25


def test_the_hub_does_not_ping_and_gives_up_after_two_missing_pings() -> None:
    """What it hears puts that off."""
    hub = Keepalive(initiator=False, now=START)
    assert hub.deadline(busy=True) == START + 2 * PING_EVERY_S + SILENCE_S
    hub.heard(START + 7)
    assert hub.deadline(busy=False) == START + 7 + 2 * PING_EVERY_S + SILENCE_S
    assert hub.ping(START + 100) is None


def test_nobody_pings_an_agent() -> None:
    """A PING from the hub breaks the protocol."""
    with pytest.raises(RemoteProtocolError, match="a PING from the hub"):
        agent().pinged(Frame(FrameType.PING, payload=pack_pair(1, 0)))
