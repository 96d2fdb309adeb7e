"""What becomes of trials that ended, or whose slot is gone, and who is blamed for it.

It changes rows, slots and guards at once and leaves commands for the driver; which event it was `Scheduler` knows,
and where a trial goes next is `Dispatch`'s.
"""

from __future__ import annotations

from collections.abc import Iterable

from raycolab.schedule.book import TrialBook
from raycolab.schedule.budget import Budget
from raycolab.schedule.commands import Bench, Command, Kill, LossCause
from raycolab.schedule.dispatch import Dispatch
from raycolab.schedule.guards import ModelGuards, NodeGuards
from raycolab.schedule.pace import Pace
from raycolab.schedule.slots import Held, Slot, SlotBoard, SlotPhase
from raycolab.trial import ErrorKind, Failure, Outcome, SweepState, TrialState

__all__ = ["Aftermath"]


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
