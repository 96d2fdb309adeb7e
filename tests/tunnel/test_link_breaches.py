"""A peer that breaks the protocol of a link meets RemoteProtocolError and nothing else."""

from __future__ import annotations

import pytest

from tests.tunnel.joined import Joined, opened, quiet
from tunnel.errors import RemoteProtocolError
from tunnel.frames import (
    MAX_PAYLOAD,
    Frame,
    FrameType,
    ResetCode,
    pack_count,
    pack_open,
    pack_pair,
)
from tunnel.link import (
    MAX_UNANSWERED,
)
from tunnel.stream import MAX_CREDIT, StreamAccepted
from tunnel.window import INITIAL_WINDOW


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
