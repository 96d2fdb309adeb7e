"""One stream on one hop: what is queued comes out whole and within its credit, and its halves end each for itself."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.errors import LocalProtocolError
from tunnel.frames import MAX_PAYLOAD
from tunnel.stream import FRESH_RUN, PIECE, FairQueue, Stream, StreamId
from tunnel.window import INITIAL_WINDOW, Budget

SIZES = st.lists(st.integers(0, 3 * PIECE), max_size=12)
GRANTS = st.lists(st.integers(1, 20_000), max_size=30)


def new_stream() -> Stream:
    """Stream 1, as it begins."""
    return Stream(StreamId(1), Budget())


class TestSending:
    """The queue, the credit and FINISH."""

    def test_tiny_pieces_are_kept_joined(self) -> None:
        """100 kB that came two bytes at a time take about 100 kB, not some megabytes."""
        stream = new_stream()
        tracemalloc.start()
        for _ in range(50_000):
            stream.put(b"ab")
        taken, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert taken < 150_000
        stream.credit = 1 << 30
        assert bytes(stream.take()) == b"ab" * (MAX_PAYLOAD // 2)

    @given(SIZES, GRANTS, st.booleans())
    def test_what_was_put_comes_out_in_order(self, puts: list[int], grants: list[int], finish: bool) -> None:
        """Whatever the sizes of pieces and grants, no byte is lost, doubled or swapped."""
        stream, whole, out = new_stream(), b"", b""
        stream.credit = 0
        for number, size in enumerate(puts):
            piece = bytes((number * 31 + at) % 251 for at in range(size))
            stream.put(piece)
            whole += piece
            if number < len(grants):
                stream.credit += grants[number]
            if stream.sendable:
                out += stream.take()
        if finish:
            stream.finish()
        for grant in grants[len(puts) :]:
            stream.credit += grant
            while stream.queued and stream.sendable:
                out += stream.take()
        assert stream.credit >= 0
        assert out == whole[: len(out)]
        assert stream.queued == len(whole) - len(out)
        assert stream.sendable == ((stream.queued > 0 and stream.credit > 0) or (finish and not stream.queued))

    def test_nothing_follows_finish(self) -> None:
        """Neither bytes nor a second one: that would be our own bug."""
        stream = new_stream()
        stream.finish()
        with pytest.raises(LocalProtocolError, match="data after finish"):
            stream.put(b"x")
        with pytest.raises(LocalProtocolError, match="finished twice"):
            stream.finish()


class TestTheEnd:
    """When a stream is over."""

    def test_a_closed_stream_holds_nothing_and_wants_nothing(self) -> None:
        """A reset leaves neither bytes nor budget behind."""
        budget = Budget()
        stream = Stream(StreamId(1), budget)
        while stream.window.size == INITIAL_WINDOW:
            stream.received(INITIAL_WINDOW)
            stream.window.wanted()
            stream.window.delivered(INITIAL_WINDOW)
        stream.put(b"tail")
        stream.put(bytes(PIECE))
        assert budget.reserved > 0
        stream.close()
        assert (stream.queued, stream.sendable, budget.reserved) == (0, False, 0)


def busy(stream_id: int, frames: int = 1000) -> Stream:
    """A stream with this many frames to send."""
    stream = Stream(StreamId(stream_id), Budget())
    stream.credit = 1 << 40
    stream.put(bytes(MAX_PAYLOAD * frames))
    return stream


def served(queue: FairQueue, count: int) -> list[int]:
    """Whose queue come next; each takes its frame."""
    order = []
    for _ in range(count):
        stream = queue.next()
        assert stream is not None
        stream.take()
        order.append(int(stream.id))
    return order


def with_streams(*streams: Stream) -> FairQueue:
    """A queue in which these became busy one after the other."""
    queue = FairQueue()
    for stream in streams:
        queue.add(stream)
    return queue


class TestFairQueue:
    """One frame each; who was idle goes first, once; nobody waits for ever."""

    def test_a_short_message_passes_bulk(self) -> None:
        """Who was idle goes before everyone who has been served."""
        queue = with_streams(busy(1), busy(3))
        assert served(queue, 3) == [1, 3, 1]
        queue.add(busy(5, frames=1))
        assert served(queue, 3) == [5, 3, 1]

    def test_pausing_does_not_get_a_stream_ahead(self) -> None:
        """One that sent its message and has the next one ready waits for a whole rotation."""
        chatty = busy(9, frames=1)
        queue = with_streams(busy(1), busy(3), chatty)
        assert served(queue, 3) == [1, 3, 9]
        for _ in range(3):
            chatty.put(bytes(MAX_PAYLOAD))
            queue.add(chatty)
            assert served(queue, 3) == [1, 3, 9]

    def test_a_stream_out_of_credit_has_no_turn(self) -> None:
        """Its bytes wait here, and others go on."""
        stuck = busy(1)
        stuck.credit = 0
        queue = with_streams(stuck, busy(3))
        assert served(queue, 2) == [3, 3]
        stuck.credit = MAX_PAYLOAD
        queue.add(stuck)
        assert served(queue, 3) == [1, 3, 3]

    def test_bulk_is_not_starved_by_ever_new_streams(self) -> None:
        """After FRESH_RUN newcomers one of the others has its turn."""
        queue = with_streams(busy(1))
        assert served(queue, 1) == [1]
        order = []
        for newcomer in range(3, 3 + 20 * FRESH_RUN):
            for twin in range(2):
                queue.add(busy(newcomer + 10_000 * twin, frames=1))
            order += served(queue, 1)
        assert order.count(1) >= len(order) // (FRESH_RUN + 1) - 1

    @given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 4)), max_size=30))
    def test_every_frame_has_its_turn(self, puts: list[tuple[int, int]]) -> None:
        """Whatever becomes busy when, all of it is sent, and no stream waits longer than everybody else's turn."""
        queue = FairQueue()
        streams = {number: busy(number, frames=0) for number in range(1, 7)}
        order = []
        for number, frames in puts:
            streams[number].put(bytes(MAX_PAYLOAD * frames))
            queue.add(streams[number])
            order += served(queue, 1)
        while (stream := queue.next()) is not None:
            stream.take()
            order.append(int(stream.id))
        assert {number: order.count(number) for number in set(order)} == {
            number: sum(frames for other, frames in puts if other == number) for number, _ in puts
        }
        assert not queue
