"""The ledger: every sequenced frame arrives once and in order, through any number of WebSockets."""

from __future__ import annotations

import pytest

from tunnel.errors import RemoteProtocolError
from tunnel.frames import HEADER_SIZE, Frame, FrameParser, FrameType, unpack_count
from tunnel.ledger import ACK_BYTES, ACK_DELAY_S, FRAME_COST, Encoded, Ledger
from tunnel.stream import StreamId


def frame(encoded: Encoded) -> Frame:
    """The frame that was encoded."""
    (found,) = FrameParser().receive(b"".join(encoded))
    return found


NOW = 1000.0


def number_data(ledger: Ledger, *sizes: int, stream: int = 1) -> list[Frame]:
    """Number DATA frames of these sizes."""
    return [frame(ledger.number(FrameType.DATA, StreamId(stream), bytes(size), NOW)) for size in sizes]


def replayed(ledger: Ledger) -> list[Frame]:
    """All that a resumption repeats."""
    found = []
    while ledger.replaying:
        found.append(frame(ledger.repeat()))
    return found


class TestCounting:
    """Sequences and acknowledgements on one WebSocket."""

    def test_the_next_frame_is_the_only_one_taken(self) -> None:
        """One that is missing, doubled or swapped breaks the protocol."""
        for sequence in (0, 2, 7):
            with pytest.raises(RemoteProtocolError, match=f"frame {sequence} where 1 is next"):
                Ledger().count(Frame(FrameType.DATA, 1, sequence), 0.0)
        ledger = Ledger()
        ledger.count(Frame(FrameType.DATA, 1, 1), 0.0)
        with pytest.raises(RemoteProtocolError, match="frame 1 where 2 is next"):
            ledger.count(Frame(FrameType.DATA, 1, 1), 0.0)

    def test_counting_goes_on_past_32_bits(self) -> None:
        """The frame shows the low bits of a count that never wraps."""
        ledger = Ledger()
        ledger.received_count = (1 << 32) - 2
        for sequence in (0xFFFFFFFF, 0, 1):
            ledger.count(Frame(FrameType.DATA, 1, sequence), 0.0)
        assert unpack_count(frame(ledger.ack())) == (1 << 32) + 1

    def test_what_is_acknowledged_is_forgotten_and_told(self) -> None:
        """The owner learns how many bytes of which stream the peer has."""
        ledger = Ledger()
        number_data(ledger, 10, 20)
        ledger.number(FrameType.FINISH, StreamId(1), b"", NOW)
        number_data(ledger, 5, stream=3)
        assert ledger.acknowledged(3, NOW) == {1: 30}
        assert ledger.acknowledged(3, NOW) == {}
        assert ledger.unacknowledged
        assert ledger.acknowledged(4, NOW) == {3: 5}
        assert (ledger.flight, ledger.control, ledger.unacknowledged) == (0, 0, False)

    @pytest.mark.parametrize("count", [1, 4, 1 << 63])
    def test_an_acknowledgement_of_what_was_not_sent_or_was_taken_back(self, count: int) -> None:
        """A count beyond what was sent, or below an earlier one, breaks the protocol."""
        ledger = Ledger()
        number_data(ledger, 1, 1, 1)
        ledger.acknowledged(2, NOW)
        with pytest.raises(RemoteProtocolError, match=f"{count} frames acknowledged of 3 sent, after 2"):
            ledger.acknowledged(count, NOW)

    def test_tiny_frames_count_for_what_keeping_them_costs(self) -> None:
        """Without it a bound in bytes would let a million objects wait."""
        ledger = Ledger()
        number_data(ledger, 1, 1)
        ledger.number(FrameType.CREDIT, StreamId(1), bytes(8), NOW)
        assert ledger.flight == 2 * (FRAME_COST + 1)
        assert ledger.control == FRAME_COST + 8


class TestOwing:
    """When an ACK goes."""

    def test_an_ack_is_due_after_so_many_bytes(self) -> None:
        """Headers count: tiny frames fill the peer's memory too."""
        ledger = Ledger()
        ledger.count(Frame(FrameType.DATA, 1, 1, bytes(ACK_BYTES - HEADER_SIZE - 1)), 5.0)
        assert (ledger.ack_due, ledger.ack_useful) == (False, True)
        ledger.count(Frame(FrameType.FINISH, 1, 2), 5.0)
        assert ledger.ack_due

    def test_an_ack_is_due_after_so_long(self) -> None:
        """The delay runs from the first frame that is owed for, and an ACK settles it."""
        ledger = Ledger()
        ledger.count(Frame(FrameType.FINISH, 1, 1), 5.0)
        ledger.count(Frame(FrameType.FINISH, 3, 2), 5.2)
        assert ledger.ack_at == 5.0 + ACK_DELAY_S
        ledger.tick(5.0 + ACK_DELAY_S - 0.001)
        assert not ledger.ack_due
        ledger.tick(5.0 + ACK_DELAY_S)
        assert ledger.ack_due
        assert unpack_count(frame(ledger.ack())) == 2
        assert (ledger.ack_due, ledger.ack_useful, ledger.ack_at) == (False, False, None)


class TestResumption:
    """What a new WebSocket repeats."""

    def test_an_ack_in_mid_replay_settles_what_was_repeated_and_no_more(self) -> None:
        """The peer cannot have what waits to be repeated, whatever was sent on the old WebSocket."""
        ledger = Ledger()
        number_data(ledger, 1, 2, 3)
        ledger.resume(0)
        ledger.repeat()
        assert ledger.acknowledged(1, NOW) == {1: 1}
        with pytest.raises(RemoteProtocolError):
            ledger.acknowledged(2, NOW)
        ledger.repeat()
        assert ledger.acknowledged(2, NOW) == {1: 2}
        assert [each.payload for each in replayed(ledger)] == [bytes(3)]

    def test_a_resumption_owes_no_ack(self) -> None:
        """It told the count itself."""
        ledger = Ledger()
        ledger.count(Frame(FrameType.FINISH, 1, 1), 5.0)
        ledger.resume(0)
        assert (ledger.ack_useful, ledger.ack_at) == (False, None)
