"""The cluster's state as `raycolab status --json` prints it, put together from what the mesh and the engine know.

    {"nodes": [{"name", "state", "cpus", "gpus", "trial", "rtt_ms", "bytes_sent", "bytes_received",
                "control_sent", "control_received", "warning"}],
     "sweeps": [{"name", "state", "total", "pending", "running", "complete", "pruned", "failed", "lost", "cancelled",
                 "eta_s", "best", "sentence", "metric": {"name", "mode"},
                 "pairs": [{"model", "dataset", "total", "done", "failed", "best"}], "pairs_left_out",
                 "causes": [{"text", "count"}], "causes_left_out", "done_on": {node: trials}}],
     "traffic": {"bytes", "control_bytes", "provider", "month", "month_bytes", "limit_bytes", "warning"},
     "snapshots": {"folder", "number", "age_s", "up_to_date", "error"} or null}

A node's bytes are those of its WebSockets since it joined, seen from the node; `control_sent` and `control_received`
are the part of them that is the mesh's own. `traffic` is all that passed since the head started, in both directions,
and the month's sum over all heads of the data directory beside what the provider gives for nothing. `snapshots` is
null where none are taken; `number` and `age_s` are of the last one (null before the first), `up_to_date` says that
nothing finished since, and `error` is a sentence while none can be taken. Sans-I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["cluster_status"]


def cluster_status(
    nodes: Iterable[Mapping[str, Any]],
    progress: Mapping[str, Any],
    traffic: Mapping[str, Any],
    snapshots: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Nodes as the mesh knows them, each with the trial it runs, and the sweeps as the engine last told."""
    trials = progress.get("trials", {})
    rows = [{**node, "trial": trials.get(node["name"])} for node in nodes]
    return {
        "nodes": rows,
        "sweeps": list(progress.get("sweeps", ())),
        "traffic": dict(traffic),
        "snapshots": None if snapshots is None else dict(snapshots),
    }
