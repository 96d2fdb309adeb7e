"""One hub-agent relationship: its control frames, its pings, and the streams inside. Sans-I/O.

A link outlives the WebSockets that carry it; for that the `ledger` counts frames. Frames come out of `data_to_send` in
this order: acknowledgements and pings, what a resumption must repeat, control frames, new streams, credit, then the
streams in turn.

The driver calls `receive` with the frames that came and acts on the events, asks `data_to_send` whenever its
WebSocket takes more, and calls `tick` when `next_deadline` passes. Compression, TLS and sockets are below it;
where streams lead is the router's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from tunnel.errors import LocalProtocolError, RemoteProtocolError
from tunnel.frames import (
    DATA,
    HEADER_SIZE,
    SEQUENCED,
    Frame,
    FrameType,
    ResetCode,
    decode_json,
    encode_header,
    encode_json,
    pack_count,
    pack_open,
    unpack_count,
    unpack_open,
)
from tunnel.keepalive import Keepalive
from tunnel.ledger import CONTROL_FLIGHT, Encoded, Ledger
from tunnel.messages import LinkOver
from tunnel.nodes import MAX_NODE
from tunnel.stream import (
    FairQueue,
    Stream,
    StreamAccepted,
    StreamData,
    StreamDelivered,
    StreamEvent,
    StreamFinished,
    StreamId,
    StreamOpened,
    StreamReset,
)
from tunnel.window import Budget

__all__ = [
    "MAX_CONTROL",
    "MAX_STREAMS",
    "MAX_STREAM_ID",
    "MAX_UNANSWERED",
    "Event",
    "Link",
    "MessageReceived",
    "RosterReceived",
]

MAX_STREAMS = 4096  # open at once, both sides together
MAX_STREAM_ID = 0xFFFFFFFF  # after the last one the link takes no more streams, rather than use an id twice
MAX_CONTROL = 1024 * 1024  # bytes of control frames waiting to be sent; with more of them the link is over
MAX_UNANSWERED = 16  # pings whose answers wait to be sent

_Control = tuple[FrameType, StreamId, bytes]


class RosterReceived(NamedTuple):
    """A ROSTER frame's object."""

    body: Mapping[str, Any]


class MessageReceived(NamedTuple):
    """A MESSAGE frame's object, the application's own."""

    body: Mapping[str, Any]


Event = StreamEvent | RosterReceived | MessageReceived | LinkOver
"""What a link tells its owner: what the peer did that its owner must act on."""


