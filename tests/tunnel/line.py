"""A link over a line of a certain length and width, in simulated time: what congestion control is tested on."""

from __future__ import annotations

from collections import deque

from tests.tunnel.edge import Wire
from tunnel.frames import FrameParser
from tunnel.link import Link
from tunnel.stream import StreamData, StreamDelivered, StreamId, StreamOpened

__all__ = ["Line"]

_MANY = 1 << 39  # of credit


class _Way:
    """One direction: whole batches go in, and come out once their last byte has crossed."""

    def __init__(self, link: Link, wire: Wire) -> None:
        self.link = link  # the one that receives
        self.wire = wire
        self.parser = FrameParser()
        self.under_way: deque[int] = deque()  # sizes of batches
        self.rest = bytearray()

    def push(self, batch: bytes, now: float) -> None:
        """A batch is sent."""
        self.wire.push(batch, now)
        self.under_way.append(len(batch))

    def pop(self, now: float) -> list[bytes]:
        """The batches that are whole by now."""
        for chunk in self.wire.pop(now):
            self.rest += chunk
        whole = []
        while self.under_way and len(self.rest) >= self.under_way[0]:
            size = self.under_way.popleft()
            whole.append(bytes(self.rest[:size]))
            del self.rest[:size]
        return whole


class Line:
    """A sender and a receiver with `rate` bytes a second and `delay_s` between them each way, and deep buffers.

    The sender's streams have all the credit in the world, and what comes is taken at once: only the line holds back.
    """

    def __init__(self, delay_s: float, rate: float) -> None:
        self.now = 1000.0
        self.sender = Link(initiator=False, now=self.now)
        self.receiver = Link(initiator=True, now=self.now)
        self.there = _Way(self.receiver, Wire(delay_s, rate, 1 << 40))
        self.back = _Way(self.sender, Wire(delay_s, rate, 1 << 40))
        self.got: dict[StreamId, int] = {}
        self.arrived: dict[StreamId, list[float]] = {}  # when each piece of a stream came
        self._queued: dict[StreamId, int] = {}

    def open(self) -> StreamId:
        """A stream of the sender."""
        stream_id = self.sender.open(2, 22)
        assert stream_id is not None
        self.sender.streams[stream_id].credit = _MANY
        self.got[stream_id], self.arrived[stream_id] = 0, []
        return stream_id

    def bulk(self) -> StreamId:
        """A stream that always has more to send."""
        stream_id = self.open()
        self._queued[stream_id] = 0
        return stream_id

    def run(self, seconds: float) -> None:
        """Let time pass."""
        until = self.now + seconds
        while True:
            self._exchange()
            due = min(
                self.there.wire.next_deadline(),
                self.back.wire.next_deadline(),
                self.sender.next_deadline(),
                self.receiver.next_deadline(),
            )
            if due > until:
                self.now = until
                return
            self.now = max(self.now, due)

    @property
    def rate(self) -> float:
        """Bytes a second, each way."""
        assert self.there.wire.rate is not None
        return self.there.wire.rate

    @rate.setter
    def rate(self, rate: float) -> None:
        self.there.wire.rate = self.back.wire.rate = rate

    @property
    def delay_s(self) -> float:
        """How long each way is."""
        return self.there.wire.delay_s

    @delay_s.setter
    def delay_s(self, delay_s: float) -> None:
        self.there.wire.delay_s = self.back.wire.delay_s = delay_s

    @property
    def waiting(self) -> int:
        """Bytes that wait in the line's buffer toward the receiver."""
        return self.there.wire._backlog_bytes

    def _exchange(self) -> None:
        for link in (self.sender, self.receiver):
            assert link.tick(self.now)
        for way in (self.there, self.back):
            for batch in way.pop(self.now):
                for frame in way.parser.receive(batch):
                    for event in way.link.receive([frame], self.now):
                        self._heard(way.link, event)
        for stream_id, queued in self._queued.items():
            while queued < 1 << 25:
                self.sender.send(stream_id, bytes(1 << 16))
                queued += 1 << 16
            self._queued[stream_id] = queued
        for link, way in ((self.sender, self.there), (self.receiver, self.back)):
            while batch := link.data_to_send(self.now):
                way.push(batch, self.now)

    def _heard(self, link: Link, event: object) -> None:
        if isinstance(event, StreamOpened):
            window = link.streams[event.stream].window
            window.outstanding = window.size = _MANY
        elif isinstance(event, StreamData):
            self.got[event.stream] += len(event.data)
            self.arrived[event.stream].append(self.now)
            link.streams[event.stream].window.held = 0
        elif isinstance(event, StreamDelivered) and event.stream in self._queued:
            self._queued[event.stream] -= event.size
