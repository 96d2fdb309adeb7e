"""Turns: one frame each, who was idle goes first and once, nobody waits for ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tunnel.frames import MAX_PAYLOAD
from tunnel.stream import Stream, StreamId
from tunnel.turns import FRESH_RUN, Turns
from tunnel.window import Budget


def busy(stream_id: int, frames: int = 1000) -> Stream:
    """A stream with so many frames to send."""
    stream = Stream(StreamId(stream_id), Budget())
    stream.credit = 1 << 40
    stream.put(bytes(MAX_PAYLOAD * frames))
    return stream


def served(turns: Turns, count: int) -> list[int]:
    """Whose turns come next; each takes its frame."""
    order = []
    for _ in range(count):
        stream = turns.next()
        assert stream is not None
        stream.take()
        order.append(int(stream.id))
    return order


def with_streams(*streams: Stream) -> Turns:
    """Turns in which these became busy one after the other."""
    turns = Turns()
    for stream in streams:
        turns.add(stream)
    return turns


def test_nobody_has_a_turn_when_nobody_has_something_to_send() -> None:
    """An idle stream is not taken in."""
    turns = with_streams(Stream(StreamId(1), Budget()))
    assert not turns
    assert turns.next() is None


def test_busy_streams_take_turns() -> None:
    """One frame each, in order of becoming busy, again and again."""
    assert served(with_streams(busy(1), busy(3), busy(5)), 7) == [1, 3, 5, 1, 3, 5, 1]


def test_a_short_message_passes_bulk() -> None:
    """Who was idle goes before everyone who has been served."""
    turns = with_streams(busy(1), busy(3))
    assert served(turns, 3) == [1, 3, 1]
    turns.add(busy(5, frames=1))
    assert served(turns, 3) == [5, 3, 1]


def test_pausing_does_not_get_a_stream_ahead() -> None:
    """One that sent its message and has the next one ready waits for a whole rotation."""
    chatty = busy(9, frames=1)
    turns = with_streams(busy(1), busy(3), chatty)
    assert served(turns, 3) == [1, 3, 9]
    for _ in range(3):
        chatty.put(bytes(MAX_PAYLOAD))
        turns.add(chatty)
        assert served(turns, 3) == [1, 3, 9]


def test_a_turn_that_finds_nothing_to_send_is_passed_on() -> None:
    """Such a stream leaves, and is fresh when it comes again."""
    chatty = busy(9, frames=1)
    turns = with_streams(busy(1), busy(3), chatty)
    assert served(turns, 6) == [1, 3, 9, 1, 3, 1]
    chatty.put(b"again")
    turns.add(chatty)
    assert served(turns, 1) == [9]


def test_a_stream_out_of_credit_has_no_turn() -> None:
    """Its bytes wait here, and others go on."""
    stuck = busy(1)
    stuck.credit = 0
    turns = with_streams(stuck, busy(3))
    assert served(turns, 2) == [3, 3]
    stuck.credit = MAX_PAYLOAD
    turns.add(stuck)
    assert served(turns, 3) == [1, 3, 3]


def test_bulk_is_not_starved_by_ever_new_streams() -> None:
    """After FRESH_RUN newcomers one of the others has its turn."""
    turns = with_streams(busy(1))
    assert served(turns, 1) == [1]
    order = []
    for newcomer in range(3, 3 + 20 * FRESH_RUN):
        for twin in range(2):
            turns.add(busy(newcomer + 10_000 * twin, frames=1))
        order += served(turns, 1)
    assert order.count(1) >= len(order) // (FRESH_RUN + 1) - 1


def test_streams_that_are_over_leave_nothing_behind() -> None:
    """Streams that were reset while the link could send nothing are not kept for their turn."""
    turns = Turns()
    for number in range(1, 1001):
        stream = busy(number, frames=1)
        turns.add(stream)
        if number % 2:
            turns.next()
        stream.close()
        turns.discard(stream.id)
    turns.discard(StreamId(5000))
    assert not turns


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 4)), max_size=30))
def test_every_frame_has_its_turn(puts: list[tuple[int, int]]) -> None:
    """Whatever becomes busy when, all of it is sent, and no stream waits longer than everybody else's turn."""
    turns = Turns()
    streams = {number: busy(number, frames=0) for number in range(1, 7)}
    order = []
    for number, frames in puts:
        streams[number].put(bytes(MAX_PAYLOAD * frames))
        turns.add(streams[number])
        order += served(turns, 1)
    while (stream := turns.next()) is not None:
        stream.take()
        order.append(int(stream.id))
    assert {number: order.count(number) for number in set(order)} == {
        number: sum(frames for other, frames in puts if other == number) for number, _ in puts
    }
    assert not turns
