"""Whose turn it is: busy streams share a link one frame at a time, and one that was idle goes first, once.

1. A stream with something to send joins the fresh ones, in order of becoming busy.
2. Fresh streams are served before the others; after one frame a stream is among the others.
3. The others are served in rotation; one whose turn finds nothing to send leaves, and may become fresh again.

So a short message passes any number of bulk transfers, and a stream cannot stay ahead by pausing: it must first
wait out a whole rotation. This is fq_codel's scheduling (RFC 8290, section 4.2) with a frame as the quantum.
"""

from __future__ import annotations

from collections import deque

from tunnel.stream import Stream

__all__ = ["Turns"]


class Turns:
    """The rotation of the streams of one link."""

    def __init__(self) -> None:
        self._fresh: deque[Stream] = deque()
        self._others: deque[Stream] = deque()

    def __bool__(self) -> bool:
        return bool(self._fresh or self._others)

    def add(self, stream: Stream) -> None:
        """The stream may have something to send now."""
        if not stream.in_turn and stream.sendable:
            stream.in_turn = True
            self._fresh.append(stream)

    def next(self) -> Stream | None:
        """The stream to take one frame from, None when nobody has anything to send."""
        while self:
            stream = (self._fresh or self._others).popleft()
            if stream.sendable:
                self._others.append(stream)
                return stream
            stream.in_turn = False
        return None
