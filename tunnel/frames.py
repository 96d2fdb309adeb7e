"""Frames: the unit of everything that crosses a link, and the only code that knows their bytes.

A frame is a 12-byte header and at most 64 KiB of payload, as section 4 of `PROTOCOL.md` draws it. Nothing here knows
what a frame means to a link; the parser checks only what can be checked of one frame alone.
"""

from __future__ import annotations

import enum
import json
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

from tunnel.errors import LocalProtocolError, RemoteProtocolError

__all__ = [
    "DATA",
    "HEADER_SIZE",
    "MAX_JSON",
    "MAX_PAYLOAD",
    "SEQUENCED",
    "SEQUENCE_MASK",
    "Frame",
    "FrameParser",
    "FrameType",
    "ResetCode",
    "decode_json",
    "encode_header",
    "encode_json",
    "pack_count",
    "pack_open",
    "pack_pair",
    "unpack_count",
    "unpack_open",
    "unpack_pair",
]

MAX_PAYLOAD = 64 * 1024
MAX_JSON = 48 * 1024  # of a payload that is JSON, so that a stranger's handshake stays small
SEQUENCE_MASK = 0xFFFFFFFF

_HEADER = struct.Struct("!III")
_COUNT = struct.Struct("!Q")
_PAIR = struct.Struct("!II")
_OPEN = struct.Struct("!HH")
_OPEN_FROM = struct.Struct("!HHH")

HEADER_SIZE = _HEADER.size


class FrameType(enum.IntEnum):
    """What a frame is; the payload of each is named beside it."""

    CHALLENGE = 1  # hub -> agent, 32 random bytes
    HELLO = 2  # agent -> hub, JSON
    WELCOME = 3  # hub -> agent, JSON
    REFUSED = 4  # hub -> agent, JSON {"code", "message"}
    ACK = 8  # count of sequenced frames received, u64
    PING = 9  # token u32, the sender's last round trip in microseconds u32
    PONG = 10  # the PING's payload
    GOODBYE = 11  # JSON {"reason", "final"}: the link is over
    OPEN = 16  # target node u16, target port u16, perhaps the node it comes from u16
    OPENED = 17  # empty: the far end is connected
    CREDIT = 18  # bytes the stream may send on top of what it may already, u64
    RESET = 19  # ResetCode u64: the stream is over in both directions, at once
    ROSTER = 20  # JSON: who is there, who listens for whom
    MESSAGE = 21  # JSON of the application, stream 0
    DATA = 24  # bytes of a stream
    FINISH = 25  # empty: no more DATA from this side
    DATA_WAITING = 26  # DATA, and more waits here for credit


DATA = frozenset({FrameType.DATA, FrameType.DATA_WAITING})  # frames that hold bytes of streams
SEQUENCED = frozenset(kind for kind in FrameType if kind >= FrameType.OPEN)

_KNOWN = {int(kind): kind for kind in FrameType}
_SIZES = {
    FrameType.CHALLENGE: (32,),
    FrameType.ACK: (_COUNT.size,),
    FrameType.PING: (_PAIR.size,),
    FrameType.PONG: (_PAIR.size,),
    FrameType.OPEN: (_OPEN.size, _OPEN_FROM.size),
    FrameType.OPENED: (0,),
    FrameType.CREDIT: (_COUNT.size,),
    FrameType.RESET: (_COUNT.size,),
    FrameType.FINISH: (0,),
}


class ResetCode(enum.IntEnum):
    """Why a stream was reset."""

    CONNECTION = 1  # the TCP connection at the other end was reset
    REFUSED = 2  # nothing accepts connections at the target's port
    UNREACHABLE = 3  # no such node, or the port is neither in its block nor a service
    LOST = 4  # the other node is gone
    LIMIT = 5  # too many streams


class Frame(NamedTuple):
    """One frame as parsed; `sequence` is the low 32 bits of the link's count, 0 for an unsequenced frame."""

    type: FrameType
    stream: int = 0
    sequence: int = 0
    payload: bytes = b""


