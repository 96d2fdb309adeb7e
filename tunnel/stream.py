"""One relayed TCP connection on one hop: what waits to be sent, what may be sent, what came.

A stream has two halves that end independently, as TCP's do. A half is OPEN until its side said FINISH; the sending
half is FINISHING while bytes still wait before that FINISH. A stream is over when both halves are DONE and what came
has left this hop, or at once by a reset. Sequences, frames and turns are the link's; where the bytes go is the
router's.
"""

from __future__ import annotations

import enum
from collections import deque
from typing import NewType

from tunnel.errors import LocalProtocolError, RemoteProtocolError
from tunnel.frames import MAX_PAYLOAD
from tunnel.window import INITIAL_WINDOW, Budget, ReceiveWindow

__all__ = ["Half", "Stream", "StreamId"]

StreamId = NewType("StreamId", int)

PIECE = 512  # shorter pieces are kept joined, or what Python needs to keep them would dwarf what they hold


class Half(enum.Enum):
    """Where one direction of a stream stands."""

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
        # Bytes accepted for sending and not yet in a frame; bounded by the previous hop's window.
        self.queued = 0
        self.window = ReceiveWindow(budget)
        # Credit to announce in the next CREDIT frame.
        self.grant = 0
        self._queue: deque[bytes | memoryview] = deque()
        self._tail = bytearray()  # what comes after the queue, from pieces shorter than PIECE

    @property
    def over(self) -> bool:
        """Both halves ended in order, and nothing that came is still here."""
        return self.sending is Half.DONE and self.receiving is Half.DONE and not self.window.held

    @property
    def sendable(self) -> bool:
        """There is a DATA or FINISH frame that may go now."""
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
        """No more bytes will be put; a FINISH follows what is queued."""
        if self.sending is not Half.OPEN:
            raise LocalProtocolError(f"stream {self.id}: finished twice")
        self.sending = Half.FINISHING

    def take(self, most: int = MAX_PAYLOAD) -> bytes | memoryview:
        """The next DATA payload, as large as the credit, the queue and `most`, the size of a frame, allow."""
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
        """Want nothing more and give the budget back; the stream is over, and what it has is to be dropped with it."""
        self.queued = 0
        self.sending = self.receiving = Half.DONE
        self.window.close()

    def _queue_tail(self) -> None:
        if self._tail:
            self._queue.append(bytes(self._tail))
            self._tail.clear()
