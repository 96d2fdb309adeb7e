"""The object of `raycolab status --json`."""

from __future__ import annotations

from raycolab.node.status import cluster_status


def test_each_node_has_the_trial_it_runs() -> None:
    """What the mesh knows of nodes and the engine of trials, by name."""
    nodes = [{"name": "head", "cpus": 2}, {"name": "joiner-1", "cpus": 1}]
    sweeps = [{"name": "s", "total": 4}]
    status = cluster_status(
        nodes, {"trials": {"joiner-1": "#3 svc x iris", "gone": "#4"}, "sweeps": sweeps}, {"bytes": 5}, None
    )
    assert status == {
        "nodes": [
            {"name": "head", "cpus": 2, "trial": None},
            {"name": "joiner-1", "cpus": 1, "trial": "#3 svc x iris"},
        ],
        "sweeps": sweeps,
        "traffic": {"bytes": 5},
        "snapshots": None,
    }


def test_an_engine_that_has_not_spoken_has_no_sweeps() -> None:
    """As while it starts."""
    snapshots = {"folder": "/drive", "number": 3}
    assert cluster_status([], {}, {}, snapshots) == {"nodes": [], "sweeps": [], "traffic": {}, "snapshots": snapshots}
