"""Congestion control: a line is filled and little waits in it, whatever its length and width; all in simulated time."""

from __future__ import annotations

import statistics

import pytest

from tests.tunnel.line import Line
from tunnel.congestion import (
    BASE_S,
    BATCH,
    MAX_FLIGHT,
    MAX_QUEUE_S,
    MIN_BATCH,
    MIN_FLIGHT,
    MIN_FRAME,
    MIN_QUEUE_S,
    START_FLIGHT,
    Congestion,
)
from tunnel.frames import MAX_PAYLOAD

MBIT = 1e6 / 8
LINES = [(0.05, 50 * MBIT), (0.0005, 1000 * MBIT), (0.15, 10 * MBIT)]


def queue_s(delay_s: float) -> float:
    """What is meant to wait in a line that is this long each way."""
    return min(max(2 * delay_s / 8, MIN_QUEUE_S), MAX_QUEUE_S)


def waiting(line: Line, seconds: float) -> list[float]:
    """Seconds that the line's buffer takes to empty, sampled a hundred times while time passes."""
    found = []
    for _ in range(100):
        line.run(seconds / 100)
        found.append(line.waiting / line.rate)
    return found


@pytest.mark.parametrize(("delay_s", "rate"), LINES)
class TestALineOfOnesOwn:
    """One link with more to send than the line takes."""

    def test_it_is_filled_and_little_waits(self, delay_s: float, rate: float) -> None:
        """98 % of the rate once it has begun, with a queue of the length that is meant, give or take."""
        line = Line(delay_s, rate)
        bulk = line.bulk()
        line.run(60 * delay_s)
        before, seconds = line.got[bulk], max(100 * delay_s, 0.5)
        queue = waiting(line, seconds)
        assert line.got[bulk] - before > 0.98 * rate * seconds
        assert statistics.median(queue) < 2 * queue_s(delay_s) + 0.01

    def test_it_begins_quickly_and_without_a_flood(self, delay_s: float, rate: float) -> None:
        """After 12 round trips half of the rate, and little more than a round trip's worth in the buffer."""
        line = Line(delay_s, rate)
        bulk = line.bulk()
        assert max(waiting(line, 24 * delay_s)) < 2 * delay_s + 2 * queue_s(delay_s)
        before = line.got[bulk]
        line.run(10 * delay_s)
        assert line.got[bulk] - before > 0.5 * rate * 10 * delay_s

    def test_a_short_message_passes(self, delay_s: float, rate: float) -> None:
        """It takes half of an idle round trip, the queue that is meant, and a few milliseconds for what it follows."""
        line = Line(delay_s, rate)
        line.bulk()
        chat = line.open()
        line.run(60 * delay_s)
        late = []
        for _ in range(20):
            sent_at = line.now
            line.sender.send(chat, bytes(64))
            line.run(5 * delay_s + 0.02)
            late.append(line.arrived[chat][-1] - sent_at - delay_s)
        assert len(line.arrived[chat]) == 20
        assert statistics.median(late) < 2 * queue_s(delay_s) + 0.02


class TestALineThatChanges:
    """What a link does about others on the line and about another way of the packets."""

    def test_it_follows_the_rate(self) -> None:
        """To a tenth, and back to all of it, within a few seconds."""
        line = Line(0.02, 40 * MBIT)
        bulk = line.bulk()
        for rate in (40 * MBIT, 4 * MBIT, 40 * MBIT):
            line.rate = rate
            line.run(4)
            before = line.got[bulk]
            queue = waiting(line, 2)
            assert line.got[bulk] - before > 0.95 * rate * 2
            assert statistics.median(queue) < 0.05

    def test_a_longer_way_is_not_taken_for_a_queue_for_ever(self) -> None:
        """From 20 ms to 200 ms: the base is measured again after BASE_S, and the line is full again."""
        line = Line(0.01, 20 * MBIT)
        bulk = line.bulk()
        line.run(2)
        line.delay_s = 0.1
        line.run(2 * BASE_S)
        before = line.got[bulk]
        line.run(5)
        assert line.got[bulk] - before > 0.9 * 20 * MBIT * 5

    def test_a_minute_costs_no_more_queue_than_a_second(self) -> None:
        """Its own queue is never taken for the length of the line, however long it goes on."""
        line = Line(0.05, 10 * MBIT)
        bulk = line.bulk()
        line.run(57)
        before = line.got[bulk]
        queue = waiting(line, 3)
        assert line.got[bulk] - before > 0.95 * 10 * MBIT * 3
        assert statistics.median(queue) < 0.025


class TestLimits:
    """The numbers themselves."""

    def test_whoever_has_little_to_say_learns_nothing(self) -> None:
        """Acknowledgements of traffic that the limit did not hold back leave it alone, however late they are."""
        congestion = Congestion()
        for number in range(1, 100):
            congestion.acknowledged(number, float(number), number, 1000, number + (0.5 if number % 2 else 0.01))
        assert congestion.limit == START_FLIGHT

    @pytest.mark.parametrize(
        ("first_s", "then_s", "sizes"),
        [(1e-5, 1e-5, (MAX_FLIGHT, BATCH, MAX_PAYLOAD)), (0.1, 10.0, (MIN_FLIGHT, MIN_BATCH, MIN_FRAME))],
    )
    def test_limit_batch_and_frame_are_bounded(
        self, first_s: float, then_s: float, sizes: tuple[int, int, int]
    ) -> None:
        """On no line at all, and on one that grew far worse."""
        congestion, now = Congestion(), 0.0
        for number in range(1, 1000):
            congestion.acknowledged(number, now - (first_s if number < 50 else then_s), number, 10_000, now)
            congestion.hold_back()
            now += 0.01
        assert (congestion.limit, congestion.batch, congestion.frame) == sizes

    def test_frames_of_before_a_resumption_tell_nothing(self) -> None:
        """They were repeated, and may have been away for a minute."""
        congestion = Congestion()
        congestion.hold_back()
        congestion.acknowledged(1, 0.0, 5, 1000, 0.1)
        congestion.resume(5)
        before = congestion.limit
        congestion.hold_back()
        congestion.acknowledged(5, 0.2, 5, 1000, 60.0)
        assert congestion.limit == before
        for number in range(6, 20):
            congestion.acknowledged(number, 60.0 + number, number, 1000, 60.1 + number)
            congestion.hold_back()
        assert congestion.limit > before

    def test_a_resumption_ends_a_measurement(self) -> None:
        """The limit is whole again when the WebSocket dies while the base is measured."""
        line = Line(0.02, 50 * MBIT)
        line.bulk()
        line.run(2)
        congestion = line.sender._ledger.congestion
        congestion._base_at -= BASE_S  # as if that long ago
        whole = congestion.limit
        for _ in range(100):
            line.run(0.01)
            if congestion.limit < 0.6 * whole:
                break
            whole = congestion.limit
        assert congestion.limit < 0.6 * whole
        line.sender._ledger.resume(line.receiver.received_count)
        assert congestion.limit > 0.9 * whole
