"""The values a sweep is made of, and what is true of them everywhere: trials, their states, outcomes, database rows.

Plain frozen data shared by the search, the scheduler, the worker side, the store and whatever shows them. What several
of these must agree on is defined here and nowhere else: which states are final, what may be best, how a trial is
called, and when two errors are the same. No I/O.
Times are seconds since the Unix epoch, UTC; durations are seconds.
"""

from __future__ import annotations

import enum
import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

__all__ = [
    "AT_REST",
    "FINAL_STATES",
    "AttemptRow",
    "Config",
    "ErrorIdentity",
    "ErrorKind",
    "Failure",
    "Metric",
    "Outcome",
    "ReportRow",
    "Scalar",
    "SetupFailure",
    "SweepRow",
    "SweepState",
    "TrialRow",
    "TrialState",
    "Value",
    "trial_seed",
    "trial_title",
]

Scalar = bool | int | float | str | None
"""What a metric holds: JSON scalars, NaN and infinities included."""

Value = Scalar | list[Any] | dict[str, Any]
"""What a parameter of a configuration is: a scalar, or a list or dict of JSON values."""

Config = Mapping[str, Value]
"""One configuration, flat; nested names are joined by "/" (`optimizer/lr`)."""


class TrialState(enum.StrEnum):
    """Where a trial stands; the last five are final."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAILED = "FAILED"
    LOST = "LOST"
    CANCELLED = "CANCELLED"


FINAL_STATES = frozenset(
    {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED, TrialState.LOST, TrialState.CANCELLED}
)


class SweepState(enum.StrEnum):
    """Where a sweep stands: declared, waiting for its turn, at work, or at rest."""

    DECLARED = "DECLARED"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    HELD = "HELD"  # what is left waits for a person: held models, max_failures, a MAIN no node can set up
    STOPPED = "STOPPED"
    CANCELLED = "CANCELLED"
    COMPLETE = "COMPLETE"


AT_REST = frozenset({SweepState.HELD, SweepState.STOPPED, SweepState.CANCELLED, SweepState.COMPLETE})
"""Nothing of such a sweep runs, and nothing will until somebody asks for it."""


class ErrorKind(enum.StrEnum):
    """Why a trial did not complete."""

    EXCEPTION = "exception"
    SETUP = "setup"
    TIMEOUT = "timeout"
    OOM = "oom"
    BAD_RETURN = "bad_return"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Metric:
    """The number a sweep optimises: its name and `mode`, "max" or "min"."""

    name: str
    mode: str = "max"

    def value_of(self, row: TrialRow) -> float:
        """The metric of a trial: NaN when it has none, infinite when no float can hold it."""
        value = row.metrics.get(self.name)
        if not isinstance(value, (int, float)):
            return math.nan
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf

    def objective(self, row: TrialRow) -> float | None:
        """The metric of a trial that may be the best one: it is COMPLETE and its metric is finite. None for others."""
        value = self.value_of(row) if row.state is TrialState.COMPLETE else math.nan
        return value if math.isfinite(value) else None

    def is_better(self, value: float, other: float) -> bool:
        """Whether one objective is better than another."""
        return value > other if self.mode == "max" else value < other


@dataclass(frozen=True, slots=True)
class ErrorIdentity:
    """Two errors are the same when these are equal, for the guards and for what people see."""

    kind: ErrorKind | None
    message: str  # name and message, without the numbers, addresses and quoted values in it
    cell_index: int | None
    line: int | None  # of that cell, from 1

    @classmethod
    def of(cls, kind: ErrorKind | None, summary: str, cell_index: int | None, traceback: str) -> ErrorIdentity:
        """The identity of an error from its one line (`Failure.summary`) and its traceback."""
        lines = [line for cell, line in _PLACE.findall(traceback) if int(cell) == cell_index]
        return cls(kind, _PARTICULARS.sub("#", summary), cell_index, int(lines[-1]) if lines else None)


# A frame of MAIN as `raycolab.main.traceback` writes it; the last one of the failing cell is where it failed.
_PLACE = re.compile(r"^\s*cell (\d+), line (\d+)", re.MULTILINE)
# What differs between two occurrences of one error: quoted values, addresses, numbers.
_PARTICULARS = re.compile(r"""(?<!\w)'[^']*'(?!\w)|"[^"]*"|0x[0-9a-fA-F]+|[-+]?\d[\w.+-]*""")


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong in a trial, with papermill's field names for an exception in a notebook."""

    kind: ErrorKind
    ename: str
    evalue: str
    traceback: str = ""  # plain text, cells named by number
    cell_index: int | None = None  # counted over the code cells of MAIN, from 1, as a notebook shows them
    output: str = ""  # of a setup, the last lines it printed; those of a trial are in its Outcome

    @property
    def summary(self) -> str:
        """One line without a full stop, to stand in a sentence: `ValueError: bad (cell 7)`."""
        text = f"{self.ename}: {self.evalue}" if self.evalue else self.ename
        first = text.strip().splitlines()[0].rstrip(". ") if text.strip(". \n") else self.kind.value
        return first if self.cell_index is None else f"{first} (cell {self.cell_index})"

    @property
    def identity(self) -> ErrorIdentity:
        """What tells this error from others."""
        return ErrorIdentity.of(self.kind, self.summary, self.cell_index, self.traceback)


