"""Two links under random events: every byte arrives once and in order, or the stream is reset, and nothing is left.

The network between them delivers batches late, whole or in part, loses what is under way at a cut, and lets the
agent resume, sometimes twice. The model is what the programs at both ends did and saw.
"""

from __future__ import annotations

import copy
import copyreg
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.tunnel.joined import End, Joined
from tunnel.congestion import MAX_FLIGHT
from tunnel.errors import RemoteProtocolError
from tunnel.frames import MAX_PAYLOAD, ResetCode
from tunnel.ledger import CONTROL_FLIGHT, FRAME_COST
from tunnel.link import Event, MessageReceived
from tunnel.stream import (
    StreamAccepted,
    StreamData,
    StreamDelivered,
    StreamFinished,
    StreamId,
    StreamOpened,
    StreamReset,
)
from tunnel.window import INITIAL_WINDOW, Budget

copyreg.pickle(memoryview, lambda view: (memoryview, (bytes(view),)))  # for copies of a link that holds some
PATTERN = bytes(at * at % 251 for at in range(251)) * 5000
SIZES = st.sampled_from([1, 100, 5000, INITIAL_WINDOW, INITIAL_WINDOW + 1, 70_000, 300_000, 1_000_000])


def piece(stream_id: StreamId, start: int, size: int) -> bytes:
    """What a program sends from byte `start` on: no two places of a stream look alike for long."""
    at = (start + 31 * stream_id) % 251
    return PATTERN[at : at + size]


@dataclass
class Program:
    """What the program at one end of a stream did and saw."""

    mine: bool = False  # it opened the stream
    accepted: bool = False  # the one that did not open it is connected, and this one knows
    sent: int = 0  # bytes given to the link
    finished: bool = False  # it sends no more
    reported: int = 0  # bytes that the link said the other end has
    received: int = 0
    waiting: int = 0  # of those, bytes it has not taken yet
    saw_finish: bool = False
    over: bool = False  # it reset the stream, or was told of a reset


@dataclass
class Side:
    """One end of the link with its programs."""

    end: End
    budget: Budget
    programs: dict[StreamId, Program] = field(default_factory=dict)
    messages: list[int] = field(default_factory=list)
    messages_sent: int = 0

    def see(self, events: list[Event], others: dict[StreamId, Program]) -> None:
        """Tell the programs what the link says, and hold it against what the others did."""
        for event in events:
            match event:
                case MessageReceived(body):
                    self.messages.append(body["number"])
                case StreamOpened(stream_id, node, port):
                    assert stream_id not in self.programs
                    assert (node, port) == (7, 80 + (stream_id + 1) % 2)
                    self.programs[stream_id] = Program()
                    self.end.link.assign(stream_id, self.budget)
                case StreamData(stream_id, data):
                    program = self.programs[stream_id]
                    assert not program.saw_finish
                    assert not program.over
                    assert data == piece(stream_id, program.received, len(data))
                    program.received += len(data)
                    program.waiting += len(data)
                    assert program.received <= others[stream_id].sent
                case StreamFinished(stream_id):
                    program = self.programs[stream_id]
                    assert not program.saw_finish
                    assert others[stream_id].finished
                    assert program.received == others[stream_id].sent
                    program.saw_finish = True
                case StreamReset(stream_id, _):
                    assert not self.programs[stream_id].over
                    assert others[stream_id].over
                    self.programs[stream_id].over = True
                case StreamDelivered(stream_id, size):
                    program = self.programs[stream_id]
                    program.reported += size
                    assert program.reported <= program.sent
                case StreamAccepted(stream_id):
                    program = self.programs[stream_id]
                    assert program.mine
                    assert not program.accepted
                    assert others[stream_id].accepted
                    program.accepted = True
                case _:
                    raise AssertionError(event)


