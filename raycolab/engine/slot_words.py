"""What the engine and a slot say to each other: plain frozen values carried in `mailbox` batches.

A slot says Ready or SetupBroke first, then Started, Reported, Ended and GaveBack by ticket. The engine says Give,
TakeBack, PruneIt, End.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from raycolab.engine.mailbox import Batch
from raycolab.engine.messages import Assignment
from raycolab.trials import Failure, Outcome

__all__ = [
    "Call",
    "End",
    "Ended",
    "EngineWord",
    "GaveBack",
    "Give",
    "PruneIt",
    "Ready",
    "Reply",
    "Reported",
    "SetupBroke",
    "SlotWord",
    "Started",
    "TakeBack",
]


@dataclass(frozen=True, slots=True)
class Ready:
    """MAIN is loaded; seconds its cells took, by number."""

    cell_seconds: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class SetupBroke:
    """MAIN could not be loaded; the slot ends."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Started:
    """The trial of this ticket runs."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The trial of this ticket has ended."""

    ticket: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Reported:
    """The trial of this ticket reported these (step, value), in order."""

    ticket: int
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class GaveBack:
    """These were asked back and had not been started."""

    tickets: tuple[int, ...]


SlotWord = Ready | SetupBroke | Started | Reported | Ended | GaveBack


@dataclass(frozen=True, slots=True)
class Give:
    """Run these, after what you have."""

    assignments: tuple[Assignment, ...]


@dataclass(frozen=True, slots=True)
class TakeBack:
    """Give these back unless you have started them."""

    tickets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PruneIt:
    """End the trial of this ticket at its next report."""

    ticket: int


@dataclass(frozen=True, slots=True)
class End:
    """Nothing more will come: end when what you run has ended."""


EngineWord = Give | TakeBack | PruneIt | End


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a slot to the engine."""

    slot: str
    number: int  # counted from 1; the newest call is the one that may be kept waiting
    batch: Batch[SlotWord]
    round_trip_s: float | None  # as the slot measures it
    after_failure: bool  # an earlier call failed: what its answer held did not arrive


@dataclass(frozen=True, slots=True)
class Reply:
    """The engine's answer to one call."""

    batch: Batch[EngineWord]
    held_s: float  # how long the engine kept the call waiting