def encode_header(kind: FrameType, length: int, stream: int = 0, sequence: int = 0) -> bytes:
    """The 12 bytes before a payload of `length` bytes."""
    if length > MAX_PAYLOAD:
        raise LocalProtocolError(f"a payload of {length} bytes is over the limit of {MAX_PAYLOAD}")
    return _HEADER.pack(kind << 24 | length, stream, sequence & SEQUENCE_MASK)


class FrameParser:
    """Turns bytes, cut anywhere, into frames; holds at most one frame that is not complete."""

    def __init__(self) -> None:
        self._rest = b""  # the beginning of a frame that is not complete

    def receive(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes; RemoteProtocolError for anything that is not a frame."""
        if self._rest:
            data = self._rest + data
        frames: list[Frame] = []
        at, end = 0, len(data)
        while end - at >= HEADER_SIZE:
            word, stream, sequence = _HEADER.unpack_from(data, at)
            length = word & 0xFFFFFF
            kind = _KNOWN.get(word >> 24)
            if kind is None:
                raise RemoteProtocolError(f"unknown frame type {word >> 24}")
            if length > MAX_PAYLOAD or (kind in _SIZES and length not in _SIZES[kind]):
                raise RemoteProtocolError(f"a {kind.name} frame of {length} bytes")
            stop = at + HEADER_SIZE + length
            if stop > end:
                break
            frames.append(Frame(kind, stream, sequence, data[stop - length : stop]))
            at = stop
        self._rest = data[at:]
        return frames


def encode_json(kind: FrameType, value: Mapping[str, Any]) -> bytes:
    """A JSON payload for a frame of `kind`; LocalProtocolError when it is too large to send."""
    payload = json.dumps(value, separators=(",", ":")).encode("ascii")
    if len(payload) > MAX_JSON:
        raise LocalProtocolError(f"a {kind.name} of {len(payload)} bytes is over the limit of {MAX_JSON}")
    return payload


def decode_json(frame: Frame) -> dict[str, Any]:
    """The JSON object in a frame's payload; RemoteProtocolError when there is none."""
    if len(frame.payload) > MAX_JSON:
        raise RemoteProtocolError(f"a {frame.type.name} of {len(frame.payload)} bytes")
    try:
        value = json.loads(frame.payload)
    except (ValueError, RecursionError) as error:
        raise RemoteProtocolError(f"a {frame.type.name} that is not JSON") from error
    if not isinstance(value, dict):
        raise RemoteProtocolError(f"a {frame.type.name} that is not a JSON object")
    return value


def pack_count(count: int) -> bytes:
    """The payload of ACK, CREDIT and RESET."""
    return _COUNT.pack(count)


def unpack_count(frame: Frame) -> int:
    """The number in an ACK, CREDIT or RESET."""
    return int(_COUNT.unpack(frame.payload)[0])


def pack_pair(token: int, value: int) -> bytes:
    """The payload of PING and PONG."""
    return _PAIR.pack(token & SEQUENCE_MASK, min(value, SEQUENCE_MASK))


def unpack_pair(frame: Frame) -> tuple[int, int]:
    """Token and round trip (microseconds) of a PING or PONG."""
    token, value = _PAIR.unpack(frame.payload)
    return token, value


def pack_open(node: int, port: int, source: int | None = None) -> bytes:
    """The payload of OPEN; `source` is the node that the stream comes from."""
    return _OPEN.pack(node, port) if source is None else _OPEN_FROM.pack(node, port, source)


def unpack_open(frame: Frame) -> tuple[int, int, int | None]:
    """Target node and port of an OPEN, and the node it comes from, if it says so."""
    if len(frame.payload) == _OPEN.size:
        return *_OPEN.unpack(frame.payload), None
    node, port, source = _OPEN_FROM.unpack(frame.payload)
    return node, port, source
