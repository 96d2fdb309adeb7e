"""Committed trials by pair, node and cause, kept up a row at a time: what a panel shows must not cost a walk over all.

It counts; what is told of it, and how much, is `raycolab.engine.progress`'s business.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from raycolab.results.causes import Causes
from raycolab.trial import FINAL_STATES, TrialRow, TrialState

__all__ = ["PairTally", "Tally"]

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

    def __init__(self, mode: str) -> None:
        """`mode` of the metric, "max" or "min"."""
        # By model and dataset, in the order they were met.
        self.pairs: dict[tuple[str, str], PairTally] = {}
        # Trials that ended on each node, those of nodes that are gone too.
        self.done_on: Counter[str] = Counter()
        self.causes = Causes()
        self._is_better = float.__gt__ if mode == "max" else float.__lt__

    def moved(self, before: TrialRow | None, row: TrialRow, worth: float | None) -> None:
        """`row` is committed; `worth` is its metric when it may be compared."""
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
        if worth is not None and (pair.best is None or self._is_better(worth, pair.best)):
            pair.best = worth

    def _add(self, pair: PairTally, row: TrialRow, count: int) -> None:
        pair.done += count
        if row.state in _FAILURES:
            pair.failed += count
        if row.node is not None and row.attempts:  # a repeated configuration ran nowhere
            self.done_on[row.node] += count
