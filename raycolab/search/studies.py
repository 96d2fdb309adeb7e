"""The studies of a sweep: what trials without a configuration are proposed, and which running ones should be pruned.

One study for each pair, in Optuna, in memory, made again from the rows of the store. Which rows there are and when they
run, the scheduler decides; what to try and what to give up is Optuna's.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import TPESampler
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, create_trial
from optuna.trial import TrialState as OptunaState

from raycolab.search.distributions import SearchSpace, quiet_optuna
from raycolab.search.enumeration import remaining_points
from raycolab.spec.pruners import Bands, EarlyStop, bands_of, make_pruner, remembers
from raycolab.spec.readers import points_of
from raycolab.spec.spec import Method, SweepSpec
from raycolab.trials import FINAL_STATES, Config, TrialRow, TrialState, Value

__all__ = ["Studies"]

Pair = tuple[str, str]

Reports = Mapping[int, Mapping[int, float]]
"""Step and value, by the number of the trial."""

# Trials, the last of each pair, whose steps a remembering pruner is shown again: enough to know the best.
_NOTED = 200
# Trials that ended in another state may run again.
_FOR_GOOD = frozenset({TrialState.COMPLETE, TrialState.PRUNED})
# numpy's generators take seeds below 2^32.
_SEED_BYTES = 4


class Studies:
    """What the scheduler asks Optuna, by the number of the trial."""

    def __init__(self, spec: SweepSpec, rows: Sequence[TrialRow], reports: Reports | None = None) -> None:
        """The studies as they stand after these rows; `reports` has the values that their trials reported."""
        self.renew(spec, rows, reports)

    def renew(self, spec: SweepSpec, rows: Sequence[TrialRow], reports: Reports | None = None) -> None:
        """Make them again from these rows: the sweep was declared larger."""
        self._spec = spec
        self._proposing = spec.method is Method.BAYES
        self._remembering = spec.early_stop is not None and remembers(spec.early_stop)
        self._studies: dict[Pair, _PairStudy] = {}
        # what each pair has yet to try before anything is proposed
        self._points: dict[Pair, list[dict[str, Value]]] = {}
        # the pair of every trial, and the configuration of those that have one
        self._pairs: dict[int, Pair] = {}
        self._configs: dict[int, Config] = {}
        # trials whose end the studies know for good
        self._ended: set[int] = set()
        if self._proposing or spec.early_stop is not None:
            self._replay(rows, {} if reports is None else reports)

    def propose(self, row: TrialRow) -> Config:
        """The configuration of a trial that begins: the one it has, or a new one of method bayes."""
        self._learn(row)
        config = self._configs.get(row.number)
        study = self._study_of(row.number)
        if config is not None:
            if not study.runs(row.number) and row.number not in self._ended:
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
        self._ended.add(number)

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
            # What is never best teaches nothing.
            value = self._spec.metric.objective(row)
            self._study_of(row.number).tell(row.number, value, pruned=row.state is TrialState.PRUNED)
            if row.state in _FOR_GOOD:
                self._ended.add(row.number)

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
            self._points[pair] = remaining_points(points, tried[pair])
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

    def _study_of(self, number: int) -> _PairStudy:
        pair = self._pairs[number]
        if pair not in self._studies:
            self._studies[pair] = _PairStudy(self._spec, pair)
        return self._studies[pair]

    def _has_begun(self, number: int) -> bool:
        """Whether the trial runs; one that has a configuration begins now, unless it ended for good."""
        if number not in self._configs or number in self._ended:
            return False
        if not self._study_of(number).runs(number):
            self._study_of(number).begin(number, self._configs[number])
        return True


class _PairStudy:
    """The study of one pair in Optuna: proposals that know what runs, intermediate values, what the pruner says.

    A trial is known by its number in the sweep; Optuna counts its own. Randomness is the seed's and the trial number's
    alone: what a trial is proposed depends on what is known at that moment, and not on whether this study has gone on
    all the time or was made again. Where Optuna only prunes, it knows of no parameters.
    """

    def __init__(self, spec: SweepSpec, pair: Pair) -> None:
        self._pair = pair
        self._seed = spec.seed
        self._space = SearchSpace(spec.models[pair[0]] if spec.method is Method.BAYES else {})
        self._direction = StudyDirection.MAXIMIZE if spec.metric.mode == "max" else StudyDirection.MINIMIZE
        self._pruner = NopPruner() if spec.early_stop is None else _pruner(spec.early_stop)
        # what Optuna found its trials to have in common
        self._common: dict[str, BaseDistribution] = {}
        # Optuna's number of each trial that runs, by ours
        self._running: dict[int, int] = {}
        self._open()

    def _open(self) -> None:
        self._storage = InMemoryStorage()
        # Hyperband's brackets depend on the name.
        name = json.dumps(self._pair)
        with quiet_optuna():
            self._study = optuna.create_study(
                storage=self._storage, study_name=name, direction=self._direction, pruner=self._pruner
            )
        self._study_id = self._storage.get_study_id_from_name(name)

    def runs(self, number: int) -> bool:
        """Whether the trial has begun and not ended."""
        return number in self._running

    def ask(self, number: int, point: Mapping[str, Value]) -> dict[str, Value]:
        """A configuration for a trial, which begins to run; it has the values of the point, which may be empty."""
        text = json.dumps([self._seed, *self._pair, number])
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:_SEED_BYTES], "big")
        with quiet_optuna():
            self._study.sampler = _OneSpaceSampler(seed, self._common)
            if point:
                self._study.enqueue_trial(self._space.params(point))
            trial = self._study.ask(fixed_distributions=self._space.distributions)
        self._running[number] = trial.number
        return self._space.config(trial.params) | dict(point)

    def begin(self, number: int, config: Config) -> None:
        """A trial with this configuration runs."""
        params = self._space.params(config)
        distributions = {name: self._space.distributions[name] for name in params}
        template = create_trial(state=OptunaState.RUNNING, params=params, distributions=distributions)
        trial_id = self._storage.create_new_trial(self._study_id, template)
        self._running[number] = self._storage.get_trial_number_from_id(trial_id)

    def report(self, number: int, step: int, value: float) -> None:
        """A value of a trial that runs; the same step again replaces it."""
        self._storage.set_trial_intermediate_value(self._trial_id(number), step, value)

    def should_prune(self, number: int) -> bool:
        """Whether the pruner would end the trial after its last step."""
        with quiet_optuna():
            return bool(self._pruner.prune(self._study, self._storage.get_trial(self._trial_id(number))))

    def tell(self, number: int, value: float | None, *, pruned: bool = False) -> None:
        """A trial ended: with a value, pruned, or failed."""
        without_value = OptunaState.PRUNED if pruned else OptunaState.FAIL
        state = without_value if value is None else OptunaState.COMPLETE
        with quiet_optuna():
            self._study.tell(self._running.pop(number), value, state)

    def forget_reports(self, number: int) -> None:
        """The values of a trial that runs do not count any more: the study is made again without them."""
        trials = self._storage.get_all_trials(self._study_id, deepcopy=False)
        again = self._running[number]
        if not trials[again].intermediate_values:
            return
        self._open()
        for trial in trials:
            if trial.number == again:
                # As it began: what pruners noted about it is gone too.
                trial = create_trial(state=OptunaState.RUNNING, params=trial.params, distributions=trial.distributions)
            self._storage.create_new_trial(self._study_id, trial)

    def _trial_id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, self._running[number])


def _pruner(early_stop: EarlyStop) -> BasePruner:
    bands = bands_of(early_stop)
    return make_pruner(early_stop) if bands is None else _BandPruner(bands)


class _BandPruner(BasePruner):
    """W&B's hyperband among Optuna's pruners."""

    def __init__(self, bands: Bands) -> None:
        self._bands = bands
        # of trials that ended, which report no more, by Optuna's number
        self._histories: dict[int, list[float]] = {}

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether the trial is to end after its last report."""
        sign = -1.0 if study.direction is StudyDirection.MAXIMIZE else 1.0
        histories = []
        for each in study.get_trials(deepcopy=False):
            history = self._histories.get(each.number)
            if history is None:
                values = (sign * value for _, value in sorted(each.intermediate_values.items()))
                history = [value for value in values if math.isfinite(value)]
                if each.state.is_finished():
                    self._histories[each.number] = history
            histories.append(history)
        return self._bands.ends(histories[trial.number], histories)


class _OneSpaceSampler(TPESampler):
    """Optuna's sampler with its defaults, where all trials have one space: it looks once for what they have in common.

    It would look through every trial for every proposal, which is half the cost of one at 1,000 trials.
    """

    def __init__(self, seed: int, common: dict[str, BaseDistribution]) -> None:
        super().__init__(seed=seed, constant_liar=True)
        self._common = common

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """What Optuna says as soon as it says something."""
        if not self._common:
            self._common.update(super().infer_relative_search_space(study, trial))
        return dict(self._common)
