"""What was sent and not acknowledged, and what was received: the counting that lets a link outlive its WebSockets.

Each sequenced frame has a number, counted from 1 over the whole life of the link; a frame carries its low 32 bits.
Each end keeps every frame until the other acknowledges it. After a reconnect each end says how many it received, and
the other repeats the rest, so each frame arrives once and in order. The memory this takes is bounded: the link sends
no DATA while the ledger is `full`, and no other sequenced frames while `control` is at CONTROL_FLIGHT.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from tunnel.congestion import Congestion
from tunnel.errors import RemoteProtocolError
from tunnel.frames import DATA, HEADER_SIZE, SEQUENCE_MASK, Frame, FrameType, encode_header, pack_count
from tunnel.stream import StreamId

__all__ = ["ACK_BYTES", "ACK_DELAY_S", "CONTROL_FLIGHT", "FRAME_COST", "Encoded", "Ledger"]

# An ACK goes after this many bytes, and after this long in any case.
ACK_BYTES = 8 * 1024
ACK_DELAY_S = 1.0
CONTROL_FLIGHT = 1024 * 1024  # bytes of sequenced frames other than DATA that are not acknowledged, at most
FRAME_COST = 256  # bytes that keeping a frame takes beside its payload, so that a million tiny ones are counted too

Encoded = tuple[bytes, bytes | memoryview]
"""Header and payload of a frame on its way out."""


class _Sent(NamedTuple):
    header: bytes
    payload: bytes | memoryview
    stream: StreamId
    is_data: bool
    at: float  # when it was sent first

    @property
    def cost(self) -> int:
        return FRAME_COST + len(self.payload)


class Ledger:
    """The sequence numbers of one end of a link."""

    def __init__(self) -> None:
        self.received_count = 0  # sequenced frames received
        # Bytes sent and not acknowledged, with FRAME_COST for each frame: of DATA, and of all other frames.
        self.flight = 0
        self.control = 0
        # Limits `flight`.
        self.congestion = Congestion()
        self.ack_at: float | None = None  # when an ACK must go at the latest
        self._sent: deque[_Sent] = deque()  # not acknowledged, oldest first
        self._replay: deque[_Sent] = deque()  # the newest part of _sent that a resumption must still repeat
        self._sent_count = 0  # frames numbered so far
        self._acked_count = 0  # of those, acknowledged by the peer
        self._ack_owed = 0  # bytes received since our last ACK

    @property
    def unacknowledged(self) -> bool:
        """Something sent is still to be acknowledged."""
        return bool(self._sent)

    @property
    def replaying(self) -> bool:
        """A resumption still has frames to repeat."""
        return bool(self._replay)

    @property
    def ack_due(self) -> bool:
        """An ACK should go even if there is nothing else to say."""
        return self._ack_owed >= ACK_BYTES

    @property
    def ack_useful(self) -> bool:
        """An ACK can go along with other frames."""
        return self._ack_owed > 0

    @property
    def full(self) -> bool:
        """DATA has to wait until more of what is under way is acknowledged."""
        return self.flight >= self.congestion.limit or self.control >= CONTROL_FLIGHT

    def number(self, kind: FrameType, stream: StreamId, payload: bytes | memoryview, now: float) -> Encoded:
        """Give a frame its sequence and keep it until it is acknowledged."""
        self._sent_count += 1
        header = encode_header(kind, len(payload), stream, self._sent_count)
        sent = _Sent(header, payload, stream, kind in DATA, now)
        self._sent.append(sent)
        if sent.is_data:
            self.flight += sent.cost
        else:
            self.control += sent.cost
        return header, payload

    def repeat(self) -> Encoded:
        """The next frame of the replay."""
        sent = self._replay.popleft()
        return sent.header, sent.payload

    def count(self, frame: Frame, now: float) -> None:
        """A sequenced frame came; RemoteProtocolError when it is not the next one."""
        self.received_count += 1
        if frame.sequence != self.received_count & SEQUENCE_MASK:
            raise RemoteProtocolError(f"frame {frame.sequence} where {self.received_count} is next")
        self._ack_owed += HEADER_SIZE + len(frame.payload)
        if self.ack_at is None:
            self.ack_at = now + ACK_DELAY_S

    def tick(self, now: float) -> None:
        """Make the ACK due when it was put off long enough."""
        if self.ack_at is not None and now >= self.ack_at:
            self._ack_owed = max(self._ack_owed, ACK_BYTES)

    def ack(self) -> Encoded:
        """The ACK frame that settles what is owed."""
        self._ack_owed, self.ack_at = 0, None
        return encode_header(FrameType.ACK, 8), pack_count(self.received_count)

    def acknowledged(self, count: int, now: float) -> dict[StreamId, int]:
        """The peer has `count` of our frames: forget them; returns how many DATA bytes of which stream they held."""
        fresh = count - self._acked_count
        newest = self._sent[fresh - 1] if 0 < fresh <= len(self._sent) else None
        under_way = self.flight
        delivered = self._forget(count, self._sent_count - len(self._replay))
        if newest is not None:
            self.congestion.acknowledged(count, newest.at, self._sent_count, under_way - self.flight, now)
        return delivered

    def resume(self, peer_received: int) -> dict[StreamId, int]:
        """A new WebSocket: forget what the peer has, and repeat the rest."""
        delivered = self._forget(peer_received, self._sent_count)
        self._replay = self._sent.copy()
        self._ack_owed, self.ack_at = 0, None
        self.congestion.resume(self._sent_count)
        return delivered

    def _forget(self, count: int, seen: int) -> dict[StreamId, int]:
        """The peer has `count` of the `seen` frames that it can have received."""
        if not self._acked_count <= count <= seen:
            raise RemoteProtocolError(f"{count} frames acknowledged of {seen} sent, after {self._acked_count}")
        delivered: dict[StreamId, int] = {}
        for _ in range(count - self._acked_count):
            sent = self._sent.popleft()
            if sent.is_data:
                self.flight -= sent.cost
                delivered[sent.stream] = delivered.get(sent.stream, 0) + len(sent.payload)
            else:
                self.control -= sent.cost
        self._acked_count = count
        return delivered
