"""Start the engine's actor on a Ray that runs; the supervisor of the head does this once its Ray is up."""

from __future__ import annotations

from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raycolab.engine import ENGINE_NAME, ENGINE_NAMESPACE
from raycolab.engine.actor import Engine

__all__ = ["start_engine"]

_CALLS = 10_000  # calls of slots that may wait at once: two per slot
_ANSWER_WITHIN_S = 60.0


def start_engine(store_url: str, control: str, lock_dir: str, owner: str) -> Any:
    """The cluster's engine, started on this driver's node unless it runs already; returns once it answers.

    The driver must be attached to Ray on the head node. Raises a RayError when it does not answer within a minute.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(Engine).options(
        name=ENGINE_NAME,
        namespace=ENGINE_NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        max_restarts=-1,
        max_concurrency=_CALLS,
        scheduling_strategy=here,
    )
    engine: Any = actor.remote(store_url, control, lock_dir, owner)
    ray.get(engine.ping.remote(), timeout=_ANSWER_WITHIN_S)
    return engine
