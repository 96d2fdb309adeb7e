"""A scheduler at work on a world of slots and a store that commits: what follows from what, and what must never be.

The state machine's rules (`test_machine`) say what happens.
"""

from __future__ import annotations

from hypothesis.stateful import RuleBasedStateMachine

from raycolab.engine.messages import Finished, Kill, LossCause, ScheduleOptions, State, Write
from raycolab.engine.scheduler import Scheduler
from raycolab.trials import FINAL_STATES, AttemptRow, Failure, Outcome, TrialRow, TrialState
from tests.raycolab.engine.world import Search, World

__all__ = ["Driven"]


class Driven(RuleBasedStateMachine):
    """One sweep, its store and its slots."""

    def __init__(self) -> None:
        super().__init__()
        self.store: dict[int, TrialRow] = {}
        self.stored_attempts: dict[tuple[int, int], AttemptRow] = {}
        self.stored_reports: set[tuple[int, int]] = set()
        self.now = 100.0
        self.slots: dict[str, World] = {}
        self.slot_count = 0
        self.reopened: set[int] = set()  # final trials that somebody wanted again
        self.writes: list[Write] = []
        self.finished: Finished | None = None
        self.asked_to_end = False
        self.options: ScheduleOptions
        self.scheduler: Scheduler
        self.search: Search

    def take_up(self) -> None:
        """A scheduler and a search over what the store has; the nodes are there."""
        self.search = Search(list(self.store.values()))
        attempts = list(self.stored_attempts.values())
        self.scheduler = Scheduler(list(self.store.values()), attempts, self.options, self.search)
        self.pump()

    def start_again(self) -> None:
        """What `resume` of a held sweep does."""
        self.finished = None
        self.slots.clear()
        self.take_up()

    def pump(self) -> None:
        """Do what the scheduler commands."""
        for command in self.scheduler.commands(self.now):
            assert self.finished is None, "a command after Finished"
            match command:
                case Kill(slot):
                    self.slots[slot].die(LossCause.KILLED)
                case Write():
                    self.writes.append(command)
                case Finished():
                    self.finished = command

    def arrive(self, slot: World, state: State) -> None:
        """The scheduler hears a call, and answers it if the slot still waits for that."""
        self.scheduler.hear(state, self.now)
        self.pump()
        slot.heard.append(state)
        plan = self.scheduler.plan(state)
        if plan.new:
            models = {self.store[trial.number].model for trial in plan.new}
            assert slot.models is None or models <= slot.models
        assert len(plan.hold) <= 1 or not slot.for_one
        if slot.alive and state in slot.calls:
            slot.calls.remove(state)
            slot.answers.append((state, plan))

    def answer(self, slot: World, which: int = 0) -> None:
        """One of the answers reaches the slot."""
        state, plan = slot.answers.pop(which)
        slot.protocol.answered(state, plan, 0.1)
        if plan.ends:
            assert slot.running is None, "a slot that runs a trial was told to end"
            slot.die(LossCause.ENDED)

    def exchange(self, slot: World) -> None:
        """The slot calls, is heard and answered."""
        if slot.alive:
            slot.call()
        while slot.calls:
            self.arrive(slot, slot.calls[0])
        while slot.answers:
            self.answer(slot)

    def tell_end(self, slot: World) -> None:
        """The scheduler hears of the end of a slot's process."""
        if slot.down is not None:
            self.scheduler.slot_down(slot.id, slot.down, self.now)
            slot.down = None
            self.pump()

    def alive(self) -> list[World]:
        """The slots whose processes run."""
        return [slot for slot in self.slots.values() if slot.alive]

    def begin(self, slot: World) -> None:
        """The slot begins the next trial it holds, unless it runs one."""
        if slot.running is not None or not slot.protocol.unstarted:
            return
        slot.running, slot.may_give_up = slot.protocol.take(), False
        assert slot.running is not None
        number = slot.running.number
        final = self.store[number].state in FINAL_STATES and number not in self.reopened
        assert not final, "a finished trial ran again"
        others = [each for each in self.alive() if each is not slot and each.running is not None]
        assert all(each.running is None or each.running.number != number for each in others), "a trial ran twice"

    def end(self, slot: World, failure: Failure | None, seconds: float) -> None:
        """The trial that the slot runs ends after so long."""
        if slot.running is None:
            return
        self.now += seconds
        good = TrialState.PRUNED if slot.may_give_up else TrialState.COMPLETE
        state = good if failure is None else TrialState.FAILED
        metrics = {"accuracy": slot.running.number / 100} if failure is None else {}
        slot.protocol.finished(Outcome(state, metrics, failure, self.now - seconds, self.now))
        slot.running = None

    def commit(self, several: int) -> None:
        """The store takes the oldest writes, none of which may change what is final."""
        batch, self.writes = self.writes[:several], self.writes[several:]
        for write in batch:
            for row in write.trials:
                before = self.store[row.number]
                kept = before.state in FINAL_STATES and row.number not in self.reopened
                assert not kept or before == row, "a final row was rewritten"
                self.store[row.number] = row
            for report in write.reports:
                self.stored_reports.add((report.trial, report.step))
            for attempt in write.attempts:
                self.stored_attempts[attempt.trial, attempt.number] = attempt
        self.scheduler.committed(batch[-1].write_id, self.now)
        self.pump()
