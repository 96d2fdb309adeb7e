"""One relayed connection on one hop: what waits to be sent, what may be sent, what came; and whose turn it is to send.

A stream has two halves that end independently, as TCP's do. A half is OPEN until its side said FINISH; the sending
half is FINISHING while bytes still wait before that FINISH. A stream is over when both halves are DONE and what came
has left this hop, or at once by a reset. `link` counts the frames, and `router` knows where the bytes go.
"""

from __future__ import annotations

import enum
from collections import OrderedDict, deque
from typing import NamedTuple, NewType

from tunnel.errors import LocalProtocolError, RemoteProtocolError
from tunnel.frames import MAX_PAYLOAD, FrameType, ResetCode
from tunnel.window import INITIAL_WINDOW, Budget, ReceiveWindow

__all__ = [
    "FRESH_RUN",
    "MAX_CREDIT",
    "FairQueue",
    "Half",
    "Stream",
    "StreamAccepted",
    "StreamData",
    "StreamDelivered",
    "StreamEvent",
    "StreamFinished",
    "StreamId",
    "StreamOpened",
    "StreamReset",
]

StreamId = NewType("StreamId", int)

FRESH_RUN = 8  # turns in a row of streams that were idle, before another stream has one
MAX_CREDIT = 1 << 40  # bytes; what a sane peer never grants
PIECE = 512  # bytes; shorter pieces are joined, because Python's overhead for each would exceed what it holds


class StreamOpened(NamedTuple):
    """The peer opened a stream toward `node`:`port`; it comes from node `source`, None: that is not known."""

    stream: StreamId
    node: int
    port: int
    source: int | None = None


class StreamAccepted(NamedTuple):
    """The far end of a stream we opened is connected."""

    stream: StreamId


class StreamData(NamedTuple):
    """Bytes of a stream, in order; call `delivered` once they have left this hop."""

    stream: StreamId
    data: bytes


class StreamFinished(NamedTuple):
    """The peer sends no more on this stream; the other direction goes on."""

    stream: StreamId


class StreamReset(NamedTuple):
    """The stream is over in both directions."""

    stream: StreamId
    code: ResetCode


class StreamDelivered(NamedTuple):
    """The next hop has `size` bytes that we sent on this stream."""

    stream: StreamId
    size: int


StreamEvent = StreamOpened | StreamAccepted | StreamData | StreamFinished | StreamReset | StreamDelivered


class Half(enum.Enum):
    """The state of one direction of a stream."""

    OPEN = "open"
    FINISHING = "finishing"  # sending half only: FINISH is due once the queue is empty
    DONE = "done"


