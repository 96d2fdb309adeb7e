"""The router: what happens to one leg of a stream is done to the other, and nothing of a stream is left behind."""

from __future__ import annotations

import pytest

from tests.tunnel.joined import Joined
from tunnel.frames import ResetCode
from tunnel.router import Endpoint, Router
from tunnel.stream import (
    StreamAccepted,
    StreamData,
    StreamDelivered,
    StreamEvent,
    StreamFinished,
    StreamId,
    StreamOpened,
    StreamReset,
)
from tunnel.window import INITIAL_WINDOW, Budget

ONE, TWO = StreamId(1), StreamId(2)


class ScriptedPort:
    """A port that writes down what the router asks of it; streams out of it count from 2 on, evenly."""

    def __init__(self, *, full: bool = False) -> None:
        self.budget = Budget()
        self.calls: list[tuple[object, ...]] = []
        self.full = full
        self._next = 0

    def open(self, node: int, port: int) -> StreamId | None:
        if self.full:
            return None
        self._next += 2
        self.calls.append(("open", self._next, node, port))
        return StreamId(self._next)

    def assign(self, stream_id: StreamId, budget: Budget) -> None:
        self.calls.append(("assign", stream_id, budget))

    def opened(self, stream_id: StreamId) -> None:
        self.calls.append(("opened", stream_id))

    def send(self, stream_id: StreamId, data: bytes) -> None:
        self.calls.append(("send", stream_id, data))

    def finish(self, stream_id: StreamId) -> None:
        self.calls.append(("finish", stream_id))

    def reset(self, stream_id: StreamId, code: ResetCode) -> None:
        self.calls.append(("reset", stream_id, code))

    def delivered(self, stream_id: StreamId, count: int) -> None:
        self.calls.append(("delivered", stream_id, count))

    def take(self) -> list[tuple[object, ...]]:
        """The calls since the last time."""
        calls, self.calls = self.calls, []
        return calls


class Bench:
    """A router with two ports; node 2 is reached by `right`, all else not at all."""

    def __init__(self, *, full: bool = False) -> None:
        self.left, self.right = ScriptedPort(), ScriptedPort(full=full)
        self.router = Router(lambda entry, node, port: self.right if node == 2 and entry is not self.right else None)

    def opened(self) -> Bench:
        """With stream 1 at the left, which is stream 2 at the right."""
        self.router.receive(self.left, StreamOpened(ONE, 2, 80))
        self.left.take()
        self.right.take()
        return self

    def tell(self, endpoint: Endpoint, *events: StreamEvent) -> list[tuple[object, ...]]:
        """What events at one endpoint make of the other one."""
        far = self.right if endpoint is self.left else self.left
        for event in events:
            self.router.receive(endpoint, event)
        return far.take()


class TestOpening:
    """Where a stream leads."""

    def test_a_stream_leaves_by_the_port_of_its_node(self) -> None:
        """Each leg is charged to the budget of the port the other leads out of."""
        bench = Bench()
        assert bench.router.receive(bench.left, StreamOpened(ONE, 2, 80)) is bench.right
        assert bench.right.take() == [("open", 2, 2, 80), ("assign", 2, bench.left.budget)]
        assert bench.left.take() == [("assign", 1, bench.right.budget)]
        assert bench.router.stream_count == 1

    def test_a_node_that_is_not_there_is_unreachable(self) -> None:
        """The stream is reset where it came from, and not kept."""
        bench = Bench()
        assert bench.router.receive(bench.left, StreamOpened(ONE, 9, 80)) is bench.left
        assert bench.left.take() == [("reset", 1, ResetCode.UNREACHABLE)]
        assert (bench.right.take(), bench.router.stream_count) == ([], 0)

    def test_a_port_that_takes_no_more_streams_means_limit(self) -> None:
        """So does the reset say."""
        bench = Bench(full=True)
        bench.router.receive(bench.left, StreamOpened(ONE, 2, 80))
        assert bench.left.take() == [("reset", 1, ResetCode.LIMIT)]
        assert bench.router.stream_count == 0


