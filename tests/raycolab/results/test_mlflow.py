"""Runs of MLflow, one for each trial that has ended."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from raycolab.errors import UsageError
from raycolab.trials import TrialState
from tests.raycolab.results.sweeps import declared, failed, finished_sweep


def test_without_mlflow_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra."""
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UsageError, match=r"MLflow is not installed: run `pip install 'raycolab\[mlflow\]'`"):
        finished_sweep().to_mlflow()


@pytest.mark.slow
def test_every_trial_is_a_run_once(tmp_path: Path) -> None:
    """Against the real package: parameters, metrics, what was reported, times, state, notes and tags."""
    client = pytest.importorskip("mlflow", reason="it is an extra, too large for the others").MlflowClient(
        uri := f"sqlite:///{tmp_path}/mlflow.db"
    )
    results = finished_sweep(declared(5, notes="What I tried", tags=["paper", "June"]))
    results.rows[0] = dataclasses.replace(results.rows[0], metrics={"accuracy": 10**400, "note": "a\nb", "bad!name": 1})
    assert [results.to_mlflow(uri), results.to_mlflow(uri)] == [20, 0]
    experiment = client.get_experiment_by_name("sample")
    runs = {run.data.tags["raycolab.trial"]: run for run in client.search_runs([experiment.experiment_id])}
    assert len(runs) == 20
    row, run = results.rows[1], runs["sample-1"]
    assert (run.info.run_name, run.info.status) == (row.title, "FINISHED")
    assert (run.info.start_time, run.info.end_time) == (round(row.started_at * 1000), round(row.ended_at * 1000))
    assert run.data.params["model"] == row.model
    assert run.data.params["C"] == str(row.config["C"])
    assert run.data.metrics["accuracy"] == row.metrics["accuracy"]
    history = client.get_metric_history(run.info.run_id, "accuracy/reported")
    assert [(point.step, point.value) for point in history] == [(1, 0.5), (2, 0.25)]
    assert run.data.tags["mlflow.note.content"] == "What I tried"
    assert {"paper", "June"} <= run.data.tags.keys()
    assert runs["sample-3"].info.status == "FAILED"
    assert runs["sample-3"].data.tags["raycolab.error"].startswith("ValueError: <bad>")
    odd = runs["sample-0"].data
    assert (odd.params["result/note"], odd.metrics["bad_name"]) == ("a\nb", 1)
    again = dataclasses.replace(failed(results.rows[1]), attempts=2, state=TrialState.FAILED)
    results.rows[1] = again
    assert results.to_mlflow(uri) == 1
    assert len(client.search_runs([experiment.experiment_id])) == 20
