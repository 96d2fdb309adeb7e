"""Frames: their bytes, cut anywhere; what is not a frame; the payloads that have a form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.errors import LocalProtocolError, RemoteProtocolError
from tunnel.frames import (
    HEADER_SIZE,
    MAX_JSON,
    MAX_PAYLOAD,
    Frame,
    FrameParser,
    FrameType,
    decode_json,
    encode_header,
    encode_json,
    pack_count,
    pack_open,
    pack_pair,
    unpack_count,
    unpack_open,
    unpack_pair,
)

SIZES = {"CHALLENGE": 32, "ACK": 8, "PING": 8, "PONG": 8, "OPEN": 4, "OPENED": 0, "CREDIT": 8, "RESET": 8, "FINISH": 0}
"""Bytes of the payloads that have one size; the others are free."""

words = st.integers(0, 0xFFFFFFFF)


def encoded(frame: Frame) -> bytes:
    """A frame's bytes."""
    return encode_header(frame.type, len(frame.payload), frame.stream, frame.sequence) + frame.payload


@st.composite
def any_frames(draw: st.DrawFn) -> Frame:
    """A frame of any type with any payload of a size that it may have."""
    kind = draw(st.sampled_from(FrameType))
    size = SIZES.get(kind.name)
    payload = draw(st.binary(max_size=200) if size is None else st.binary(min_size=size, max_size=size))
    return Frame(kind, draw(words), draw(words), payload)


class TestBytes:
    """Header, payload, and the parser that finds them again."""

    def test_the_header_byte_by_byte(self) -> None:
        """Type, payload length, stream and sequence stand where PROTOCOL.md says."""
        header = encode_header(FrameType.DATA, 5, stream=3, sequence=7)
        assert (header + b"hello").hex(" ", -4) == "18000005 00000003 00000007 68656c6c 6f"

    def test_a_header_carries_the_low_32_bits_of_the_sequence(self) -> None:
        """A link may count past four billion frames."""
        assert encode_header(FrameType.DATA, 0, 1, (1 << 32) + 9)[8:] == bytes([0, 0, 0, 9])

    @given(st.lists(any_frames(), max_size=6), st.data())
    def test_frames_come_out_however_the_bytes_are_cut(self, sent: list[Frame], data: st.DataObject) -> None:
        """Any cut gives the same frames in the same order, each as soon as its last byte is there."""
        stream = b"".join(map(encoded, sent))
        ends = [sum(len(encoded(frame)) for frame in sent[: count + 1]) for count in range(len(sent))]
        parser, got, at = FrameParser(), list[Frame](), 0
        while at < len(stream):
            step = data.draw(st.integers(1, len(stream) - at))
            got += parser.receive(stream[at : at + step])
            at += step
            assert len(got) == sum(end <= at for end in ends)
        assert got == sent

    @given(st.binary(max_size=400))
    def test_any_bytes_give_frames_or_a_protocol_error(self, data: bytes) -> None:
        """A stranger's garbage meets nothing but RemoteProtocolError."""
        try:
            found = FrameParser().receive(data)
        except RemoteProtocolError:
            return
        assert b"".join(map(encoded, found)) == data[: sum(HEADER_SIZE + len(frame.payload) for frame in found)]


class TestNotAFrame:
    """What the parser refuses before it waits for a payload."""

    @pytest.mark.parametrize("kind", sorted(set(range(256)) - set(map(int, FrameType))))
    def test_an_unknown_type(self, kind: int) -> None:
        """Only the types of the table exist."""
        with pytest.raises(RemoteProtocolError, match=f"unknown frame type {kind}$"):
            FrameParser().receive(bytes([kind]) + bytes(11))

    def test_a_payload_over_the_limit(self) -> None:
        """It is refused by its header, so that nobody holds it."""
        with pytest.raises(RemoteProtocolError, match="a DATA frame of 65537 bytes"):
            FrameParser().receive(bytes([FrameType.DATA, 1, 0, 1]) + bytes(8))

    def test_we_do_not_send_one_ourselves(self) -> None:
        """A payload too long is the caller's bug."""
        with pytest.raises(LocalProtocolError, match="65537"):
            encode_header(FrameType.DATA, MAX_PAYLOAD + 1)


class TestPayloads:
    """Numbers and JSON."""

    @given(st.integers(0, (1 << 64) - 1), words, words, st.integers(0, 65535), st.integers(0, 65535))
    def test_numbers_round_trip(self, count: int, token: int, value: int, node: int, port: int) -> None:
        """What was packed is unpacked."""
        assert unpack_count(Frame(FrameType.ACK, payload=pack_count(count))) == count
        assert unpack_pair(Frame(FrameType.PING, payload=pack_pair(token, value))) == (token, value)
        assert unpack_open(Frame(FrameType.OPEN, payload=pack_open(node, port))) == (node, port, None)
        assert unpack_open(Frame(FrameType.OPEN, payload=pack_open(node, port, 9))) == (node, port, 9)

    def test_a_round_trip_of_hours_is_told_as_the_longest_there_is(self) -> None:
        """4294 s is what fits, and an outage may have been longer."""
        assert unpack_pair(Frame(FrameType.PING, payload=pack_pair(1 << 32, 1 << 40))) == (0, 0xFFFFFFFF)

    @given(st.dictionaries(st.text(max_size=8), st.none() | st.booleans() | st.integers() | st.text(max_size=20)))
    def test_json_round_trips(self, value: dict[str, object]) -> None:
        """An object of any text comes back."""
        assert decode_json(Frame(FrameType.MESSAGE, payload=encode_json(FrameType.MESSAGE, value))) == value

    def test_a_text_with_half_a_surrogate_pair_can_be_passed_on(self) -> None:
        """JSON can spell what UTF-8 cannot; a peer that does so must not end somebody else's link."""
        value = decode_json(Frame(FrameType.MESSAGE, payload=b'{"reason":"\\ud800"}'))
        assert decode_json(Frame(FrameType.GOODBYE, payload=encode_json(FrameType.GOODBYE, value))) == value

    @pytest.mark.parametrize(
        "payload",
        [
            b"",
            b"{",
            b"[]",
            b"7",
            b'"text"',
            b"null",
            b"\xff\xfe",
            b'{"a":"\xff"}',
            b"[" * 40_000,
            b'{"a":' * 9_000,
            b'{"n":' + b"9" * 5_000 + b"}",
        ],
        ids=["empty", "cut", "list", "number", "text", "null", "bom", "not-utf8", "deep", "deep-object", "long-number"],
    )
    def test_what_is_not_a_json_object(self, payload: bytes) -> None:
        """Whatever a peer calls JSON, the only error is ours."""
        with pytest.raises(RemoteProtocolError, match="a HELLO that is not"):
            decode_json(Frame(FrameType.HELLO, payload=payload))

    def test_json_over_the_limit(self) -> None:
        """Neither end says more than MAX_JSON at once."""
        text = "x" * MAX_JSON
        with pytest.raises(LocalProtocolError, match="a MESSAGE of"):
            encode_json(FrameType.MESSAGE, {"a": text})
        with pytest.raises(RemoteProtocolError, match="a MESSAGE of"):
            decode_json(Frame(FrameType.MESSAGE, payload=b'{"a":"%b"}' % text.encode()))
