"""What the scheduler is told once, and what it asks of its driver: plain frozen values, no behaviour.

A *ticket* names one handing out of one trial to one slot. It is never used twice in a scheduler's life, so a report
that is late, repeated or from a slot that has lost the trial can always be told from the one that counts.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from raycolab.trial import AttemptRow, Config, Failure, Metric, SweepState, TrialRow

__all__ = [
    "Assign",
    "Assignment",
    "Bench",
    "Command",
    "Finished",
    "Kill",
    "LossCause",
    "Revoke",
    "ScheduleOptions",
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
class Write:
    """Store these rows in one transaction, then call `committed(write_id)`; writes are in order."""

    write_id: int
    trials: tuple[TrialRow, ...]
    attempts: tuple[AttemptRow, ...]


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


Command = Assign | Revoke | Kill | Write | Bench | Finished
