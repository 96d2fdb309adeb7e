"""The scheduler of one sweep: events with `now` in, commands out.

How a trial goes
1. It waits (`Dispatch`). A slot that is up and has room is *assigned* it
   under a new ticket; nothing is written, nothing charged.
2. The slot says `started`: the row is RUNNING, an attempt is open. It says `finished`: the row is final. Its slot
   or node is lost: what had started is charged an attempt and goes first among those that wait, the rest goes back
   uncharged. What runs out of memory is tried once more where there is most of it.
3. It counts when the row is committed, and the sweep is finished when all rows are.
A trial is in one slot's hands at most: it is assigned elsewhere only after its slot gave it back or is gone.
Reports whose ticket is not held by that slot are stale and change nothing.

Events are the public methods that take `now`; `commands` hands out what they led to. Methods are O(slots) at most.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from raycolab.engine import eta
from raycolab.engine.book import TrialBook
from raycolab.engine.dispatch import Dispatch, NodeMemory
from raycolab.engine.guards import Budget, ModelGuards, NodeGuards
from raycolab.engine.messages import (
    Bench,
    Command,
    Finished,
    Kill,
    LossCause,
    Prune,
    Retire,
    ScheduleOptions,
    StudiesLike,
)
from raycolab.engine.pace import Pace
from raycolab.engine.slots import Held, Slot, SlotBoard, SlotPhase
from raycolab.trials import AttemptRow, ErrorKind, Failure, Outcome, SweepState, TrialRow, TrialState

__all__ = ["Aftermath", "Muster", "Scheduler", "deadline_of", "first_deadline", "setup_failure", "trial_failure"]


class Scheduler:
    """One sweep on changing slots; see the module's text."""

    def __init__(
        self,
        rows: Sequence[TrialRow],
        attempts: Sequence[AttemptRow],
        options: ScheduleOptions,
        studies: StudiesLike | None = None,
    ) -> None:
        """Take up the sweep where the store has it; `studies` where configurations are proposed or trials pruned."""
        self.book = TrialBook(rows, attempts, options.metric, studies)
        self.options = options
        self.models = ModelGuards(row.model for row in rows if row.state in (TrialState.COMPLETE, TrialState.PRUNED))
        self.nodes = NodeGuards()
        self.budget = Budget(options, rows, attempts)
        self.slots = SlotBoard()
        self.pace = Pace()
        for row in rows:
            if row.state in (TrialState.COMPLETE, TrialState.PRUNED) and row.attempts and row.duration_s is not None:
                self.pace.finished(row.model, row.duration_s)
        self._memory = NodeMemory()
        self.dispatch = Dispatch(self.book, self.slots, self.models, self.nodes, self.pace, self._memory, studies)
        self.dispatch.max_concurrent = options.max_concurrent
        self._studies = studies
        self._commands: list[Command] = []
        self._aftermath = Aftermath(
            self.book, self.slots, self.models, self.nodes, self.budget, self.pace, self.dispatch, self._commands
        )
        self._muster = Muster(options.expect_slots, options.expect_within_s)
        self._paused = False
        self._finished = False
        for number in sorted(self.book.unfinished):
            self._aftermath.put_back(number, 0.0)

    # ----- nodes and slots -----

    def node_up(self, node: str, now: float, memory_bytes: int | None = None) -> None:
        """The node is there with so much memory for its trials, slots of it may follow."""
        self.nodes.present.add(node)
        self._memory.node_up(node, memory_bytes)
        self._see(now)

    def node_lost(self, node: str, now: float, reason: str = "") -> None:
        """The node is gone with every slot on it; one of the same name starts with a clean record."""
        self.nodes.present.discard(node)
        for slot in [slot for slot in self.slots if slot.node == node]:
            self.slot_down(slot.id, LossCause.NODE, now, reason or f"{node} was lost")
        self.nodes.forgive(node)
        self._memory.node_lost(node)
        self._aftermath.keep_one_node()

    def slot_starting(
        self,
        slot_id: str,
        node: str,
        now: float,
        *,
        models: frozenset[str] | None = None,
        one_at_a_time: bool = False,
        for_one: bool = False,
    ) -> None:
        """A slot was started on the node, for trials of these models, and loads MAIN.

        One that pulls by hand gets one trial at a time; one that is `for_one` runs one trial and leaves.
        """
        if self.slots.add(
            Slot(slot_id, node, moved_at=now, models=models, one_at_a_time=one_at_a_time, for_one=for_one)
        ):
            self.nodes.present.add(node)
            self._memory.slots_on(node, sum(slot.node == node for slot in self.slots))
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

    def slot_serves(self, slot_id: str, models: frozenset[str] | None, now: float) -> None:
        """The slot is for trials of these models from now on; for none: it runs what it has begun, and leaves."""
        slot = self.slots.get(slot_id)
        if slot is not None:
            slot.models = models
            unwanted = [held for held in slot.unstarted if not slot.takes(held.model)]
            self._aftermath.take_back(slot, unwanted, now)
            if models is not None and not models:
                self._commands += self.dispatch.retire(slot, now)
            self.dispatch.all_hungry()

    def setup_failed(self, slot_id: str, failure: Failure, now: float) -> None:
        """MAIN could not be set up in this slot: that is its node's fault, no trial's."""
        slot = self.slots.remove(slot_id)
        if slot is None:
            return
        self._aftermath.drop(slot, LossCause.ENDED, failure.summary, now)
        self._aftermath.blame_setup(slot.node, failure)

    def slot_down(self, slot_id: str, cause: LossCause, now: float, reason: str = "") -> None:
        """The slot is gone, and nothing it held runs any more."""
        slot = self.slots.remove(slot_id)
        if slot is not None:
            reason = reason or f"its process on {slot.node} ended ({cause})"
            self._aftermath.drop(slot, cause, reason, now)
            if slot.phase is SlotPhase.STARTING and cause in (LossCause.CRASH, LossCause.OOM):
                failure = self.nodes.died_in_setup(slot.node, reason)
                if failure is not None:
                    self._aftermath.blame_setup(slot.node, failure)

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

    def reported(self, slot_id: str, ticket: int, step: int, value: float, now: float) -> None:
        """The trial in the slot has this value at this step."""
        self.started(slot_id, ticket, now)  # a report says so, should it come first
        slot, held = self._find(slot_id, ticket)
        if slot is None or held is None:
            return
        self.book.report(held.number, step, value)
        is_poor = self._studies is not None and self._studies.reported(held.number, step, value)
        if is_poor and not held.pruned:
            held.pruned = True
            self._commands.append(Prune(slot_id, ticket))

    def finished(self, slot_id: str, ticket: int, outcome: Outcome, now: float) -> None:
        """The trial ended in the slot: COMPLETE, PRUNED or FAILED."""
        slot, held = self._find(slot_id, ticket)
        if slot is None or held is None:
            return
        if held.started_at is None:
            self.book.start(held.number, slot.node, outcome.started_at or now)
        slot.moved_at = now
        self._aftermath.settle(slot, held, outcome, now)
        self.dispatch.hungry(slot)

    def revoked(self, slot_id: str, tickets: Iterable[int], now: float) -> None:
        """The slot gave back trials that it had not started."""
        for ticket in tickets:
            slot, held = self._find(slot_id, ticket)
            if slot is None or held is None or held.started_at is not None:
                continue
            del slot.held[ticket]
            self._aftermath.give_back(held, now)

    # ----- what people ask -----

    def pause(self, now: float) -> None:
        """Give out nothing more; what runs goes on."""
        self._paused = True
        for slot in self.slots:
            self._aftermath.take_back(slot, slot.unstarted, now)

    def resume(self, now: float) -> None:
        """Go on after `pause`; held models get another chance, and its budgets count anew."""
        self._paused = False
        self.models.release()
        self.budget.renew()
        self.dispatch.all_hungry()

    def stop(self, now: float) -> None:
        """End the sweep when what runs has ended; what waits is CANCELLED."""
        if self._aftermath.ending is not None:
            return
        self._aftermath.ending = SweepState.STOPPED
        for number in list(self.dispatch):
            self.book.cancel(number, now)
        self.dispatch.clear()
        for slot in self.slots:
            self._aftermath.take_back(slot, slot.unstarted, now)

    def cancel(self, now: float) -> None:
        """End the sweep now, whatever runs."""
        if self._aftermath.ending is SweepState.CANCELLED:
            return
        self._aftermath.ending = SweepState.CANCELLED
        self.dispatch.clear()
        for slot in self.slots:
            if slot.held:
                slot.held.clear()
                self._aftermath.kill(slot, "the sweep was cancelled", None)
        for number in sorted(self.book.unfinished):
            if number in self.book.unfinished and not self.book.is_follower(number):
                self.book.cancel(number, now)

    def retry(self, states: Iterable[TrialState], now: float) -> int:
        """Run the trials in these final states again; how many that are."""
        if self._aftermath.ending is not None:
            return 0
        numbers = self.book.retry(states)
        for number in numbers:
            self._aftermath.put_back(number, now)
        self.models.release()
        self.budget.renew()
        self.dispatch.all_hungry()
        return len(numbers)

    def change(self, options: ScheduleOptions) -> None:
        """These hold from now on."""
        self.options = options
        self.budget.change(options)
        self.dispatch.max_concurrent = options.max_concurrent
        self.dispatch.all_hungry()

    def add(self, rows: Iterable[TrialRow], now: float) -> None:
        """The sweep was extended: take in the rows that are new, as the store has them."""
        for number in self.book.add(rows):
            self._aftermath.put_back(number, now)
        self.dispatch.all_hungry()

    # ----- the driver -----

    def committed(self, write_id: int, now: float) -> None:
        """Everything up to this write is in the store."""
        self.book.commit(write_id)

    def tick(self, now: float) -> None:
        """Time passed: end trials and setups that take too long, and the wait for slots and smoke trials."""
        self._see(now)
        if self.models.trust(now):
            self.dispatch.all_hungry()
        if self.budget.is_spent(now):
            for slot in self.slots:
                self._aftermath.take_back(slot, slot.unstarted, now)
        for slot in list(self.slots):
            deadline = deadline_of(slot, self.options)
            if deadline is not None and now >= deadline:
                self._end_overdue(slot, now)

    def next_deadline(self) -> float | None:
        """When `tick` has something to do next; None when nothing waits for time."""
        deadlines = (
            first_deadline(self.slots, self.options),
            self._muster.until,
            self.budget.until,
            self.models.next_trust(),
        )
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def commands(self, now: float) -> list[Command]:
        """What the driver must do now, in order; each command is handed out once, and none after Finished."""
        if self._finished:
            return []
        if not (self._paused or self._aftermath.ending or self._muster.lasts or self.budget.is_spent(now)):
            assigned = self.dispatch.feed(now)
            if assigned:
                self.budget.begun(now)
            self._commands += [*assigned, *self.dispatch.rob(now)]
        self._let_go(now)
        write = self.book.take_write()
        if write is not None:
            self._commands.append(write)
        self._finish_if_done(now)
        commands = list(self._commands)
        self._commands.clear()
        return commands

    # ----- what is shown -----

    @property
    def is_paused(self) -> bool:
        """Whether `pause` holds."""
        return self._paused

    def eta_s(self, now: float) -> float | None:
        """Seconds until the sweep is done, as far as measured."""
        return eta.eta_s(self.dispatch, self.slots, self.models, self.pace, now)

    def running_on(self) -> dict[str, TrialRow]:
        """The trial that started last on each node where one runs."""
        return eta.running_on(self.slots, self.book.rows)

    # ----- time -----

    def _see(self, now: float) -> None:
        """Note the time, and how many slots are up, while that decides when to begin."""
        if self._muster.lasts and self._muster.see(len(self.slots.up), now):
            self.dispatch.all_hungry()

    def _let_go(self, now: float) -> None:
        """Slots that are to leave and have nothing left may end."""
        for slot in self.dispatch.surplus():
            self.dispatch.retire(slot, now)
        for slot in self.slots:
            if slot.phase is SlotPhase.LEAVING and not slot.held:
                slot.phase = SlotPhase.DYING
                self._commands.append(Retire(slot.id))

    def _end_overdue(self, slot: Slot, now: float) -> None:
        """A setup or a trial took too long: its node is blamed or it is FAILED, and the slot is killed."""
        running = slot.running
        if running is None:
            failure = setup_failure(self.options)
            self._aftermath.blame_setup(slot.node, failure)
        else:
            failure = trial_failure(self.options)
            self._aftermath.fail(slot, running, failure, now)
        self._aftermath.kill(slot, failure.evalue, None if running is None else running.number)

    # ----- the end -----

    def _finish_if_done(self, now: float) -> None:
        if not self.book.all_committed:
            return
        if not self.book.unfinished:
            self._finish(self._aftermath.ending or SweepState.COMPLETE)
        elif self.slots.holds_any or self._paused or self._aftermath.ending is not None:
            return
        elif self.budget.is_spent(now):
            left = sum(not self.book.is_follower(number) for number in self.book.unfinished)
            self._finish(SweepState.HELD, self.budget.sentence(left))
        elif bool(self.nodes.present) and self.nodes.present <= self.nodes.setup_failed.keys() and not self.slots:
            node, failure = next(iter(self.nodes.setup_failed.items()))
            self._finish(SweepState.HELD, eta.nowhere(self.options.name, node, failure), failure)
        elif (waiting := self.dispatch.waiting()) and waiting.keys() <= self.models.held.keys():
            self._finish(SweepState.HELD, eta.all_held(self.options.name, waiting, self.models.held))

    def _finish(self, state: SweepState, sentence: str | None = None, failure: Failure | None = None) -> None:
        self._finished = True
        self._commands.append(Finished(state, sentence, failure))

    # ----- small questions -----

    def _find(self, slot_id: str, ticket: int) -> tuple[Slot | None, Held | None]:
        return self.slots.get(slot_id), self.slots.held(slot_id, ticket)


