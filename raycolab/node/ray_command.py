"""The words that start Ray on a node: its ports, its arguments and its environment. Nothing here starts anything.

Every port a node opens lies in the node's own block, so that no two nodes need the same one: the other nodes' agents
listen there (DESIGN section 3). Places inside a block are fixed, so anyone can tell them from the block alone:

    +0 GCS (head)      +1 dashboard (head)     +2 node manager            +3 object manager
    +4 metrics export  +5 agent, HTTP          +6 agent, gRPC             +7 runtime environment agent
    +8 … the end       worker processes: slots, actors, drivers

Names of flags and variables are Ray's (`ray start --help`, ray_config_def.h, 2.60); the time limits were found by
trial: with them a tunnel that stalls for 90 s costs no task.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from tunnel.nodes import PortBlock, block_size

__all__ = [
    "RayPorts",
    "head_command",
    "joiner_command",
    "ports_needed",
    "quick_imports",
    "ray_environment",
    "required_ports",
]

_FIXED_PORTS = 8
_FEWEST_WORKER_PORTS = 2  # Ray wants a range
_SPARE_WORKER_PORTS = 16  # drivers, the engine, object spilling, and workers that replace others
_SHORTEST_TOKEN = 32  # characters; Ray refuses shorter ones

_ENVIRONMENT: Mapping[str, str] = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    # `ray start` would wait up to 30 s on SIGTERM for a node to drain; the engine has drained it by then.
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    "RAY_health_check_initial_delay_ms": "10000",
    "RAY_health_check_period_ms": "10000",
    "RAY_health_check_timeout_ms": "60000",
    "RAY_health_check_failure_threshold": "5",
    "RAY_grpc_keepalive_time_ms": "60000",
    "RAY_grpc_keepalive_timeout_ms": "180000",
    "RAY_grpc_client_keepalive_time_ms": "300000",
    "RAY_grpc_client_keepalive_timeout_ms": "180000",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "240",
    "RAY_gcs_server_request_timeout_seconds": "180",
    # A pull or push that is late is repeated whole (ray#56523): a slow link needs longer than the default 10 s.
    "RAY_object_manager_pull_timeout_ms": "300000",
    "RAY_object_manager_push_timeout_ms": "300000",
}

# What would bend this Ray when a kernel or an outer Ray left it in the environment, and our own secrets, which no
# worker needs.
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
_INLINE_BACKEND = "module://"  # MPLBACKEND of a kernel: a module a Ray worker may not have


@dataclass(frozen=True, slots=True)
class RayPorts:
    """Each port of one Ray node, as `ray start` names them."""

    gcs: int  # head only
    dashboard: int  # head only; nothing listens there, it is named so that Ray's default is not used
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
    """Give the size of the block for a node of that many CPUs: 8 + 2 x num_cpus + 16, rounded up."""
    return block_size(_FIXED_PORTS + 2 * num_cpus + _SPARE_WORKER_PORTS)


def required_ports(ports: RayPorts, *, head: bool) -> dict[str, int]:
    """Name the ports every other node must be able to dial as soon as this one's Ray is up."""
    required = {"node manager": ports.node_manager, "object manager": ports.object_manager}
    return {"GCS": ports.gcs, **required} if head else required


def head_command(
    ports: RayPorts, *, node_ip: str, node_name: str, num_cpus: int, num_gpus: int | None, temp_dir: str
) -> list[str]:
    """Build the arguments that start Ray's head node in the foreground; `num_gpus=None` lets Ray count them."""
    return [
        *_start(ports, node_ip, node_name, num_cpus, num_gpus, temp_dir),
        "--head",
        f"--port={ports.gcs}",
        f"--dashboard-port={ports.dashboard}",
        "--include-dashboard=false",
        "--no-monitor",  # the autoscaler's: nothing here scales by itself, and it costs a second and 85 MB
    ]


def joiner_command(
    ports: RayPorts,
    *,
    node_ip: str,
    node_name: str,
    head_address: str,
    num_cpus: int,
    num_gpus: int | None,
    temp_dir: str,
) -> list[str]:
    """Build the arguments that join Ray's head at `head_address` (`127.77.0.1:port` of its GCS), in the foreground."""
    return [
        *_start(ports, node_ip, node_name, num_cpus, num_gpus, temp_dir),
        f"--address={head_address}",
    ]


def ray_environment(token: str, base: Mapping[str, str]) -> dict[str, str]:
    """Give the environment of every Ray process of a cluster, drivers included, made from `base`.

    `token` (32 characters or more) is what Ray's processes prove themselves with; it must never stand in an argv.
    """
    if len(token) < _SHORTEST_TOKEN:
        raise ValueError(f"Ray's token must have {_SHORTEST_TOKEN} characters or more")
    inherited = {
        name: value
        for name, value in base.items()
        if name not in _NOT_INHERITED and not (name == "MPLBACKEND" and value.startswith(_INLINE_BACKEND))
    }
    return {**inherited, **_ENVIRONMENT, "RAY_AUTH_TOKEN": token}


def quick_imports(environment: Mapping[str, str]) -> dict[str, str]:
    """Give the environment with the folder on PYTHONPATH whose modules spare Ray's processes a second (`lazy`)."""
    folders = [f"{__file__.rpartition('/')[0]}/lazy", environment.get("PYTHONPATH", "")]
    return {**environment, "PYTHONPATH": ":".join(filter(None, folders))}


def _start(
    ports: RayPorts, node_ip: str, node_name: str, num_cpus: int, num_gpus: int | None, temp_dir: str
) -> list[str]:
    # -P: a file of the user's called random.py beside the notebook must not become Ray's.
    return [
        *(sys.executable, "-P", "-m", "ray.scripts.scripts", "start", "--block"),
        f"--node-ip-address={node_ip}",
        f"--node-name={node_name}",
        f"--num-cpus={num_cpus}",
        *([] if num_gpus is None else [f"--num-gpus={num_gpus}"]),
        f"--temp-dir={temp_dir}",
        f"--node-manager-port={ports.node_manager}",
        f"--object-manager-port={ports.object_manager}",
        f"--metrics-export-port={ports.metrics_export}",
        f"--dashboard-agent-listen-port={ports.agent_listen}",
        f"--dashboard-agent-grpc-port={ports.agent_grpc}",
        f"--runtime-env-agent-port={ports.runtime_env_agent}",
        f"--min-worker-port={ports.min_worker}",
        f"--max-worker-port={ports.max_worker}",
        # It sends all that workers print to the GCS, through the tunnel, for drivers that show it: ours do not. It
        # costs half a second of CPU and 46 MB a node.
        "--include-log-monitor=false",
    ]