class Stream:
    """The state of one stream at one end of a link."""

    def __init__(self, stream_id: StreamId, budget: Budget) -> None:
        self.id = stream_id
        self.sending = Half.OPEN
        self.receiving = Half.OPEN
        # The far end said that it is connected.
        self.accepted = False
        # Bytes the peer still takes; it grants more with CREDIT.
        self.credit = INITIAL_WINDOW
        # Bytes that wait to be sent; the window of the hop before bounds them.
        self.queued = 0
        self.window = ReceiveWindow(budget)
        # Credit to announce in the next CREDIT frame.
        self.grant = 0
        self._queue: deque[bytes | memoryview] = deque()
        self._tail = bytearray()  # what follows the queue, from pieces shorter than PIECE

    @property
    def over(self) -> bool:
        """Both halves have ended in order, and nothing that came is still here."""
        return self.sending is Half.DONE and self.receiving is Half.DONE and not self.window.held

    @property
    def sendable(self) -> bool:
        """A DATA or FINISH frame may be sent now."""
        return (self.queued > 0 and self.credit > 0) or (self.sending is Half.FINISHING and not self.queued)

    def put(self, data: bytes) -> None:
        """Queue bytes for the peer."""
        if self.sending is not Half.OPEN:
            raise LocalProtocolError(f"stream {self.id}: data after finish")
        self.queued += len(data)
        if len(data) < PIECE:
            self._tail += data
        else:
            self._queue_tail()
            self._queue.append(data)

    def finish(self) -> None:
        """No more bytes will be queued; a FINISH follows those that are."""
        if self.sending is not Half.OPEN:
            raise LocalProtocolError(f"stream {self.id}: finished twice")
        self.sending = Half.FINISHING

    def take(self, most: int = MAX_PAYLOAD) -> bytes | memoryview:
        """The next DATA payload, as large as the credit, the queue and `most`, the size of a frame, permit."""
        room = min(self.credit, self.queued, most)
        self.credit -= room
        self.queued -= room
        pieces: list[bytes | memoryview] = []
        while room:
            if not self._queue:
                self._queue_tail()
            head = self._queue[0]
            if len(head) <= room:
                pieces.append(self._queue.popleft())
                room -= len(head)
            else:
                view = memoryview(head)
                pieces.append(view[:room])
                self._queue[0] = view[room:]
                room = 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def next_frame(self, most: int) -> tuple[FrameType, bytes | memoryview]:
        """What a turn sends, type and payload: DATA, or the FINISH at its end."""
        if not self.queued:
            self.sending = Half.DONE
            return FrameType.FINISH, b""
        payload = self.take(most)
        return FrameType.DATA_WAITING if self.queued and not self.credit else FrameType.DATA, payload

    def credited(self, count: int) -> None:
        """The peer takes `count` bytes more."""
        self.credit += count
        if self.credit > MAX_CREDIT:
            raise RemoteProtocolError(f"stream {self.id}: {self.credit} bytes of credit")

    def received(self, count: int) -> None:
        """`count` bytes of DATA came."""
        if self.receiving is Half.DONE:
            raise RemoteProtocolError(f"stream {self.id}: DATA after FINISH")
        self.window.received(count)

    def received_finish(self) -> None:
        """The peer's FINISH came."""
        if self.receiving is Half.DONE:
            raise RemoteProtocolError(f"stream {self.id}: FINISH twice")
        self.receiving = Half.DONE
        self.window.finish()

    def close(self) -> None:
        """The stream is over, with all that it holds: send nothing more and give the budget back."""
        self.queued = 0
        self.sending = self.receiving = Half.DONE
        self.window.close()

    def _queue_tail(self) -> None:
        if self._tail:
            self._queue.append(bytes(self._tail))
            self._tail.clear()


class FairQueue:
    """Whose turn it is: busy streams share a link one frame at a time, and one that was idle goes first, once.

    1. A stream with something to send joins the fresh ones, in order of becoming busy.
    2. Fresh streams are served before the others; after one frame a stream is among the others.
    3. The others are served in rotation; one whose turn finds nothing to send leaves, and may become fresh again.
    4. After FRESH_RUN fresh streams in a row one of the others has a turn, however many fresh ones keep coming.

    So a short message passes any number of bulk transfers, and a stream cannot stay ahead by pausing: it must first
    wait out a whole rotation. This is fq_codel's scheduling (RFC 8290, section 4.2) with a frame as the quantum; rule 4
    is ours, because one program can open as many new streams as it likes.
    """

    def __init__(self) -> None:
        self._fresh: OrderedDict[StreamId, Stream] = OrderedDict()
        self._others: OrderedDict[StreamId, Stream] = OrderedDict()
        self._run = 0  # fresh streams served since one of the others

    def __bool__(self) -> bool:
        return bool(self._fresh or self._others)

    def add(self, stream: Stream) -> None:
        """The stream may have something to send now."""
        if stream.sendable and stream.id not in self._fresh and stream.id not in self._others:
            self._fresh[stream.id] = stream

    def discard(self, stream_id: StreamId) -> None:
        """The stream is over, whether or not it waits for a turn."""
        self._fresh.pop(stream_id, None)
        self._others.pop(stream_id, None)

    def next(self) -> Stream | None:
        """The stream from which to send one frame, None when no stream has anything to send."""
        while self:
            fresh = bool(self._fresh) and (self._run < FRESH_RUN or not self._others)
            stream_id, stream = (self._fresh if fresh else self._others).popitem(last=False)
            if stream.sendable:
                self._run = self._run + 1 if fresh else 0
                self._others[stream_id] = stream
                return stream
        return None
