"""Where streams lead: each stream that enters by one endpoint leaves by another. Sans-I/O.

An endpoint is a link, or the sockets of this machine. A stream is two *legs*, one at each endpoint; whatever an event
says of one leg is done to the other. Credit follows the bytes: those that one endpoint delivered are granted again at
the endpoint they came from. So a stream is remembered until both its ends finished and all it carried was delivered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tunnel.frames import ResetCode
from tunnel.stream import (
    StreamAccepted,
    StreamData,
    StreamDelivered,
    StreamEvent,
    StreamFinished,
    StreamId,
    StreamOpened,
)
from tunnel.window import Budget

__all__ = ["Endpoint", "Router"]


class Endpoint(Protocol):
    """Where streams enter and leave; `link.Link` is one, `sockets.LocalEndpoint` the other."""

    @property
    def budget(self) -> Budget:
        """How many bytes may wait to leave by this endpoint."""

    def open(self, node: int, port: int, source: int | None = None) -> StreamId | None:
        """Open a stream from node `source` that leaves by this endpoint; None when it takes no more."""

    def assign(self, stream_id: StreamId, budget: Budget) -> None:
        """Charge what enters on this stream to `budget`."""

    def opened(self, stream_id: StreamId) -> None:
        """The far end is connected."""

    def send(self, stream_id: StreamId, data: bytes) -> None:
        """Bytes to leave by this endpoint."""

    def finish(self, stream_id: StreamId) -> None:
        """No more bytes will leave on this stream."""

    def reset(self, stream_id: StreamId, code: ResetCode) -> None:
        """End the stream at once."""

    def delivered(self, stream_id: StreamId, count: int) -> None:
        """`count` bytes that entered by this endpoint have left by the other."""


@dataclass(slots=True, eq=False)
class _Leg:
    endpoint: Endpoint
    stream: StreamId
    finished: bool = False  # nothing more enters here
    held: int = 0  # bytes that entered here and have not left by the other leg
    other: _Leg | None = None

    @property
    def done(self) -> bool:
        return self.finished and not self.held


class Router:
    """The table of streams; `route(entry, node, port)` says which endpoint leads there, None: no endpoint does."""

    def __init__(self, route: Callable[[Endpoint, int, int], Endpoint | None]) -> None:
        self._route = route
        self._legs: dict[tuple[int, StreamId], _Leg] = {}

    @property
    def stream_count(self) -> int:
        """Streams that are open."""
        return len(self._legs) // 2

    def receive(self, endpoint: Endpoint, event: StreamEvent) -> Endpoint | None:
        """Do what an event at `endpoint` asks for; returns the endpoint that may now have something to send."""
        if isinstance(event, StreamOpened):
            return self._open(endpoint, event)
        leg = self._legs.get((id(endpoint), event.stream))
        if leg is None or leg.other is None:
            return None
        far = leg.other
        if isinstance(event, StreamData):
            leg.held += len(event.data)  # before `send`, because sockets may deliver at once
            far.endpoint.send(far.stream, event.data)
        elif isinstance(event, StreamDelivered):
            far.held -= event.size
            far.endpoint.delivered(far.stream, event.size)
        elif isinstance(event, StreamFinished):
            leg.finished = True
            far.endpoint.finish(far.stream)
        elif isinstance(event, StreamAccepted):
            far.endpoint.opened(far.stream)
        else:
            self._forget(leg)
            far.endpoint.reset(far.stream, event.code)
        if leg.done and far.done:
            self._forget(leg)
        return far.endpoint

    def remove(self, endpoint: Endpoint) -> list[Endpoint]:
        """An endpoint is gone: what led through it is LOST; returns those that may have something to send."""
        touched: dict[int, Endpoint] = {}
        for leg in [leg for leg in self._legs.values() if leg.endpoint is endpoint]:
            far = leg.other
            self._forget(leg)
            leg.endpoint.reset(leg.stream, ResetCode.LOST)  # what came in by it is charged to an endpoint that stays
            if far is not None:
                far.endpoint.reset(far.stream, ResetCode.LOST)
                touched[id(far.endpoint)] = far.endpoint
        return list(touched.values())

    def _open(self, endpoint: Endpoint, event: StreamOpened) -> Endpoint:
        leaving = self._route(endpoint, event.node, event.port)
        if leaving is None:
            endpoint.reset(event.stream, ResetCode.UNREACHABLE)
            return endpoint
        stream = leaving.open(event.node, event.port, event.source)
        if stream is None:
            endpoint.reset(event.stream, ResetCode.LIMIT)
            return endpoint
        here, there = _Leg(endpoint, event.stream), _Leg(leaving, stream)
        here.other, there.other = there, here
        self._legs[id(endpoint), event.stream] = here
        self._legs[id(leaving), stream] = there
        endpoint.assign(event.stream, leaving.budget)
        leaving.assign(stream, endpoint.budget)
        return leaving

    def _forget(self, leg: _Leg) -> None:
        for gone in (leg, leg.other):
            if gone is not None:
                self._legs.pop((id(gone.endpoint), gone.stream), None)
