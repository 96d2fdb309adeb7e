"""Two links joined by a network that holds batches until it is told to deliver them, and can be cut.

What drivers do, without their sockets and clocks: batches go through a parser, one resumption tells each end how much
the other received. Used by the tests of `tunnel.link`.
"""

from __future__ import annotations

from collections import deque

from tunnel.frames import SEQUENCED, Frame, FrameParser
from tunnel.link import Event, Link
from tunnel.stream import StreamData, StreamId, StreamOpened

__all__ = ["End", "Joined", "data_in", "deliver_all", "frames_of", "opened", "quiet"]


class End:
    """One link, the parser of what comes to it, what it was told, and what is under way to it."""

    def __init__(self, *, initiator: bool, now: float) -> None:
        self.link = Link(initiator=initiator, now=now)
        self.parser = FrameParser()
        self.events: list[Event] = []
        self.coming: deque[bytes] = deque()
        self.last: list[Frame] | None = None  # the newest batch heard that has sequenced frames

    def take(self) -> list[Event]:
        """The events since the last call."""
        events, self.events = self.events, []
        return events


class Joined:
    """An agent's and a hub's end of one link."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.agent = End(initiator=True, now=now)
        self.hub = End(initiator=False, now=now)

    @property
    def ends(self) -> tuple[End, End]:
        """The agent's and the hub's."""
        return self.agent, self.hub

    def other(self, end: End) -> End:
        """The end that is not this one."""
        return self.hub if end is self.agent else self.agent

    def say(self, end: End) -> bool:
        """Put one batch of this end under way, if it has one."""
        batch = end.link.data_to_send(self.now)
        if batch:
            self.other(end).coming.append(batch)
        return bool(batch)

    def hear(self, end: End, count: int | None = None) -> list[Event]:
        """Deliver the oldest batch that is under way to this end, or only its first `count` bytes; the new events."""
        if not end.coming:
            return []
        data = end.coming.popleft()
        frames = end.parser.receive(data[:count])
        if any(frame.type in SEQUENCED for frame in frames):
            end.last = frames
        events = end.link.receive(frames, self.now)
        end.events += events
        return events

    def settle(self) -> None:
        """Let everything be said and heard until nobody has more to say."""
        said = True
        while said:
            for end in self.ends:
                while end.coming:
                    self.hear(end)
            said = self.say(self.agent)
            said = self.say(self.hub) or said

    def wait(self, seconds: float) -> None:
        """Let time pass as the drivers do: each deadline is met, and what it asks for is said and heard."""
        self.settle()
        until = self.now + seconds
        while (due := min(end.link.next_deadline() for end in self.ends)) <= until:
            self.now = max(self.now, due)
            for end in self.ends:
                assert end.link.tick(self.now), "the other end is silent"
            self.settle()
        self.now = until

    def cut(self) -> None:
        """Lose the WebSocket and all that is under way."""
        for end in self.ends:
            end.coming.clear()
            end.parser = FrameParser()

    def welcome_back(self) -> None:
        """The hub takes the agent's resumption; its answer does not arrive."""
        self.hub.events += self.hub.link.resume(self.agent.link.received_count, self.now)

    def resume(self) -> None:
        """A new WebSocket carries the link on."""
        self.cut()
        received = self.hub.link.received_count
        self.welcome_back()
        self.agent.events += self.agent.link.resume(received, self.now)


def frames_of(batch: bytes) -> list[str]:
    """The frames of a batch, by name."""
    return [frame.type.name for frame in FrameParser().receive(batch)]


def quiet() -> Joined:
    """Two ends that have exchanged their first pings and have nothing more to say."""
    joined = Joined()
    for _ in range(2):
        joined.agent.link.tick(joined.now)
        joined.settle()
    return joined


def opened(joined: Joined, node: int = 2, port: int = 22) -> StreamId:
    """A stream from the hub to the agent, known at both ends."""
    stream_id = joined.hub.link.open(node, port)
    assert stream_id is not None
    joined.settle()
    assert StreamOpened(stream_id, node, port) in joined.agent.take()
    return stream_id


def data_in(events: list[Event], stream_id: StreamId) -> bytes:
    """The bytes of a stream in these events."""
    return b"".join(event.data for event in events if isinstance(event, StreamData) and event.stream == stream_id)


def deliver_all(joined: Joined, end: End, stream_id: StreamId) -> bytes:
    """What came on a stream; all of it leaves this hop, and more comes as credit allows."""
    whole = b""
    while piece := data_in(end.take(), stream_id):
        end.link.delivered(stream_id, len(piece))
        joined.settle()
        whole += piece
    return whole
