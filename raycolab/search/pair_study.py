"""One pair's study in Optuna: proposals that know what runs, intermediate values, and what the pruner says of them.

A trial is known here by its number in the sweep; Optuna counts its own. The study lives in memory and is made again
from rows. Randomness is the seed's and the trial number's alone: what a trial is proposed depends on what is known at
that moment, and not on whether this study has gone on all the time or was made again.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import TPESampler
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from raycolab.search.distributions import SearchSpace
from raycolab.spec.domains import Domain
from raycolab.trials import Config, Scalar

__all__ = ["PairStudy"]

_SEED_BYTES = 4  # numpy's generators take seeds below 2^32


class PairStudy:
    """The study of one pair; `space` is empty where Optuna proposes nothing and only prunes."""

    def __init__(
        self, pair: tuple[str, str], space: Mapping[str, Domain], mode: str, pruner: BasePruner | None, seed: int
    ) -> None:
        self._pair = pair
        self._seed = seed
        self._space = SearchSpace(space)
        self._direction = StudyDirection.MAXIMIZE if mode == "max" else StudyDirection.MINIMIZE
        self._pruner = NopPruner() if pruner is None else pruner
        # what Optuna found its trials to have in common
        self._common: dict[str, BaseDistribution] = {}
        # Optuna's number of each trial that runs, by ours
        self._running: dict[int, int] = {}
        self._open()

    def _open(self) -> None:
        self._storage = InMemoryStorage()
        name = json.dumps(self._pair)  # Hyperband's brackets hang on it
        with _quiet():
            self._study = optuna.create_study(
                storage=self._storage, study_name=name, direction=self._direction, pruner=self._pruner
            )
        self._study_id = self._storage.get_study_id_from_name(name)

    def runs(self, number: int) -> bool:
        """Whether the trial has begun and not ended."""
        return number in self._running

    def ask(self, number: int, point: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """A configuration for a trial, which begins to run; it has the values of the point, which may be empty."""
        text = json.dumps([self._seed, *self._pair, number])
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:_SEED_BYTES], "big")
        with _quiet():
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
        template = create_trial(state=TrialState.RUNNING, params=params, distributions=distributions)
        trial_id = self._storage.create_new_trial(self._study_id, template)
        self._running[number] = self._storage.get_trial_number_from_id(trial_id)

    def report(self, number: int, step: int, value: float) -> None:
        """A value of a trial that runs; the same step again replaces it."""
        self._storage.set_trial_intermediate_value(self._trial_id(number), step, value)

    def should_prune(self, number: int) -> bool:
        """Whether the pruner would end the trial after its last step."""
        with _quiet():
            return bool(self._pruner.prune(self._study, self._storage.get_trial(self._trial_id(number))))

    def tell(self, number: int, value: float | None, *, pruned: bool = False) -> None:
        """A trial ended: with a value, pruned, or failed."""
        state = TrialState.COMPLETE if value is not None else TrialState.PRUNED if pruned else TrialState.FAIL
        with _quiet():
            self._study.tell(self._running.pop(number), value, state)

    def forget_reports(self, number: int) -> None:
        """The values of a trial that runs do not count any more: the study is made again without them."""
        trials = self._storage.get_all_trials(self._study_id, deepcopy=False)
        again = self._running[number]
        if not trials[again].intermediate_values:
            return
        self._open()
        for trial in trials:
            template = _without_reports(trial) if trial.number == again else trial
            self._storage.create_new_trial(self._study_id, template)

    def _trial_id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, self._running[number])


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


def _without_reports(trial: FrozenTrial) -> FrozenTrial:
    """The trial as it began; what pruners noted about it is gone too."""
    return create_trial(state=TrialState.RUNNING, params=trial.params, distributions=trial.distributions)


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna's log lines and warnings are for those who call Optuna; for the time of a call they are off."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(level)
