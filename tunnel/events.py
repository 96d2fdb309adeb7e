"""What a link tells its owner: the things a peer did that somebody must act on. Plain values, nothing decided here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tunnel.frames import ResetCode
from tunnel.stream import StreamId

__all__ = [
    "Event",
    "LinkOver",
    "MessageReceived",
    "RosterReceived",
    "StreamAccepted",
    "StreamData",
    "StreamDelivered",
    "StreamFinished",
    "StreamOpened",
    "StreamReset",
]


class StreamOpened(NamedTuple):
    """The peer opened a stream toward `node`:`port`."""

    stream: StreamId
    node: int
    port: int


class StreamAccepted(NamedTuple):
    """The far end of a stream we opened is connected."""

    stream: StreamId


class StreamData(NamedTuple):
    """Bytes of a stream, in order; call `delivered` once they left this hop."""

    stream: StreamId
    data: bytes


class StreamFinished(NamedTuple):
    """The peer sends nothing more on this stream; the other direction goes on."""

    stream: StreamId


class StreamReset(NamedTuple):
    """The stream is over in both directions."""

    stream: StreamId
    code: ResetCode


class StreamDelivered(NamedTuple):
    """The peer acknowledged `size` bytes that we sent on this stream: they are in its memory."""

    stream: StreamId
    size: int


class RosterReceived(NamedTuple):
    """A ROSTER frame's object."""

    body: Mapping[str, Any]


class MessageReceived(NamedTuple):
    """A MESSAGE frame's object, the application's own."""

    body: Mapping[str, Any]


class LinkOver(NamedTuple):
    """The peer said GOODBYE; `final` means it does not want us back, `refused` that we were never part of the mesh."""

    reason: str
    final: bool
    refused: bool = False


Event = (
    StreamOpened
    | StreamAccepted
    | StreamData
    | StreamFinished
    | StreamReset
    | StreamDelivered
    | RosterReceived
    | MessageReceived
    | LinkOver
)
