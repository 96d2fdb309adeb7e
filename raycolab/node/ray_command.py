"""What starts Ray on a node: its ports, its arguments and its environment. Nothing here starts anything.

Every port that a node opens lies in the node's own block, so that no two nodes need the same one: the other nodes'
agents listen there. Places inside a block are fixed, so the block alone says where everything is:

    +0 GCS (head)      +1 dashboard (head)     +2 node manager            +3 object manager
    +4 metrics export  +5 agent, HTTP          +6 agent, gRPC             +7 runtime environment agent
    +8 … the end       worker processes: slots, actors, drivers

Flags and variables are named by Ray (`ray start --help`, ray_config_def.h, 2.60). The time limits were found by
experiment: with them a tunnel that stalls for 90 s costs no task.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from raycolab.errors import UsageError
from tunnel.nodes import PortBlock, block_size

__all__ = [
    "RayPorts",
    "check_labels",
    "check_resources",
    "ports_needed",
    "ray_environment",
    "required_ports",
    "start_command",
]

_FIXED_PORTS = 8
_FEWEST_WORKER_PORTS = 2  # Ray wants a range
_SPARE_WORKER_PORTS = 16  # drivers, the engine, object spilling, and workers that replace others
_SHORTEST_TOKEN = 32  # characters; Ray refuses shorter ones

_ENVIRONMENT: Mapping[str, str] = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray would want the same patch release of Python on every node; what it pickles only needs the same minor version.
    "RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL": "minor",
    # On SIGTERM `ray start` would wait up to 30 s for its node to drain, which the engine has seen to by then.
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    # A check waits for longer than the grace period, in which the tunnel only stalls. It fails at once when the tunnel
    # has given the node up and resets its connections; the second that fails, 10 s later, ends the node.
    "RAY_health_check_initial_delay_ms": "10000",
    "RAY_health_check_period_ms": "10000",
    "RAY_health_check_timeout_ms": "150000",
    "RAY_health_check_failure_threshold": "2",
    "RAY_grpc_keepalive_time_ms": "60000",
    "RAY_grpc_keepalive_timeout_ms": "180000",
    "RAY_grpc_client_keepalive_time_ms": "300000",
    "RAY_grpc_client_keepalive_timeout_ms": "180000",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "240",
    "RAY_gcs_server_request_timeout_seconds": "180",
    # A pull or push that is late starts again from its first byte (ray#56523), so a slow link needs more than 10 s.
    "RAY_object_manager_pull_timeout_ms": "300000",
    "RAY_object_manager_push_timeout_ms": "300000",
}

# Left in the environment by a kernel or by another Ray, these would mislead this one; our own secrets no worker needs.
_NOT_INHERITED = frozenset(
    {
        "RAY_ADDRESS",
        "RAY_AUTH_TOKEN_PATH",
        "RAY_NAMESPACE",
        "RAY_TMPDIR",
        "RAYCOLAB_JOIN_ADDRESS",
        "NGROK_AUTHTOKEN",
    }
)
_PORTS_VARIABLE = "RAYCOLAB_PORTS"
_COUNTED = frozenset({"CPU", "GPU", "memory", "object_store_memory"})  # by Ray, as it calls them
_WORD = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_LABEL = re.compile(rf"(?:[a-z0-9][a-z0-9.-]{{0,252}}/)?{_WORD}=(?:{_WORD})?")  # as in Kubernetes
_INLINE_BACKEND = "module://"  # how a kernel's MPLBACKEND starts: it names a module that a worker may not have


@dataclass(frozen=True, slots=True)
class RayPorts:
    """Each port of one Ray node, as `ray start` names them."""

    gcs: int  # head only
    dashboard: int  # head only; nothing listens there, but unnamed it would be Ray's default
    node_manager: int
    object_manager: int
    metrics_export: int
    agent_listen: int
    agent_grpc: int
    runtime_env_agent: int
    min_worker: int
    max_worker: int  # included

    @classmethod
    def of(cls, block: PortBlock) -> RayPorts:
        """Lay a node's ports out in its block; ValueError when that is too small for a Ray node."""
        if block.count < _FIXED_PORTS + _FEWEST_WORKER_PORTS:
            raise ValueError(f"a block of {block.count} ports is too small for a Ray node")
        return cls(
            gcs=block.first,
            dashboard=block.first + 1,
            node_manager=block.first + 2,
            object_manager=block.first + 3,
            metrics_export=block.first + 4,
            agent_listen=block.first + 5,
            agent_grpc=block.first + 6,
            runtime_env_agent=block.first + 7,
            min_worker=block.first + _FIXED_PORTS,
            max_worker=block.ports[-1],
        )


