"""The scheduler of one sweep: events with `now` in, commands out.

How a trial goes
1. It waits (`Dispatch`). A slot that is up and has room is *assigned* it
   under a new ticket; nothing is written, nothing charged.
2. The slot says `started`: the row is RUNNING, an attempt is open. It says `finished`: the row is final. Its slot
   or node is lost: what had started is charged an attempt and goes first among those that wait, the rest goes back
   uncharged.
3. It counts when the row is committed, and the sweep is finished when all rows are.
A trial is in one slot's hands at most: it is assigned elsewhere only after its slot gave it back or is gone.
Reports whose ticket is not held by that slot are stale and change nothing.

Events are the public methods that take `now`; `commands` hands out what they led to. Methods are O(slots) at most.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from raycolab.schedule import outlook
from raycolab.schedule.book import TrialBook
from raycolab.schedule.commands import Bench, Command, Finished, Kill, LossCause, ScheduleOptions
from raycolab.schedule.dispatch import Dispatch
from raycolab.schedule.guards import ModelGuards, NodeGuards
from raycolab.schedule.pace import Pace
from raycolab.schedule.slots import Held, Slot, SlotBoard, SlotPhase
from raycolab.trial import AttemptRow, ErrorKind, Failure, Outcome, SweepState, TrialRow, TrialState

__all__ = ["Scheduler"]


class Scheduler:
    """One sweep on changing slots; see the module's text."""

    def __init__(self, rows: Sequence[TrialRow], attempts: Sequence[AttemptRow], options: ScheduleOptions) -> None:
        """Take up the sweep where the store has it."""
        self.book = TrialBook(rows, attempts, options.metric)
        self.options = options
        self.models = ModelGuards(row.model for row in rows if row.state in (TrialState.COMPLETE, TrialState.PRUNED))
        self.nodes = NodeGuards()
        self.slots = SlotBoard()
        self.pace = Pace()
        for row in rows:
            if row.state in (TrialState.COMPLETE, TrialState.PRUNED) and row.attempts and row.duration_s is not None:
                self.pace.finished(row.model, row.duration_s)
        self.dispatch = Dispatch(self.book, self.slots, self.models, self.nodes, self.pace)
        # Nodes that are there, with or without slots.
        self._present: set[str] = set()
        self._commands: list[Command] = []
        # Set while nothing may be given out before enough slots are up.
        self._gathering = options.expect_slots is not None
        self._gather_until: float | None = None
        self._paused = False
        # STOPPED or CANCELLED once that was asked for.
        self._ending: SweepState | None = None
        self._finished = False
        for number in sorted(self.book.unfinished):
            self._put_back(number, 0.0)

    # ----- nodes and slots -----

    def node_up(self, node: str, now: float) -> None:
        """The node is there, slots of it may follow."""
        self._present.add(node)
        self._see(now)

    def node_lost(self, node: str, now: float, reason: str = "") -> None:
        """The node is gone with every slot on it; one of the same name starts with a clean record."""
        self._present.discard(node)
        for slot in [slot for slot in self.slots if slot.node == node]:
            self.slot_down(slot.id, LossCause.NODE, now, reason or f"{node} was lost")
        self.nodes.forgive(node)
        self._keep_one_node()

    def slot_starting(self, slot_id: str, node: str, now: float) -> None:
        """A slot was started on the node and loads MAIN."""
        if self.slots.add(Slot(slot_id, node)):
            self._present.add(node)
        self._see(now)

    def slot_up(self, slot_id: str, node: str, now: float) -> None:
        """The slot has loaded MAIN and takes trials."""
        self.slot_starting(slot_id, node, now)
        slot = self.slots.get(slot_id)
        if slot is not None and slot.phase is SlotPhase.STARTING:
            slot.phase = SlotPhase.UP
            slot.moved_at = now
            self.nodes.set_up(slot.node)
            self.dispatch.all_hungry()
            self._see(now)

    def setup_failed(self, slot_id: str, failure: Failure, now: float) -> None:
        """MAIN could not be set up in this slot: that is its node's fault, no trial's."""
        slot = self.slots.remove(slot_id)
        if slot is None:
            return
        self._drop(slot, LossCause.ENDED, failure.summary, now)
        self._blame_setup(slot.node, failure)

    def slot_down(self, slot_id: str, cause: LossCause, now: float, reason: str = "") -> None:
        """The slot is gone, and nothing it held runs any more."""
        slot = self.slots.remove(slot_id)
        if slot is not None:
            reason = reason or f"its process on {slot.node} ended ({cause})"
            self._drop(slot, cause, reason, now)
            if slot.phase is SlotPhase.STARTING and cause in (LossCause.CRASH, LossCause.OOM):
                failure = self.nodes.died_in_setup(slot.node, reason)
                if failure is not None:
                    self._blame_setup(slot.node, failure)

    def round_trip(self, slot_id: str, seconds: float) -> None:
        """The slot measured its round trip to the engine."""
        slot = self.slots.get(slot_id)
        if slot is not None:
            slot.round_trip_s = seconds

    # ----- what slots report -----

    def started(self, slot_id: str, ticket: int, now: float) -> None:
        """The slot began the trial."""
        slot, held = self._find(slot_id, ticket)
        if slot is None or held is None or held.started_at is not None:
            return
        held.started_at = slot.moved_at = now
        held.revoking_since = None
        self.book.start(held.number, slot.node, now)
        self.dispatch.hungry(slot)

    def finished(self, slot_id: str, ticket: int, outcome: Outcome, now: float) -> None:
        """The trial ended in the slot: COMPLETE, PRUNED or FAILED."""
        slot, held = self._find(slot_id, ticket)
        if slot is None or held is None:
            return
        if held.started_at is None:
            self.book.start(held.number, slot.node, outcome.started_at or now)
        slot.moved_at = now
        self._conclude(slot, held, outcome, now)
        self.dispatch.hungry(slot)

    def revoked(self, slot_id: str, tickets: Iterable[int], now: float) -> None:
        """The slot gave back trials that it had not started."""
        for ticket in tickets:
            slot, held = self._find(slot_id, ticket)
            if slot is None or held is None or held.started_at is not None:
                continue
            del slot.held[ticket]
            self._give_back(held, now)

    # ----- what people ask -----

    def pause(self, now: float) -> None:
        """Give out nothing more; what runs goes on."""
        self._paused = True
        for slot in self.slots:
            self._take_back(slot, slot.unstarted, now)

    def resume(self, now: float) -> None:
        """Go on after `pause`, and give held models another chance."""
        self._paused = False
        self.models.release()
        self.dispatch.all_hungry()

    def stop(self, now: float) -> None:
        """End the sweep when what runs has ended; what waits is CANCELLED."""
        if self._ending is not None:
            return
        self._ending = SweepState.STOPPED
        for number in list(self.dispatch):
            self.book.cancel(number, now)
        self.dispatch.clear()
        for slot in self.slots:
            self._take_back(slot, slot.unstarted, now)

    def cancel(self, now: float) -> None:
        """End the sweep now, whatever runs."""
        if self._ending is SweepState.CANCELLED:
            return
        self._ending = SweepState.CANCELLED
        self.dispatch.clear()
        for slot in self.slots:
            if slot.held:
                slot.held.clear()
                self._kill(slot, "the sweep was cancelled", None)
        for number in sorted(self.book.unfinished):
            if number in self.book.unfinished and not self.book.is_follower(number):
                self.book.cancel(number, now)

    def retry(self, states: Iterable[TrialState], now: float) -> int:
        """Run the trials in these final states again; how many that are."""
        if self._ending is not None:
            return 0
        numbers = self.book.retry(states)
        for number in numbers:
            self._put_back(number, now)
        self.models.release()
        self.dispatch.all_hungry()
        return len(numbers)

    def add(self, rows: Iterable[TrialRow], now: float) -> None:
        """The sweep was extended: take in the rows that are new, as the store has them."""
        for number in self.book.add(rows):
            self._put_back(number, now)
        self.dispatch.all_hungry()

    # ----- the driver -----

    def committed(self, write_id: int, now: float) -> None:
        """Everything up to this write is in the store."""
        self.book.commit(write_id)

    def tick(self, now: float) -> None:
        """Time passed: end trials that run too long, and the wait for slots."""
        self._see(now)
        for slot in self.slots.up:
            deadline = self._timeout_of(slot)
            if deadline is not None and now >= deadline:
                self._time_out(slot, now)

    def next_deadline(self) -> float | None:
        """When `tick` has something to do next; None when nothing waits for time."""
        deadlines = [self._timeout_of(slot) for slot in self.slots.up]
        if self._gathering:
            deadlines.append(self._gather_until)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def commands(self, now: float) -> list[Command]:
        """What the driver must do now, in order; each command is handed out once."""
        if not self._finished:
            if not self._paused and self._ending is None and not self._gathering:
                self._commands += self.dispatch.feed(now)
                self._commands += self.dispatch.rob(now)
            write = self.book.take_write()
            if write is not None:
                self._commands.append(write)
            self._finish_if_done()
        commands, self._commands = self._commands, []
        return commands

    # ----- what is shown -----

    @property
    def is_paused(self) -> bool:
        """Whether `pause` holds."""
        return self._paused

    def eta_s(self, now: float) -> float | None:
        """Seconds until the sweep is done, as far as measured."""
        return outlook.eta_s(self.dispatch, self.slots, self.models, self.pace, now)

    def running_on(self) -> dict[str, TrialRow]:
        """The trial that started last on each node where one runs."""
        return outlook.running_on(self.slots, self.book.rows)

    # ----- what becomes of a trial -----

    def _drop(self, slot: Slot, cause: LossCause, reason: str, now: float) -> None:
        """Settle what a slot that is gone held."""
        started = [held for held in slot.held.values() if held.started_at is not None]
        unstarted = slot.unstarted
        if not started and unstarted and cause in (LossCause.CRASH, LossCause.OOM):
            # What kills its process at once leaves no report: the first in line is charged. From then on nothing is
            # queued behind it, so a trial that merely ran before the culprit is charged in error once at most.
            suspect = unstarted.pop(0)
            self.book.start(suspect.number, slot.node, now)
            started.append(suspect)
        for held in unstarted:
            self._give_back(held, now)
        for held in started:
            if cause is LossCause.OOM:
                self._conclude(slot, held, _killed(ErrorKind.OOM, "OutOfMemory", reason, now), now)
                continue
            self.models.came_back(held.model, held.number)
            self.book.lose(held.number, reason, now)
            if held.number in self.book.unfinished:
                self._put_back(held.number, now)
        self.dispatch.all_hungry()

    def _conclude(self, slot: Slot, held: Held, outcome: Outcome, now: float) -> None:
        """The trial has its final state; judge its model and its node by it."""
        del slot.held[held.ticket]
        self.book.finish(held.number, slot.node, outcome, now)
        duration_s = self.book.rows[held.number].duration_s
        failed = outcome.state is TrialState.FAILED
        if duration_s is not None and not failed:
            self.pace.finished(held.model, duration_s)
        if failed or not self.models.is_proven(held.model):
            self.dispatch.all_hungry()
        self.models.came_back(held.model, held.number)
        self.models.ended(held.model, slot.node, outcome)
        others = {other.node for other in self.slots.up if other.node != slot.node}
        sentence = self.nodes.ended(held.model, slot.node, failed, others)
        if sentence is not None:
            self._commands.append(Bench(slot.node, sentence, setup=False))
        for other in self.slots if failed else ():
            gone = other.node in self.nodes.benched
            unwanted = [each for each in other.unstarted if gone or each.model in self.models.held]
            self._take_back(other, unwanted, now)

    def _blame_setup(self, node: str, failure: Failure) -> None:
        if node not in self.nodes.setup_failed:
            self.nodes.setup_failed[node] = failure
            self._commands.append(Bench(node, f"MAIN's setup failed on {node}: {failure.summary}", setup=True))
            self._keep_one_node()

    def _keep_one_node(self) -> None:
        """When no other node is left, one that failed trials is better than none."""
        if self._present <= self.nodes.benched.keys() | self.nodes.setup_failed.keys():
            self.nodes.forgive()
            self.dispatch.all_hungry()

    def _give_back(self, held: Held, now: float) -> None:
        """A slot no longer has the trial and never started it."""
        self.models.came_back(held.model, held.number)
        self._put_back(held.number, now)
        self.dispatch.all_hungry()

    def _put_back(self, number: int, now: float) -> None:
        """The trial waits again, or is cancelled when the sweep is ending."""
        if self.book.is_follower(number):
            return
        if self._ending is not None:
            self.book.cancel(number, now)
        else:
            self.dispatch.add(number)

    def _take_back(self, slot: Slot, wanted: Iterable[Held], now: float) -> None:
        self._commands += self.dispatch.take_back(slot, wanted, now)

    def _kill(self, slot: Slot, reason: str, number: int | None) -> None:
        slot.phase = SlotPhase.DYING
        self._commands.append(Kill(slot.id, reason, number))

    # ----- time -----

    def _see(self, now: float) -> None:
        """End the wait for slots when enough are up or it has lasted long enough."""
        if not self._gathering:
            return
        if self._gather_until is None:
            self._gather_until = now + self.options.expect_within_s
        if len(self.slots.up) >= (self.options.expect_slots or 0) or now >= self._gather_until:
            self._gathering = False
            self.dispatch.all_hungry()

    def _timeout_of(self, slot: Slot) -> float | None:
        running = slot.running
        if running is None or running.started_at is None or self.options.timeout_s is None:
            return None
        return running.started_at + self.options.timeout_s

    def _time_out(self, slot: Slot, now: float) -> None:
        """The trial ran too long: it is FAILED, its slot is killed; the rest waits until the slot is gone."""
        running = slot.running
        if running is None:
            return
        sentence = f"the trial ran longer than timeout_s = {self.options.timeout_s:g} s and was killed"
        self._conclude(slot, running, _killed(ErrorKind.TIMEOUT, "TimeoutError", sentence, now), now)
        self._kill(slot, sentence, running.number)

    # ----- the end -----

    def _finish_if_done(self) -> None:
        if not self.book.all_committed:
            return
        if not self.book.unfinished:
            self._finish(self._ending or SweepState.COMPLETE)
        elif self.slots.holds_any or self._paused or self._ending is not None:
            return
        elif bool(self._present) and self._present <= self.nodes.setup_failed.keys() and not self.slots:
            node, failure = next(iter(self.nodes.setup_failed.items()))
            self._finish(SweepState.HELD, outlook.nowhere(self.options.name, node, failure), failure)
        elif (waiting := self.dispatch.waiting()) and waiting.keys() <= self.models.held.keys():
            self._finish(SweepState.HELD, outlook.all_held(self.options.name, waiting, self.models.held))

    def _finish(self, state: SweepState, sentence: str | None = None, failure: Failure | None = None) -> None:
        self._finished = True
        self._commands.append(Finished(state, sentence, failure))

    # ----- small questions -----

    def _find(self, slot_id: str, ticket: int) -> tuple[Slot | None, Held | None]:
        return self.slots.get(slot_id), self.slots.held(slot_id, ticket)


def _killed(kind: ErrorKind, ename: str, sentence: str, now: float) -> Outcome:
    return Outcome(TrialState.FAILED, failure=Failure(kind, ename, sentence), ended_at=now)
