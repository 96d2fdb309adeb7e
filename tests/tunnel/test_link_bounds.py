"""What a link keeps is bounded, whatever peers and programs do."""

from __future__ import annotations

from tests.tunnel.joined import frames_of, opened, quiet
from tunnel.congestion import START_FLIGHT
from tunnel.frames import (
    HEADER_SIZE,
    MAX_PAYLOAD,
    Frame,
    FrameParser,
    FrameType,
    ResetCode,
    pack_count,
    pack_open,
)
from tunnel.ledger import CONTROL_FLIGHT, FRAME_COST
from tunnel.link import MAX_CONTROL, MAX_STREAM_ID, MAX_STREAMS, MessageReceived
from tunnel.stream import StreamId, StreamOpened


class TestBounds:
    """What is limited, whatever peers and programs do."""

    def test_data_in_flight_is_capped(self) -> None:
        """No more leaves until acknowledgements come; then the rest does."""
        joined = quiet()
        stream_id = opened(joined)
        joined.hub.link.streams[stream_id].credit = 10 * START_FLIGHT
        joined.hub.link.send(stream_id, bytes(3 * START_FLIGHT))
        sent = 0
        while batch := joined.hub.link.data_to_send(joined.now):
            sent += len(batch)
        assert 0.95 * START_FLIGHT <= sent <= START_FLIGHT + MAX_PAYLOAD

    def test_tiny_frames_are_capped_too(self) -> None:
        """A program that writes byte by byte to a node that acknowledges nothing makes us keep few of them."""
        joined = quiet()
        stream_id = opened(joined)
        joined.hub.link.streams[stream_id].credit = 10 * START_FLIGHT
        frames = 0
        for _ in range(20_000):
            joined.hub.link.send(stream_id, b"x")
            frames += len(frames_of(joined.hub.link.data_to_send(joined.now)))
        assert frames <= START_FLIGHT // FRAME_COST
        assert joined.hub.link.streams[stream_id].queued == 20_000 - frames

    def test_a_peer_that_acknowledges_nothing_does_not_fill_our_memory(self) -> None:
        """Control frames that nobody acknowledges stop leaving, and past MAX_CONTROL of them the link is over."""
        joined = quiet()
        link = joined.hub.link
        number, kept = 0, 0
        while link.lost is None:
            number += 1
            frame = Frame(FrameType.OPEN, 2 * number - 1, number, pack_open(9, 9))
            link.receive([frame], joined.now)
            link.reset(StreamId(frame.stream), ResetCode.UNREACHABLE)
            kept += frames_of(link.data_to_send(joined.now)).count("RESET")
        assert kept <= CONTROL_FLIGHT // FRAME_COST
        assert number <= kept + MAX_CONTROL // HEADER_SIZE
        assert link.lost == "the other end takes no control frames"

    def test_neither_data_nor_finish_overtakes_an_open_that_waits(self) -> None:
        """While the OPENs of some streams wait for acknowledgements, nothing else of these streams leaves."""
        joined = quiet()
        link = joined.hub.link
        sent: list[Frame] = []
        for _ in range(MAX_STREAMS):
            stream_id = link.open(2, 22)
            assert stream_id is not None
            link.finish(stream_id)
        while batch := link.data_to_send(joined.now):
            sent += FrameParser().receive(batch)
        assert len(sent) == -(-CONTROL_FLIGHT // (FRAME_COST + 4)) < MAX_STREAMS
        assert {frame.type for frame in sent} == {FrameType.OPEN}

    def test_control_that_waited_leaves_when_acknowledgements_come(self) -> None:
        """The cap delays and loses nothing."""
        joined = quiet()
        text = "x" * 40_000
        for number in range(60):
            joined.hub.link.message({"number": number, "text": text})
            joined.say(joined.hub)
            if number % 20 == 19:
                joined.settle()
        numbers = [event.body["number"] for event in joined.agent.take() if isinstance(event, MessageReceived)]
        assert numbers == list(range(60))

    def test_streams_are_limited_on_both_sides_together(self) -> None:
        """Our own open says no; the peer's is answered with LIMIT and leaves nothing."""
        joined = quiet()
        agent, hub = joined.agent.link, joined.hub.link
        for _ in range(MAX_STREAMS // 2):
            agent.open(3, 80)
            hub.open(2, 22)
            joined.settle()
        assert agent.open(3, 80) is None
        assert hub.open(2, 22) is None
        one_more = Frame(FrameType.OPEN, MAX_STREAMS + 1, hub.received_count + 1, pack_open(3, 80))
        assert hub.receive([one_more], joined.now) == []
        assert len(hub.streams) == MAX_STREAMS
        found = FrameParser().receive(hub.data_to_send(joined.now))
        assert (FrameType.RESET, MAX_STREAMS + 1, pack_count(ResetCode.LIMIT)) in [
            (frame.type, frame.stream, frame.payload) for frame in found
        ]

    def test_no_stream_id_is_used_twice_however_long_a_link_lives(self) -> None:
        """After four billion ids the link takes no new streams; those that are open go on."""
        joined = quiet()
        joined.agent.link._next_stream = MAX_STREAM_ID
        assert joined.agent.link.open(3, 80) == MAX_STREAM_ID
        assert joined.agent.link.open(3, 80) is None
        joined.settle()
        assert joined.hub.take() == [StreamOpened(StreamId(MAX_STREAM_ID), 3, 80)]
