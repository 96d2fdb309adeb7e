"""Whose turn it is: busy streams share a link one frame at a time, and one that was idle goes first, once.

1. A stream with something to send joins the fresh ones, in order of becoming busy.
2. Fresh streams are served before the others; after one frame a stream is among the others.
3. The others are served in rotation; one whose turn finds nothing to send leaves, and may become fresh again.
4. After FRESH_RUN fresh streams in a row one of the others has a turn, however many fresh ones keep coming.

So a short message passes any number of bulk transfers, and a stream cannot stay ahead by pausing: it must first
wait out a whole rotation. This is fq_codel's scheduling (RFC 8290, section 4.2) with a frame as the quantum; rule 4
is ours, because one program can open as many new streams as it likes.
"""

from __future__ import annotations

from collections import OrderedDict

from tunnel.stream import Stream, StreamId

__all__ = ["FRESH_RUN", "Turns"]

FRESH_RUN = 8


class Turns:
    """The rotation of the streams of one link."""

    def __init__(self) -> None:
        self._fresh: OrderedDict[StreamId, Stream] = OrderedDict()
        self._others: OrderedDict[StreamId, Stream] = OrderedDict()
        self._run = 0  # fresh streams served since one of the others was

    def __bool__(self) -> bool:
        return bool(self._fresh or self._others)

    def add(self, stream: Stream) -> None:
        """The stream may have something to send now."""
        if stream.sendable and stream.id not in self._fresh and stream.id not in self._others:
            self._fresh[stream.id] = stream

    def discard(self, stream_id: StreamId) -> None:
        """The stream is over, whether it waits for a turn or not."""
        self._fresh.pop(stream_id, None)
        self._others.pop(stream_id, None)

    def next(self) -> Stream | None:
        """The stream to take one frame from, None when nobody has anything to send."""
        while self:
            fresh = bool(self._fresh) and (self._run < FRESH_RUN or not self._others)
            stream_id, stream = (self._fresh if fresh else self._others).popitem(last=False)
            if stream.sendable:
                self._run = self._run + 1 if fresh else 0
                self._others[stream_id] = stream
                return stream
        return None
