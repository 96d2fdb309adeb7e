"""Trials as Optuna studies, for Optuna's own plots, importances and dashboard, and which parameters mattered.

The only door from results to Optuna. The studies are in memory and for looking at; what is searched next is
`raycolab.search`'s business.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import optuna
from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.importance import BaseImportanceEvaluator, FanovaImportanceEvaluator, PedAnovaImportanceEvaluator
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from raycolab import trials as ours
from raycolab.search.distributions import optuna_distribution, optuna_value, quiet_optuna
from raycolab.spec.domains import Domain
from raycolab.trials import Metric, TrialRow

__all__ = ["IMPORTANCE_TRIALS", "Study", "add_trials", "importance_method", "importances", "optuna_study"]

IMPORTANCE_TRIALS = 400
"""The most trials of a pair that importances are computed from: half a second a pair, where 2,000 take a minute."""

_FEWEST_TRIALS = 4  # fewer say nothing about what mattered
_STATES = {
    ours.TrialState.PENDING: TrialState.WAITING,
    ours.TrialState.RUNNING: TrialState.RUNNING,
    ours.TrialState.COMPLETE: TrialState.COMPLETE,
    ours.TrialState.PRUNED: TrialState.PRUNED,
    ours.TrialState.FAILED: TrialState.FAIL,
    ours.TrialState.LOST: TrialState.FAIL,
    ours.TrialState.CANCELLED: TrialState.FAIL,
}


def optuna_study(
    name: str,
    rows: Sequence[TrialRow],
    reports: Mapping[int, Mapping[int, float]],
    spaces: Mapping[str, Mapping[str, Domain]],
    metric: Metric,
    *,
    storage: BaseStorage | None = None,
) -> Study:
    """All these trials as a study, in memory or new in `storage`, in their order, intermediate values included.

    `spaces` are those of the models. Trials of several pairs have `model` and `dataset` as parameters, and a parameter
    that means another range to another model is called `model/parameter`. Optuna's COMPLETE has a finite value: a trial
    without one is a failed trial there. What Optuna has no field for is among the user attributes: number, state, node,
    error, other metrics; and the configuration as `config` where the space does not hold it.
    """
    direction = StudyDirection.MAXIMIZE if metric.mode == "max" else StudyDirection.MINIMIZE
    with quiet_optuna():
        study = optuna.create_study(study_name=name, direction=direction, storage=storage)
        add_trials(study, rows, reports, spaces, metric)
    return study


def add_trials(
    study: Study,
    rows: Sequence[TrialRow],
    reports: Mapping[int, Mapping[int, float]],
    spaces: Mapping[str, Mapping[str, Domain]],
    metric: Metric,
) -> None:
    """More trials of a study that `optuna_study` made."""
    params = _Params.of(rows, spaces)
    for row in rows:
        steps = reports.get(row.number, {})
        config = {"config": dict(row.config or {})}
        is_whole = all(name in params.of_models[row.model] for name in row.config or {})
        try:
            study.add_trial(_frozen(row, steps, params.of_row(row), metric, {} if is_whole else config))
        except ValueError:  # a value outside its distribution: a space that was declared otherwise before
            study.add_trial(_frozen(row, steps, {}, metric, config))


@dataclass(frozen=True, slots=True)
class _Params:
    """What the parameters of trials are called in a study, and their distributions."""

    of_models: Mapping[str, Mapping[str, tuple[str, BaseDistribution]]]  # by model and our own name
    of_pair: Mapping[str, BaseDistribution]  # model and dataset, where trials differ in them

    @classmethod
    def of(cls, rows: Sequence[TrialRow], spaces: Mapping[str, Mapping[str, Domain]]) -> _Params:
        """Those of the models and datasets of these trials."""
        models = list(dict.fromkeys(row.model for row in rows))
        datasets = list(dict.fromkeys(row.dataset for row in rows))
        found = {
            model: {name: optuna_distribution(domain) for name, domain in spaces.get(model, {}).items()}
            for model in models
        }
        of_models = {
            model: {
                name: (name if _is_shared(name, found) else f"{model}/{name}", distribution)
                for name, distribution in space.items()
            }
            for model, space in found.items()
        }
        taken = {name for space in of_models.values() for name, _ in space.values()}
        pair = {"model": models, "dataset": datasets}
        of_pair = {
            name: CategoricalDistribution(values)
            for name, values in pair.items()
            if name not in taken and len(models) * len(datasets) > 1
        }
        return cls(of_models, of_pair)

    def of_row(self, row: TrialRow) -> dict[str, tuple[Any, BaseDistribution]]:
        """A trial's parameters with their distributions."""
        pair = {"model": row.model, "dataset": row.dataset}
        params: dict[str, tuple[Any, BaseDistribution]] = {
            name: (pair[name], distribution) for name, distribution in self.of_pair.items()
        }
        for name, value in (row.config or {}).items():
            if name in self.of_models[row.model]:
                called, distribution = self.of_models[row.model][name]
                params[called] = (optuna_value(value), distribution)
        return params


