"""What the schedule asks the studies of a sweep: proposals, whether to prune, and what they remember of rows."""

from __future__ import annotations

import json
import logging
import math
import warnings
from dataclasses import replace

import optuna
import pytest
from msgspec import structs

from raycolab.search import enumerate_trials
from raycolab.search.studies import Studies
from raycolab.spec.spaces import integer, loguniform, randn, uniform
from raycolab.spec.spec import SweepSpec
from raycolab.trials import Config, TrialRow, TrialState
from tests.raycolab.search.simulated import regret


def _spec(**arguments: object) -> SweepSpec:
    declared: dict[str, object] = {
        "parameters": {"x": uniform(0, 1), "k": ["a", "b"], "c": 7},
        "jobs_per_pair": 40,
        "method": "bayes",
    }
    return SweepSpec.from_arguments("test", **(declared | arguments))


def _studies(**arguments: object) -> tuple[SweepSpec, list[TrialRow], Studies]:
    spec = _spec(**arguments)
    rows = enumerate_trials(spec)
    return spec, rows, Studies(spec, rows)


def _ended(row: TrialRow, value: float | None = None, state: TrialState = TrialState.COMPLETE) -> TrialRow:
    metrics = {} if value is None else {"metric": value}
    return replace(row, state=state, metrics=metrics, ended_at=float(row.number))


def _begun(studies: Studies, row: TrialRow) -> TrialRow:
    return replace(row, config=studies.propose(row), state=TrialState.RUNNING)


def test_a_proposal_is_a_configuration_of_the_space() -> None:
    """Every name, in its order, constants too; another pair has another one."""
    _, rows, studies = _studies(
        datasets=["d", "e"], parameters={"x": uniform(0, 1), "c": 7, "z": randn(), "n": integer(1, 3)}
    )
    first, second = studies.propose(rows[0]), studies.propose(rows[1])
    assert list(first) == ["x", "c", "z", "n"]
    assert first["c"] == 7
    assert first != second


def test_a_proposal_stands() -> None:
    """The same number asked again, asked after a restart, or asked after it failed gives the same configuration."""
    spec, rows, studies = _studies()
    begun = [_begun(studies, row) for row in rows[:8]]
    assert [studies.propose(row) for row in rows[:8]] == [row.config for row in begun]
    studies.ended(_ended(begun[0], state=TrialState.FAILED))
    assert studies.propose(rows[0]) == begun[0].config
    waiting = [replace(row, state=TrialState.PENDING) for row in begun[:4]]
    again = Studies(spec, [*waiting, *begun[4:], *rows[8:]])
    assert [again.propose(row) for row in waiting + begun[4:]] == [row.config for row in begun]


def test_what_is_proposed_at_the_start_is_not_proposed_again_after_a_restart() -> None:
    """Chance goes on where it was, although the studies are made again."""
    spec, rows, studies = _studies()
    first = [_begun(studies, row) for row in rows[:3]]
    ended = [_ended(row, 1.0) for row in first]
    again = Studies(spec, [*ended, *rows[3:]])
    fresh = [again.propose(row) for row in rows[3:6]]
    assert len({json.dumps(config) for config in [*fresh, *(row.config for row in first)]}) == 6


def test_points_are_proposed_first_and_completed_by_the_search() -> None:
    """In their order, each once over restarts, with exactly the values that were given."""
    points = [{"z": 0.123}, {"x": 0.5, "k": "b", "z": -1.0}]
    spec = _spec(points_to_evaluate=points, parameters={"x": uniform(0, 1), "k": ["a", "b"], "z": randn()})
    rows = enumerate_trials(spec)
    assert {row.config for row in rows} == {None}
    first = _begun(Studies(spec, rows), rows[0])
    assert first.config is not None
    assert (list(first.config), first.config["z"]) == (["x", "k", "z"], 0.123)
    again = Studies(spec, [first, *rows[1:]])
    assert again.propose(rows[1]) == points[1]
    assert again.propose(rows[2])["z"] not in (0.123, -1.0)


