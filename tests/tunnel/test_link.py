"""A link: streams inside it, what leaves first, how credit moves, what is bounded, and what breaks the protocol.

The heartbeat, the turns, windows and sequences have tests of their own; here they work together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import pytest

from tests.tunnel.joined import End, Joined, data_in, deliver_all, frames_of, opened, quiet
from tunnel.congestion import START_FLIGHT, START_FRAME
from tunnel.errors import RemoteProtocolError
from tunnel.frames import (
    HEADER_SIZE,
    MAX_PAYLOAD,
    Frame,
    FrameParser,
    FrameType,
    ResetCode,
    pack_count,
    pack_open,
    pack_pair,
)
from tunnel.keepalive import PING_EVERY_S, SILENCE_S
from tunnel.ledger import CONTROL_FLIGHT, FRAME_COST
from tunnel.link import (
    MAX_CONTROL,
    MAX_STREAM_ID,
    MAX_STREAMS,
    MAX_UNANSWERED,
)
from tunnel.messages import MAX_REASON, LinkOver
from tunnel.stream import (
    MAX_CREDIT,
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

    def test_only_a_sender_without_credit_says_that_more_waits(self) -> None:
        """While credit lasts the turns alone decide when the rest goes."""
        joined = quiet()
        stream_id = opened(joined)
        joined.hub.link.streams[stream_id].credit = 3 * START_FRAME
        joined.hub.link.send(stream_id, bytes(4 * START_FRAME))
        batches = [joined.hub.link.data_to_send(joined.now) for _ in range(3)]
        assert [name for batch in batches for name in frames_of(batch)] == ["DATA", "DATA", "DATA_WAITING"]

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


class TestResumption:
    """A new WebSocket and a silent one; all else of the pings is in test_keepalive."""

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


def hostile(*frames: Frame, sequenced: bool = True) -> Joined:
    """A hub that was fed frames that our own code would not send."""
    joined = quiet()
    count = joined.hub.link.received_count
    numbered = [frame._replace(sequence=count + 1 + at if sequenced else 0) for at, frame in enumerate(frames)]
    joined.hub.events += joined.hub.link.receive(numbered, joined.now)
    return joined


OPEN_1 = Frame(FrameType.OPEN, 1, payload=pack_open(3, 80))


class TestRemoteErrors:
    """A peer that breaks the protocol meets RemoteProtocolError and nothing else."""

    @pytest.mark.parametrize(
        ("frames", "what"),
        [
            ([Frame(FrameType.OPEN, 2, payload=pack_open(3, 80))], "stream 2 cannot be opened"),
            ([Frame(FrameType.OPEN, 0, payload=pack_open(3, 80))], "stream 0 cannot be opened"),
            ([OPEN_1, OPEN_1], "stream 1 cannot be opened"),
            ([OPEN_1._replace(stream=5), OPEN_1._replace(stream=3)], "stream 3 cannot be opened"),
            ([OPEN_1, Frame(FrameType.DATA, 1, payload=bytes(INITIAL_WINDOW + 1))], "were granted"),
            ([OPEN_1, *[Frame(FrameType.DATA_WAITING, 1, payload=bytes(9000))] * 2], "were granted"),
            ([OPEN_1, Frame(FrameType.FINISH, 1), Frame(FrameType.DATA, 1, payload=b"x")], "DATA after FINISH"),
            ([OPEN_1, Frame(FrameType.FINISH, 1), Frame(FrameType.FINISH, 1)], "FINISH twice"),
            ([OPEN_1, Frame(FrameType.OPENED, 1)], "OPENED by the side that opened it"),
            ([OPEN_1, Frame(FrameType.RESET, 1, payload=pack_count(99))], "reset code 99"),
            ([Frame(FrameType.RESET, 1, payload=pack_count(99))], "never opened"),
            ([OPEN_1, Frame(FrameType.CREDIT, 1, payload=pack_count(MAX_CREDIT))], "bytes of credit"),
            ([OPEN_1, Frame(FrameType.CREDIT, 1, payload=pack_count((1 << 64) - 1))], "bytes of credit"),
            *(
                ([Frame(kind, stream, payload=payload)], f"a {kind.name} for stream {stream}, which was never opened")
                for stream in (0, 1, 2, 9, 0xFFFFFFFF)
                for kind, payload in [
                    (FrameType.DATA, b"x"),
                    (FrameType.DATA_WAITING, b"x"),
                    (FrameType.FINISH, b""),
                    (FrameType.OPENED, b""),
                    (FrameType.CREDIT, pack_count(1)),
                    (FrameType.RESET, pack_count(1)),
                ]
            ),
            ([Frame(FrameType.ROSTER, payload=b"[]")], "a ROSTER that is not a JSON object"),
            ([Frame(FrameType.MESSAGE, payload=b"{")], "a MESSAGE that is not JSON"),
        ],
    )
    def test_sequenced_frames(self, frames: list[Frame], what: str) -> None:
        """Wrong parity, ids used twice, what was never opened, more than was granted, after the end."""
        with pytest.raises(RemoteProtocolError, match=what):
            hostile(*frames)

    @pytest.mark.parametrize(
        ("frame", "what"),
        [
            (Frame(FrameType.CHALLENGE, payload=bytes(32)), "a CHALLENGE after the handshake"),
            (Frame(FrameType.HELLO, payload=b"{}"), "a HELLO after the handshake"),
            (Frame(FrameType.WELCOME, payload=b"{}"), "a WELCOME after the handshake"),
            (Frame(FrameType.REFUSED, payload=b"{}"), "a REFUSED after the handshake"),
            (Frame(FrameType.ACK, payload=pack_count(7)), "7 frames acknowledged of 0 sent"),
            (Frame(FrameType.GOODBYE, payload=b"null"), "a GOODBYE that is not a JSON object"),
            (OPEN_1, "frame 0 where 1 is next"),
        ],
    )
    def test_unsequenced_frames(self, frame: Frame, what: str) -> None:
        """The handshake is over, nothing was sent to acknowledge, and streams need a sequence."""
        with pytest.raises(RemoteProtocolError, match=what):
            hostile(frame, sequenced=False)

    def test_pings_that_never_end(self) -> None:
        """An agent waits for the answer to a ping before it sends another, so few answers ever wait."""
        ping = Frame(FrameType.PING, payload=pack_pair(1, 0))
        hostile(*[ping] * MAX_UNANSWERED, sequenced=False)
        with pytest.raises(RemoteProtocolError, match=f"more than {MAX_UNANSWERED} PINGs"):
            hostile(*[ping] * (MAX_UNANSWERED + 1), sequenced=False)

    def test_opened_twice_is_not_passed_on(self) -> None:
        """A node could fill the control frames of another node's link with it."""
        joined = quiet()
        stream_id = joined.hub.link.open(2, 22)
        assert stream_id is not None
        joined.settle()
        yes = Frame(FrameType.OPENED, stream_id, 1)
        assert joined.hub.link.receive([yes], joined.now) == [StreamAccepted(stream_id)]
        with pytest.raises(RemoteProtocolError, match="or twice"):
            joined.hub.link.receive([yes._replace(sequence=2)], joined.now)

    def test_an_answer_for_a_stream_whose_open_has_not_left(self) -> None:
        """The peer cannot know of it."""
        joined = quiet()
        stream_id = joined.hub.link.open(2, 22)
        assert stream_id is not None
        with pytest.raises(RemoteProtocolError, match="never opened"):
            joined.hub.link.receive([Frame(FrameType.OPENED, stream_id, 1)], joined.now)

    def test_answers_for_streams_that_are_gone_are_ignored(self) -> None:
        """They crossed the end of the stream; only their form is checked."""
        joined = quiet()
        stream_id = opened(joined)
        joined.hub.link.reset(stream_id, ResetCode.LOST)
        kinds: list[tuple[FrameType, bytes]] = [
            (FrameType.OPENED, b""),
            (FrameType.DATA, bytes(MAX_PAYLOAD)),
            (FrameType.CREDIT, pack_count(1 << 63)),
            (FrameType.FINISH, b""),
            (FrameType.RESET, pack_count(1)),
        ]
        frames = [Frame(kind, stream_id, at + 1, payload) for at, (kind, payload) in enumerate(kinds)]
        assert joined.hub.link.receive(frames, joined.now) == []
