"""Search that learns, on real Ray: proposals by what is known, trials given up early, a sweep held for its failures."""

from __future__ import annotations

import time

import pytest

from raycolab.errors import ClusterError
from raycolab.node import api
from raycolab.spec.spaces import uniform
from raycolab.trials import SweepState, TrialState
from tests.integration.engine_stage import Cluster, notebook

pytestmark = pytest.mark.ray

HILL = """
import time
def compute(model, dataset, x, y):
    time.sleep(0.05)
    return -((x - 0.3) ** 2) - (y - 0.7) ** 2
"""
FAILING = """
import time
def compute(model, dataset, x):
    time.sleep(0.2)
    if x % 3 == 0:
        raise ValueError(x)
    return x
"""
LEARNING = """
import time, raycolab
def compute(model, dataset, rate):
    for step in range(40):
        raycolab.report(step, rate * step)
        time.sleep(0.02)
    return rate * 40
"""


def test_bayes_proposes_from_what_it_has_and_goes_on_after_the_engine_was_killed(engine_cluster: Cluster) -> None:
    """Every row gets a configuration, the point to evaluate first; after a restart the best is near the optimum."""
    models = {"m": {"x": uniform(0, 1), "y": uniform(0, 1)}}
    sweep_id = engine_cluster.declare(
        "bayes",
        notebook(HILL),
        models=models,
        datasets=["d"],
        method="bayes",
        jobs_per_pair=60,
        points_to_evaluate=[{"x": 0.9, "y": 0.1}],
    )
    engine_cluster.supervisor.ask(api.Start("bayes"))
    engine_cluster.supervisor.wait_for(lambda: engine_cluster.supervisor.sweep("bayes").get("complete", 0) >= 20)
    engine_cluster.kill_engine()
    engine_cluster.supervisor.wait_state("bayes", SweepState.COMPLETE)
    rows = engine_cluster.store.trials(sweep_id)
    assert {row.state for row in rows} == {TrialState.COMPLETE}
    assert rows[0].config == {"x": 0.9, "y": 0.1}
    configs = [(row.config["x"], row.config["y"]) for row in rows if row.config is not None]
    assert len(set(configs)) == 60
    late = [row.metrics["metric"] for row in rows[40:]]
    early = [row.metrics["metric"] for row in rows[1:11]]
    assert max(late) > max(early)  # type: ignore[type-var]


def test_poor_trials_are_pruned(engine_cluster: Cluster) -> None:
    """Some are PRUNED with their last value and without a failure; the best one is not; every step is stored."""
    rates = [0.5, 1.0, 0.8, 0.9, 0.1, 0.2, 0.05, 0.15, 0.3, 0.95]
    sweep_id = engine_cluster.declare(
        "pruned",
        notebook(LEARNING),
        models={"m": {"rate": rates}},
        datasets=["d"],
        method="grid",
        early_terminate={"type": "median", "n_startup_trials": 2, "n_warmup_steps": 3},
    )
    engine_cluster.supervisor.ask(api.Start("pruned"))
    news = engine_cluster.supervisor.wait_state("pruned", SweepState.COMPLETE)
    rows = engine_cluster.store.trials(sweep_id)
    pruned = [row for row in rows if row.state is TrialState.PRUNED]
    assert {row.state for row in rows} == {TrialState.COMPLETE, TrialState.PRUNED}
    assert news["pruned"] == len(pruned) >= 3
    assert all(row.error is None and row.config is not None and row.config["rate"] < 0.95 for row in pruned)
    assert news["best"]["value"] == 40.0
    reports = engine_cluster.store.reports(sweep_id)
    for row in rows:
        assert row.config is not None
        steps = reports[row.number]
        assert steps == {step: row.config["rate"] * step for step in range(len(steps))}
        assert len(steps) == 40 if row.state is TrialState.COMPLETE else 4 <= len(steps) < 40
        if row.state is TrialState.PRUNED:
            assert row.metrics["metric"] == list(steps.values())[-1]