class TestRelaying:
    """What one leg says is done to the other."""

    def test_each_event_of_a_leg_is_done_to_the_other(self) -> None:
        """In both directions; the port to wake is the one that was asked."""
        bench = Bench().opened()
        assert bench.tell(bench.left, StreamData(ONE, b"abc")) == [("send", 2, b"abc")]
        assert bench.tell(bench.right, StreamAccepted(TWO), StreamDelivered(TWO, 3)) == [
            ("opened", 1),
            ("delivered", 1, 3),
        ]
        assert bench.router.receive(bench.right, StreamData(TWO, b"de")) is bench.left
        assert bench.tell(bench.left, StreamFinished(ONE)) == [("finish", 2)]

    def test_a_half_closed_stream_goes_on(self) -> None:
        """The other direction works until it ends too."""
        bench = Bench().opened()
        assert bench.tell(bench.left, StreamFinished(ONE)) == [("finish", 2)]
        assert bench.tell(bench.right, StreamData(TWO, b"x")) == [("send", 1, b"x")]
        assert bench.tell(bench.left, StreamDelivered(ONE, 1)) == [("delivered", 2, 1)]
        assert bench.router.stream_count == 1
        assert bench.tell(bench.right, StreamFinished(TWO)) == [("finish", 1)]
        assert bench.router.stream_count == 0

    def test_credit_of_a_finished_stream_still_finds_its_way(self) -> None:
        """Both ends finished and bytes are still on their way out: who sent them has to learn that they left."""
        bench = Bench().opened()
        bench.tell(bench.left, StreamData(ONE, b"last words"), StreamFinished(ONE))
        bench.tell(bench.right, StreamFinished(TWO))
        assert bench.router.stream_count == 1
        bench.left.take()
        assert bench.tell(bench.right, StreamDelivered(TWO, 4)) == [("delivered", 1, 4)]
        assert bench.router.stream_count == 1
        assert bench.tell(bench.right, StreamDelivered(TWO, 6)) == [("delivered", 1, 6)]
        assert bench.router.stream_count == 0

    def test_sockets_that_deliver_at_once_are_understood(self) -> None:
        """A port may answer a send with StreamDelivered before it returns."""
        bench = Bench().opened()

        class Prompt(ScriptedPort):
            def send(self, stream_id: StreamId, data: bytes) -> None:
                bench.router.receive(self, StreamDelivered(stream_id, len(data)))

        bench.right = Prompt()
        bench.router.receive(bench.left, StreamOpened(StreamId(3), 2, 80))
        bench.left.take()
        bench.router.receive(bench.left, StreamData(StreamId(3), b"abc"))
        assert bench.left.take() == [("delivered", 3, 3)]
        bench.router.receive(bench.right, StreamFinished(TWO))
        bench.router.receive(bench.left, StreamFinished(StreamId(3)))
        assert bench.router.stream_count == 1  # the one that `opened` made

    @pytest.mark.parametrize("from_left", [True, False])
    def test_a_reset_is_passed_on_once_and_the_stream_forgotten(self, from_left: bool) -> None:
        """Whatever either leg says afterwards is for nobody."""
        bench = Bench().opened()
        near, far = (bench.left, bench.right) if from_left else (bench.right, bench.left)
        stream, other = (ONE, TWO) if from_left else (TWO, ONE)
        assert bench.tell(near, StreamReset(stream, ResetCode.REFUSED)) == [("reset", other, ResetCode.REFUSED)]
        assert bench.router.stream_count == 0
        late: list[StreamEvent] = [StreamData(stream, b"x"), StreamFinished(stream), StreamDelivered(stream, 1)]
        assert bench.tell(near, *late, StreamReset(stream, ResetCode.LOST)) == []
        assert bench.tell(far, StreamData(other, b"x"), StreamAccepted(other)) == []

    def test_an_event_of_an_unknown_stream_wakes_nobody(self) -> None:
        """It crossed the end of its stream."""
        bench = Bench()
        assert bench.router.receive(bench.left, StreamData(ONE, b"x")) is None


class TestRemoving:
    """A port is gone."""

    def test_every_stream_of_a_port_that_is_gone_is_reset_at_both_ends(self) -> None:
        """Here so that its budget is free again, there so that the program learns of it."""
        bench = Bench().opened()
        bench.router.receive(bench.left, StreamOpened(StreamId(3), 2, 81))
        bench.left.take()
        bench.right.take()
        assert bench.router.remove(bench.right) == [bench.left]
        lost = ResetCode.LOST
        assert bench.left.take() == [("reset", 1, lost), ("reset", 3, lost)]
        assert bench.right.take() == [("reset", 2, lost), ("reset", 4, lost)]
        assert bench.router.stream_count == 0
        assert bench.router.remove(bench.right) == []

    def test_streams_of_other_ports_go_on(self) -> None:
        """Only what led through the port is reset."""
        bench = Bench().opened()
        assert bench.router.remove(ScriptedPort()) == []
        assert bench.router.stream_count == 1

    def test_the_budget_of_a_node_is_free_again_when_another_node_is_lost(self) -> None:
        """Windows of the lost node's streams were charged to the node they led to."""
        a, b = Joined(), Joined()
        router = Router(lambda entry, node, port: b.hub.link)

        def relay() -> None:
            for _ in range(50):
                for joined in (a, b):
                    joined.settle()
                    for event in joined.hub.take():
                        assert isinstance(event, StreamEvent)
                        router.receive(joined.hub.link, event)
                for event in b.agent.take():
                    if isinstance(event, StreamData):
                        b.agent.link.delivered(event.stream, len(event.data))

        stream_id = a.agent.link.open(3, 80)
        assert stream_id is not None
        a.agent.link.send(stream_id, bytes(64 * INITIAL_WINDOW))
        relay()
        assert b.hub.link.budget.reserved > 0
        router.remove(a.hub.link)
        assert b.hub.link.budget.reserved == 0
        assert (a.hub.link.streams, b.hub.link.streams) == ({}, {})
