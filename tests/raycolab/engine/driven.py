"""A scheduler at work on a world of slots and a store that commits: what follows from what, and what must never be.

The state machine's rules (`test_machine`) say what happens.
"""

from __future__ import annotations

from hypothesis.stateful import RuleBasedStateMachine

from raycolab.engine.messages import Assign, Finished, Kill, LossCause, Prune, Retire, Revoke, ScheduleOptions, Write
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
                case Assign(slot, assignments):
                    assert self.slots[slot].alive
                    served = self.slots[slot].models
                    assert served is None or {self.store[each.number].model for each in assignments} <= served
                    assert len(assignments) == 1 or not self.slots[slot].for_one
                    self.slots[slot].inbox.extend(assignments)
                case Revoke(slot, tickets):
                    self.answer_revoke(self.slots[slot], tickets)
                case Prune(slot, ticket):
                    assert ticket not in self.slots[slot].pruned, "told twice"
                    self.slots[slot].pruned.add(ticket)
                case Kill(slot):
                    self.slots[slot].alive = False
                    self.slots[slot].running = None
                    self.killed(slot)
                case Retire(slot):
                    assert not self.slots[slot].inbox
                    assert self.slots[slot].running is None
                    self.slots[slot].alive = False
                    self.slots[slot].unsent.append(("slot_down", (LossCause.ENDED,)))
                case Write():
                    self.writes.append(command)
                case Finished():
                    self.finished = command

    def answer_revoke(self, slot: World, tickets: tuple[int, ...]) -> None:
        """The slot gives back what it has not begun."""
        given = [each.ticket for each in slot.inbox if each.ticket in tickets]
        slot.inbox = [each for each in slot.inbox if each.ticket not in tickets]
        slot.unsent.append(("revoked", (tuple(given),)))

    def killed(self, slot_id: str) -> None:
        """The driver hears of the kill later: a slot_down waits among the reports."""
        self.slots[slot_id].unsent.append(("slot_down", (LossCause.KILLED,)))

    def deliver(self, slot: World, report: tuple[str, tuple[object, ...]]) -> None:
        """The scheduler hears the report."""
        name, arguments = report
        getattr(self.scheduler, name)(slot.id, *arguments, self.now)
        if name == "slot_down":
            slot.unsent.clear()
        slot.sent.append(report)
        self.pump()

    def alive(self) -> list[World]:
        """The slots whose processes run."""
        return [slot for slot in self.slots.values() if slot.alive]

    def begin(self, slot: World) -> None:
        """The slot begins the next trial it holds, unless it runs one."""
        if slot.running is not None or not slot.inbox:
            return
        slot.running = slot.inbox.pop(0)
        number = slot.running.number
        final = self.store[number].state in FINAL_STATES and number not in self.reopened
        assert not final, "a finished trial ran again"
        others = [each for each in self.alive() if each is not slot and each.running is not None]
        assert all(each.running is None or each.running.number != number for each in others), "a trial ran twice"
        slot.unsent.append(("started", (slot.running.ticket,)))

    def end(self, slot: World, failure: Failure | None, seconds: float) -> None:
        """The trial that the slot runs ends after so long."""
        if slot.running is None:
            return
        self.now += seconds
        good = TrialState.PRUNED if slot.running.ticket in slot.pruned else TrialState.COMPLETE
        state = good if failure is None else TrialState.FAILED
        metrics = {"accuracy": slot.running.number / 100} if failure is None else {}
        outcome = Outcome(state, metrics, failure, self.now - seconds, self.now)
        slot.unsent.append(("finished", (slot.running.ticket, outcome)))
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
