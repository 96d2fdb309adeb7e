"""The scheduler of one sweep: events with `now` in, plans for slots and commands for the driver out.

How a trial goes
1. It waits (`Dispatch`). A slot that is up and has room is *assigned* it under a new ticket; nothing is written,
   nothing charged.
2. The slot says that it runs: the row is RUNNING, an attempt is open. It says how it ended: the row is final. Its slot
   or node is lost: what had started is charged an attempt and goes first among those that wait, the rest goes back
   uncharged. What runs out of memory is tried once more where there is most of it.
3. It counts when the row is committed, and the sweep is finished when all rows are.
A trial is in one slot's hands at most: it is assigned elsewhere only after its slot gave it back or is gone.
Reports whose ticket is not held by that slot are stale and change nothing.

Events are the public methods that take `now`. `plan` says what a slot should do as things stand, `commands` hands out
what the driver must do. Methods are O(slots) at most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from raycolab.engine.book import TrialBook
from raycolab.engine.dispatch import Dispatch, Held, NodeMemory, Slot, SlotPhase
from raycolab.engine.guards import Budget, ModelGuards, NodeGuards, StartBarrier
from raycolab.engine.messages import (
    ENDING,
    Bench,
    Command,
    Finished,
    Kill,
    LossCause,
    Plan,
    ScheduleOptions,
    State,
    StudiesLike,
)
from raycolab.engine.pace import Pace
from raycolab.trials import AttemptRow, ErrorKind, Failure, Outcome, SweepState, TrialRow, TrialState

__all__ = ["Scheduler"]

_MAIN_CHANGED = "MAIN has changed"


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
        # The slots that are known and not gone.
        self.slots: dict[str, Slot] = {}
        self.pace = Pace()
        for row in rows:
            if row.state in (TrialState.COMPLETE, TrialState.PRUNED) and row.attempts and row.duration_s is not None:
                self.pace.finished(row.model, row.duration_s)
        self._memory = NodeMemory()
        self.dispatch = Dispatch(self.book, self.slots, self.models, self.nodes, self.pace, self._memory, studies)
        self.dispatch.max_concurrent, self.dispatch.seed = options.max_concurrent, options.seed
        self._studies = studies
        self._commands: list[Command] = []
        self._barrier = StartBarrier(options.wait_for_slots, options.wait_within_s)
        # STOPPED or CANCELLED once that was asked for: nothing waits any more.
        self._ending: SweepState | None = None
        self._paused = False
        self._finished = False
        for number in sorted(self.book.unfinished):
            self._put_back(number, 0.0)

    # ----- nodes and slots -----

    def node_up(self, node: str, now: float, memory_bytes: int | None = None) -> None:
        """The node is there with this much memory for its trials, slots of it may follow."""
        self.nodes.present.add(node)
        self._memory.node_up(node, memory_bytes)
        self._see(now)

    def node_lost(self, node: str, now: float, reason: str = "") -> None:
        """The node is gone with every slot on it; one of the same name starts with a clean record."""
        self.nodes.present.discard(node)
        for slot in [slot for slot in self.slots.values() if slot.node == node]:
            self.slot_down(slot.id, LossCause.NODE, now, reason or f"{node} was lost")
        self.nodes.forgive(node)
        self._memory.node_lost(node)
        self._keep_one_node()

    def slot_starting(self, slot: Slot, now: float) -> None:
        """A slot was started and loads MAIN."""
        self.slots[slot.id] = slot
        slot.moved_at = now
        self.nodes.present.add(slot.node)
        self._memory.slots_on(slot.node, sum(other.node == slot.node for other in self.slots.values()))
        self._see(now)

    def slot_up(self, slot_id: str, now: float) -> None:
        """The slot has loaded MAIN and takes trials."""
        slot = self.slots.get(slot_id)
        if slot is not None and slot.phase is SlotPhase.STARTING:
            slot.phase = SlotPhase.UP
            slot.moved_at = now
            self.nodes.set_up(slot.node)
            self.dispatch.all_need_work()
            self._see(now)

    def slot_serves(self, slot_id: str, models: frozenset[str] | None, now: float) -> None:
        """The slot is for trials of these models from now on; for none: it runs what it has begun, and leaves."""
        slot = self.slots.get(slot_id)
        if slot is not None:
            slot.models = models
            slot.revoke([held for held in slot.unstarted if not slot.takes(held.trial.model)], now)
            if models is not None and not models:
                self.dispatch.retire(slot, now)
            self.dispatch.all_need_work()

    def setup_failed(self, slot_id: str, failure: Failure, now: float) -> None:
        """MAIN could not be set up in this slot: that is its node's fault, no trial's."""
        slot = self.slots.pop(slot_id, None)
        if slot is not None:
            self._drop(slot, LossCause.ENDED, failure.summary, now)
            self._blame_setup(slot.node, failure)

    def slot_down(self, slot_id: str, cause: LossCause, now: float, reason: str = "", output: str = "") -> None:
        """The slot is gone, and nothing it held runs any more; `output` is what it printed last."""
        slot = self.slots.pop(slot_id, None)
        if slot is not None:
            reason = reason or f"its process on {slot.node} ended ({cause})"
            self._drop(slot, cause, reason, now, output)
            if slot.phase is SlotPhase.STARTING and cause in (LossCause.CRASH, LossCause.OOM):
                failure = self.nodes.died_in_setup(slot.node, reason)
                if failure is not None:
                    self._blame_setup(slot.node, failure)

    # ----- what slots say -----

    def hear(self, state: State, now: float) -> None:
        """Take in what a slot says of itself; a state older than one heard before changes nothing."""
        slot = self.slots.get(state.slot)
        if slot is None or state.number <= slot.heard:
            return
        slot.heard = state.number
        if state.round_trip_s is not None:
            slot.round_trip_s = state.round_trip_s
        self._note_setup(slot, state, now)
        if state.setup_failure is not None:
            self.setup_failed(slot.id, state.setup_failure, now)
            return
        if state.loaded is not None:
            self.slot_up(slot.id, now)
        reports = dict(state.reports)
        for ticket, outcome in state.finished:
            for step, value in reports.pop(ticket, ()):
                self.reported(slot.id, ticket, step, value, now)
            self.finished(slot.id, ticket, outcome, now)
        if state.running is not None:
            self.started(slot.id, state.running, now)
        for ticket, points in reports.items():
            for step, value in points:
                self.reported(slot.id, ticket, step, value, now)
        for held in slot.given_back(state):
            del slot.held[held.trial.ticket]
            self._give_back(held, now)

    def _note_setup(self, slot: Slot, state: State, now: float) -> None:
        """The slot is at this cell of MAIN, or waits for another slot of its node; its own time begins after that."""
        if state.setup != slot.setup:
            if slot.setup is None or slot.setup.cell is None:
                slot.moved_at = now
            slot.setup, slot.setup_since = state.setup, now

    def plan(self, state: State) -> Plan:
        """What the slot that says this should do."""
        slot = self.slots.get(state.slot)
        return ENDING if slot is None else slot.plan_after(state)

    def started(self, slot_id: str, ticket: int, now: float) -> None:
        """The slot began the trial."""
        slot, held = self._find(slot_id, ticket)
        if slot is None or held is None or held.started_at is not None:
            return
        held.started_at = slot.moved_at = now
        held.revoked_at = None
        self.book.start(held.trial, slot.node, now, slot.main_version)
        self.dispatch.needs_work(slot)

    def reported(self, slot_id: str, ticket: int, step: int, value: float, now: float) -> None:
        """The trial in the slot has this value at this step."""
        self.started(slot_id, ticket, now)  # a report says so, should it come first
        slot, held = self._find(slot_id, ticket)
        if slot is None or held is None:
            return
        self.book.report(held.trial.number, step, value)
        is_poor = self._studies is not None and self._studies.reported(held.trial.number, step, value)
        if is_poor and not held.pruned:
            held.pruned = True
            slot.plan += 1

    def finished(self, slot_id: str, ticket: int, outcome: Outcome, now: float) -> None:
        """The trial ended in the slot: COMPLETE, PRUNED or FAILED."""
        slot, held = self._find(slot_id, ticket)
        if slot is None or held is None:
            return
        if held.started_at is None:
            self.book.start(held.trial, slot.node, outcome.started_at or now, slot.main_version)
        slot.moved_at = now
        self._settle(slot, held, outcome, now)
        self.dispatch.needs_work(slot)

    # ----- what people ask -----

    def pause(self, now: float) -> None:
        """Give out nothing more; what runs goes on."""
        self._paused = True
        self._revoke_all(now)

    def resume(self, now: float) -> None:
        """Go on after `pause`; held models get another chance, and its budgets count anew."""
        self._paused = False
        self.models.release()
        self.budget.renew()
        self.dispatch.all_need_work()

    def stop(self, now: float) -> None:
        """End the sweep when what runs has ended; what waits is CANCELLED."""
        if self._ending is not None:
            return
        self._ending = SweepState.STOPPED
        for number in list(self.dispatch):
            self.book.cancel(number, now)
        self.dispatch.clear()
        self._revoke_all(now)

    def cancel(self, now: float) -> None:
        """End the sweep now, whatever runs."""
        if self._ending is SweepState.CANCELLED:
            return
        self._ending = SweepState.CANCELLED
        self.dispatch.clear()
        for slot in self.slots.values():
            if slot.held:
                slot.held.clear()
                self._kill(slot, "the sweep was cancelled", None)
        self.book.cancel_all(now)

    def suspend(self, now: float, reason: str) -> None:
        """The head ends in order: what runs waits again, and is not charged for it. Nothing is commanded after that."""
        self._finished = True
        for slot in self.slots.values():
            for held in slot.held.values():
                if held.started_at is not None:
                    self.book.put_down(held.trial.number, reason, now)

    def retry(self, states: Iterable[TrialState], now: float) -> int:
        """Run the trials in these final states again; how many that are."""
        if self._ending is not None:
            return 0
        numbers = self.book.retry(states)
        for number in numbers:
            self._put_back(number, now)
        self.models.release()
        self.budget.renew()
        self.dispatch.all_need_work()
        return len(numbers)

    def change_main(self, states: Iterable[TrialState], now: float) -> None:
        """MAIN has changed: trials in these final states run again; slots end what they run, for new ones to follow.

        Where COMPLETE is among the states, what runs is put back too.
        """
        states = frozenset(states)
        for slot in self.slots.values():
            running, loads = slot.running, slot.phase is SlotPhase.STARTING
            self.dispatch.retire(slot, now)
            if loads:
                self._kill(slot, _MAIN_CHANGED, None)
            elif running is not None and TrialState.COMPLETE in states:
                del slot.held[running.trial.ticket]
                self.book.put_down(running.trial.number, _MAIN_CHANGED, now)
                self._give_back(running, now)
                self._kill(slot, _MAIN_CHANGED, running.trial.number)
        self.nodes.forgive()
        self.nodes.setup_failed.clear()
        self.retry(states, now)

    def change(self, options: ScheduleOptions) -> None:
        """These hold from now on."""
        self.options = options
        self.budget.change(options)
        self.dispatch.max_concurrent = options.max_concurrent
        self.dispatch.all_need_work()

    def add(self, rows: Iterable[TrialRow], now: float) -> None:
        """The sweep was extended: take in the rows that are new, as the store has them."""
        for number in self.book.add(rows):
            self._put_back(number, now)
        self.dispatch.all_need_work()

    # ----- the driver -----

    def committed(self, write_id: int, now: float) -> None:
        """Everything up to this write is in the store."""
        self.book.commit(write_id)

    def tick(self, now: float) -> None:
        """Time passed: end trials and setups that take too long, and the wait for slots and smoke trials."""
        self._see(now)
        if self.models.trust(now):
            self.dispatch.all_need_work()
        if self.budget.is_spent(now):
            self._revoke_all(now)
        for slot in list(self.slots.values()):
            deadline = self._deadline_of(slot)
            if deadline is not None and now >= deadline:
                self._end_overdue(slot, now)

    def next_deadline(self) -> float | None:
        """When `tick` has something to do next; None when nothing waits for time."""
        deadlines = [
            self._barrier.until,
            self.budget.until,
            self.models.next_trust(),
            *map(self._deadline_of, self.slots.values()),
        ]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def commands(self, now: float) -> list[Command]:
        """What the driver must do now, in order; each command is handed out once, and none after Finished."""
        if self._finished:
            return []
        if not (self._paused or self._ending or self._barrier.lasts or self.budget.is_spent(now)):
            if self.dispatch.assign(now):
                self.budget.begun(now)
            self.dispatch.steal(now)
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

    def waiting(self) -> dict[str, int]:
        """How many trials of each model wait and are not held."""
        return {model: count for model, count in self.dispatch.waiting().items() if model not in self.models.held}

    def eta_s(self, now: float) -> float | None:
        """Seconds until the sweep is done, as far as measured; held models do not count."""
        waiting = self.waiting()
        running: list[tuple[str, float]] = []
        for slot in self.slots.values():
            for held in slot.held.values():
                model = held.trial.model
                if held.started_at is None:
                    waiting[model] = waiting.get(model, 0) + 1
                else:
                    running.append((model, now - held.started_at))
        needed = [self.pace.eta_s(waiting, running, len(self.dispatch.at_work))]
        for kind, its_slots in Counter(
            slot.models for slot in self.dispatch.at_work if slot.models is not None
        ).items():
            of_kind = {model: count for model, count in waiting.items() if model in kind}
            its_running = [(model, elapsed) for model, elapsed in running if model in kind]
            needed.append(self.pace.eta_s(of_kind, its_running, its_slots))
        return max((seconds for seconds in needed if seconds is not None), default=None)

    def running_on(self) -> dict[str, TrialRow]:
        """The trial that started last on each node where one runs."""
        latest: dict[str, tuple[float, int]] = {}
        for slot in self.slots.values():
            held = slot.running
            if held is not None and held.started_at is not None:
                latest[slot.node] = max(latest.get(slot.node, (0.0, -1)), (held.started_at, held.trial.number))
        return {node: self.book.rows[number] for node, (_, number) in latest.items()}

    # ----- time -----

    def _see(self, now: float) -> None:
        """Note the time, and how many slots are up, while that decides when to begin."""
        if self._barrier.lasts and self._barrier.see(len(self.dispatch.up), now):
            self.dispatch.all_need_work()

    def _deadline_of(self, slot: Slot) -> float | None:
        """When the slot is to be killed, should it do then what it does now; None for never."""
        match slot.phase:
            case SlotPhase.STARTING if self.options.setup_timeout_s is not None:
                return slot.moved_at + self.options.setup_timeout_s
            case SlotPhase.UP | SlotPhase.LEAVING if self.options.timeout_s is not None:
                held = slot.running
                return None if held is None or held.started_at is None else held.started_at + self.options.timeout_s
        return None

    def _end_overdue(self, slot: Slot, now: float) -> None:
        """A setup or a trial took too long: its node is blamed or it is FAILED, and the slot is killed."""
        running = slot.running
        if running is None:
            sentence = f"MAIN's cells had not finished after setup_timeout_s = {self.options.setup_timeout_s:g} s"
            self._blame_setup(slot.node, Failure(ErrorKind.SETUP, "TimeoutError", sentence))
        else:
            sentence = f"the trial ran longer than timeout_s = {self.options.timeout_s:g} s and was killed"
            failure = Failure(ErrorKind.TIMEOUT, "TimeoutError", sentence)
            self._conclude(slot, running, Outcome(TrialState.FAILED, failure=failure, ended_at=now), now)
        self._kill(slot, sentence, None if running is None else running.trial.number)

    # ----- ends, losses and what follows from them -----

    def _settle(self, slot: Slot, held: Held, outcome: Outcome, now: float) -> None:
        """The trial ended; the first time that it ran out of memory it is tried once more."""
        failure = outcome.failure
        is_last = self._ending is not None or self.book.ran_out_of_memory(held.trial.number)
        if is_last or failure is None or failure.kind is not ErrorKind.OOM:
            self._conclude(slot, held, outcome, now)
            return
        del slot.held[held.trial.ticket]
        self.book.lose_for_memory(held.trial.number, failure.summary, now)
        self._give_back(held, now)

    def _conclude(self, slot: Slot, held: Held, outcome: Outcome, now: float) -> None:
        """The trial has its final state, whatever its slot still does; judge its model and its node by it."""
        model, number = held.trial.model, held.trial.number
        del slot.held[held.trial.ticket]
        self.book.finish(number, slot.node, outcome, now)
        duration_s = self.book.rows[number].duration_s
        failed = outcome.state is TrialState.FAILED
        if duration_s is not None and not failed:
            self.pace.finished(model, duration_s)
        if failed or not self.models.is_proven(model):
            self.dispatch.all_need_work()
        self.models.came_back(model, number)
        self.models.ended(model, slot.node, outcome)
        if failed:
            self._judge_failure(model, slot.node, now)
        else:
            self.nodes.succeeded(model, slot.node)

    def _judge_failure(self, model: str, node: str, now: float) -> None:
        """A trial failed on the node: bench the node if it looks like its fault, take back what is not wanted now."""
        self.budget.failed()
        others = {other.node for other in self.dispatch.at_work if other.node != node}
        sentence = self.nodes.failed(model, node, others)
        if sentence is not None:
            self._commands.append(Bench(node, sentence, setup=False))
        for slot in self.slots.values():
            all_of_it = self.budget.is_spent(now) or slot.node in self.nodes.benched
            unwanted = [held for held in slot.unstarted if all_of_it or held.trial.model in self.models.held]
            slot.revoke(unwanted, now)

    def _drop(self, slot: Slot, cause: LossCause, reason: str, now: float, output: str = "") -> None:
        """Settle what a slot that is gone held."""
        started = [held for held in slot.held.values() if held.started_at is not None]
        unstarted = slot.unstarted
        if not started and unstarted and cause in (LossCause.CRASH, LossCause.OOM):
            # What kills its process at once leaves no report: the first in line is charged. From then on nothing is
            # queued behind it, so a trial that merely ran before the culprit is charged in error once at most.
            suspect = unstarted.pop(0)
            self.book.start(suspect.trial, slot.node, now, slot.main_version)
            started.append(suspect)
        for held in unstarted:
            self._give_back(held, now)
        for held in started:
            if cause is LossCause.OOM:
                failure = Failure(ErrorKind.OOM, "OutOfMemory", reason)
                self._settle(slot, held, Outcome(TrialState.FAILED, failure=failure, ended_at=now, output=output), now)
                continue
            self.models.came_back(held.trial.model, held.trial.number)
            self.book.lose(held.trial.number, reason, now, output)
            if held.trial.number in self.book.unfinished:
                self._put_back(held.trial.number, now)
        self.dispatch.all_need_work()

    def _blame_setup(self, node: str, failure: Failure) -> None:
        """MAIN cannot be set up on the node: no more slots there."""
        if node not in self.nodes.setup_failed:
            self.nodes.setup_failed[node] = failure
            self._commands.append(Bench(node, f"MAIN's setup failed on {node}: {failure.summary}", setup=True))
            self._keep_one_node()

    def _keep_one_node(self) -> None:
        """When no other node is left, one that failed trials is better than none."""
        if self.nodes.present <= self.nodes.benched.keys() | self.nodes.setup_failed.keys():
            self.nodes.forgive()
            self.dispatch.all_need_work()

    def _give_back(self, held: Held, now: float) -> None:
        """A slot no longer has the trial, which did not end."""
        self.models.came_back(held.trial.model, held.trial.number)
        self._put_back(held.trial.number, now)
        self.dispatch.all_need_work()

    def _put_back(self, number: int, now: float) -> None:
        """The trial waits again, or is cancelled when the sweep is ending."""
        if self.book.is_follower(number):
            return
        if self._ending is not None:
            self.book.cancel(number, now)
        else:
            self.dispatch.add(number)

    def _revoke_all(self, now: float) -> None:
        """Take back whatever was not started."""
        for slot in self.slots.values():
            slot.revoke(slot.unstarted, now)

    def _kill(self, slot: Slot, reason: str, number: int | None) -> None:
        """End the slot's process; what it holds stays with it until it is gone."""
        slot.phase = SlotPhase.DYING
        self._commands.append(Kill(slot.id, reason, number))

    def _let_go(self, now: float) -> None:
        """Slots that are to leave and have nothing left may end."""
        for slot in self.dispatch.surplus():
            self.dispatch.retire(slot, now)
        for slot in self.slots.values():
            if slot.phase is SlotPhase.LEAVING and not slot.held:
                slot.phase = SlotPhase.DYING
                slot.plan += 1

    # ----- the end -----

    def _finish_if_done(self, now: float) -> None:
        if not self.book.all_committed:
            return
        if not self.book.unfinished:
            self._finish(self._ending or SweepState.COMPLETE)
        elif any(slot.held for slot in self.slots.values()) or self._paused or self._ending is not None:
            return
        elif self.budget.is_spent(now):
            left = sum(not self.book.is_follower(number) for number in self.book.unfinished)
            self._finish(SweepState.HELD, self.budget.sentence(left))
        elif bool(self.nodes.present) and self.nodes.present <= self.nodes.setup_failed.keys() and not self.slots:
            failure = next(iter(self.nodes.setup_failed.values()))
            self._finish(SweepState.HELD, self.nodes.sentence(self.options.name), failure.traceback or None)
        elif (waiting := self.dispatch.waiting()) and waiting.keys() <= self.models.held.keys():
            self._finish(SweepState.HELD, self.models.sentence(self.options.name, waiting))

    def _finish(self, state: SweepState, sentence: str | None = None, traceback: str | None = None) -> None:
        self._finished = True
        self._commands.append(Finished(state, sentence, traceback))

    def _find(self, slot_id: str, ticket: int) -> tuple[Slot | None, Held | None]:
        slot = self.slots.get(slot_id)
        return slot, None if slot is None else slot.held.get(ticket)
