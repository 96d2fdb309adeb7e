"""Ray as the engine sees it: which nodes are there, and what the end of a slot task means."""

from __future__ import annotations

from typing import Any

import ray
from ray import exceptions

from raycolab.engine.fleet import NodeView
from raycolab.engine.messages import LossCause

__all__ = ["cause_of_end", "live_nodes"]

# Ray's errors that mean that the node, or the way to it, is gone. WorkerCrashedError is the process alone.
_NODE_ERRORS: tuple[type[BaseException], ...] = (
    exceptions.NodeDiedError,
    exceptions.LocalRayletDiedError,
    exceptions.ObjectLostError,
    exceptions.ActorDiedError,
    exceptions.ActorUnavailableError,
    exceptions.ActorUnschedulableError,
    exceptions.TaskUnschedulableError,
    exceptions.OutOfDiskError,
    exceptions.ObjectStoreFullError,
    exceptions.RuntimeEnvSetupError,
)


def live_nodes() -> list[NodeView]:
    """The nodes Ray believes alive that can run anything; asks the GCS, so not for an event loop."""
    found: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # Ray's
    return [
        NodeView(
            node["NodeName"],
            node["NodeID"],
            float(node["Resources"].get("CPU", 0.0)),
            float(node["Resources"].get("GPU", 0.0)),
            int(node["Resources"]["memory"]) if "memory" in node["Resources"] else None,
        )
        for node in found
        if node["Alive"]
    ]


def cause_of_end(error: BaseException | None, killed: bool) -> tuple[LossCause, str]:
    """Why a slot task ended, from what awaiting it raised; with the sentence for the attempts table."""
    if killed:
        return LossCause.KILLED, "killed"
    if error is None:
        return LossCause.ENDED, "its slot ended"
    if isinstance(error, exceptions.OutOfMemoryError):
        return LossCause.OOM, "its process was killed because the node ran out of memory"
    if isinstance(error, _NODE_ERRORS):
        return LossCause.NODE, f"its node was lost ({type(error).__name__})"
    if isinstance(error, exceptions.RayTaskError):
        return LossCause.CRASH, f"its slot failed: {error.cause!r}" if error.cause else "its slot failed"
    return LossCause.CRASH, f"its process died ({type(error).__name__})"
