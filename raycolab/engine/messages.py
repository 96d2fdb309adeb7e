"""What a slot and the engine say to each other, and what the scheduler asks of its driver and of the search: values.

A slot calls `sync(State) -> Plan`: it says all there is to know of it, and the answer is all that it should do.
1. A *ticket* names one handing out of one trial to one slot. Tickets rise and none is used twice, so a report that is
   late, repeated or from a slot that has lost the trial can always be told from the one that counts.
2. The slot numbers its states, the engine its plans for this slot. A state that is older than one heard before changes
   nothing, and neither does a plan that is not newer than the one last carried out.
3. Outcomes and points are in the states until a call that carried them has been answered. After a call that failed the
   next one carries them again: outcomes that came twice are known by their tickets, points by their steps.
4. A plan names every trial that the slot should hold and has not started. What it leaves out the slot drops; a ticket
   that is not higher than the last one that it started it does not take up again. What was left out counts as given
   back once a state says that this plan, or a newer one, was carried out, and the trial is neither held nor running
   nor ended there. Until then it is in this slot's hands, and nobody else's.
5. A call that brings news is answered at once. One that brings none `may_wait`: it is kept until there is a plan that
   the slot has not carried out, a newer state has come, or HOLD_S have passed. The slot has one call under way,
   and a second one only to bring news beside the one that waits.
6. `ends` is final: the slot starts nothing more, and its process ends once its last state was answered.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec

from raycolab.trials import AttemptRow, Config, Failure, Metric, Outcome, ReportRow, SweepState, TrialRow

__all__ = [
    "ENDING",
    "HOLD_S",
    "MAX_POINTS",
    "NOTHING",
    "Assignment",
    "Bench",
    "Command",
    "Finished",
    "Kill",
    "LossCause",
    "Plan",
    "Points",
    "ScheduleOptions",
    "SetupStep",
    "State",
    "StudiesLike",
    "Write",
]

HOLD_S = 30.0
"""The longest that a call with nothing to say is kept."""

MAX_POINTS = 1000
"""Of a trial that reports faster than its points travel, this many wait at most: the latest."""

Points = tuple[tuple[int, float], ...]
"""What a trial reported, in order: (step, value)."""


# ----- between a slot and the engine -----


class Assignment(msgspec.Struct, frozen=True):
    """One trial to run; what a slot needs and nothing else."""

    ticket: int
    number: int
    model: str
    dataset: str
    config: Config
    seed: int | None = None  # for its random numbers
    attempt: int = 1


class SetupStep(msgspec.Struct, frozen=True):
    """How far a slot has loaded MAIN: the index of the cell that runs; None while another slot of its node is first."""

    cell: int | None


class State(msgspec.Struct, frozen=True, omit_defaults=True):
    """All there is to know of a slot; see the module's text."""

    slot: str
    number: int  # counted from 1
    plan: int  # the number of the plan last carried out, 0 before the first
    may_wait: bool  # it says nothing that was not said before
    round_trip_s: float | None = None  # as the slot measures it
    # The seconds that each cell of MAIN took, by its index, or why MAIN could not be loaded: said once.
    loaded: Mapping[int, float] | None = None
    setup_failure: Failure | None = None
    setup: SetupStep | None = None  # while it loads MAIN
    # What it runs, and what it holds and has not started, as tickets in order.
    running: int | None = None
    unstarted: tuple[int, ...] = ()
    # By ticket, what has ended and what was reported.
    finished: tuple[tuple[int, Outcome], ...] = ()
    reports: tuple[tuple[int, Points], ...] = ()


class Plan(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a slot should do; see the module's text."""

    number: int
    # The tickets of what it should hold and has not started, in order, and the trials of those that its state lacks.
    hold: tuple[int, ...] = ()
    new: tuple[Assignment, ...] = ()
    prune: int | None = None  # the trial of this ticket may give up at its next report
    ends: bool = False
    held_s: float = 0.0  # how long the engine kept the call


NOTHING = Plan(0)
"""The answer to a call that a newer one has overtaken."""

ENDING = Plan(0, ends=True)
"""The answer to a slot that nobody needs."""


# ----- between the scheduler and its driver -----


class LossCause(enum.StrEnum):
    """Why a slot is gone, which decides what becomes of the trials it held."""

    NODE = "node"  # its node, or the way to it, was lost
    CRASH = "crash"  # its process died by itself
    OOM = "oom"  # its process was killed for memory
    KILLED = "killed"  # we killed it
    ENDED = "ended"  # its process ended in peace


@dataclass(frozen=True, slots=True)
class ScheduleOptions:
    """What a scheduler must know beside the rows."""

    name: str  # the sweep's name, for sentences
    metric: Metric
    timeout_s: float | None = None  # per trial, counted from its start
    wait_for_slots: int | None = None  # nothing is given out before this many slots are up ...
    wait_within_s: float = 120.0  # ... or this much time has passed
    max_failures: int | None = None  # trials that may fail before the sweep is HELD
    time_budget_s: float | None = None  # after which it is HELD, counted from its first trial
    goes_on: bool = False  # it was at work before this scheduler was made: what it used up counts
    max_concurrent: int | None = None  # slots that may have trials at the same time; None: all
    setup_timeout_s: float | None = 1800.0  # a slot that loads MAIN for longer is killed; None: never
    seed: int | None = 0  # the sweep's, from which those of its trials are made; None: they get none


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
    traceback: str | None = None  # of the error that stopped the sweep, where there was one


Command = Kill | Write | Bench | Finished


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