class LinkMachine(RuleBasedStateMachine):
    """An agent's and a hub's end, their programs, and a bad network."""

    @initialize(budgets=st.tuples(*[st.sampled_from([0, 200_000, 32 << 20])] * 2))
    def begin(self, budgets: tuple[int, int]) -> None:
        """A link that is up; each end has one budget for all that comes in."""
        self.joined = Joined()
        self.sides = [Side(end, Budget(total)) for end, total in zip(self.joined.ends, budgets, strict=True)]
        self.up = True

    def other(self, side: Side) -> Side:
        """The side that is not this one."""
        return self.sides[1 - self.sides.index(side)]

    def pick(self, data: st.DataObject, side: Side, **wanted: bool) -> StreamId | None:
        """A stream of this side that is not over and whose program is as wanted."""
        found = [
            stream_id
            for stream_id, program in side.programs.items()
            if not program.over and all(getattr(program, name) is value for name, value in wanted.items())
        ]
        return data.draw(st.sampled_from(found)) if found else None

    # What programs do.

    @rule(which=st.integers(0, 1))
    def open(self, which: int) -> None:
        """A program opens a stream."""
        side = self.sides[which]
        stream_id = side.end.link.open(7, 80 + which)
        assert stream_id is not None
        assert stream_id not in side.programs
        side.programs[stream_id] = Program(mine=True)
        side.end.link.assign(stream_id, side.budget)

    @rule(which=st.integers(0, 1), size=SIZES, data=st.data())
    def send(self, which: int, size: int, data: st.DataObject) -> None:
        """A program sends bytes."""
        side = self.sides[which]
        stream_id = self.pick(data, side, finished=False)
        if stream_id is not None:
            program = side.programs[stream_id]
            side.end.link.send(stream_id, piece(stream_id, program.sent, size))
            program.sent += size

    @rule(which=st.integers(0, 1), data=st.data())
    def finish(self, which: int, data: st.DataObject) -> None:
        """A program sends no more."""
        side = self.sides[which]
        stream_id = self.pick(data, side, finished=False)
        if stream_id is not None:
            side.end.link.finish(stream_id)
            side.programs[stream_id].finished = True

    @rule(which=st.integers(0, 1), data=st.data())
    def accept(self, which: int, data: st.DataObject) -> None:
        """A program says that it is connected."""
        side = self.sides[which]
        stream_id = self.pick(data, side, mine=False, accepted=False)
        if stream_id is not None:
            side.end.link.opened(stream_id)
            side.programs[stream_id].accepted = True

    @rule(which=st.integers(0, 1), code=st.sampled_from(ResetCode), data=st.data())
    def reset(self, which: int, code: ResetCode, data: st.DataObject) -> None:
        """A program breaks off."""
        side = self.sides[which]
        stream_id = self.pick(data, side)
        if stream_id is not None:
            side.end.link.reset(stream_id, code)
            side.programs[stream_id].over = True

    @rule(which=st.integers(0, 1), data=st.data(), share=st.sampled_from([0.1, 0.5, 1.0]))
    def take(self, which: int, data: st.DataObject, share: float) -> None:
        """A program takes some of what came."""
        side = self.sides[which]
        stream_id = self.pick(data, side)
        if stream_id is not None:
            program = side.programs[stream_id]
            count = int(program.waiting * share)
            side.end.link.delivered(stream_id, count)
            program.waiting -= count

    @rule(which=st.integers(0, 1))
    def message(self, which: int) -> None:
        """The application at one end has something to say."""
        side = self.sides[which]
        side.end.link.message({"number": side.messages_sent})
        side.messages_sent += 1

    # What the network does.

    @precondition(lambda self: self.up)
    @rule(which=st.integers(0, 1), batches=st.integers(1, 4))
    def say(self, which: int, batches: int) -> None:
        """The WebSocket takes some batches."""
        for _ in range(batches):
            self.joined.say(self.sides[which].end)

    @precondition(lambda self: self.up)
    @rule(which=st.integers(0, 1), batches=st.integers(1, 4))
    def hear(self, which: int, batches: int) -> None:
        """Some of what is under way arrives."""
        for _ in range(batches):
            self.deliver(self.sides[which])

    @precondition(lambda self: self.up)
    @rule(which=st.integers(0, 1), count=st.sampled_from([0, 1, 12, 100, 17_000, 70_000]))
    def cut_in_mid_batch(self, which: int, count: int) -> None:
        """The WebSocket dies; of one batch a part still arrived."""
        self.deliver(self.sides[which], count)
        self.joined.cut()
        self.up = False

    @precondition(lambda self: not self.up)
    @rule(batches=st.integers(0, 3))
    def resume_in_vain(self, batches: int) -> None:
        """The hub takes the resumption and begins to replay; nothing of it reaches the agent."""
        self.joined.welcome_back()
        for _ in range(batches):
            self.joined.say(self.joined.hub)
        self.joined.cut()
        self.look()

    @precondition(lambda self: not self.up)
    @rule()
    def resume(self) -> None:
        """The link is up again."""
        self.joined.resume()
        self.up = True
        self.look()

    @precondition(lambda self: not self.up)
    @rule(which=st.integers(0, 1), off=st.integers(1, 50))
    def resume_with_a_stale_count(self, which: int, off: int) -> None:
        """A count below what was acknowledged, or above what was sent, is refused and changes nothing that is kept."""
        ledger = self.sides[which].end.link._ledger
        kept = len(ledger._sent), ledger.flight, ledger.control
        for count in (ledger._acked_count - off, ledger._sent_count + off):
            with pytest.raises(RemoteProtocolError):
                ledger.resume(count)
        assert kept == (len(ledger._sent), ledger.flight, ledger.control)

    @precondition(lambda self: self.up)
    @rule(which=st.integers(0, 1))
    def an_old_batch_comes_again(self, which: int) -> None:
        """What was heard before, on this WebSocket or an earlier one, is a breach, whatever the link has seen since."""
        end = self.sides[which].end
        if end.last is not None:
            with pytest.raises(RemoteProtocolError):
                copy.deepcopy(end.link).receive(end.last, self.joined.now)

    @rule(seconds=st.sampled_from([0.1, 0.3, 6.0, 30.0]))
    def wait(self, seconds: float) -> None:
        """Time passes; whoever hears nothing for too long gives the WebSocket up."""
        self.joined.now += seconds
        if self.up and not all(side.end.link.tick(self.joined.now) for side in self.sides):
            self.joined.cut()
            self.up = False

    @rule(seconds=st.sampled_from([3600.0, -3600.0, 86400.0, -86400.0]))
    def the_clock_steps(self, seconds: float) -> None:
        """By an hour or a day, between two batches: a clock that drivers should not use, or a machine that slept."""
        self.joined.now += seconds

    # What holds.

    @invariant()
    def bounds_hold(self) -> None:
        """Nothing is negative and nothing beyond its limit."""
        for side in self.sides:
            link = side.end.link
            assert link.lost is None
            assert 0 <= link._ledger.flight <= MAX_FLIGHT + MAX_PAYLOAD + FRAME_COST
            assert 0 <= link._ledger.control <= CONTROL_FLIGHT + MAX_PAYLOAD
            sizes = [stream.window.size for stream in link.streams.values()]
            assert side.budget.reserved == sum(size - INITIAL_WINDOW for size in sizes) <= side.budget.total
            for stream in link.streams.values():
                window = stream.window
                assert min(stream.credit, stream.queued, stream.grant, window.outstanding, window.held) >= 0
                assert window.outstanding + window.held <= window.size
                far = self.other(side).end.link.streams.get(stream.id)
                if far is not None:
                    assert stream.credit <= far.window.outstanding or far.receiving.value == "done"

    def teardown(self) -> None:
        """In the end all programs take what came and finish, and every stream is gone without a trace."""
        if not hasattr(self, "joined"):
            return
        if not self.up:
            self.joined.resume()
        self.joined.wait(1)
        self.look()
        while self.wind_up():
            self.joined.wait(1)
            self.look()
        for side in self.sides:
            self.nothing_is_left(side)

    def wind_up(self) -> bool:
        """Every program takes what came and sends no more; False when all have done so already."""
        busy = False
        for side in self.sides:
            for stream_id, program in side.programs.items():
                if not program.over and program.waiting:
                    side.end.link.delivered(stream_id, program.waiting)
                    program.waiting, busy = 0, True
                if not program.over and not program.finished:
                    side.end.link.finish(stream_id)
                    program.finished = busy = True
        return busy

    def nothing_is_left(self, side: Side) -> None:
        """What both ends remember is that nothing is open."""
        link, others = side.end.link, self.other(side).programs
        assert link.streams == {}
        assert (side.budget.reserved, link._unassigned.reserved, link.budget.reserved) == (0, 0, 0)
        assert (link._ledger.flight, link._ledger.control, link._ledger.unacknowledged) == (0, 0, False)
        assert not link._queue
        assert not link._granting
        assert not link._opening
        assert not link._control
        assert link._control_bytes == 0
        assert side.messages == list(range(self.other(side).messages_sent))
        for stream_id, program in side.programs.items():
            far = others.get(stream_id)
            if far is None:
                assert program.over, "reset before its OPEN left"
            elif not program.over and not far.over:
                assert (program.received, program.saw_finish) == (far.sent, True)
                assert program.reported == program.sent

    def deliver(self, side: Side, count: int | None = None) -> None:
        """One batch arrives, or its first `count` bytes."""
        self.joined.hear(side.end, count)
        self.look()

    def look(self) -> None:
        """The programs see what the links have to say."""
        for side in self.sides:
            side.see(side.end.take(), self.other(side).programs)


LinkMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=80, deadline=None)
TestLinkMachine = LinkMachine.TestCase