class Aftermath:
    """Losses, ends and their consequences; see the module's text."""

    def __init__(
        self,
        book: TrialBook,
        slots: SlotBoard,
        models: ModelGuards,
        nodes: NodeGuards,
        budget: Budget,
        pace: Pace,
        dispatch: Dispatch,
        commands: list[Command],
    ) -> None:
        """`commands` takes what the driver must do, in order."""
        # STOPPED or CANCELLED once that was asked for: nothing waits any more.
        self.ending: SweepState | None = None
        self._book = book
        self._slots = slots
        self._models = models
        self._nodes = nodes
        self._budget = budget
        self._pace = pace
        self._dispatch = dispatch
        self._commands = commands

    def drop(self, slot: Slot, cause: LossCause, reason: str, now: float) -> None:
        """Settle what a slot that is gone held."""
        started = [held for held in slot.held.values() if held.started_at is not None]
        unstarted = slot.unstarted
        if not started and unstarted and cause in (LossCause.CRASH, LossCause.OOM):
            # What kills its process at once leaves no report: the first in line is charged. From then on nothing is
            # queued behind it, so a trial that merely ran before the culprit is charged in error once at most.
            suspect = unstarted.pop(0)
            self._book.start(suspect.number, slot.node, now)
            started.append(suspect)
        for held in unstarted:
            self.give_back(held, now)
        for held in started:
            if cause is LossCause.OOM:
                self.settle(slot, held, _failed(Failure(ErrorKind.OOM, "OutOfMemory", reason), now), now)
                continue
            self._models.came_back(held.model, held.number)
            self._book.lose(held.number, reason, now)
            if held.number in self._book.unfinished:
                self.put_back(held.number, now)
        self._dispatch.all_hungry()

    def settle(self, slot: Slot, held: Held, outcome: Outcome, now: float) -> None:
        """The trial ended; the first time that it ran out of memory it is tried once more."""
        failure = outcome.failure
        is_last = self.ending is not None or self._book.ran_out_of_memory(held.number)
        if is_last or failure is None or failure.kind is not ErrorKind.OOM:
            self._conclude(slot, held, outcome, now)
            return
        del slot.held[held.ticket]
        self._book.lose_for_memory(held.number, failure.summary, now)
        self.give_back(held, now)

    def fail(self, slot: Slot, held: Held, failure: Failure, now: float) -> None:
        """The trial is FAILED for good, whatever its slot still does with it."""
        self._conclude(slot, held, _failed(failure, now), now)

    def _conclude(self, slot: Slot, held: Held, outcome: Outcome, now: float) -> None:
        """The trial has its final state; judge its model and its node by it."""
        del slot.held[held.ticket]
        self._book.finish(held.number, slot.node, outcome, now)
        duration_s = self._book.rows[held.number].duration_s
        failed = outcome.state is TrialState.FAILED
        if duration_s is not None and not failed:
            self._pace.finished(held.model, duration_s)
        if failed or not self._models.is_proven(held.model):
            self._dispatch.all_hungry()
        self._models.came_back(held.model, held.number)
        self._models.ended(held.model, slot.node, outcome)
        if failed:
            self._judge_failure(held.model, slot.node, now)
        else:
            self._nodes.succeeded(held.model, slot.node)

    def _judge_failure(self, model: str, node: str, now: float) -> None:
        """A trial failed on the node: bench the node if it looks like its fault, take back what is not wanted now."""
        self._budget.failed()
        others = {other.node for other in self._slots.at_work if other.node != node}
        sentence = self._nodes.failed(model, node, others)
        if sentence is not None:
            self._commands.append(Bench(node, sentence, setup=False))
        for slot in self._slots:
            all_of_it = self._budget.is_spent(now) or slot.node in self._nodes.benched
            unwanted = [each for each in slot.unstarted if all_of_it or each.model in self._models.held]
            self.take_back(slot, unwanted, now)

    def blame_setup(self, node: str, failure: Failure) -> None:
        """MAIN cannot be set up on the node: no more slots there."""
        if node not in self._nodes.setup_failed:
            self._nodes.setup_failed[node] = failure
            self._commands.append(Bench(node, f"MAIN's setup failed on {node}: {failure.summary}", setup=True))
            self.keep_one_node()

    def keep_one_node(self) -> None:
        """When no other node is left, one that failed trials is better than none."""
        if self._nodes.present <= self._nodes.benched.keys() | self._nodes.setup_failed.keys():
            self._nodes.forgive()
            self._dispatch.all_hungry()

    def give_back(self, held: Held, now: float) -> None:
        """A slot no longer has the trial, which did not end."""
        self._models.came_back(held.model, held.number)
        self.put_back(held.number, now)
        self._dispatch.all_hungry()

    def put_back(self, number: int, now: float) -> None:
        """The trial waits again, or is cancelled when the sweep is ending."""
        if self._book.is_follower(number):
            return
        if self.ending is not None:
            self._book.cancel(number, now)
        else:
            self._dispatch.add(number)

    def take_back(self, slot: Slot, wanted: Iterable[Held], now: float) -> None:
        """Ask the slot for what it has not started."""
        self._commands += self._dispatch.take_back(slot, wanted, now)

    def kill(self, slot: Slot, reason: str, number: int | None) -> None:
        """End the slot's process; what it holds stays with it until it is gone."""
        slot.phase = SlotPhase.DYING
        self._commands.append(Kill(slot.id, reason, number))


