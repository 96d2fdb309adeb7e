"""The heartbeat: who pings when, what the round trip is, and when silence is death."""

from __future__ import annotations

import pytest

from tunnel.errors import RemoteProtocolError
from tunnel.frames import Frame, FrameType, pack_pair, unpack_pair
from tunnel.pulse import PING_BUSY_S, PING_EVERY_S, SILENCE_S, Pulse

START = 100.0


def agent() -> Pulse:
    """The end that pings."""
    return Pulse(initiator=True, now=START)


def pong(ping: bytes | None) -> Frame:
    """The answer to a PING that was sent."""
    assert ping is not None
    return Frame(FrameType.PONG, payload=ping)


def answered(now: float = START, round_trip_s: float = 0.1) -> Pulse:
    """An agent's pulse after its first ping was answered, and the one after it."""
    pulse = agent()
    for _ in range(2):
        ping = pulse.ping(now)
        now += round_trip_s
        pulse.heard(now)
        pulse.ponged(pong(ping), now)
    return pulse


def test_the_first_ping_is_due_at_once() -> None:
    """The round trip is known as early as possible."""
    assert agent().deadline(busy=False) == START


def test_an_answer_tells_the_round_trip_and_the_next_ping_waits() -> None:
    """An idle link is asked every PING_EVERY_S."""
    pulse = answered(round_trip_s=0.1)
    assert pulse.round_trip_s == pytest.approx(0.1)
    assert pulse.deadline(busy=False) == pytest.approx(START + 0.2 + PING_EVERY_S)


def test_the_first_answer_is_passed_on_at_once() -> None:
    """The hub should know the round trip too, which the next ping tells."""
    pulse = agent()
    pulse.ponged(pong(pulse.ping(START)), START + 0.25)
    assert pulse.deadline(busy=False) == START + 0.25
    ping = pulse.ping(START + 0.25)
    assert ping is not None
    assert unpack_pair(pong(ping))[1] == 250_000


def test_a_silence_while_something_is_not_acknowledged_is_asked_sooner() -> None:
    """And not while the other end talks."""
    pulse = answered(round_trip_s=0.0)
    assert pulse.deadline(busy=True) == START + PING_BUSY_S
    pulse.heard(START + 3)
    assert pulse.deadline(busy=True) == START + 3 + PING_BUSY_S
    pulse.heard(START + 19)
    assert pulse.deadline(busy=True) == START + PING_EVERY_S


def test_an_unanswered_ping_means_death_after_silence_s() -> None:
    """At the deadline there is no second ping; anything heard counts as a sign of life."""
    pulse = agent()
    assert pulse.ping(START) is not None
    assert pulse.deadline(busy=False) == START + SILENCE_S
    pulse.heard(START + 10)
    assert pulse.deadline(busy=True) == START + 10 + SILENCE_S
    assert pulse.ping(START + 10 + SILENCE_S) is None


def test_a_new_websocket_is_asked_at_once_and_owes_no_old_answer() -> None:
    """A PONG of the old one, if any came, would mean nothing."""
    pulse = agent()
    old = pulse.ping(START)
    pulse.resume(START + 60)
    assert pulse.deadline(busy=False) == START + 60
    new = pulse.ping(START + 60)
    pulse.ponged(pong(old), START + 61)
    assert pulse.round_trip_s is None
    pulse.ponged(pong(new), START + 62)
    assert pulse.round_trip_s == pytest.approx(2.0)


def test_an_answer_that_nobody_asked_for_means_nothing() -> None:
    """A second PONG changes neither round trip nor deadline."""
    pulse = agent()
    ping = pulse.ping(START)
    pulse.ponged(pong(ping), START + 1)
    before = pulse.deadline(busy=False)
    pulse.ponged(pong(ping), START + 9)
    assert (pulse.round_trip_s, pulse.deadline(busy=False)) == (1.0, before)


def test_a_clock_that_stands_still_gives_no_negative_round_trip() -> None:
    """Nor does one that was set back."""
    assert answered(round_trip_s=-5).round_trip_s == 0.0


def test_the_hub_learns_the_round_trip_from_the_next_ping() -> None:
    """In microseconds; the first ping knows none."""
    pulse = answered(round_trip_s=0.25)
    ping = pulse.ping(START + 30)
    assert ping is not None
    assert unpack_pair(Frame(FrameType.PING, payload=ping)) == (3, 250_000)
    hub = Pulse(initiator=False, now=START)
    hub.pinged(Frame(FrameType.PING, payload=pack_pair(1, 0)))
    assert hub.round_trip_s is None
    hub.pinged(Frame(FrameType.PING, payload=ping))
    assert hub.round_trip_s == 0.25


def test_the_hub_does_not_ping_and_gives_up_after_two_missing_pings() -> None:
    """What it hears puts that off."""
    hub = Pulse(initiator=False, now=START)
    assert hub.deadline(busy=True) == START + 2 * PING_EVERY_S + SILENCE_S
    hub.heard(START + 7)
    assert hub.deadline(busy=False) == START + 7 + 2 * PING_EVERY_S + SILENCE_S
    assert hub.ping(START + 100) is None


def test_nobody_pings_an_agent() -> None:
    """A PING from the hub breaks the protocol."""
    with pytest.raises(RemoteProtocolError, match="a PING from the hub"):
        agent().pinged(Frame(FrameType.PING, payload=pack_pair(1, 0)))
