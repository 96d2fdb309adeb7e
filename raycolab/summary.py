"""What people are told of a cluster and its sweeps: the object of `status --json`, and the counts it is made from.

The structs are that object, key by key. They travel twice a second, so what a sweep says of its pairs, causes and nodes
is bounded in number and in length, and what is left out is counted. `Tally` and `Causes` are kept up trial by trial.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from raycolab.text import counted
from raycolab.trials import FINAL_STATES, ErrorIdentity, Metric, SetupFailure, SweepState, TrialRow, TrialState

__all__ = [
    "MOST_PAIRS",
    "Best",
    "Cause",
    "CauseCount",
    "Causes",
    "ClusterStatus",
    "CurveStatus",
    "Curves",
    "NodeStatus",
    "PairTally",
    "SetupStatus",
    "SnapshotStatus",
    "SweepStatus",
    "Tally",
    "TrafficStatus",
    "causes",
    "sweeps_json",
]

MOST_PAIRS = 400
"""The most pairs in one sweep's status: a map of 20 x 20 can still be read."""

MOST_PAIRS_IN_ALL = 1000
"""The most pairs of all sweeps together; the latest sweeps come first."""

_MOST_CAUSES = 12
_MOST_CURVES = 16
_MOST_STEPS = 32  # of one curve
_MOST_WITH_CURVES = 3  # sweeps, the latest
_MOST_SETUP_FAILURES = 3  # of one sweep, each as long as a traceback
_SETUP_FAILURES_SHOWN = 6  # whole, of all sweeps together; the latest come first
_MOST_NODES = 200  # a sweep of days sees many nodes come and go
_LONGEST_NAME = 60  # characters of a model's or a dataset's name
_LONGEST_MESSAGE = 160  # characters
_FAILURES = frozenset({TrialState.FAILED, TrialState.LOST})


class Best(msgspec.Struct, frozen=True):
    """The best trial of a sweep."""

    metric: str
    value: float
    model: str
    dataset: str
    number: int

    @classmethod
    def of(cls, row: TrialRow, metric: Metric) -> Best:
        """What a status says of this trial."""
        return cls(metric.name, metric.value_of(row), row.model, row.dataset, row.number)


class PairTally(msgspec.Struct):
    """The trials of one model on one dataset."""

    model: str
    dataset: str
    total: int = 0
    done: int = 0  # in a final state
    failed: int = 0  # of those FAILED or LOST
    best: float | None = None  # the metric of its best trial


class CauseCount(msgspec.Struct, frozen=True):
    """What trials failed of, and how many."""

    text: str
    count: int


class CurveStatus(msgspec.Struct, frozen=True):
    """What one trial reported on its way, some of it."""

    number: int
    state: TrialState
    steps: list[int]
    values: list[float]  # finite


class SweepStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Where one sweep stands. The keys up to `best` are the contract of `status --json`; the others are for panels."""

    name: str
    state: SweepState
    total: int = 0
    pending: int = 0
    running: int = 0
    complete: int = 0
    pruned: int = 0
    failed: int = 0
    lost: int = 0
    cancelled: int = 0
    eta_s: float | None = None
    best: Best | None = None
    sentence: str | None = None  # what a person should read
    hints: list[str] = []  # what would make it faster
    slots: dict[str, str] = {}  # what a trial takes on each node, in words
    metric: Metric | None = None
    pairs: list[PairTally] = []
    pairs_left_out: int = 0
    causes: list[CauseCount] = []
    causes_left_out: int = 0
    done_on: dict[str, int] = {}  # how many trials ended on each node
    curves: list[CurveStatus] = []  # of the trials that reported last, and of the best
    repeats: int = 0  # how many of those that ended ran nowhere: they have an earlier trial's configuration and result
    setup_failures: list[SetupFailure] = []  # why nodes could not set MAIN up

    @classmethod
    def of(
        cls,
        name: str,
        state: SweepState,
        counts: Mapping[TrialState, int],
        metric: Metric,
        best: TrialRow | None = None,
        eta_s: float | None = None,
        sentence: str | None = None,
        tally: Tally | None = None,
        slots: Mapping[str, str] | None = None,
        hints: Sequence[str] = (),
        curves: Sequence[CurveStatus] = (),
        setup_failures: Sequence[SetupFailure] = (),
    ) -> SweepStatus:
        """The status of a sweep with these trials; `tally` has the same trials by pair, node and cause."""
        tally = tally or Tally(metric)
        found = tally.causes.found()
        states = {state.value.lower(): counts.get(state, 0) for state in TrialState}
        everything = cls(
            name=name,
            state=state,
            total=sum(states.values()),
            **states,
            eta_s=None if eta_s is None else math.ceil(eta_s),
            best=None if best is None else Best.of(best, metric),
            sentence=sentence,
            hints=list(hints),
            slots=dict(slots or {}),
            metric=metric,
            pairs=list(tally.pairs.values()),
            causes=[CauseCount(cause.description, cause.count) for cause in found[:_MOST_CAUSES]],
            causes_left_out=max(len(found) - _MOST_CAUSES, 0),
            done_on={node: count for node, count in tally.done_on.most_common(_MOST_NODES) if count},
            curves=list(curves),
            repeats=tally.repeats,
            setup_failures=list(setup_failures[:_MOST_SETUP_FAILURES]),
        )
        return everything.with_pairs(MOST_PAIRS)

    @property
    def counts(self) -> dict[str, int]:
        """How many trials there are in all (`total`) and in each state, by the keys of `status --json`."""
        return {key: getattr(self, key) for key in ("total", *(state.value.lower() for state in TrialState))}

    def with_pairs(self, most: int) -> SweepStatus:
        """The same with at most this many of its pairs, as a whole map of its first models and datasets."""
        shown = [
            msgspec.structs.replace(pair, model=pair.model[:_LONGEST_NAME], dataset=pair.dataset[:_LONGEST_NAME])
            for pair in _whole_map(self.pairs, most)
        ]
        left_out = self.pairs_left_out + len(self.pairs) - len(shown)
        return msgspec.structs.replace(self, pairs=shown, pairs_left_out=left_out)

    def to_json(self) -> dict[str, Any]:
        """Its object of `status --json`."""
        status: dict[str, Any] = msgspec.to_builtins(self)
        return status


class SetupStatus(msgspec.Struct, frozen=True):
    """The cell of MAIN that a node's first slot runs while it loads MAIN."""

    cell: int  # counted among the code cells from 1
    line: str  # its first
    since: str  # UTC, ISO 8601

    def __str__(self) -> str:
        """`loads MAIN: cell 3 (import torch) since 14:55:02`, in this machine's time."""
        since = datetime.fromisoformat(self.since).astimezone()
        return f"loads MAIN: cell {self.cell} ({self.line}) since {since:%H:%M:%S}"


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Where one node stands. Its bytes are those of its WebSockets since it joined, seen from the node."""

    name: str
    state: str = ""
    cpus: float | None = None
    gpus: float | None = None
    trial: str | None = None  # what runs there: `#12 svc x iris`
    setup: SetupStatus | None = None  # while MAIN is loaded there
    rtt_ms: float | None = None  # 0 for the head itself
    bytes_sent: int = 0
    bytes_received: int = 0
    control_sent: int = 0  # the part of the bytes that is the tunnel's own
    control_received: int = 0
    shares_cores: bool = False  # with other nodes of its machine, as they have more CPUs together than it
    warning: str | None = None  # what a person should read

    @property
    def at_work(self) -> str:
        """What runs there, in words: the trial, or how far MAIN is loaded."""
        return self.trial or ("" if self.setup is None else str(self.setup))


class TrafficStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What went through the tunnel since the head started, and this month where the provider has a limit."""

    bytes: int
    control_bytes: int
    provider: str
    month: str
    month_bytes: int
    limit_bytes: int | None = None
    warning: str | None = None


class SnapshotStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The newest snapshot."""

    folder: str | None
    number: int | None  # None before the first one
    age_s: float | None
    up_to_date: bool  # nothing finished since
    error: str | None  # a sentence while none can be taken


class ClusterStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The object of `status --json`; `snapshots` is null where none are taken."""

    nodes: list[NodeStatus] = []
    sweeps: list[SweepStatus] = []
    traffic: TrafficStatus | None = None
    snapshots: SnapshotStatus | msgspec.UnsetType | None = msgspec.UNSET


def sweeps_json(sweeps: Sequence[SweepStatus]) -> list[dict[str, Any]]:
    """The objects of several sweeps, the latest last. The latest keeps its pairs first; they share one bound.

    So do the tracebacks of setups that failed: without theirs the earlier ones have the line alone.
    """
    objects: list[dict[str, Any]] = []
    left, failures_left = MOST_PAIRS_IN_ALL, _SETUP_FAILURES_SHOWN
    for age, sweep in enumerate(reversed(sweeps)):
        shown = sweep.with_pairs(left)
        if age >= _MOST_WITH_CURVES:
            shown = msgspec.structs.replace(shown, curves=[])
        if len(shown.setup_failures) > failures_left:
            short = [each.without_texts() for each in shown.setup_failures]
            shown = msgspec.structs.replace(shown, setup_failures=short)
        objects.append(shown.to_json())
        left -= len(shown.pairs)
        failures_left -= len(shown.setup_failures)
    return objects[::-1]


