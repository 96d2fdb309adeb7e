"""Streams from node A through the hub to node B under random events: whole or reset, and nothing is left at the hub.

Two links and a router between them. Both links are cut and resumed; in the end one of the nodes may be lost for good.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.tunnel.joined import Joined
from tunnel.frames import ResetCode
from tunnel.link import MAX_STREAM_ID
from tunnel.router import Endpoint, Router
from tunnel.stream import StreamData, StreamDelivered, StreamEvent, StreamFinished, StreamId, StreamOpened, StreamReset
from tunnel.window import INITIAL_WINDOW

SIZES = st.sampled_from([1, 300, INITIAL_WINDOW, 70_000, 400_000])


@dataclass
class Program:
    """One end of a relayed connection."""

    stream: StreamId
    number: int  # of the connection: the port it was opened to
    sent: bytearray = field(default_factory=bytearray)
    received: bytearray = field(default_factory=bytearray)
    waiting: int = 0
    finished: bool = False
    saw_finish: bool = False
    reset: bool = False


class RouterMachine(RuleBasedStateMachine):
    """Node 2 is A, which opens; node 3 is B, which is opened to."""

    @initialize(doomed=st.sampled_from([None, 0, 1]))
    def begin(self, doomed: int | None) -> None:
        """Both links are up; one of the nodes may be lost at the end."""
        self.doomed = doomed
        self.links = [Joined(), Joined()]
        self.up = [True, True]
        self.programs: list[dict[StreamId, Program]] = [{}, {}]
        self.lost: int | None = None
        self.count = 0
        self.router = Router(self.route)

    def route(self, entry: Endpoint, node: int, port: int) -> Endpoint | None:
        """As a hub does."""
        leaving = self.links[node - 2].hub.link
        return None if self.lost == node - 2 or leaving is entry else leaving

    def pick(self, data: st.DataObject, which: int) -> Program | None:
        """A program of this node that may still do something."""
        found = [program for program in self.programs[which].values() if not program.reset]
        return data.draw(st.sampled_from(found)) if found else None

    @rule()
    def open(self) -> None:
        """A program on A connects to B."""
        link = self.links[0].agent.link
        self.count += 1
        stream = link.open(3, self.count)
        assert stream is not None
        self.programs[0][stream] = Program(stream, self.count)

    @rule(which=st.integers(0, 1), size=SIZES, data=st.data())
    def send(self, which: int, size: int, data: st.DataObject) -> None:
        """A program sends bytes."""
        program = self.pick(data, which)
        if program is not None and not program.finished:
            piece = bytes([len(program.sent) % 251]) + bytes(size - 1)
            self.links[which].agent.link.send(program.stream, piece)
            program.sent += piece

    @rule(which=st.integers(0, 1), data=st.data())
    def finish(self, which: int, data: st.DataObject) -> None:
        """A program sends no more."""
        program = self.pick(data, which)
        if program is not None and not program.finished:
            self.links[which].agent.link.finish(program.stream)
            program.finished = True

    @rule(which=st.integers(0, 1), data=st.data())
    def reset(self, which: int, data: st.DataObject) -> None:
        """A program breaks off."""
        program = self.pick(data, which)
        if program is not None:
            self.links[which].agent.link.reset(program.stream, ResetCode.CONNECTION)
            program.reset = True

    @rule(which=st.integers(0, 1), data=st.data(), all_of_it=st.booleans())
    def take(self, which: int, data: st.DataObject, all_of_it: bool) -> None:
        """A program reads what came, or half of it."""
        program = self.pick(data, which)
        if program is not None:
            count = program.waiting if all_of_it else program.waiting // 2
            program.waiting -= count
            self.links[which].agent.link.delivered(program.stream, count)

    @rule(which=st.integers(0, 1), batches=st.integers(1, 5))
    def pump(self, which: int, batches: int) -> None:
        """Batches travel on one of the links that is up."""
        joined = self.links[which]
        for _ in range(batches if self.up[which] else 0):
            for end in joined.ends:
                joined.say(end)
                joined.hear(end)
            self.look()

    @rule(which=st.integers(0, 1))
    def cut(self, which: int) -> None:
        """A WebSocket dies with what is under way."""
        self.links[which].cut()
        self.up[which] = False

    @rule(which=st.integers(0, 1))
    def resume(self, which: int) -> None:
        """It is replaced."""
        if not self.up[which] and self.lost != which:
            self.links[which].resume()
            self.up[which] = True
            self.look()

    def lose(self, which: int) -> None:
        """A node is gone for good."""
        self.lost, self.up[which] = which, False
        self.router.remove(self.links[which].hub.link)
        for program in self.programs[which].values():
            program.reset = True

    def look(self) -> None:
        """The hub routes and the programs see what the links have to say."""
        for which, joined in enumerate(self.links):
            for event in joined.hub.take():
                assert isinstance(event, StreamEvent)
                if self.lost != which:
                    self.router.receive(joined.hub.link, event)
            for event in joined.agent.take():
                if self.lost != which:
                    self.see(which, event)

    def see(self, which: int, event: object) -> None:
        """What happens to a program."""
        mine = self.programs[which]
        match event:
            case StreamOpened(stream, node, port):
                assert (which, node) == (1, 3)
                mine[stream] = Program(stream, port)
            case StreamData(stream, data):
                mine[stream].received += data
                mine[stream].waiting += len(data)
            case StreamFinished(stream):
                mine[stream].saw_finish = True
            case StreamReset(stream, _):
                mine[stream].reset = True
            case _:
                assert isinstance(event, StreamDelivered)

    @invariant()
    def budgets_hold(self) -> None:
        """Each link's budget is what the windows of the other one's streams have beyond the initial window."""
        for which, joined in enumerate(self.links):
            others = self.links[1 - which].hub.link.streams.values()
            reserved = sum(stream.window.size - INITIAL_WINDOW for stream in others)
            assert joined.hub.link.budget.reserved == reserved

    def teardown(self) -> None:
        """All that still can, takes what came and finishes; the hub remembers nothing."""
        if not hasattr(self, "links"):
            return
        if self.doomed is not None:
            self.lose(self.doomed)
        for which in range(2):
            self.resume(which)
        while self.wind_up():
            for which, joined in enumerate(self.links):
                if self.lost != which:
                    joined.wait(1)
            self.look()
        assert self.router.stream_count == 0
        for which, joined in enumerate(self.links):
            assert joined.hub.link.budget.reserved == 0
            # A link that is lost goes with what was over and had its FINISH still to send.
            assert self.lost == which or joined.hub.link.streams == joined.agent.link.streams == {}
        there = {program.number: program for program in self.programs[1].values()}
        for here in self.programs[0].values():
            far = there.get(here.number)
            if far is None:
                assert here.reset
                continue
            for sender, receiver in ((here, far), (far, here)):
                assert sender.sent.startswith(receiver.received)
                if not sender.reset and not receiver.reset:
                    assert (receiver.received, receiver.saw_finish) == (sender.sent, True)

    def wind_up(self) -> bool:
        """One round of taking, finishing and routing; False when nothing happened any more."""
        busy = False
        for which, joined in enumerate(self.links):
            if self.lost == which:
                continue
            for program in self.programs[which].values():
                if not program.reset and program.waiting:
                    joined.agent.link.delivered(program.stream, program.waiting)
                    program.waiting, busy = 0, True
                if not program.reset and not program.finished:
                    joined.agent.link.finish(program.stream)
                    program.finished = busy = True
            before = joined.agent.link.received_count, joined.hub.link.received_count
            joined.settle()
            self.look()
            busy = busy or before != (joined.agent.link.received_count, joined.hub.link.received_count)
            busy = busy or joined.agent.link._ledger.unacknowledged or joined.hub.link._ledger.unacknowledged
        return busy


RouterMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestRouterMachine = RouterMachine.TestCase


def test_a_link_that_takes_no_more_streams_means_limit() -> None:
    """So does the reset say where the stream came from, and the router keeps nothing of it."""
    here, there = Joined(), Joined()
    router = Router(lambda entry, node, port: there.hub.link)
    there.hub.link._next_stream = MAX_STREAM_ID + 1
    stream = here.agent.link.open(3, 80)
    here.settle()
    for event in here.hub.take():
        assert isinstance(event, StreamOpened)
        router.receive(here.hub.link, event)
    here.settle()
    assert here.agent.take() == [StreamReset(StreamId(stream or 0), ResetCode.LIMIT)]
    assert router.stream_count == 0


def test_the_budget_of_a_node_is_free_again_when_another_node_is_lost() -> None:
    """Windows of the lost node's streams were charged to the node they led to."""
    here, there = Joined(), Joined()
    router = Router(lambda entry, node, port: there.hub.link)
    stream = here.agent.link.open(3, 80)
    assert stream is not None
    here.agent.link.send(stream, bytes(64 * INITIAL_WINDOW))
    for _ in range(50):
        for joined in (here, there):
            joined.settle()
            for event in joined.hub.take():
                assert isinstance(event, StreamEvent)
                router.receive(joined.hub.link, event)
        for came in there.agent.take():
            if isinstance(came, StreamData):
                there.agent.link.delivered(came.stream, len(came.data))
    assert there.hub.link.budget.reserved > 0
    router.remove(here.hub.link)
    assert there.hub.link.budget.reserved == 0
    assert (here.hub.link.streams, there.hub.link.streams) == ({}, {})
