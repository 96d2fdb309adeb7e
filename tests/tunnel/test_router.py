"""The router between two links: where a stream leads, and what is left when a node is lost.

What is done to one leg of a stream after the other, under random events, is in test_router_machine.
"""

from __future__ import annotations

from tests.tunnel.joined import Joined
from tunnel.frames import ResetCode
from tunnel.link import MAX_STREAM_ID
from tunnel.router import Endpoint, Router
from tunnel.stream import StreamData, StreamEvent, StreamId, StreamOpened, StreamReset
from tunnel.window import INITIAL_WINDOW


class Hub:
    """The links of two agents, nodes 2 and 3, and the router between their ends at the hub."""

    def __init__(self) -> None:
        self.nodes = {2: Joined(), 3: Joined()}
        self.router = Router(self._route)

    def _route(self, entry: Endpoint, node: int, port: int) -> Endpoint | None:
        return self.nodes[node].hub.link if node in self.nodes else None

    def open(self, node: int) -> StreamId:
        """Agent 2 opens a stream to a node."""
        stream_id = self.nodes[2].agent.link.open(node, 80)
        assert stream_id is not None
        self.relay()
        return stream_id

    def relay(self) -> None:
        """Let everything be said, routed and heard."""
        for _ in range(50):
            for joined in self.nodes.values():
                joined.settle()
                for event in joined.hub.take():
                    assert isinstance(event, StreamEvent)
                    self.router.receive(joined.hub.link, event)


class TestOpening:
    """Where a stream leads."""

    def test_it_leaves_by_the_link_of_its_node(self) -> None:
        """With the node and port that were asked for; the endpoint to wake is that link."""
        hub = Hub()
        stream_id = hub.open(3)
        assert hub.nodes[3].agent.take() == [StreamOpened(StreamId(2), 3, 80)]
        data = StreamData(stream_id, b"abc")
        assert hub.router.receive(hub.nodes[2].hub.link, data) is hub.nodes[3].hub.link
        assert hub.router.stream_count == 1

    def test_a_node_that_is_not_there_is_unreachable(self) -> None:
        """The stream is reset where it came from, and not kept."""
        hub = Hub()
        stream_id = hub.open(9)
        assert hub.nodes[2].agent.take() == [StreamReset(stream_id, ResetCode.UNREACHABLE)]
        assert hub.router.stream_count == 0

    def test_a_link_that_takes_no_more_streams_means_limit(self) -> None:
        """So does the reset say."""
        hub = Hub()
        hub.nodes[3].hub.link._next_stream = MAX_STREAM_ID + 1
        stream_id = hub.open(3)
        assert hub.nodes[2].agent.take() == [StreamReset(stream_id, ResetCode.LIMIT)]
        assert hub.router.stream_count == 0

    def test_an_event_of_an_unknown_stream_wakes_nobody(self) -> None:
        """It crossed the end of its stream."""
        hub = Hub()
        assert hub.router.receive(hub.nodes[2].hub.link, StreamData(StreamId(1), b"x")) is None


class TestRemoving:
    """A link is gone."""

    def test_every_stream_of_a_lost_node_is_reset_at_the_other_end(self) -> None:
        """Once, with LOST; the links that have something to send are named."""
        hub = Hub()
        streams = [hub.open(3) for _ in range(2)]
        assert hub.router.remove(hub.nodes[3].hub.link) == [hub.nodes[2].hub.link]
        hub.relay()
        assert hub.nodes[2].agent.take() == [StreamReset(stream, ResetCode.LOST) for stream in streams]
        assert hub.router.stream_count == 0
        assert hub.router.remove(hub.nodes[3].hub.link) == []

    def test_streams_of_other_links_go_on(self) -> None:
        """Only what led through the lost one is reset."""
        hub = Hub()
        hub.open(3)
        assert hub.router.remove(Joined().hub.link) == []
        assert hub.router.stream_count == 1

    def test_the_budget_of_a_node_is_free_again_when_another_node_is_lost(self) -> None:
        """Windows of the lost node's streams were charged to the node they led to."""
        hub = Hub()
        stream_id = hub.open(3)
        hub.nodes[2].agent.link.send(stream_id, bytes(64 * INITIAL_WINDOW))
        for _ in range(50):
            hub.relay()
            for event in hub.nodes[3].agent.take():
                if isinstance(event, StreamData):
                    hub.nodes[3].agent.link.delivered(event.stream, len(event.data))
        there = hub.nodes[3].hub.link
        assert there.budget.reserved > 0
        hub.router.remove(hub.nodes[2].hub.link)
        assert there.budget.reserved == 0
        assert (hub.nodes[2].hub.link.streams, there.streams) == ({}, {})
