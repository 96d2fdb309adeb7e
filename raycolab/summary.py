"""What is told of a sweep: the object of `status --json`, from what is committed.

Beside the counts it carries what a panel shows: the pairs, the causes of failures, how many trials ended on which node.
Those are bounded in number and in length, since they travel twice a second; what is left out is counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raycolab.trials import FINAL_STATES, ErrorIdentity, Metric, Scalar, SweepState, TrialRow, TrialState

__all__ = [
    "MOST_PAIRS",
    "Cause",
    "Causes",
    "PairTally",
    "SweepNews",
    "Tally",
    "causes",
    "sweeps_json",
]

MOST_PAIRS = 400
"""Pairs that are told of one sweep: 20 x 20 is a map that can still be read."""

MOST_PAIRS_IN_ALL = 1000
"""Pairs that are told of all sweeps together; the latest sweeps come first."""

_MOST_CAUSES = 12
_MOST_NODES = 200  # a sweep of days sees many come and go
_LONGEST_NAME = 60  # characters of a model's or a dataset's name

News = dict[str, object]


@dataclass(frozen=True, slots=True)
class SweepNews:
    """Where one sweep stands."""

    name: str
    state: SweepState
    counts: Mapping[TrialState, int]
    metric: Metric
    best: TrialRow | None = None
    eta_s: float | None = None
    sentence: str | None = None
    tally: Tally | None = None
    slots: Mapping[str, str] = field(default_factory=dict)  # of each node, in words

    def to_json(self, pairs: int = MOST_PAIRS) -> News:
        """The sweep's object of `status --json`, with the `sentence` for people and so many pairs at most."""
        states = {state.value.lower(): self.counts.get(state, 0) for state in TrialState}
        return {
            "name": self.name,
            "state": self.state.value,
            "total": sum(states.values()),
            **states,
            "eta_s": None if self.eta_s is None else math.ceil(self.eta_s),
            "best": self._best(),
            "sentence": self.sentence,
            "slots": dict(self.slots),
            "metric": {"name": self.metric.name, "mode": self.metric.mode},
            **_details(self.tally or Tally(self.metric), pairs),
        }

    def _best(self) -> dict[str, Scalar] | None:
        row = self.best
        if row is None:
            return None
        return {
            "metric": self.metric.name,
            "value": row.metrics[self.metric.name],
            "model": row.model,
            "dataset": row.dataset,
            "number": row.number,
        }


def sweeps_json(news: Sequence[SweepNews]) -> list[News]:
    """The objects of several sweeps, the latest last: it has its pairs first, and the bound is of all together."""
    told: list[News] = []
    left = MOST_PAIRS_IN_ALL
    for each in reversed(news):
        told.append(each.to_json(min(left, MOST_PAIRS)))
        left -= len(told[-1]["pairs"])  # type: ignore[arg-type]  # the list `_details` made
    return told[::-1]


def _details(tally: Tally, most_pairs: int) -> News:
    pairs = _some_pairs(tally.pairs, most_pairs)
    causes = tally.causes.found()
    nodes = tally.done_on.most_common(_MOST_NODES)
    return {
        "pairs": [_pair_json(model, dataset, tally.pairs[model, dataset]) for model, dataset in pairs],
        "pairs_left_out": len(tally.pairs) - len(pairs),
        "causes": [{"text": cause.told, "count": cause.count} for cause in causes[:_MOST_CAUSES]],
        "causes_left_out": max(len(causes) - _MOST_CAUSES, 0),
        "done_on": {node: count for node, count in nodes if count},
    }


