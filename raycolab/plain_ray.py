"""Plain Ray in the cluster: what makes this process a driver of it, and a program that a shell starts.

Not how the engine uses Ray, and not how a node's Ray is started (that is `node.ray_command`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import threading
import time
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from raycolab.engine import ENGINE_NAME, ENGINE_NAMESPACE
from raycolab.errors import ClusterError, UsageError
from raycolab.node.api import HeadFacts
from raycolab.node.ray_command import ray_environment
from tunnel.nodes import HUB, address_of

__all__ = ["OutputWatch", "connect", "disconnect", "driver_environment", "shell_exports"]

OUTPUT_WATCH = "raycolab-output"
LOOK_FOR_NODES_S = 2.0


def driver_environment(facts: HeadFacts) -> dict[str, str]:
    """The variables with which a bare `ray.init()` becomes a driver of the cluster; the token among them is secret."""
    return {**ray_environment(facts.ray_token, {}), "RAY_ADDRESS": facts.ray_address}


def shell_exports(facts: HeadFacts) -> str:
    """The same as lines for a shell."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in driver_environment(facts).items())


def connect(
    facts: HeadFacts,
    node_ip: str,
    *,
    runtime_env: Mapping[str, Any] | None,
    namespace: str,
    log_to_driver: bool,
) -> Any:
    """Make this process a driver, whatever of Ray it has imported before; returns Ray's context.

    Raises UsageError for what cannot be had here, ClusterError when Ray does not let this process in.
    """
    wanted = [name for name in ("pip", "uv") if name in (runtime_env or {})]
    if wanted and find_spec("virtualenv") is None:  # which the bare `ray` package does not bring
        raise UsageError(
            f"runtime_env with {wanted[0]!r} needs the package virtualenv on every node, and it is not installed here:"
            " run `!pip install virtualenv` in each tab before it joins, or `!pip install` there what you need."
        )
    os.environ.update(driver_environment(facts))
    # In a notebook without ipywidgets Ray says so twice; its progress bars are not for us.
    logging.getLogger("ray.widgets.util").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ray
    if ray.is_initialized():
        if ray.get_runtime_context().gcs_address != facts.ray_address:
            raise UsageError(
                "This process is a driver of another Ray already: call ray.shutdown(), then connect_ray() again."
            )
    else:
        _read_environment_again()
    try:
        context = ray.init(
            address=facts.ray_address,
            _node_ip_address=node_ip,
            namespace=namespace,
            runtime_env=None if runtime_env is None else dict(runtime_env),
            ignore_reinit_error=True,
            log_to_driver=log_to_driver,
            logging_level=logging.WARNING,
        )
    except (ConnectionError, TimeoutError, RuntimeError, ray.exceptions.RayError) as error:
        ray.shutdown()
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ClusterError(
            f"Ray did not let this process into the cluster ({reason}): `raycolab status` says whether this node is"
            " up; once it is, try again, or restart this kernel."
        ) from error
    if log_to_driver:
        _watch_output()
    return context


def disconnect() -> None:
    """Be no driver any more, and let a later `ray.init()` look for no cluster that has ended."""
    import ray

    ray.shutdown()
    os.environ.pop("RAY_ADDRESS", None)


def _read_environment_again() -> None:
    """Ray has read its time limits and its token when it was imported: let it read them as they are now."""
    from ray import _raylet

    raylet: Any = _raylet  # its stubs lack what is needed here
    raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()


# What tasks print.


class OutputWatch:
    """An actor on the head: has a task on every node that sends on what plain Ray's tasks and actors print there.

    Ray's own log monitor would send it from the start of each node on, whether or not somebody wants to see it.
    """

    def __init__(self) -> None:
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # What slots print belongs to their trials, which keep it themselves.
        engine = ray.get_actor(ENGINE_NAME, ENGINE_NAMESPACE)
        engine_job = engine._actor_id.job_id.hex()
        task = ray.remote(num_cpus=0, max_retries=0)(send_output)
        senders: dict[Any, str] = {}  # each by its reference, with Ray's id of its node
        while True:
            with contextlib.suppress(ray.exceptions.RayError):  # the GCS does not answer: try again
                for node in ray.nodes():  # type: ignore[no-untyped-call]  # Ray's
                    if node["Alive"] and node["NodeID"] not in senders.values():
                        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                        sender = task.options(name=OUTPUT_WATCH, scheduling_strategy=there).remote(engine_job)
                        senders[sender] = node["NodeID"]
            time.sleep(LOOK_FOR_NODES_S)
            for sender in list(senders):
                if ray.wait([sender], timeout=0)[0]:
                    del senders[sender]


def send_output(engine_job: str) -> None:
    """Publish what this node's tasks and actors print, but for those of one job, as Ray's log monitor does."""
    from ray._private import log_monitor, worker

    own: Any = worker.global_worker

    class OthersLines:
        """In the place of the client through which the monitor publishes."""

        def publish_logs(self, lines: Mapping[str, Any]) -> None:
            """Publish what a job of a driver printed."""
            if lines["job"] not in (None, engine_job):
                own.gcs_client.publish_logs(lines)

    log_monitor.logger.setLevel(logging.WARNING)  # it would print the name of each file
    monitor: Any = log_monitor.LogMonitor
    monitor(own.node.node_ip_address, own.node.get_logs_dir_path(), OthersLines(), log_monitor.is_proc_alive).run()


def _watch_output() -> None:
    """Have the cluster send what tasks print to the drivers that want to show it, until it ends."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # Ray's
    head = next(node["NodeID"] for node in nodes if node["Alive"] and node["NodeManagerAddress"] == address_of(HUB))
    actor: Any = ray.remote(OutputWatch).options(
        name=OUTPUT_WATCH,
        namespace=ENGINE_NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        max_restarts=-1,
        scheduling_strategy=NodeAffinitySchedulingStrategy(head, soft=False),
    )
    actor.remote()