def ports_needed(num_cpus: int) -> int:
    """The size of the block for a node of this many CPUs, 0 included: 8 + 2 x num_cpus + 16, rounded up."""
    return block_size(_FIXED_PORTS + 2 * num_cpus + _SPARE_WORKER_PORTS)


def required_ports(ports: RayPorts, *, head: bool) -> dict[str, int]:
    """The ports, by what they are for, that every other node must be able to dial once this node's Ray is up."""
    required = {"node manager": ports.node_manager, "object manager": ports.object_manager}
    return {"GCS": ports.gcs, **required} if head else required


def start_command(
    ports: RayPorts,
    *,
    node_ip: str,
    node_name: str,
    head_address: str | None,
    num_cpus: int,
    num_gpus: int | None,
    temp_dir: str,
    resources: Mapping[str, float] | None = None,
    labels: Mapping[str, str] | None = None,
) -> list[str]:
    """The arguments that start Ray on a node in the foreground.

    `head_address` is where the head's GCS listens (`127.77.0.1:port`), None for the head itself; `num_gpus=None` lets
    Ray count them. `resources` and `labels` are those of a person's own.
    """
    # -P: a file of the user's called random.py beside the notebook must not become Ray's.
    command = [
        *(sys.executable, "-P", "-m", "ray.scripts.scripts", "start", "--block"),
        f"--node-ip-address={node_ip}",
        f"--node-name={node_name}",
        f"--num-cpus={num_cpus}",
        *([] if num_gpus is None else [f"--num-gpus={num_gpus}"]),
        *([f"--resources={json.dumps(dict(resources))}"] if resources else []),
        *([f"--labels={','.join(f'{key}={value}' for key, value in labels.items())}"] if labels else []),
        f"--temp-dir={temp_dir}",
        f"--node-manager-port={ports.node_manager}",
        f"--object-manager-port={ports.object_manager}",
        f"--metrics-export-port={ports.metrics_export}",
        f"--dashboard-agent-listen-port={ports.agent_listen}",
        f"--dashboard-agent-grpc-port={ports.agent_grpc}",
        f"--runtime-env-agent-port={ports.runtime_env_agent}",
        f"--min-worker-port={ports.min_worker}",
        f"--max-worker-port={ports.max_worker}",
        # The monitor sends all that workers print through the tunnel to the GCS, whether or not a driver shows it, and
        # costs half a second of CPU and 46 MB on each node. `plain_ray` has what drivers ask for sent.
        "--include-log-monitor=false",
    ]
    if head_address is not None:
        return [*command, f"--address={head_address}"]
    return [
        *command,
        "--head",
        f"--port={ports.gcs}",
        f"--dashboard-port={ports.dashboard}",
        "--include-dashboard=false",
        # The monitor is the autoscaler's: nothing here scales by itself, and it costs a second of CPU and 85 MB.
        "--no-monitor",
    ]


def check_resources(resources: Mapping[str, object]) -> None:
    """UsageError for what Ray would not take as a node's own resources."""
    for name, amount in resources.items():
        if name in _COUNTED or not name:
            raise UsageError(f"resources has {name!r}, which is counted already: num_cpus and num_gpus say otherwise.")
        is_number = isinstance(amount, int | float) and not isinstance(amount, bool)
        if not is_number or not 0 <= amount < math.inf or (amount > 1 and amount % 1):  # type: ignore[operator]
            raise UsageError(f"resources has {amount!r} of {name!r}: give a whole number, or a part of 1.")


def check_labels(labels: Mapping[str, object]) -> None:
    """UsageError for what Ray would not take as a node's labels."""
    for key, value in labels.items():
        if not (isinstance(value, str) and _LABEL.fullmatch(f"{key}={value}")) or key.startswith("ray.io/"):
            raise UsageError(
                f"labels has {key!r} with {value!r}: both are words of at most 63 letters, digits and _ . - that begin"
                " and end with a letter or a digit; ray.io/ is Ray's own."
            )


def ray_environment(token: str, base: Mapping[str, str], ports: RayPorts | None = None) -> dict[str, str]:
    """The environment of every Ray process of a cluster, drivers included, made from `base`.

    With `token` (32 characters or more) Ray's processes prove themselves to each other; it must never be in an argv.
    Of a node's `ports` its processes are told which ones they may use themselves, and others still reach.
    """
    if len(token) < _SHORTEST_TOKEN:
        raise ValueError(f"Ray's token must have {_SHORTEST_TOKEN} characters or more")
    inherited = {
        name: value
        for name, value in base.items()
        if name not in _NOT_INHERITED and not (name == "MPLBACKEND" and value.startswith(_INLINE_BACKEND))
    }
    own = {} if ports is None else {_PORTS_VARIABLE: f"{ports.min_worker}-{ports.max_worker}"}
    return {**inherited, **_ENVIRONMENT, **own, "RAY_AUTH_TOKEN": token}
