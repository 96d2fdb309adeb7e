"""Scripts for the scheduler's tests: events in the words of a person, the commands kept, a store that commits.

And a search that proposes what can be told apart and remembers what it was told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from raycolab.engine.dispatch import Slot
from raycolab.engine.messages import Assignment, Command, Finished, Kill, ScheduleOptions, State, StudiesLike, Write
from raycolab.engine.scheduler import Scheduler
from raycolab.trials import AttemptRow, Config, ErrorKind, Failure, Metric, Outcome, TrialRow, TrialState

__all__ = ["ROUND_TRIP_S", "Script", "Search", "done", "error", "open_trials", "proven", "trials"]

ROUND_TRIP_S = 0.1


def trials(count: int, model: str = "svc", first: int = 0) -> list[TrialRow]:
    """PENDING rows of one model."""
    return [TrialRow(number, model, "iris", {"x": number}) for number in range(first, first + count)]


def open_trials(count: int, model: str = "svc", first: int = 0) -> list[TrialRow]:
    """PENDING rows whose configurations are yet to be proposed."""
    return [replace(row, config=None) for row in trials(count, model, first)]


def done(row: TrialRow, accuracy: float = 0.5) -> TrialRow:
    """The row, COMPLETE."""
    return replace(
        row, state=TrialState.COMPLETE, metrics={"accuracy": accuracy}, attempts=1, started_at=1.0, ended_at=2.0
    )


def error(evalue: str = "bad", ename: str = "ValueError") -> Failure:
    """What a trial raises."""
    return Failure(ErrorKind.EXCEPTION, ename, evalue, "Traceback", 3)


class Search:
    """Proposes 0, 1, 2… (modulo `of`) in the order it is asked; whatever reports less than `bar` should be pruned."""

    def __init__(self, bar: float = float("-inf"), of: int = 1_000_000) -> None:
        self.bar = bar
        self.of = of
        self.proposals: dict[int, Config] = {}
        self.reports: dict[int, dict[int, float]] = {}
        self.told: list[tuple[str, int, TrialState | None]] = []

    def propose(self, row: TrialRow) -> Config:
        config = self.proposals.get(row.number) or row.config or {"x": len(self.proposals) % self.of}
        self.proposals[row.number] = config
        return config

    def repeated(self, number: int) -> None:
        self.told.append(("repeated", number, None))

    def reported(self, number: int, step: int, value: float) -> bool:
        self.reports.setdefault(number, {})[step] = value
        return value < self.bar

    def ended(self, row: TrialRow) -> None:
        self.told.append(("ended", row.number, row.state))

    def requeued(self, number: int) -> None:
        self.reports.pop(number, None)
        self.told.append(("requeued", number, None))


class Script:
    """A scheduler with the commands it gave; its store commits at once unless told not to."""

    def __init__(
        self,
        rows: Sequence[TrialRow],
        attempts: Sequence[AttemptRow] = (),
        *,
        commits: bool = True,
        timeout_s: float | None = None,
        wait_for_slots: int | None = None,
        max_failures: int | None = None,
        time_budget_s: float | None = None,
        max_concurrent: int | None = None,
        goes_on: bool = False,
        setup_timeout_s: float | None = 1800.0,
        studies: StudiesLike | None = None,
    ) -> None:
        self.options = ScheduleOptions(
            "s",
            Metric("accuracy"),
            timeout_s,
            wait_for_slots,
            max_failures=max_failures,
            time_budget_s=time_budget_s,
            max_concurrent=max_concurrent,
            goes_on=goes_on,
            setup_timeout_s=setup_timeout_s,
        )
        self.core = Scheduler(rows, attempts, self.options, studies)
        self.now = 100.0
        self.commits = commits
        self.commands: list[Command] = []
        # What each slot holds as its plans say, what it runs too, and the slots that were told to end.
        self.handed: dict[str, list[Assignment]] = {}
        self.retired: list[str] = []
        self.seen: set[int] = set()  # tickets
        self.stored = {row.number: row for row in rows}
        self.attempts = {(attempt.trial, attempt.number): attempt for attempt in attempts}
        self.reports: dict[tuple[int, int], float] = {}
        self.pump()

    def pump(self) -> list[Command]:
        """Carry out what is commanded until nothing is left; return it."""
        new: list[Command] = []
        while commands := self.core.commands(self.now):
            new += commands
            for command in commands:
                match command:
                    case Write(write_id, rows, attempts, reports):
                        self.reports.update(((row.trial, row.step), row.value) for row in reports)
                        self.stored.update((row.number, row) for row in rows)
                        self.attempts.update(((row.trial, row.number), row) for row in attempts)
                        if self.commits:
                            self.core.committed(write_id, self.now)
        self.commands += new
        self.see_plans()
        return new

    def see_plans(self) -> None:
        """Have every slot take what its plan gives it."""
        killed = {command.slot for command in self.commands if isinstance(command, Kill)}
        for slot in self.core.slots:
            plan = self.core.plan(State(slot.id, number=0, plan=-1, may_wait=True))
            new = [trial for trial in plan.new if trial.ticket not in self.seen]
            self.seen.update(trial.ticket for trial in new)
            self.handed.setdefault(slot.id, []).extend(new)
            if plan.ends and slot.id not in killed and slot.id not in self.retired:
                self.retired.append(slot.id)

    def up(self, *slots: str) -> None:
        """Slots named `node.number` come up."""
        for slot in slots:
            if self.core.slots.get(slot) is None:
                self.core.slot_starting(Slot(slot, slot.split(".")[0]), self.now)
            self.core.hear(State(slot, 1, 0, may_wait=False, round_trip_s=ROUND_TRIP_S, loaded={}), self.now)
        self.pump()

    def start(self, slot: str) -> Assignment:
        """The slot starts its next trial."""
        trial = self.handed[slot][0]
        self.core.started(slot, trial.ticket, self.now)
        self.pump()
        return trial

    def end(
        self,
        slot: str,
        failure: Failure | None = None,
        seconds: float = 10.0,
        state: TrialState = TrialState.COMPLETE,
    ) -> Assignment:
        """The slot ends its next trial after so long."""
        trial = self.start(slot)
        self.handed[slot].pop(0)
        state = state if failure is None else TrialState.FAILED
        metrics = {"accuracy": 0.5} if failure is None else {}
        began = self.now
        self.now += seconds
        self.core.finished(slot, trial.ticket, Outcome(state, metrics, failure, began, self.now), self.now)
        self.pump()
        return trial

    def report(self, slot: str, step: int, value: float) -> list[Command]:
        """The trial that the slot runs reports a value; what that leads to."""
        self.core.reported(slot, self.handed[slot][0].ticket, step, value, self.now)
        return self.pump()

    def asked_back(self, slot: str) -> list[int]:
        """The tickets of the trials that the slot was asked for and has not given back."""
        there = self.core.slots.get(slot)
        return [] if there is None else [each.trial.ticket for each in there.unstarted if each.revoked_at is not None]

    def give_back(self, slot: str) -> None:
        """The slot gives back what it is asked for."""
        tickets, there = self.asked_back(slot), self.core.slots.get(slot)
        assert tickets
        assert there is not None
        self.handed[slot] = [each for each in self.handed[slot] if each.ticket not in tickets]
        left = tuple(each.ticket for each in self.handed[slot])
        self.core.hear(State(slot, there.heard + 1, there.plan, may_wait=True, unstarted=left), self.now)
        self.pump()

    def numbers(self, slot: str) -> list[int]:
        """The trials in the slot's hands."""
        return [each.number for each in self.handed.get(slot, [])]

    def last(self, kind: type[Command]) -> Command:
        """The latest command of a kind."""
        return next(command for command in reversed(self.commands) if isinstance(command, kind))

    @property
    def finish(self) -> Finished | None:
        """How it ended, if it did."""
        return next((command for command in self.commands if isinstance(command, Finished)), None)


def proven(count: int, **options: object) -> Script:
    """A script of `count` waiting trials of a model that has succeeded before, trials of 10 s."""
    first = replace(done(trials(1, first=count)[0]), started_at=0.0, ended_at=10.0)
    return Script([*trials(count), first], **options)  # type: ignore[arg-type]
