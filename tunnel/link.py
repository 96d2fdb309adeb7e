"""One hub-agent relationship: its control frames, its pings, and the streams inside. Sans-I/O.

A link outlives the WebSockets that carry it (`ledger` counts for that). Frames come out of `data_to_send` in this
order: acknowledgements and pings, what a resumption must repeat, control frames, credit, then the streams in turn.

The driver calls `receive` with the frames that came and acts on the events, asks `data_to_send` whenever its
WebSocket takes more, and calls `tick` when `next_deadline` passes. Compression, TLS and sockets are below it;
where streams lead is the router's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from tunnel.errors import LocalProtocolError, RemoteProtocolError
from tunnel.events import (
    Event,
    LinkOver,
    MessageReceived,
    RosterReceived,
    StreamAccepted,
    StreamData,
    StreamDelivered,
    StreamFinished,
    StreamOpened,
    StreamReset,
)
from tunnel.frames import (
    HEADER_SIZE,
    SEQUENCE_MASK,
    SEQUENCED,
    Frame,
    FrameType,
    ResetCode,
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
from tunnel.ledger import Encoded, Ledger
from tunnel.stream import Half, Stream, StreamId
from tunnel.turns import Turns
from tunnel.window import Budget

__all__ = ["BATCH", "FLIGHT", "MAX_CONTROL", "MAX_STREAMS", "PING_EVERY_S", "SILENCE_S", "Link"]

BATCH = 128 * 1024  # bytes that data_to_send returns at most, give or take a frame: one WebSocket message
FLIGHT = 2 * 1024 * 1024  # stream bytes sent and not acknowledged, at most: little may wait in the middle
MAX_STREAMS = 4096  # open at once, both sides together
MAX_CREDIT = 1 << 40  # what a sane peer never grants
MAX_CONTROL = 1024 * 1024  # bytes of control frames waiting, at most; past it the link is over
MAX_UNANSWERED = 16  # pings whose answers wait to be sent
PING_EVERY_S = 20.0  # NATs and proxies forget a connection that is silent for a minute or so
PING_BUSY_S = 5.0  # while something sent is not acknowledged, silence is worth a question sooner
SILENCE_S = 15.0  # silent for so long after a ping: the WebSocket is dead, whatever TCP says


class Link:
    """One end of a link. `initiator` is the agent's end: it numbers its streams odd and sends the pings."""

    def __init__(self, *, initiator: bool, now: float, budget: Budget | None = None) -> None:
        self.initiator = initiator
        # Bytes that may wait here for this peer; the windows of the hops before it are charged to it.
        self.budget = budget or Budget()
        self.streams: dict[StreamId, Stream] = {}
        # Seconds, by our own pings (the agent) or as the agent tells in its pings (the hub).
        self.round_trip_s: float | None = None
        # Why this link cannot go on, once it cannot: its owner is to let go of it.
        self.lost: str | None = None
        self._ledger = Ledger()
        self._turns = Turns()
        self._unassigned = Budget(0)  # of streams whose destination is not known yet
        self._next_stream = 1 if initiator else 2
        self._peer_stream = 0  # the highest id the peer has opened
        self._control: deque[tuple[FrameType, StreamId, bytes]] = deque()
        self._control_bytes = 0
        self._granting: dict[StreamId, Stream] = {}  # with credit to announce
        self._unsequenced: deque[Encoded] = deque()
        self._heard_at = now
        self._ping_at = now  # when the next ping is due; the first at once, to know the round trip
        self._ping_sent_at: float | None = None  # of the ping that is not answered
        self._ping_token = 0
        self._actions: dict[FrameType, Callable[[Frame, float], Event | None]] = {
            FrameType.OPEN: self._on_open,
            FrameType.OPENED: self._on_opened,
            FrameType.DATA: self._on_data,
            FrameType.FINISH: self._on_finish,
            FrameType.RESET: self._on_reset,
            FrameType.CREDIT: self._on_credit,
            FrameType.ROSTER: lambda frame, _: RosterReceived(decode_json(frame)),
            FrameType.MESSAGE: lambda frame, _: MessageReceived(decode_json(frame)),
            FrameType.PING: self._on_ping,
            FrameType.PONG: self._on_pong,
            FrameType.GOODBYE: self._on_goodbye,
        }

    # What the owner of the link does.

    def open(self, node: int, port: int) -> StreamId | None:
        """Open a stream toward `node`:`port`; None when MAX_STREAMS are open."""
        if len(self.streams) >= MAX_STREAMS:
            return None
        stream_id = StreamId(self._next_stream)
        self._next_stream += 2
        self.streams[stream_id] = Stream(stream_id, self._unassigned)
        self._queue_control(FrameType.OPEN, stream_id, pack_open(node, port))
        return stream_id

    def assign(self, stream_id: StreamId, budget: Budget) -> None:
        """What comes in on this stream is for somebody with this budget."""
        self._stream(stream_id).window.assign(budget)

    def opened(self, stream_id: StreamId) -> None:
        """Tell the peer that the far end of its stream is connected."""
        self._queue_control(FrameType.OPENED, stream_id, b"")

    def send(self, stream_id: StreamId, data: bytes) -> None:
        """Queue bytes on a stream; the caller bounds what it queues by the window of the hop before."""
        stream = self._stream(stream_id)
        stream.put(data)
        self._turns.add(stream)

    def finish(self, stream_id: StreamId) -> None:
        """No more bytes on this stream from here."""
        stream = self._stream(stream_id)
        stream.finish()
        self._turns.add(stream)

    def reset(self, stream_id: StreamId, code: ResetCode) -> None:
        """End a stream at once; harmless when it is already gone."""
        if stream_id in self.streams:
            self._drop(stream_id)
            self._queue_control(FrameType.RESET, stream_id, pack_count(code))

    def delivered(self, stream_id: StreamId, count: int) -> None:
        """`count` bytes that came on this stream left this hop: grant the peer new credit when it is due."""
        stream = self.streams.get(stream_id)
        if stream is None or stream.receiving is Half.DONE:
            return
        grant = stream.window.delivered(count)
        if grant:
            stream.grant += grant
            self._granting[stream_id] = stream

    def roster(self, body: Mapping[str, Any]) -> None:
        """Send a ROSTER frame."""
        self._queue_control(FrameType.ROSTER, StreamId(0), encode_json(FrameType.ROSTER, body))

    def message(self, body: Mapping[str, Any]) -> None:
        """Send the application's object to the peer's application."""
        self._queue_control(FrameType.MESSAGE, StreamId(0), encode_json(FrameType.MESSAGE, body))

    def goodbye(self, reason: str, *, final: bool) -> None:
        """Say that the link is over; `final`: the peer is not wanted back."""
        payload = encode_json(FrameType.GOODBYE, {"reason": reason, "final": final})
        self._unsequenced.append((encode_header(FrameType.GOODBYE, len(payload)), payload))

    # What the driver does.

    @property
    def received_count(self) -> int:
        """Sequenced frames received so far: what a resumption tells the other end."""
        return self._ledger.received_count

    def resume(self, peer_received: int, now: float) -> list[Event]:
        """A new WebSocket carries the link on; the peer has `peer_received` of our sequenced frames."""
        self._unsequenced.clear()
        self._heard_at = self._ping_at = now
        self._ping_sent_at = None
        return self._delivered(self._ledger.resume(peer_received))

    def receive(self, frames: Iterable[Frame], now: float) -> list[Event]:
        """Take frames from the peer; RemoteProtocolError when they break the protocol."""
        events: list[Event] = []
        for frame in frames:
            if frame.type is FrameType.ACK:
                events += self._delivered(self._ledger.acknowledged(unpack_count(frame)))
                continue
            action = self._actions.get(frame.type)
            if action is None:
                raise RemoteProtocolError(f"a {frame.type.name} after the handshake")
            if frame.type in SEQUENCED:
                self._ledger.count(frame, now)
            event = action(frame, now)
            if event is not None:
                events.append(event)
        self._heard_at = now
        return events

    def data_to_send(self, now: float) -> bytes:
        """The next batch of frames, b"" when there is nothing to say; about BATCH bytes at most."""
        parts: list[bytes | memoryview] = []
        size = 0
        for encoded in self._outgoing():
            parts += encoded
            size += HEADER_SIZE + len(encoded[1])
            if size >= BATCH:
                break
        return b"".join(parts)

    def next_deadline(self) -> float:
        """When `tick` wants to be called."""
        due = self._ping_deadline()
        return due if self._ledger.ack_at is None else min(due, self._ledger.ack_at)

    def tick(self, now: float) -> bool:
        """Do what time asks for; False when the peer was silent for too long: drop the WebSocket and reconnect."""
        self._ledger.tick(now)
        if now < self._ping_deadline():
            return True
        if self._ping_sent_at is not None or not self.initiator:
            return False
        self._ping_token = (self._ping_token + 1) & SEQUENCE_MASK
        self._ping_sent_at = now
        payload = pack_pair(self._ping_token, int((self.round_trip_s or 0) * 1e6))
        self._unsequenced.append((encode_header(FrameType.PING, len(payload)), payload))
        return True

    # Sending.

    def _outgoing(self) -> Iterator[Encoded]:
        """Frames in the order they leave; each is accounted for before it is handed out."""
        ledger = self._ledger
        if ledger.ack_due or (ledger.ack_useful and self._anything_to_say()):
            yield ledger.ack()
        while self._unsequenced:
            yield self._unsequenced.popleft()
        while ledger.replaying:
            yield ledger.repeat()
        while self._control:
            kind, stream_id, payload = self._control.popleft()
            self._control_bytes -= HEADER_SIZE + len(payload)
            yield ledger.number(kind, stream_id, payload)
        while self._granting:
            stream_id, stream = self._granting.popitem()
            grant, stream.grant = stream.grant, 0
            if stream_id in self.streams:
                yield ledger.number(FrameType.CREDIT, stream_id, pack_count(grant))
        while ledger.flight < FLIGHT:
            turn = self._turns.next()
            if turn is None:
                return
            yield self._stream_frame(turn)

    def _stream_frame(self, stream: Stream) -> Encoded:
        if stream.queued:
            return self._ledger.number(FrameType.DATA, stream.id, stream.take())
        stream.sending = Half.DONE
        if stream.over:
            self._drop(stream.id)
        return self._ledger.number(FrameType.FINISH, stream.id, b"")

    def _anything_to_say(self) -> bool:
        ledger = self._ledger
        busy = ledger.flight < FLIGHT and bool(self._turns)
        return bool(self._unsequenced or ledger.replaying or self._control or self._granting or busy)

    def _queue_control(self, kind: FrameType, stream_id: StreamId, payload: bytes) -> None:
        self._control_bytes += HEADER_SIZE + len(payload)
        if self._control_bytes > MAX_CONTROL:
            self.lost = "the other end takes no control frames"
            self._control.clear()
        else:
            self._control.append((kind, stream_id, payload))

    # Receiving.

    def _delivered(self, counts: Mapping[StreamId, int]) -> list[Event]:
        return [StreamDelivered(stream_id, count) for stream_id, count in counts.items()]

    def _on_open(self, frame: Frame, now: float) -> Event | None:
        stream_id = StreamId(frame.stream)
        if stream_id <= self._peer_stream or stream_id % 2 == self._next_stream % 2:
            raise RemoteProtocolError(f"stream {stream_id} cannot be opened")
        self._peer_stream = stream_id
        if len(self.streams) >= MAX_STREAMS:
            self._queue_control(FrameType.RESET, stream_id, pack_count(ResetCode.LIMIT))
            return None
        self.streams[stream_id] = Stream(stream_id, self._unassigned)
        return StreamOpened(stream_id, *unpack_open(frame))

    def _on_opened(self, frame: Frame, now: float) -> Event | None:
        stream = self._known(frame)
        return None if stream is None else StreamAccepted(stream.id)

    def _on_data(self, frame: Frame, now: float) -> Event | None:
        stream = self._known(frame)
        if stream is None:
            return None
        stream.received(len(frame.payload))
        return StreamData(stream.id, frame.payload) if frame.payload else None

    def _on_finish(self, frame: Frame, now: float) -> Event | None:
        stream = self._known(frame)
        if stream is None:
            return None
        stream.received_finish()
        if stream.over:
            self._drop(stream.id)
        return StreamFinished(stream.id)

    def _on_reset(self, frame: Frame, now: float) -> Event | None:
        stream = self._known(frame)
        try:
            code = ResetCode(unpack_count(frame))
        except ValueError as error:
            raise RemoteProtocolError(f"reset code {unpack_count(frame)}") from error
        if stream is None:
            return None
        self._drop(stream.id)
        return StreamReset(stream.id, code)

    def _on_credit(self, frame: Frame, now: float) -> None:
        stream = self._known(frame)
        if stream is not None:
            stream.credit += unpack_count(frame)
            if stream.credit > MAX_CREDIT:
                raise RemoteProtocolError(f"stream {stream.id}: {stream.credit} bytes of credit")
            self._turns.add(stream)

    def _on_ping(self, frame: Frame, now: float) -> None:
        if self.initiator or len(self._unsequenced) > MAX_UNANSWERED:
            raise RemoteProtocolError("a PING that is not to be answered")
        _, microseconds = unpack_pair(frame)
        if microseconds:
            self.round_trip_s = microseconds / 1e6
        self._unsequenced.append((encode_header(FrameType.PONG, len(frame.payload)), frame.payload))

    def _on_pong(self, frame: Frame, now: float) -> None:
        token, _ = unpack_pair(frame)
        if self._ping_sent_at is not None and token == self._ping_token:
            self.round_trip_s = max(now - self._ping_sent_at, 0.0)
            self._ping_sent_at = None
            self._ping_at = now + PING_EVERY_S

    def _on_goodbye(self, frame: Frame, now: float) -> Event:
        body = decode_json(frame)
        return LinkOver(str(body.get("reason", "")), bool(body.get("final", False)))

    # Streams and time.

    def _stream(self, stream_id: StreamId) -> Stream:
        stream = self.streams.get(stream_id)
        if stream is None:
            raise LocalProtocolError(f"no stream {stream_id}")
        return stream

    def _known(self, frame: Frame) -> Stream | None:
        """The frame's stream, None when it was open once; ids only grow, so nothing need be remembered of it."""
        stream = self.streams.get(StreamId(frame.stream))
        if stream is None:
            ours = frame.stream % 2 == self._next_stream % 2
            opened = frame.stream < self._next_stream if ours else frame.stream <= self._peer_stream
            if not frame.stream or not opened:
                raise RemoteProtocolError(f"a {frame.type.name} for stream {frame.stream}, which was never opened")
        return stream

    def _drop(self, stream_id: StreamId) -> None:
        self.streams.pop(stream_id).close()

    def _ping_deadline(self) -> float:
        """When silence becomes worth a ping, or, after a ping, means that the WebSocket is dead."""
        if not self.initiator:  # the agent pings; a hub that misses two gives the WebSocket up
            return self._heard_at + 2 * PING_EVERY_S + SILENCE_S
        if self._ping_sent_at is not None:
            return max(self._ping_sent_at, self._heard_at) + SILENCE_S
        return min(self._ping_at, self._heard_at + PING_BUSY_S) if self._ledger.unacknowledged else self._ping_at