def _failed(failure: Failure, now: float) -> Outcome:
    return Outcome(TrialState.FAILED, failure=failure, ended_at=now)


class Muster:
    """Nothing is given out while it lasts."""

    def __init__(self, expect_slots: int | None, within_s: float) -> None:
        """None expects nothing: there is no wait."""
        self.lasts = expect_slots is not None
        # When it ends at the latest.
        self.until: float | None = None
        self._expect_slots = expect_slots or 0
        self._within_s = within_s

    def see(self, slots_up: int, now: float) -> bool:
        """So many slots are up now; whether that ended the wait."""
        if not self.lasts:
            return False
        if self.until is None:
            self.until = now + self._within_s
        if slots_up < self._expect_slots and now < self.until:
            return False
        self.lasts = False
        self.until = None
        return True


def deadline_of(slot: Slot, options: ScheduleOptions) -> float | None:
    """When the slot is to be killed, should it do then what it does now; None for never."""
    match slot.phase:
        case SlotPhase.STARTING:
            return None if options.setup_timeout_s is None else slot.moved_at + options.setup_timeout_s
        case SlotPhase.UP | SlotPhase.LEAVING if options.timeout_s is not None:
            running = slot.running
            return None if running is None or running.started_at is None else running.started_at + options.timeout_s
    return None


def first_deadline(slots: Iterable[Slot], options: ScheduleOptions) -> float | None:
    """The first of the slots' deadlines."""
    deadlines = [deadline_of(slot, options) for slot in slots]
    return min((deadline for deadline in deadlines if deadline is not None), default=None)


def trial_failure(options: ScheduleOptions) -> Failure:
    """What a trial that ran too long fails with."""
    sentence = f"the trial ran longer than timeout_s = {options.timeout_s:g} s and was killed"
    return Failure(ErrorKind.TIMEOUT, "TimeoutError", sentence)


def setup_failure(options: ScheduleOptions) -> Failure:
    """What a node is blamed with whose slot never came to the end of MAIN."""
    sentence = f"MAIN's cells had not come to their end after setup_timeout_s = {options.setup_timeout_s:g} s"
    return Failure(ErrorKind.SETUP, "TimeoutError", sentence)