def test_the_search_learns_from_what_completed_and_from_nothing_else() -> None:
    """NaN and failed trials teach nothing, best as their metric may look; the direction is the metric's mode."""
    spec = _spec(parameters={"x": uniform(0, 1)}, metric="metric", mode="min", jobs_per_pair=100)
    rows = enumerate_trials(spec)
    drawn = enumerate_trials(_spec(parameters={"x": uniform(0, 1)}, method="random", jobs_per_pair=60))
    known: list[TrialRow] = []
    for row in drawn:
        assert row.config is not None
        x = row.config["x"]
        assert isinstance(x, float)
        if x < 0.4:
            known.append(_ended(row, math.nan) if row.number % 2 else _ended(row, -9.0, TrialState.FAILED))
        else:
            known.append(_ended(row, (x - 0.8) ** 2))
    studies = Studies(spec, [*known, *rows[60:]])
    proposed = [studies.propose(row)["x"] for row in rows[60:72]]
    assert sum(isinstance(x, float) and 0.65 < x < 0.95 for x in proposed) >= 8
    taught = [row for row in known if row.state is TrialState.COMPLETE and row.metrics["metric"] is not math.nan]
    unaware = Studies(spec, [*taught, *rows[60:]])
    assert [unaware.propose(row)["x"] for row in rows[60:72]] == proposed


@pytest.mark.parametrize("state", [TrialState.FAILED, TrialState.LOST, TrialState.CANCELLED])
def test_what_did_not_complete_may_run_again(state: TrialState) -> None:
    """A retry ends once more, and then it counts."""
    _, rows, studies = _studies(early_terminate={"type": "median", "n_startup_trials": 1}, method="random", mode="min")
    studies.reported(0, 0, 1.0)
    studies.ended(_ended(rows[0], state=state))
    assert not studies.reported(1, 0, 2.0)  # nothing that completed to be compared with
    assert not studies.reported(0, 0, 1.0)
    studies.ended(_ended(rows[0], 1.0))
    assert studies.reported(1, 0, 2.0)


def test_a_trial_that_never_began_is_nothing_to_the_search() -> None:
    """Such as one cancelled before it had a configuration; and a copy of another one's result is no news."""
    spec, rows, studies = _studies()
    studies.ended(_ended(rows[0], state=TrialState.CANCELLED))
    studies.ended(_ended(replace(rows[1], config={"x": 0.5, "k": "a", "c": 7}, same_as=9), 1.0))
    assert Studies(spec, [_ended(row, state=TrialState.CANCELLED) for row in rows[:2]]).propose(rows[2])
    assert studies.propose(rows[2])


def test_a_metric_that_no_float_can_hold_teaches_nothing() -> None:
    """It is taken for infinite, which is never best."""
    _, rows, studies = _studies()
    studies.ended(_ended(_begun(studies, rows[0]), 10**400))
    assert studies.propose(rows[1])


def test_only_bayes_proposes() -> None:
    """A row of another method has its configuration."""
    _, rows, studies = _studies(method="random")
    assert studies.propose(rows[0]) == rows[0].config
    with pytest.raises(ValueError, match="trial 3 of a random sweep has no configuration"):
        studies.propose(replace(rows[3], config=None))


def _steps(studies: Studies, number: int, values: list[float]) -> list[bool]:
    return [studies.reported(number, step, value) for step, value in enumerate(values)]


@pytest.mark.parametrize(("mode", "worse"), [("max", -1.0), ("min", 1.0)])
@pytest.mark.parametrize("method", ["bayes", "random", "grid"])
def test_the_worse_half_is_pruned(method: str, mode: str, worse: float) -> None:
    """By the metric's mode, with every method; never without early stopping."""
    early = {"type": "median", "n_startup_trials": 3, "n_warmup_steps": 1}
    space = {"x": [1, 2, 3, 4, 5, 6]}
    spec, rows, studies = _studies(method=method, mode=mode, early_terminate=early, parameters=space, jobs_per_pair=6)
    for row in rows[:4]:
        begun = _begun(studies, row)
        assert not any(_steps(studies, row.number, [worse] * 3))
        studies.ended(_ended(begun, worse))
    rows[4:] = [_begun(studies, row) for row in rows[4:]]
    assert _steps(studies, 4, [worse * 9] * 3) == [False, True, True]
    assert _steps(studies, 5, [worse * -9] * 3) == [False, False, False]
    never = Studies(structs.replace(spec, early_stop=None), rows)
    assert not any(_steps(never, 4, [worse * 9] * 3))


