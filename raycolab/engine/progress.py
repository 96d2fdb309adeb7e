"""What is told of a sweep: the object of `status --json`, from what is committed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from raycolab.trial import Metric, Scalar, SweepState, TrialRow, TrialState

__all__ = ["SweepNews", "trial_words"]


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

    def to_json(self) -> dict[str, object]:
        """The sweep's object of `status --json`, with the `sentence` for people."""
        states = {state.value.lower(): self.counts.get(state, 0) for state in TrialState}
        return {
            "name": self.name,
            "state": self.state.value,
            "total": sum(states.values()),
            **states,
            "eta_s": None if self.eta_s is None else math.ceil(self.eta_s),
            "best": self._best(),
            "sentence": self.sentence,
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


def trial_words(row: TrialRow) -> str:
    """`#12 svc x iris`."""
    return f"#{row.number} {row.model} x {row.dataset}"
