"""A pair as an Optuna study: every trial, in Optuna's words, and which parameters mattered."""

from __future__ import annotations

import dataclasses
import math
from datetime import datetime

import optuna
import pytest
from optuna.trial import TrialState as Theirs

from raycolab.errors import UsageError
from raycolab.results.study import importances, optuna_study
from raycolab.results.table import Results
from raycolab.search import enumerate_trials
from raycolab.spec.spaces import as_space
from raycolab.trials import ErrorKind, Metric, TrialRow, TrialState
from tests.raycolab.results.sweeps import NOW, declared, ended, finished_sweep, sweep_row

PAIR = ("forest", "wine")
METRIC = Metric("accuracy")
SPEC = declared()
SVC = SPEC.models["svc"]
WAITING = TrialRow(0, "svc", "iris", {"C": 1.5, "kernel": "rbf", "cv": 5})
DONE = ended(WAITING, 0.75)


def one(row: TrialRow, reports: dict[int, float] | None = None, metric: Metric = METRIC) -> optuna.trial.FrozenTrial:
    """The row as Optuna's trial."""
    return optuna_study("s", [row], {row.number: reports or {}}, {"svc": SVC}, metric).trials[0]


def finished_space(models: dict[str, object]) -> Results:
    """A grid over these spaces, all of it COMPLETE."""
    spec = declared(models=models, method="grid", jobs=None)
    rows = [ended(row, row.number / 100) for row in enumerate_trials(spec)]
    return Results(
        METRIC, rows, models=tuple(spec.models), datasets=spec.datasets, name="sample", declared=sweep_row(spec)
    )


def test_a_pair_is_a_study_of_all_its_trials() -> None:
    """In the order of their numbers, none of other pairs; its best is ours; plots and importances take it."""
    results = finished_sweep()
    study = results.to_study(*PAIR)
    rows = [row for row in results.rows if (row.model, row.dataset) == PAIR]
    assert study.study_name == "sample/forest/wine"
    assert study.direction is optuna.study.StudyDirection.MAXIMIZE
    assert [trial.user_attrs["number"] for trial in study.trials] == [row.number for row in rows]
    best = next(row for row in results.best_per_pair().to_dict("records") if (row["model"], row["dataset"]) == PAIR)
    assert (study.best_trial.user_attrs["number"], study.best_value) == (best["number"], best["accuracy"])
    assert study.best_params == {name: best[f"config/{name}"] for name in ("max_features", "optimizer/lr")}
    assert max(optuna.importance.get_param_importances(study).items(), key=lambda item: item[1])[0] == "optimizer/lr"


def test_to_study_without_arguments_was_a_type_error() -> None:
    """All pairs are one study, whose parameters are model and dataset too; one model is one, and so is one dataset."""
    results = finished_sweep()
    study = results.to_study()
    assert study.study_name == "sample"
    assert [trial.user_attrs["number"] for trial in study.trials] == [row.number for row in results.rows]
    assert {trial.params["model"] for trial in study.trials} == {"svc", "forest"}
    assert study.best_trial.user_attrs["number"] == results.best_trial.number  # type: ignore[union-attr]
    assert {name for trial in results.to_study("svc").trials for name in trial.params} == {
        *("model", "dataset", "C", "kernel", "cv")
    }
    iris = results.to_study(dataset="iris")
    assert {trial.user_attrs["dataset"] for trial in iris.trials} == {"iris"}


def test_a_parameter_with_two_meanings_has_two_names() -> None:
    """Optuna takes one range for each name."""
    spaces = {"a": {"x": [1, 2], "y": [0]}, "b": {"x": [3, 4], "y": [0]}}
    study = finished_space(spaces).to_study()
    assert {name for trial in study.trials for name in trial.params} == {"model", "dataset", "a/x", "b/x", "y"}
    assert "config" not in study.trials[0].user_attrs


def test_a_complete_trial_keeps_everything() -> None:
    """Value, parameters with their distributions, times, steps; the rest as user attributes."""
    trial = one(DONE, {1: 0.5, 2: 0.75})
    assert (trial.state, trial.value, trial.params) == (Theirs.COMPLETE, 0.75, {"C": 1.5, "kernel": "rbf", "cv": 5})
    assert trial.distributions["C"] == optuna.distributions.FloatDistribution(1e-3, 1e3, log=True)
    assert trial.distributions["kernel"] == optuna.distributions.CategoricalDistribution(("rbf", "poly"))
    assert trial.intermediate_values == {1: 0.5, 2: 0.75}
    assert trial.datetime_start == datetime.fromtimestamp(NOW)
    assert trial.duration is not None
    assert trial.duration.total_seconds() == 0.5
    attributes = {"number": 0, "state": "COMPLETE", "model": "svc", "dataset": "iris"}
    assert trial.user_attrs == attributes | {"node": "joiner-1", "fit_s": 0.25}


