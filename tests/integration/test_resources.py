"""What trials ask for, on real Ray: GPUs and parts of them, processes of their own, and what no node has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raycolab.node import api
from raycolab.trials import SweepState, TrialRow, TrialState
from tests.integration.engine_stage import Cluster, notebook

pytestmark = pytest.mark.ray

MAIN = """
import os, time
def compute(model, dataset, x):
    time.sleep(0.2)
    return {"metric": x, "pid": os.getpid(), "gpu": os.environ.get("CUDA_VISIBLE_DEVICES", "")}
"""


@pytest.fixture
def gpu_node(engine_cluster: Cluster) -> Iterator[str]:
    """A second node, which says that it has a GPU."""
    name = engine_cluster.add_node(2, cpus=2, gpus=1)
    yield name
    engine_cluster.end_node(name)


def test_each_model_has_what_it_asks_for(engine_cluster: Cluster, gpu_node: str) -> None:
    """Two trials share the GPU, which others do not see; one model has a new process for every trial."""
    supervisor = engine_cluster.supervisor
    sweep_id = engine_cluster.declare(
        "shared",
        notebook(MAIN),
        models={model: {"x": list(range(count))} for model, count in (("svc", 6), ("cnn", 4), ("own", 3))},
        datasets=["d"],
        method="grid",
        resources={"cpus": 1, "cnn": {"gpus": 0.5}, "own": {"cpus": 1, "fresh_process": True}},
    )
    supervisor.ask(api.Start("shared"))
    supervisor.wait_for(lambda: "2 x 0.5 GPU" in supervisor.sweep("shared").get("slots", {}).get(gpu_node, ""))
    supervisor.wait_state("shared", SweepState.COMPLETE)
    rows: dict[str, list[TrialRow]] = {}
    for row in engine_cluster.store.trials(sweep_id):
        rows.setdefault(row.model, []).append(row)
        assert (row.state, row.attempts) == (TrialState.COMPLETE, 1)
    assert {(row.node, row.metrics["gpu"]) for row in rows["cnn"]} == {(gpu_node, "0")}
    assert "0" not in {row.metrics["gpu"] for row in [*rows["svc"], *rows["own"]]}
    assert len({row.metrics["pid"] for row in rows["own"]}) == 3
    assert len({row.metrics["pid"] for row in rows["svc"]}) < 6


def test_what_no_node_has_is_waited_for_and_said(engine_cluster: Cluster) -> None:
    """The sentence says what is missing; asking for less lets the sweep go on, without a restart."""
    supervisor = engine_cluster.supervisor
    models = {"m": {"x": [1, 2]}}
    sweep_id = engine_cluster.declare(
        "large", notebook(MAIN), models=models, datasets=["d"], method="grid", resources={"cpus": 64, "memory": "1MB"}
    )
    supervisor.ask(api.Start("large"))
    supervisor.wait_for(lambda: supervisor.sweep("large").get("sentence"))
    assert supervisor.sweep("large")["sentence"] == (
        "2 trials of m need 64 CPUs, 0.001 GB of memory and no node here has that; they wait until one does: "
        "join a larger machine, or ask for less in the sweep's resources"
    )
    engine_cluster.extend("large", models=models, datasets=["d"], method="grid", resources={"memory": "1MB"})
    supervisor.ask(api.Start("large"))
    supervisor.wait_state("large", SweepState.COMPLETE)
    assert supervisor.sweep("large")["sentence"] is None
    assert {row.state for row in engine_cluster.store.trials(sweep_id)} == {TrialState.COMPLETE}
