"""`python -m raycolab.engine`: start the engine on a running Ray and end once it answers."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raycolab.engine import ENGINE_NAME, ENGINE_NAMESPACE
from raycolab.engine.actor import Engine

__all__ = ["STORE_VARIABLE", "main", "start_engine"]

STORE_VARIABLE = "RAYCOLAB_STORE_URL"  # not an argument: it may hold a password

_CALLS = 10_000  # calls of slots that may wait at once: two per slot
_ANSWER_WITHIN_S = 60.0

_log = logging.getLogger("raycolab.engine")


def start_engine(store_url: str, control: str, lock_dir: str, owner: str, data_dir: str) -> Any:
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
        max_restarts=-1,  # it counts by itself: see `Starts`
        max_concurrency=_CALLS,
        scheduling_strategy=here,
    )
    engine: Any = actor.remote(store_url, control, lock_dir, owner, data_dir)
    ray.get(engine.ping.remote(), timeout=_ANSWER_WITHIN_S)
    return engine


def main(arguments: list[str] | None = None) -> int:
    """Attach to Ray, start the actor; 0 when it answers, 3 when Ray or it does not."""
    parser = argparse.ArgumentParser(prog="python -m raycolab.engine", description=__doc__)
    parser.add_argument("--ray-address", required=True, help="the GCS, 127.77.0.1:PORT")
    parser.add_argument("--node-ip", required=True, help="this node's address, 127.77.0.1")
    parser.add_argument("--control", required=True, help="the supervisor's unix socket")
    parser.add_argument("--lock-dir", required=True, help="a folder of each node, shared by its slots")
    parser.add_argument("--owner", required=True, help="who this head is to other heads of the same database")
    parser.add_argument("--data-dir", required=True, help="the head's data directory")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    try:
        ray.init(
            address=given.ray_address,
            _node_ip_address=given.node_ip,
            namespace=ENGINE_NAMESPACE,
            log_to_driver=False,
            configure_logging=False,
        )
        start_engine(os.environ[STORE_VARIABLE], given.control, given.lock_dir, given.owner, given.data_dir)
    except (RayError, ConnectionError, TimeoutError) as error:
        _log.error("the engine did not start on Ray at %s: %s", given.ray_address, error)
        return 3
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