def test_a_step_reported_again_replaces_its_value() -> None:
    """The last word on a step counts."""
    _, _, studies = _studies(method="random", mode="max", early_terminate={"type": "threshold", "lower": 0})
    assert studies.reported(0, 3, -1.0)
    assert not studies.reported(0, 3, 1.0)
    assert not studies.reported(0, -1, -1.0)  # no step of Optuna's


_PATIENT: dict[str, object] = {"method": "random", "mode": "max", "early_terminate": {"type": "patient", "patience": 1}}


def test_what_a_lost_attempt_reported_does_not_count() -> None:
    """The next attempt begins from nothing; the others keep what they reported."""
    _, _, studies = _studies(**_PATIENT)
    assert _steps(studies, 0, [5.0, 1.0]) == _steps(studies, 1, [5.0, 1.0]) == [False, False]
    studies.requeued(0)
    studies.requeued(2)
    assert _steps(studies, 0, [1.0, 1.0, 1.0]) == [False, False, False]
    assert studies.reported(1, 2, 1.0)


def test_reports_are_taken_up_after_a_restart() -> None:
    """Of the trials that run and of those that ended; what waits to run again has none."""
    spec, rows, _ = _studies(**_PATIENT)
    reports = {number: {0: 5.0, 1: 1.0} for number in range(3)}
    rows[0] = _ended(rows[0], 1.0)
    rows[1] = replace(rows[1], state=TrialState.RUNNING)
    studies = Studies(spec, rows, reports)
    assert studies.reported(1, 2, 1.0)
    assert not studies.reported(2, 2, 1.0)
    assert not studies.reported(0, 2, 1.0)  # it ended for good
    assert not studies.reported(999, 2, 1.0)  # nobody's


_HALVING = {"type": "successive_halving", "min_resource": 1, "reduction_factor": 2}
_HYPERBAND = {"type": "hyperband", "min_resource": 1, "max_resource": 9, "reduction_factor": 3}


@pytest.mark.parametrize("early", [_HALVING, _HYPERBAND], ids=["successive_halving", "hyperband"])
@pytest.mark.parametrize("method", ["random", "bayes"])
def test_rungs_prune_the_worse_and_are_known_after_a_restart(method: str, early: dict[str, object]) -> None:
    """Optuna notes them when its pruner is asked, as trials that run side by side report."""
    spec, rows, studies = _studies(method=method, mode="min", early_terminate=early, jobs_per_pair=80)
    reports: dict[int, dict[int, float]] = {}
    pruned: set[int] = set()
    for row in rows[:60]:
        begun = _begun(studies, row)
        bad = float(row.number % 10)
        reports[row.number] = {}
        for step in range(1, 10):
            reports[row.number][step] = bad
            if studies.reported(row.number, step, bad):
                pruned.add(row.number)
                break
        state = TrialState.PRUNED if row.number in pruned else TrialState.COMPLETE
        rows[row.number] = _ended(begun, None if row.number in pruned else bad, state)
        studies.ended(rows[row.number])
    worst, best = ({number for number in range(60) if number % 10 == last} for last in (9, 0))
    assert len(pruned & worst) >= 4
    assert not pruned & best
    again = Studies(spec, rows, reports)
    for number in range(60, 80):
        assert again.propose(rows[number])
    assert sum(any(again.reported(number, step, 99.0) for step in range(1, 10)) for number in range(60, 70)) >= 8
    assert not any(again.reported(number, 1, -1.0) for number in range(70, 80))


@pytest.mark.parametrize("mode", ["min", "max"])
def test_wandbs_hyperband_counts_reports_and_knows_them_after_a_restart(mode: str) -> None:
    """At the band of two reports the better half goes on; what is no number is none; steps may be any."""
    early = {"type": "hyperband", "min_iter": 2, "eta": 2}
    spec, rows, studies = _studies(method="random", mode=mode, early_terminate=early, jobs_per_pair=5)
    sign = 1 if mode == "min" else -1
    values = {number: {3: math.nan, 7: 0.0, 8: float(sign * number)} for number in range(4)}
    for number, reports in values.items():
        ends = [studies.reported(number, step, value) for step, value in reports.items()]
        assert ends == [False, False, number > 1]
    assert not studies.reported(4, 0, 99.0 * sign)
    again = Studies(spec, [replace(row, state=TrialState.RUNNING) for row in rows], values)
    assert [again.reported(number, 9, 0.0) for number in range(4)] == [False, False, False, True]