@pytest.mark.parametrize("state", [TrialState.FAILED, TrialState.LOST, TrialState.CANCELLED])
def test_what_came_to_nothing_is_failed_there(state: TrialState) -> None:
    """Ours is told beside it, and so is what went wrong; a trial cancelled before it began has times too."""
    row = dataclasses.replace(WAITING, state=state, error_kind=ErrorKind.LOST, error="gone", started_at=None)
    trial = one(row)
    assert (trial.state, trial.value, trial.params["C"]) == (Theirs.FAIL, None, 1.5)
    assert (trial.user_attrs["state"], trial.user_attrs["error"]) == (state.value, "gone")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "high", 10**400])
def test_what_is_never_best_here_is_failed_there(value: object) -> None:
    """Optuna would choose infinity, and takes no NaN."""
    metrics = {"accuracy": value}
    assert one(dataclasses.replace(DONE, metrics=metrics)).state is Theirs.FAIL  # type: ignore[arg-type]


def test_a_pruned_trial_has_its_last_value() -> None:
    """What it returned, else its last step, else none."""
    pruned = dataclasses.replace(DONE, state=TrialState.PRUNED)
    assert one(pruned, {3: 0.25}).value == 0.75
    silent = dataclasses.replace(pruned, metrics={})
    assert (one(silent, {1: 0.5, 3: 0.25}).state, one(silent, {1: 0.5, 3: 0.25}).value) == (Theirs.PRUNED, 0.25)
    assert one(silent).value is None


def test_a_configuration_outside_the_space_costs_no_row() -> None:
    """Of a space declared otherwise before: it stands among the user attributes."""
    trial = one(dataclasses.replace(DONE, config={"C": 1e9, "kernel": "linear"}))
    assert (trial.state, trial.params, trial.value) == (Theirs.COMPLETE, {}, 0.75)
    assert trial.user_attrs["config"] == {"C": 1e9, "kernel": "linear"}


def test_a_list_or_dict_is_its_json_there() -> None:
    """Which Optuna's storages and plots take."""
    space = as_space({"h": [[64, 32], {"a": 1}, 5], "k": {"value": [1]}})
    row = dataclasses.replace(DONE, config={"h": [64, 32], "k": [1]})
    assert optuna_study("s", [row], {}, {"svc": space}, METRIC).trials[0].params == {"h": "[64, 32]", "k": "[1]"}


def test_a_trial_without_a_configuration_waits() -> None:
    """The search has not proposed one yet."""
    assert one(dataclasses.replace(WAITING, config=None)).state is Theirs.WAITING


def test_min_is_minimized() -> None:
    """As the metric says."""
    study = optuna_study(
        "s", [DONE, ended(dataclasses.replace(WAITING, number=1), 0.5)], {}, SVC, Metric("accuracy", "min")
    )
    assert study.best_trial.user_attrs["number"] == 1


def test_a_pair_that_is_not_there_is_refused() -> None:
    """With what was meant and what there is; so are results that know no space."""
    results = finished_sweep()
    with pytest.raises(UsageError, match=r"sample has no model 'svm'.*svc"):
        results.to_study("svm", "iris")
    with pytest.raises(UsageError, match=r"sample has no dataset 'digits'"):
        results.to_study("svc", "digits")
    bare = Results(METRIC, [DONE], models=["svc"], datasets=["iris"])
    with pytest.raises(UsageError, match=r"^these results know no search space: take `results` from the sweep itself"):
        bare.to_study("svc", "iris")


def test_nothing_is_said_on_the_way(capfd: pytest.CaptureFixture[str]) -> None:
    """Optuna's log lines are for those who call Optuna, and its level stays as it was."""
    before = optuna.logging.get_verbosity()
    finished_sweep().to_study("svc", "iris")
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == before


def test_importances_name_what_mattered() -> None:
    """The largest first, 1 in all, without constants; the same every time."""
    rows = [row for row in finished_sweep().rows if row.model == "forest" and row.state is TrialState.COMPLETE]
    shares = importances(rows, SPEC.models["forest"], METRIC)
    assert list(shares) == ["optimizer/lr", "max_features"]
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["optimizer/lr"] > 0.6
    assert importances(rows, SPEC.models["forest"], METRIC) == shares


@pytest.mark.parametrize("values", [[], [0.5], [0.5] * 9, [math.nan] * 9])
def test_importances_of_too_little_are_none(values: list[float]) -> None:
    """Too few trials, or all with one value: nothing is claimed."""
    rows = [
        dataclasses.replace(ended(WAITING, value), number=number, config={"C": 1.0 + number, "kernel": "rbf", "cv": 5})
        for number, value in enumerate(values)
    ]
    assert importances(rows, SVC, METRIC) == {}