def _whole_map(pairs: Sequence[PairTally], most: int) -> Sequence[PairTally]:
    """At most this many of the pairs: those of the first models with the first datasets."""
    if len(pairs) <= most:
        return pairs
    models = list(dict.fromkeys(pair.model for pair in pairs))
    datasets = list(dict.fromkeys(pair.dataset for pair in pairs))
    columns = max(min(len(datasets), math.isqrt(most)), most // len(models))
    rows = most // max(columns, 1)
    shown_models, shown_datasets = set(models[:rows]), set(datasets[:columns])
    return [pair for pair in pairs if pair.model in shown_models and pair.dataset in shown_datasets]


class Tally:
    """The trials of a sweep by pair, node and cause. Give it every committed row with the one that it replaces."""

    def __init__(self, metric: Metric) -> None:
        """`metric` is the one that the sweep optimises."""
        # By model and dataset, in the order in which they were met.
        self.pairs: dict[tuple[str, str], PairTally] = {}
        # How many trials ended on each node, the nodes that are gone too.
        self.done_on: Counter[str] = Counter()
        # How many have ended without a run, as repeats of an earlier one.
        self.repeats = 0
        self.causes = Causes()
        self._metric = metric

    def moved(self, before: TrialRow | None, row: TrialRow) -> None:
        """`row` is committed in the place of `before`."""
        pair = self.pairs.get((row.model, row.dataset))
        if pair is None:
            pair = self.pairs[row.model, row.dataset] = PairTally(row.model, row.dataset)
        if before is None:
            pair.total += 1
        elif before.state in FINAL_STATES:
            self._count(pair, before, -1)
        if row.state in FINAL_STATES:
            self._count(pair, row, 1)
        value = self._metric.objective(row)
        if value is not None and (pair.best is None or self._metric.is_better(value, pair.best)):
            pair.best = value

    def _count(self, pair: PairTally, row: TrialRow, by: int) -> None:
        """Count a trial that has ended, or take it back."""
        pair.done += by
        pair.failed += by if row.state in _FAILURES else 0
        self.causes.count(row, by)
        self.repeats += by if row.is_repeat else 0
        if row.node is not None and row.attempts:
            self.done_on[row.node] += by


class Curves:
    """What the trials that reported last have reported, within bounds."""

    def __init__(self) -> None:
        self._points: dict[int, dict[int, float]] = {}  # by trial and step, who reported last at the end

    def report(self, number: int, step: int, value: float, best: int | None) -> None:
        """A trial has this value at this step; `best` is the trial whose curve stays."""
        if not math.isfinite(value):
            return
        points = self._points.pop(number, {})
        points[step] = value
        if len(points) > 2 * _MOST_STEPS:
            points = dict(list(points.items())[::2])
        self._points[number] = points
        if len(self._points) > _MOST_CURVES:
            del self._points[next(each for each in self._points if each != best)]

    def forget(self, number: int) -> None:
        """The trial is to run again."""
        self._points.pop(number, None)

    def found(self, rows: Mapping[int, TrialRow]) -> list[CurveStatus]:
        """The curves of these trials, some steps of each and always its last."""
        curves = []
        for number, points in sorted(self._points.items()):
            steps = sorted(points)
            some = steps[:: math.ceil(len(steps) / _MOST_STEPS)]
            some += [] if some[-1] == steps[-1] else steps[-1:]
            curves.append(CurveStatus(number, rows[number].state, some, [points[step] for step in some]))
        return curves


@dataclass(frozen=True, slots=True)
class Cause:
    """What several trials failed of, with the first of them as the example."""

    count: int  # of trials that ran
    repeats: int  # of trials that have the result of one of those
    ename: str  # ValueError; the error kind where there was no exception
    line: int | None  # in its cell, from 1
    example: TrialRow

    @property
    def text(self) -> str:
        """`ValueError at cell 7 line 12`."""
        if self.example.cell_index is None:
            return self.ename
        place = f"{self.ename} at cell {self.example.cell_index}"
        return place if self.line is None else f"{place} line {self.line}"

    @property
    def message(self) -> str:
        """What the example's error said, on one line and shortened; "" where it said nothing."""
        said = (self.example.error or "").removesuffix(f" (cell {self.example.cell_index})")
        said = "" if said == self.ename else " ".join(said.removeprefix(f"{self.ename}: ").split())
        return said if len(said) <= _LONGEST_MESSAGE else f"{said[: _LONGEST_MESSAGE - 2]} …"

    @property
    def description(self) -> str:
        """`ValueError at cell 7 line 12: C is negative`, and how many repeats of such trials there are."""
        said = f"{self.text}: {self.message}" if self.message else self.text
        return f"{said} (and {counted(self.repeats, 'repeat')})" if self.repeats else said

    @property
    def headline(self) -> str:
        """`9 trials, one cause: ValueError at cell 7 line 12: C is negative`."""
        return f"{counted(self.count, 'trial')}{', one cause' if self.count > 1 else ''}: {self.description}"


class Causes:
    """How many trials failed of what, kept up as trials end and are tried again."""

    def __init__(self) -> None:
        self._counts: Counter[ErrorIdentity] = Counter()
        self._repeats: Counter[ErrorIdentity] = Counter()
        self._examples: dict[ErrorIdentity, TrialRow] = {}

    def count(self, row: TrialRow, by: int = 1) -> None:
        """The trial has ended, or with `by` -1 is to run again, as it was then; only FAILED and LOST ones count.

        An example stays for what is left of its cause.
        """
        if row.state in _FAILURES:
            key = row.error_identity
            if row.is_repeat:
                self._repeats[key] += by
                return
            self._counts[key] += by
            self._examples.setdefault(key, row)
            if not self._counts[key]:
                del self._counts[key], self._examples[key]

    def found(self) -> list[Cause]:
        """The causes, the most frequent first."""
        found = [
            Cause(self._counts[key], self._repeats[key], _ename(row), key.line, row)
            for key, row in self._examples.items()
        ]
        return sorted(found, key=lambda cause: (-cause.count, cause.example.number))


def causes(rows: Iterable[TrialRow]) -> list[Cause]:
    """The causes of the FAILED and LOST trials of `rows`, the most frequent first."""
    grouped = Causes()
    for row in rows:
        grouped.count(row)
    return grouped.found()


def _ename(row: TrialRow) -> str:
    # `Failure.summary` writes "ename: evalue (cell n)". An ename has no blank in it; a sentence of ours has.
    head = (row.error or "").split(":", 1)[0].split(" (cell", 1)[0].strip()
    if head and " " not in head:
        return head
    return row.error_kind.value if row.error_kind else row.state.value