def _is_shared(name: str, found: Mapping[str, Mapping[str, BaseDistribution]]) -> bool:
    """Whether a parameter means the same to each model that has it."""
    each = [space[name] for space in found.values() if name in space]
    return all(distribution == each[0] for distribution in each)


def importances(rows: Sequence[TrialRow], space: Mapping[str, Domain], metric: Metric) -> dict[str, float]:
    """How much of the metric's variation each parameter explains, largest first, 1 in all; {} for too few trials.

    By Optuna's `importance_method`. What never varied is left out.
    """
    comparable = [row for row in rows if row.config and math.isfinite(metric.value_of(row))]
    comparable = comparable[:: max(math.ceil(len(comparable) / IMPORTANCE_TRIALS), 1)]
    names = [name for name in space if _varies(comparable, name)]
    values = {metric.value_of(row) for row in comparable}
    if len(comparable) < _FEWEST_TRIALS or len(values) < 2 or not names:
        return {}
    study = optuna_study("importances", comparable, {}, {comparable[0].model: space}, metric)
    with quiet_optuna():
        try:
            found = optuna.importance.get_param_importances(study, evaluator=_evaluator(), params=names)
        except (ValueError, RuntimeError):  # Optuna's way to say that these trials tell nothing
            return {}
    return {name: float(share) for name, share in found.items()}


def importance_method() -> str:
    """The method of `importances` here: fANOVA where scikit-learn is installed, else PED-ANOVA."""
    return "fANOVA" if importlib.util.find_spec("sklearn") is not None else "PED-ANOVA"


def _frozen(
    row: TrialRow,
    reports: Mapping[int, float],
    params: Mapping[str, tuple[Any, BaseDistribution]],
    metric: Metric,
    attributes: Mapping[str, Any],
) -> FrozenTrial:
    state, value = _STATES[row.state], metric.value_of(row)
    if state is TrialState.COMPLETE and not math.isfinite(value):
        state = TrialState.FAIL
    if state is TrialState.PRUNED and math.isnan(value):
        value = reports[max(reports)] if reports else math.nan
    has_value = state in (TrialState.COMPLETE, TrialState.PRUNED) and not math.isnan(value)
    began, ended = row.started_at, row.ended_at
    if state.is_finished():  # one that was cancelled or lost before it began has no start, which Optuna needs
        ended = began if ended is None else ended
        began = ended if began is None else began
    return FrozenTrial(
        number=0,  # Optuna's own, given when it is added
        trial_id=0,
        state=state,
        value=value if has_value else None,
        params={name: value for name, (value, _) in params.items()},
        distributions={name: distribution for name, (_, distribution) in params.items()},
        intermediate_values=dict(reports),
        user_attrs=_attributes(row, metric) | dict(attributes),
        system_attrs={},
        datetime_start=None if state is TrialState.WAITING else _local(began or 0.0),
        datetime_complete=_local(ended or 0.0) if state.is_finished() else None,
    )


def _attributes(row: TrialRow, metric: Metric) -> dict[str, Any]:
    kind = None if row.error_kind is None else row.error_kind.value
    fixed = {"number": row.number, "state": row.state.value, "model": row.model, "dataset": row.dataset}
    known = {"node": row.node, "error_kind": kind, "error": row.error, "same_as": row.same_as}
    others = {name: value for name, value in row.metrics.items() if name != metric.name}
    return others | fixed | {name: value for name, value in known.items() if value is not None}


def _varies(rows: Sequence[TrialRow], name: str) -> bool:
    return len({repr((row.config or {}).get(name)) for row in rows}) > 1 and all(
        name in (row.config or {}) for row in rows
    )


def _local(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds)  # Optuna's own times are local and naive


def _evaluator() -> BaseImportanceEvaluator:
    if importance_method() == "PED-ANOVA":
        return PedAnovaImportanceEvaluator()
    # Optuna's 64 trees of depth 64 say the same of this few trials, and take ten times as long.
    return FanovaImportanceEvaluator(n_trees=16, max_depth=8, seed=0)