@pytest.mark.slow
def test_a_sweep_with_too_many_failures_is_held_and_goes_on(engine_cluster: Cluster) -> None:
    """The sentence names the number and how to go on; nothing is lost."""
    main = notebook(FAILING)
    sweep_id = engine_cluster.declare(
        "failing", main, models={"m": {"x": list(range(1, 31))}}, datasets=["d"], method="grid", max_failures=4
    )
    engine_cluster.supervisor.ask(api.Start("failing"))
    news = engine_cluster.supervisor.wait_state("failing", SweepState.HELD)
    assert "raycolab resume failing" in news["sentence"]
    assert 4 <= news["failed"] <= 6
    assert news["pending"] > 0
    held = 1
    while news["state"] == SweepState.HELD:
        engine_cluster.supervisor.ask(api.Resume("failing"))
        engine_cluster.supervisor.wait_for(
            lambda: engine_cluster.supervisor.sweep("failing")["state"] in ("HELD", "COMPLETE")
        )
        news = engine_cluster.supervisor.sweep("failing")
        held += news["state"] == SweepState.HELD
    assert held <= 2  # what was at work at the first hold may have been all the failures there are
    rows = engine_cluster.store.trials(sweep_id)
    assert sum(row.state is TrialState.FAILED for row in rows) == 10
    assert sum(row.state is TrialState.COMPLETE for row in rows) == 20


def test_a_sweep_that_another_head_runs_is_left_alone(engine_cluster: Cluster) -> None:
    """Who asks is told which machine has it, and nothing is changed; once that one lets go, the sweep runs here."""
    sweep_id = engine_cluster.declare(
        "elsewhere", notebook(FAILING), models={"m": {"x": [1, 2]}}, datasets=["d"], method="grid"
    )
    assert engine_cluster.store.claim(sweep_id, "another head", time.time(), 60.0, machine="far-away") is None
    for order in (api.Start, api.Cancel, api.Retry):
        with pytest.raises(ClusterError, match="is being run by the head on far-away"):
            engine_cluster.supervisor.ask(order("elsewhere"))
    assert {row.state for row in engine_cluster.store.trials(sweep_id)} == {TrialState.PENDING}
    engine_cluster.store.release(sweep_id, "another head")
    engine_cluster.supervisor.ask(api.Start("elsewhere"))
    engine_cluster.supervisor.wait_state("elsewhere", SweepState.COMPLETE)


def test_a_sweep_at_work_is_extended(engine_cluster: Cluster) -> None:
    """A new model and more jobs are proposed for at once; a small space is tried once and then copied."""
    main = notebook("import time\ndef compute(model, dataset, k):\n    time.sleep(0.1)\n    return k\n")
    small = {"k": [1, 2, 3]}
    declared = {"datasets": ["d"], "method": "bayes"}
    sweep_id = engine_cluster.declare("grown", main, models={"m": small}, jobs_per_pair=40, **declared)
    engine_cluster.supervisor.ask(api.Start("grown"))
    engine_cluster.supervisor.wait_for(lambda: engine_cluster.supervisor.sweep("grown").get("complete", 0) >= 1)
    engine_cluster.extend("grown", models={"m": small, "n": {"k": [4, 5]}}, jobs_per_pair=50, **declared)
    engine_cluster.supervisor.ask(api.Start("grown"))
    engine_cluster.supervisor.wait_state("grown", SweepState.COMPLETE)
    rows = engine_cluster.store.trials(sweep_id)
    assert len(rows) == 100
    assert {row.state for row in rows} == {TrialState.COMPLETE}
    ran = [row for row in rows if row.attempts]
    assert sorted((row.model, row.metrics["metric"]) for row in ran) == [
        *(("m", 1), ("m", 2), ("m", 3)),
        *(("n", 4), ("n", 5)),
    ]
    assert all(row.same_as is not None and row.metrics == rows[row.same_as].metrics for row in rows if not row.attempts)
