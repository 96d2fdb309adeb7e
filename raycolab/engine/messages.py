"""What the scheduler is told once, and what it asks of its driver and of the search: values, no behaviour.

A *ticket* names one handing out of one trial to one slot. It is never used twice in a scheduler's life, so a report
that is late, repeated or from a slot that has lost the trial can always be told from the one that counts.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

from raycolab.trials import AttemptRow, Config, Failure, Metric, ReportRow, SweepState, TrialRow

__all__ = [
    "Assign",
    "Assignment",
    "Bench",
    "Command",
    "Finished",
    "Kill",
    "LossCause",
    "Prune",
    "Retire",
    "Revoke",
    "ScheduleOptions",
    "StudiesLike",
    "Write",
]


class LossCause(enum.StrEnum):
    """Why a slot is gone, which decides what becomes of the trials it held."""

    NODE = "node"  # its node, or the way to it, was lost
    CRASH = "crash"  # its process died by itself
    OOM = "oom"  # its process was killed for memory
    KILLED = "killed"  # we killed it
    ENDED = "ended"  # it returned without being asked


@dataclass(frozen=True, slots=True)
class ScheduleOptions:
    """What a scheduler must know beside the rows."""

    name: str  # the sweep's name, for sentences
    metric: Metric
    timeout_s: float | None = None  # per trial, counted from its start
    expect_slots: int | None = None  # give nothing out before so many slots are up ...
    expect_within_s: float = 120.0  # ... or this much time has passed
    max_failures: int | None = None  # trials that may fail before the sweep is HELD
    time_budget_s: float | None = None  # after which it is HELD, counted from its first trial
    goes_on: bool = False  # it was at work before this scheduler was made: what it used up counts
    max_concurrent: int | None = None  # slots that may have trials at the same time; None: all
    setup_timeout_s: float | None = 1800.0  # a slot that loads MAIN for longer is killed; None: never


class StudiesLike(Protocol):
    """The search of a sweep that proposes configurations or prunes trials, as the scheduler needs it."""

    def propose(self, row: TrialRow) -> Config:
        """The configuration of a trial that is handed out; the same number gets the same one again."""

    def repeated(self, number: int) -> None:
        """What was proposed for the trial is an earlier one's configuration: it will not run."""

    def reported(self, number: int, step: int, value: float) -> bool:
        """Take in an intermediate value; whether the trial should be pruned now."""

    def ended(self, row: TrialRow) -> None:
        """A trial that had run came to this final state; told once, and once more when it was retried."""

    def requeued(self, number: int) -> None:
        """An attempt came to nothing, or the trial is retried: it keeps its configuration, its reports do not count."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """One trial to run; what a slot needs and nothing else."""

    ticket: int
    number: int
    model: str
    dataset: str
    config: Config


@dataclass(frozen=True, slots=True)
class Assign:
    """Give these trials to the slot; it runs them in this order, after those it holds."""

    slot: str
    assignments: tuple[Assignment, ...]


@dataclass(frozen=True, slots=True)
class Revoke:
    """Ask the slot for trials it has not started; it answers `revoked` with those it gives back."""

    slot: str
    tickets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Kill:
    """End the slot's process at once; `slot_down` with KILLED must follow."""

    slot: str
    reason: str
    number: int | None = None  # the trial it is killed for


@dataclass(frozen=True, slots=True)
class Retire:
    """Let the slot end: it holds nothing and gets nothing more; `slot_down` with ENDED must follow."""

    slot: str


@dataclass(frozen=True, slots=True)
class Prune:
    """Tell the slot that the trial it runs may give up; said once per ticket, and it may complete all the same."""

    slot: str
    ticket: int


@dataclass(frozen=True, slots=True)
class Write:
    """Store these rows in one transaction, then call `committed(write_id)`; writes are in order."""

    write_id: int
    trials: tuple[TrialRow, ...]
    attempts: tuple[AttemptRow, ...]
    reports: tuple[ReportRow, ...] = ()


@dataclass(frozen=True, slots=True)
class Bench:
    """The node gets no more trials; with `setup` no more slots are started there either."""

    node: str
    sentence: str
    setup: bool


@dataclass(frozen=True, slots=True)
class Finished:
    """Nothing is left to do and every row is committed; the last command of a scheduler."""

    state: SweepState
    sentence: str | None = None  # what a person must know or do; None when all went as asked
    failure: Failure | None = None  # the setup failure that stopped the sweep


Command = Assign | Revoke | Prune | Retire | Kill | Write | Bench | Finished