def test_every_pruner_works_through_the_studies() -> None:
    """None of Optuna's fails on what a schedule tells it, NaN included."""
    options: dict[str, dict[str, object]] = {
        "percentile": {"percentile": 25},
        "threshold": {"upper": 0.5},
        "patient": {"patience": 2, "wrapped_pruner": "median"},
    }
    for kind in ("hyperband", "median", "nop", "patient", "percentile", "successive_halving", "threshold", "wilcoxon"):
        spec = _spec(early_terminate={"type": kind, **options.get(kind, {})}, mode="min")
        rows = enumerate_trials(spec)
        studies = Studies(spec, rows)
        for row in rows[:20]:
            begun = _begun(studies, row)
            _steps(studies, row.number, [math.nan if row.number == 7 else 1.0, row.number / 20, 0.2])
            studies.ended(_ended(begun, None if row.number == 7 else row.number / 20))
        assert Studies(spec, rows[20:]).propose(rows[20])


def test_optunas_voice_is_the_users(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing of ours is logged or warned of, and the user's own settings are as they were."""
    spec = _spec(early_terminate={"type": "patient", "patience": 1, "wrapped_pruner": "median"})
    rows = enumerate_trials(spec)
    optuna.logging.set_verbosity(optuna.logging.DEBUG)
    optuna.logging.enable_propagation()
    filters = list(warnings.filters)
    try:
        with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            studies = Studies(spec, rows)
            for row in rows[:14]:
                begun = _begun(studies, row)
                _steps(studies, row.number, [math.nan, 1.0, 2.0])
                studies.ended(_ended(begun, 1.0))
        assert optuna.logging.get_verbosity() == optuna.logging.DEBUG
    finally:
        optuna.logging.disable_propagation()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
    assert (caplog.text, heard, capsys.readouterr()) == ("", [], ("", ""))
    assert warnings.filters == filters


def test_trials_that_run_are_not_proposed_again() -> None:
    """Each of six proposals knows of those before it: the search takes what runs for poor."""
    space = {"x": uniform(-5, 5), "lr": loguniform(1e-6, 1), "width": integer(1, 200), "decay": loguniform(1e-8, 1e-1)}
    spec = _spec(parameters=space, mode="min", metric="metric")
    drawn = enumerate_trials(_spec(parameters=space, method="random", jobs_per_pair=30))
    known = [_ended(row, regret(_config(row))) for row in drawn]
    rows = enumerate_trials(spec, known)
    studies = Studies(spec, known + rows)
    together = [studies.propose(row) for row in rows[:6]]
    alone = [Studies(spec, known + rows).propose(row) for row in rows[:6]]
    assert together[0] == alone[0]
    assert together[1:] != alone[1:]


def _config(row: TrialRow) -> Config:
    assert row.config is not None
    return row.config


def test_a_sweep_that_grows_is_learnt_anew() -> None:
    """New models, data sets and choices are proposed for; what runs goes on, and what ended is known."""
    _, rows, studies = _studies(parameters={"k": ["a", "b"]}, datasets=["d"], jobs_per_pair=4)
    rows[:2] = [_begun(studies, row) for row in rows[:2]]
    larger = _spec(parameters={"k": ["a", "b", "c"]}, datasets=["d", "e"], jobs_per_pair=6)
    rows += enumerate_trials(larger, rows)
    studies.renew(larger, rows)
    assert [studies.propose(row) for row in rows[:2]] == [row.config for row in rows[:2]]
    assert {studies.propose(row)["k"] for row in rows[2:]} <= {"a", "b", "c"}
    studies.ended(_ended(rows[0], 0.5))


def test_a_repeat_is_not_waited_for() -> None:
    """The study goes on proposing, also once it has proposed all there is."""
    _, rows, studies = _studies(parameters={"k": ["a", "b"]}, jobs_per_pair=30)
    seen = set()
    for row in rows:
        config = studies.propose(row)["k"]
        if config in seen:
            studies.repeated(row.number)
        seen.add(config)
    assert seen == {"a", "b"}