@dataclass(frozen=True, slots=True)
class SetupFailure:
    """MAIN could not be set up, in the same way on each of these nodes."""

    nodes: tuple[str, ...]
    failure: Failure

    @property
    def headline(self) -> str:
        """`MAIN's setup failed on head, joiner-1: OSError: no such file (cell 2)`."""
        return f"MAIN's setup failed on {', '.join(self.nodes)}: {self.failure.summary}"

    def without_texts(self) -> SetupFailure:
        """The same without traceback and output."""
        return replace(self, failure=replace(self.failure, traceback="", output=""))

    @classmethod
    def grouped(cls, failures: Mapping[str, Failure]) -> tuple[SetupFailure, ...]:
        """Those of the nodes, the same error once."""
        found: dict[ErrorIdentity, SetupFailure] = {}
        for node, failure in failures.items():
            known = found.get(failure.identity)
            found[failure.identity] = (
                cls((node,), failure) if known is None else cls((*known.nodes, node), known.failure)
            )
        return tuple(found.values())


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one execution of a trial ended: COMPLETE or PRUNED with metrics, or FAILED with a failure."""

    state: TrialState
    metrics: Mapping[str, Scalar] = field(default_factory=dict)
    failure: Failure | None = None
    started_at: float = 0.0
    ended_at: float = 0.0
    output: str = ""  # the last lines the trial printed


@dataclass(frozen=True, slots=True)
class TrialRow:
    """One row of the `trials` table."""

    number: int  # counted from 0 in its sweep, for life
    model: str
    dataset: str
    config: Config | None  # None until the search proposes one
    state: TrialState = TrialState.PENDING
    metrics: Mapping[str, Scalar] = field(default_factory=dict)
    node: str | None = None
    attempts: int = 0
    started_at: float | None = None
    ended_at: float | None = None
    error_kind: ErrorKind | None = None
    error: str | None = None  # one line
    traceback: str | None = None
    cell_index: int | None = None
    output: str | None = None
    same_as: int | None = None  # number of the earlier trial with this very configuration
    seed: int | None = None  # that its random numbers came from; None where it never ran, or chose its own
    main_version: int | None = None  # of the MAIN that it ran, counted from 1; None where it never ran

    @property
    def duration_s(self) -> float | None:
        """Seconds from start to end, or None while there is no end."""
        return None if self.started_at is None or self.ended_at is None else self.ended_at - self.started_at

    @property
    def is_repeat(self) -> bool:
        """Whether it ran nowhere and has the result of the earlier trial with its configuration."""
        return self.same_as is not None and not self.attempts

    @property
    def title(self) -> str:
        """`#12 svc x iris`."""
        return trial_title(self.number, self.model, self.dataset)

    @property
    def error_identity(self) -> ErrorIdentity:
        """What tells the error of a trial that failed from others."""
        return ErrorIdentity.of(self.error_kind, self.error or "", self.cell_index, self.traceback or "")


def trial_seed(sweep_seed: int, number: int) -> int:
    """What the random numbers of a trial are made from: the same wherever and whenever it runs; 32 bits, as numpy's."""
    return int.from_bytes(hashlib.sha256(f"{sweep_seed}/{number}".encode()).digest()[:4])


def trial_title(number: int, model: str, dataset: str) -> str:
    """What a trial is called: `#12 svc x iris`."""
    return f"#{number} {model} x {dataset}"


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One row of the `attempts` table: one try at a trial on one node."""

    trial: int  # the trial's number
    number: int  # counted from 1 in its trial
    node: str
    outcome: str  # RUNNING while it runs; then COMPLETE PRUNED FAILED LOST CANCELLED
    started_at: float
    ended_at: float | None = None
    reason: str | None = None  # why it was lost or failed, one line


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One row of the `reports` table: what a trial reported at one step; the same step again replaces it."""

    trial: int  # the trial's number
    step: int
    value: float


@dataclass(frozen=True, slots=True)
class SweepRow:
    """One row of the `sweeps` table: the declaration, frozen, and where the sweep stands."""

    id: int
    name: str
    state: SweepState
    spec: str  # canonical JSON of the SweepSpec
    main: str | None  # JSON of the frozen MAIN, None for a sweep without one
    spec_fingerprint: str
    code_fingerprint: str | None
    created_at: float
    versions: Mapping[str, str] = field(default_factory=dict)
    main_version: int = 1  # how often another code was declared and taken, counted from 1
    # Why MAIN could not be set up when the sweep last came to rest.
    setup_failures: tuple[SetupFailure, ...] = ()
