"""The studies of a sweep: what trials without a configuration are proposed, and which running ones should be pruned.

One study for each pair, in Optuna, in memory, made again from the rows of the store. Which rows there are and when they
run, the schedule decides; what to try and what to give up is Optuna's.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from raycolab.search.enumeration import untried
from raycolab.search.pair_study import PairStudy
from raycolab.search.pruners import make_pruner, remembers
from raycolab.spec.spec import Method, SweepSpec, points_of
from raycolab.trials import FINAL_STATES, Config, Scalar, TrialRow, TrialState

__all__ = ["Studies"]

Pair = tuple[str, str]
Reports = Mapping[int, Mapping[int, float]]  # step and value, by the number of the trial

_NOTED = 200  # trials, the last of each pair, whose steps a remembering pruner is shown again: enough to know the best
_TOLD_ONCE = frozenset({TrialState.COMPLETE, TrialState.PRUNED})  # others may be run again


class Studies:
    """What the schedule asks Optuna, by the number of the trial."""

    def __init__(self, spec: SweepSpec, rows: Sequence[TrialRow], reports: Reports | None = None) -> None:
        """The studies as they stand after these rows; `reports` has the values that their trials reported."""
        self.renew(spec, rows, reports)

    def renew(self, spec: SweepSpec, rows: Sequence[TrialRow], reports: Reports | None = None) -> None:
        """Make them anew, as of these rows: the sweep was declared larger."""
        self._spec = spec
        self._proposing = spec.method is Method.BAYES
        self._remembering = spec.early_stop is not None and remembers(spec.early_stop)
        self._studies: dict[Pair, PairStudy] = {}
        # what each pair has yet to try before anything is proposed
        self._points: dict[Pair, list[dict[str, Scalar]]] = {}
        # the pair of every trial, and the configuration of those that have one
        self._pairs: dict[int, Pair] = {}
        self._configs: dict[int, Config] = {}
        # trials whose end the studies know and will not hear again
        self._told: set[int] = set()
        if self._proposing or spec.early_stop is not None:
            self._replay(rows, {} if reports is None else reports)

    def propose(self, row: TrialRow) -> Config:
        """The configuration of a trial that begins: the one it has, or a new one of method bayes."""
        self._learn(row)
        config = self._configs.get(row.number)
        study = self._study_of(row.number)
        if config is not None:
            if not study.runs(row.number) and row.number not in self._told:
                study.begin(row.number, config)
            return config
        if not self._proposing:
            raise ValueError(f"trial {row.number} of a {self._spec.method} sweep has no configuration")
        points = self._points.get(self._pairs[row.number])
        self._configs[row.number] = config = study.ask(row.number, points.pop(0) if points else {})
        return config

    def repeated(self, number: int) -> None:
        """What was proposed for the trial is an earlier one's configuration: the study need not wait for it."""
        self._study_of(number).tell(number, None)
        self._told.add(number)

    def reported(self, number: int, step: int, value: float) -> bool:
        """Whether a trial that reports this value at this step should be pruned now."""
        if self._spec.early_stop is None or step < 0 or not self._has_begun(number):
            return False
        study = self._study_of(number)
        study.report(number, step, value)
        return study.should_prune(number)

    def ended(self, row: TrialRow) -> None:
        """A trial has come to a final state; a copy of another one's result is nothing new."""
        if (not self._proposing and self._spec.early_stop is None) or row.same_as is not None:
            return
        self._learn(row)
        if self._has_begun(row.number):
            value = self._value(row)
            self._study_of(row.number).tell(row.number, value, pruned=row.state is TrialState.PRUNED)
            if row.state in _TOLD_ONCE:
                self._told.add(row.number)

    def requeued(self, number: int) -> None:
        """A trial's attempt was lost: what it reported does not count, and it keeps its configuration."""
        if self._spec.early_stop is not None and number in self._pairs and self._study_of(number).runs(number):
            self._study_of(number).forget_reports(number)

    def _replay(self, rows: Sequence[TrialRow], reports: Reports) -> None:
        tried: dict[Pair, list[Config | None]] = defaultdict(list)
        for row in sorted(rows, key=lambda row: row.number):
            self._learn(row)
            tried[row.model, row.dataset].append(row.config)
        for pair in self._spec.pairs if self._proposing else ():
            points = points_of(self._spec.points_to_evaluate, self._spec.models[pair[0]])
            self._points[pair] = untried(points, tried[pair])
        finished = [row for row in rows if row.state in FINAL_STATES and row.same_as is None]
        left = Counter((row.model, row.dataset) for row in finished)
        for row in sorted(finished, key=lambda row: (row.ended_at or 0.0, row.number)):
            left[row.model, row.dataset] -= 1
            if row.config is not None:
                self._study_of(row.number).begin(row.number, row.config)
                self._report_again(row.number, reports, noted=left[row.model, row.dataset] < _NOTED)
                self.ended(row)
        for row in rows:
            # With method bayes a trial has a configuration because it has begun, whatever became of the attempt.
            if row.config is not None and row.state not in FINAL_STATES and row.same_as is None:
                if row.state is TrialState.RUNNING or self._proposing:
                    self._study_of(row.number).begin(row.number, row.config)
                if row.state is TrialState.RUNNING:
                    self._report_again(row.number, reports, noted=True)

    def _report_again(self, number: int, reports: Reports, *, noted: bool) -> None:
        if self._spec.early_stop is None:
            return
        study = self._study_of(number)
        for step, value in sorted(reports.get(number, {}).items()):
            study.report(number, step, value)
            if self._remembering and noted:
                study.should_prune(number)

    def _learn(self, row: TrialRow) -> None:
        self._pairs[row.number] = row.model, row.dataset
        if row.config is not None:
            self._configs[row.number] = row.config

    def _study_of(self, number: int) -> PairStudy:
        pair = self._pairs[number]
        if pair not in self._studies:
            early_stop = self._spec.early_stop
            self._studies[pair] = PairStudy(
                pair,
                self._spec.models[pair[0]] if self._proposing else {},
                self._spec.metric.mode,
                None if early_stop is None else make_pruner(early_stop),
                self._spec.seed,
            )
        return self._studies[pair]

    def _has_begun(self, number: int) -> bool:
        """Whether the trial runs; one that has a configuration begins now, unless it ended for good."""
        if number not in self._configs or number in self._told:
            return False
        if not self._study_of(number).runs(number):
            self._study_of(number).begin(number, self._configs[number])
        return True

    def _value(self, row: TrialRow) -> float | None:
        """The metric of a COMPLETE trial; None where it has no finite one, which is never best and teaches nothing."""
        value = row.metrics.get(self._spec.metric.name) if row.state is TrialState.COMPLETE else None
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