class Link:
    """One end of a link. `initiator` is the agent's end: it numbers its streams odd and sends the pings.

    With `names_sources`, for an agent that asked for it, the hub's end says from which node each stream comes.
    """

    def __init__(self, *, initiator: bool, now: float, names_sources: bool = False) -> None:
        # Bytes that may wait here for this peer; the windows of the hops before it are charged to it.
        self.budget = Budget()
        self.streams: dict[StreamId, Stream] = {}
        # Why this link cannot go on, once it cannot: its owner must give it up.
        self.lost: str | None = None
        self.data_sent = 0  # bytes of streams that `data_to_send` has returned
        self._initiator = initiator
        self._names_sources = names_sources
        self._ledger = Ledger()
        self._keepalive = Keepalive(initiator=initiator, now=now)
        self._queue = FairQueue()
        self._unassigned = Budget(0)  # of streams whose destination is not known yet
        self._next_stream = 1 if initiator else 2
        self._peer_stream = 0  # the highest id the peer has opened
        self._control: deque[_Control] = deque()
        self._control_bytes = 0
        self._opening: dict[StreamId, bytes] = {}  # OPENs that wait; a stream reset before that leaves no trace
        self._granting: dict[StreamId, Stream] = {}  # with credit to announce
        self._unsequenced: deque[Encoded] = deque()
        self._actions: dict[FrameType, Callable[[Frame, float], Event | None]] = {
            FrameType.OPEN: self._on_open,
            FrameType.OPENED: self._on_opened,
            FrameType.DATA: self._on_data,
            FrameType.DATA_WAITING: self._on_data,
            FrameType.FINISH: self._on_finish,
            FrameType.RESET: self._on_reset,
            FrameType.CREDIT: self._on_credit,
            FrameType.ROSTER: lambda frame, _: RosterReceived(decode_json(frame)),
            FrameType.MESSAGE: lambda frame, _: MessageReceived(decode_json(frame)),
            FrameType.PING: self._on_ping,
            FrameType.PONG: self._keepalive.ponged,
            FrameType.GOODBYE: self._on_goodbye,
        }

    # What the owner of the link does.

    def open(self, node: int, port: int, source: int | None = None) -> StreamId | None:
        """Open a stream to `node`:`port` from node `source`; None when MAX_STREAMS are open or the ids are used up."""
        if len(self.streams) >= MAX_STREAMS or self._next_stream > MAX_STREAM_ID:
            return None
        stream_id = StreamId(self._next_stream)
        self._next_stream += 2
        self.streams[stream_id] = Stream(stream_id, self._unassigned)
        self._opening[stream_id] = pack_open(node, port, source if self._names_sources else None)
        return stream_id

    def assign(self, stream_id: StreamId, budget: Budget) -> None:
        """Charge what comes in on this stream to the budget of its destination; harmless when it is already gone."""
        if stream_id in self.streams:
            self.streams[stream_id].window.assign(budget)

    def opened(self, stream_id: StreamId) -> None:
        """Tell the peer that the far end of its stream is connected; harmless when it is already gone."""
        if stream_id in self.streams:
            self._queue_control(FrameType.OPENED, stream_id, b"")

    def send(self, stream_id: StreamId, data: bytes) -> None:
        """Queue bytes on a stream; the window of the hop before bounds how many."""
        stream = self._stream(stream_id)
        stream.put(data)
        self._queue.add(stream)

    def finish(self, stream_id: StreamId) -> None:
        """Say that this side sends no more bytes on a stream."""
        stream = self._stream(stream_id)
        stream.finish()
        self._queue.add(stream)

    def reset(self, stream_id: StreamId, code: ResetCode) -> None:
        """End a stream at once; harmless when it is already gone."""
        if stream_id in self.streams:
            self._drop(stream_id)
            if self._opening.pop(stream_id, None) is None:
                self._queue_control(FrameType.RESET, stream_id, pack_count(code))

    def delivered(self, stream_id: StreamId, count: int) -> None:
        """`count` bytes that came on this stream have left this hop: grant the peer new credit when it is due."""
        stream = self.streams.get(stream_id)
        if stream is None:
            return
        grant = stream.window.delivered(count)
        if grant:
            stream.grant += grant
            self._granting[stream_id] = stream
        elif stream.over:
            self._drop(stream_id)

    def roster(self, body: Mapping[str, Any]) -> None:
        """Send a ROSTER frame."""
        self._queue_control(FrameType.ROSTER, StreamId(0), encode_json(FrameType.ROSTER, body))

    def message(self, body: Mapping[str, Any]) -> None:
        """Send the application's object to the peer's application."""
        self._queue_control(FrameType.MESSAGE, StreamId(0), encode_json(FrameType.MESSAGE, body))

    def goodbye(self, over: LinkOver) -> None:
        """Say that the link is over."""
        self._queue_unsequenced(FrameType.GOODBYE, encode_json(FrameType.GOODBYE, over.to_json()))

    # What the driver does.

    @property
    def round_trip_s(self) -> float | None:
        """Seconds to the other end and back, None before it was measured."""
        return self._keepalive.round_trip_s

    @property
    def received_count(self) -> int:
        """Sequenced frames received so far: what a resumption tells the other end."""
        return self._ledger.received_count

    def resume(self, peer_received: int, now: float) -> list[Event]:
        """A new WebSocket carries the link on; the peer has `peer_received` of our sequenced frames."""
        self._unsequenced.clear()
        self._keepalive.resume(now)
        return [StreamDelivered(*delivered) for delivered in self._ledger.resume(peer_received).items()]

    def receive(self, frames: Iterable[Frame], now: float) -> list[Event]:
        """Take frames from the peer and return what they mean; RemoteProtocolError when they break the protocol."""
        events: list[Event] = []
        for frame in frames:
            if frame.type is FrameType.ACK:
                acknowledged = self._ledger.acknowledged(unpack_count(frame), now)
                events += [StreamDelivered(*delivered) for delivered in acknowledged.items()]
                continue
            action = self._actions.get(frame.type)
            if action is None:
                raise RemoteProtocolError(f"a {frame.type.name} after the handshake")
            if frame.type in SEQUENCED:
                self._ledger.count(frame, now)
            event = action(frame, now)
            if event is not None:
                events.append(event)
        self._keepalive.heard(now)
        return events

    @property
    def has_data_to_send(self) -> bool:
        """Whether `data_to_send` returns anything; it costs more to ask that than to ask this."""
        return self._ledger.ack_due or self._anything_to_say()

    def data_to_send(self, now: float) -> bytes:
        """The next batch of frames, b"" when there is nothing to send; about BATCH bytes at most."""
        parts: list[bytes | memoryview] = []
        size, enough = 0, self._ledger.congestion.batch
        for encoded in self._outgoing(now):
            parts += encoded
            if encoded[0][0] in DATA:
                self.data_sent += len(encoded[1])
            size += HEADER_SIZE + len(encoded[1])
            if size >= enough:
                break
        return b"".join(parts)

    def next_deadline(self) -> float:
        """When to call `tick`."""
        due = self._keepalive.deadline(busy=self._ledger.unacknowledged)
        return due if self._ledger.ack_at is None else min(due, self._ledger.ack_at)

    def tick(self, now: float) -> bool:
        """Do what is due; False when the peer was silent for too long: drop the WebSocket and reconnect."""
        self._ledger.tick(now)
        if now < self._keepalive.deadline(busy=self._ledger.unacknowledged):
            return True
        ping = self._keepalive.ping(now)
        if ping is None:
            return False
        self._queue_unsequenced(FrameType.PING, ping)
        return True

    # Sending.

    def _outgoing(self, now: float) -> Iterator[Encoded]:
        """Frames in the order in which they leave; each is accounted for before it is yielded."""
        ledger = self._ledger
        if ledger.ack_due or (ledger.ack_useful and self._anything_to_say()):
            yield ledger.ack()
        while self._unsequenced:
            yield self._unsequenced.popleft()
        while ledger.replaying:
            yield ledger.repeat()
        while ledger.control < CONTROL_FLIGHT:
            control = self._next_control()
            if control is None:
                break
            yield ledger.number(*control, now)
        while not ledger.full:
            stream = self._queue.next()
            if stream is None:
                return
            kind, payload = stream.next_frame(ledger.congestion.frame)
            if stream.over:
                self._drop(stream.id)
            yield ledger.number(kind, stream.id, payload, now)
        if self._queue:
            ledger.congestion.hold_back()

    def _next_control(self) -> _Control | None:
        if self._control:
            control = self._control.popleft()
            self._control_bytes -= HEADER_SIZE + len(control[2])
            return control
        if self._opening:
            stream_id = next(iter(self._opening))
            return FrameType.OPEN, stream_id, self._opening.pop(stream_id)
        if self._granting:
            stream_id, stream = self._granting.popitem()
            grant, stream.grant = stream.grant, 0
            return FrameType.CREDIT, stream_id, pack_count(grant)
        return None

    def _anything_to_say(self) -> bool:
        busy = self._queue and not self._ledger.full
        control = self._unsequenced or self._control or self._opening or self._granting
        return bool(control or busy or self._ledger.replaying)

    def _queue_unsequenced(self, kind: FrameType, payload: bytes) -> None:
        self._unsequenced.append((encode_header(kind, len(payload)), payload))

    def _queue_control(self, kind: FrameType, stream_id: StreamId, payload: bytes) -> None:
        self._control_bytes += HEADER_SIZE + len(payload)
        if self._control_bytes > MAX_CONTROL:
            self.lost = "the other end takes no control frames"
        else:
            self._control.append((kind, stream_id, payload))

    # Receiving.

    def _on_open(self, frame: Frame, now: float) -> Event | None:
        stream_id = StreamId(frame.stream)
        if stream_id <= self._peer_stream or stream_id % 2 == self._next_stream % 2:
            raise RemoteProtocolError(f"stream {stream_id} cannot be opened")
        self._peer_stream = stream_id
        if len(self.streams) >= MAX_STREAMS:
            self._queue_control(FrameType.RESET, stream_id, pack_count(ResetCode.LIMIT))
            return None
        node, port, source = unpack_open(frame)
        if source is not None and (not self._initiator or not 1 <= source <= MAX_NODE):
            raise RemoteProtocolError(f"stream {stream_id} cannot come from node {source}")
        self.streams[stream_id] = Stream(stream_id, self._unassigned)
        return StreamOpened(stream_id, node, port, source)

    def _on_opened(self, frame: Frame, now: float) -> Event | None:
        stream = self._known(frame)
        if frame.stream % 2 != self._next_stream % 2 or (stream is not None and stream.accepted):
            raise RemoteProtocolError(f"stream {frame.stream}: OPENED by the side that opened it, or twice")
        if stream is None:
            return None
        stream.accepted = True
        return StreamAccepted(stream.id)

    def _on_data(self, frame: Frame, now: float) -> Event | None:
        stream = self._known(frame)
        if stream is None:
            return None
        stream.received(len(frame.payload))
        if frame.type is FrameType.DATA_WAITING:
            stream.window.wanted()
        return StreamData(stream.id, frame.payload) if frame.payload else None

    def _on_finish(self, frame: Frame, now: float) -> Event | None:
        stream = self._known(frame)
        if stream is None:
            return None
        stream.received_finish()
        self._granting.pop(stream.id, None)
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
            stream.credited(unpack_count(frame))
            self._queue.add(stream)

    def _on_ping(self, frame: Frame, now: float) -> None:
        self._keepalive.pinged(frame)
        if len(self._unsequenced) >= MAX_UNANSWERED:
            raise RemoteProtocolError(f"more than {MAX_UNANSWERED} PINGs before the first was answered")
        self._queue_unsequenced(FrameType.PONG, frame.payload)

    def _on_goodbye(self, frame: Frame, now: float) -> Event:
        return LinkOver.from_json(decode_json(frame))

    # Streams and time.

    def _stream(self, stream_id: StreamId) -> Stream:
        stream = self.streams.get(stream_id)
        if stream is None:
            raise LocalProtocolError(f"no stream {stream_id}")
        return stream

    def _known(self, frame: Frame) -> Stream | None:
        """The frame's stream, None when it is over; ids only grow, so nothing has to be kept of it."""
        stream_id = StreamId(frame.stream)
        ours = stream_id % 2 == self._next_stream % 2
        opened = stream_id < self._next_stream if ours else stream_id <= self._peer_stream
        if not stream_id or not opened or stream_id in self._opening:
            raise RemoteProtocolError(f"a {frame.type.name} for stream {stream_id}, which was never opened")
        return self.streams.get(stream_id)

    def _drop(self, stream_id: StreamId) -> None:
        self._queue.discard(stream_id)
        self._granting.pop(stream_id, None)
        self.streams.pop(stream_id).close()
