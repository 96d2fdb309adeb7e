"""What is told of a sweep: the object of `status --json`, from what is committed.

Beside the counts it carries what a panel shows: the pairs, the causes of failures, how many trials ended on which node.
Those are bounded in number and in length, since they travel twice a second; what is left out is counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raycolab.results.tally import PairTally, Tally
from raycolab.trial import Metric, Scalar, SweepState, TrialRow, TrialState

__all__ = ["MOST_PAIRS", "SweepNews", "sweeps_json", "trial_words"]

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
            **_details(self.tally or Tally(self.metric.mode), pairs),
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


def trial_words(row: TrialRow) -> str:
    """`#12 svc x iris`."""
    return f"#{row.number} {row.model} x {row.dataset}"


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