def _some_pairs(pairs: Iterable[tuple[str, str]], most: int) -> list[tuple[str, str]]:
    """The pairs of the first models with the first datasets, so that what is shown is a whole map."""
    known = list(pairs)
    if len(known) <= most:
        return known
    models, datasets = (list(dict.fromkeys(names)) for names in zip(*known, strict=True))
    columns = max(min(len(datasets), math.isqrt(most)), most // len(models))
    rows = most // max(columns, 1)
    shown = set(models[:rows]), set(datasets[:columns])
    return [(model, dataset) for model, dataset in known if model in shown[0] and dataset in shown[1]]


def _pair_json(model: str, dataset: str, pair: PairTally) -> dict[str, Any]:
    names = {"model": model[:_LONGEST_NAME], "dataset": dataset[:_LONGEST_NAME]}
    return {**names, "total": pair.total, "done": pair.done, "failed": pair.failed, "best": pair.best}


_FAILURES = frozenset({TrialState.FAILED, TrialState.LOST})


@dataclass(slots=True)
class PairTally:
    """One pair's trials."""

    total: int = 0
    done: int = 0  # in a final state
    failed: int = 0  # of those FAILED or LOST
    best: float | None = None  # the metric of its best trial


class Tally:
    """Give it every committed row with the one that it replaces."""

    def __init__(self, metric: Metric) -> None:
        """`metric` is the one that the sweep optimises."""
        # By model and dataset, in the order they were met.
        self.pairs: dict[tuple[str, str], PairTally] = {}
        # Trials that ended on each node, those of nodes that are gone too.
        self.done_on: Counter[str] = Counter()
        self.causes = Causes()
        self._metric = metric

    def moved(self, before: TrialRow | None, row: TrialRow) -> None:
        """`row` is committed in the place of `before`."""
        pair = self.pairs.get((row.model, row.dataset))
        if pair is None:
            pair = self.pairs[row.model, row.dataset] = PairTally()
        if before is None:
            pair.total += 1
        elif before.state in FINAL_STATES:
            self._add(pair, before, -1)
            self.causes.remove(before)
        if row.state in FINAL_STATES:
            self._add(pair, row, 1)
            self.causes.add(row)
        value = self._metric.objective(row)
        if value is not None and (pair.best is None or self._metric.is_better(value, pair.best)):
            pair.best = value

    def _add(self, pair: PairTally, row: TrialRow, count: int) -> None:
        pair.done += count
        if row.state in _FAILURES:
            pair.failed += count
        if row.node is not None and row.attempts:  # a repeated configuration ran nowhere
            self.done_on[row.node] += count


_LONGEST_MESSAGE = 160  # characters


@dataclass(frozen=True, slots=True)
class Cause:
    """What several trials failed of, with the first of them as the example."""

    count: int
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
    def told(self) -> str:
        """`ValueError at cell 7 line 12: C is negative`."""
        return f"{self.text}: {self.message}" if self.message else self.text

    @property
    def headline(self) -> str:
        """`9 trials, one cause: ValueError at cell 7 line 12: C is negative`."""
        return f"1 trial: {self.told}" if self.count == 1 else f"{self.count} trials, one cause: {self.told}"


class Causes:
    """How many trials failed of what, kept up as trials end and are tried again."""

    def __init__(self) -> None:
        self._counts: Counter[ErrorIdentity] = Counter()
        self._examples: dict[ErrorIdentity, TrialRow] = {}

    def add(self, row: TrialRow) -> None:
        """The trial has ended; only FAILED and LOST ones count."""
        if row.state in (TrialState.FAILED, TrialState.LOST):
            key = row.error_identity
            self._counts[key] += 1
            self._examples.setdefault(key, row)

    def remove(self, row: TrialRow) -> None:
        """The trial, as it was when it was added, is to run again. An example stays for what is left of its cause."""
        if row.state in (TrialState.FAILED, TrialState.LOST):
            key = row.error_identity
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key], self._examples[key]

    def found(self) -> list[Cause]:
        """The causes, the most frequent first."""
        found = [Cause(self._counts[key], _ename(row), key.line, row) for key, row in self._examples.items()]
        return sorted(found, key=lambda cause: (-cause.count, cause.example.number))


def causes(rows: Iterable[TrialRow]) -> list[Cause]:
    """The causes of the FAILED and LOST trials of `rows`, the most frequent first."""
    grouped = Causes()
    for row in rows:
        grouped.add(row)
    return grouped.found()


def _ename(row: TrialRow) -> str:
    # `Failure.summary` writes "ename: evalue (cell n)"; an ename has no blank, a sentence of ours has.
    head = (row.error or "").split(":", 1)[0].split(" (cell", 1)[0].strip()
    if head and " " not in head:
        return head
    return row.error_kind.value if row.error_kind else row.state.value
