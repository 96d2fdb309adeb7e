"""Where streams lead: each stream that enters by one port leaves by another. Sans-I/O.

A port is a link, or the sockets of this machine. A stream is two *legs*, one at each port; whatever an event says
of one leg is done to the other. Credit follows the bytes: those that one port delivered are granted again at the
port they came from. So a stream is remembered until both its ends finished and all it carried was delivered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tunnel.events import (
    StreamAccepted,
    StreamData,
    StreamDelivered,
    StreamFinished,
    StreamOpened,
    StreamReset,
)
from tunnel.frames import ResetCode
from tunnel.stream import StreamId
from tunnel.window import Budget

__all__ = ["Port", "Router", "StreamEvent"]

StreamEvent = StreamOpened | StreamAccepted | StreamData | StreamFinished | StreamReset | StreamDelivered


class Port(Protocol):
    """What streams enter and leave by; `link.Link` is one, `sockets.LocalPort` the other."""

    @property
    def budget(self) -> Budget:
        """Bytes that may wait to leave by this port."""

    def open(self, node: int, port: int) -> StreamId | None:
        """Begin a stream out of this port; None when it takes no more."""

    def assign(self, stream_id: StreamId, budget: Budget) -> None:
        """What enters on this stream is charged to `budget`."""

    def opened(self, stream_id: StreamId) -> None:
        """The far end is connected."""

    def send(self, stream_id: StreamId, data: bytes) -> None:
        """Bytes to leave by this port."""

    def finish(self, stream_id: StreamId) -> None:
        """No more bytes will leave on this stream."""

    def reset(self, stream_id: StreamId, code: ResetCode) -> None:
        """The stream is over at once."""

    def delivered(self, stream_id: StreamId, count: int) -> None:
        """`count` bytes that entered by this port have left by the other."""


@dataclass(slots=True, eq=False)
class _Leg:
    port: Port
    stream: StreamId
    finished: bool = False  # nothing more enters here
    held: int = 0  # bytes that entered here and have not left by the other leg
    other: _Leg | None = None

    @property
    def done(self) -> bool:
        return self.finished and not self.held


class Router:
    """The table of streams; `route(entry, node)` says by which port a node is reached, None: not at all."""

    def __init__(self, route: Callable[[Port, int, int], Port | None]) -> None:
        self._route = route
        self._legs: dict[tuple[int, StreamId], _Leg] = {}

    @property
    def stream_count(self) -> int:
        """Streams that are open."""
        return len(self._legs) // 2

    def receive(self, port: Port, event: StreamEvent) -> Port | None:
        """Do what an event at `port` asks for; returns the port that may now have something to send."""
        if isinstance(event, StreamOpened):
            return self._open(port, event)
        leg = self._legs.get((id(port), event.stream))
        if leg is None or leg.other is None:
            return None
        far = leg.other
        if isinstance(event, StreamData):
            leg.held += len(event.data)  # before it is sent: sockets deliver at once
            far.port.send(far.stream, event.data)
        elif isinstance(event, StreamDelivered):
            far.held -= event.size
            far.port.delivered(far.stream, event.size)
        elif isinstance(event, StreamFinished):
            leg.finished = True
            far.port.finish(far.stream)
        elif isinstance(event, StreamAccepted):
            far.port.opened(far.stream)
        else:
            self._forget(leg)
            far.port.reset(far.stream, event.code)
        if leg.done and far.done:
            self._forget(leg)
        return far.port

    def remove(self, port: Port, code: ResetCode = ResetCode.LOST) -> list[Port]:
        """A port is gone: reset what led through it; returns the ports that may have something to send."""
        touched: dict[int, Port] = {}
        for leg in [leg for leg in self._legs.values() if leg.port is port]:
            far = leg.other
            self._forget(leg)
            leg.port.reset(leg.stream, code)  # what came in by it is charged to a port that stays
            if far is not None:
                far.port.reset(far.stream, code)
                touched[id(far.port)] = far.port
        return list(touched.values())

    def _open(self, port: Port, event: StreamOpened) -> Port:
        leaving = self._route(port, event.node, event.port)
        if leaving is None:
            port.reset(event.stream, ResetCode.UNREACHABLE)
            return port
        stream = leaving.open(event.node, event.port)
        if stream is None:
            port.reset(event.stream, ResetCode.LIMIT)
            return port
        here, there = _Leg(port, event.stream), _Leg(leaving, stream)
        here.other, there.other = there, here
        self._legs[id(port), event.stream] = here
        self._legs[id(leaving), stream] = there
        port.assign(event.stream, leaving.budget)
        leaving.assign(stream, port.budget)
        return leaving

    def _forget(self, leg: _Leg) -> None:
        for gone in (leg, leg.other):
            if gone is not None:
                self._legs.pop((id(gone.port), gone.stream), None)
