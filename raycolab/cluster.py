"""The cluster as a kernel or a script sees it: start a head, attach to it, join one. Thin: the work is a supervisor's.

A head or joiner started here is a process of its own, detached from this one: an interrupted, busy or restarted kernel
disturbs nothing, and running the cell again finds it.
"""

from __future__ import annotations

import contextlib
import html
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from raycolab.errors import ClusterError, JoinError, NoHeadError, UsageError
from raycolab.node.capacity import cpu_count, gpu_count
from raycolab.node.control import ControlClient, error_from
from raycolab.node.data_dir import DataDir
from raycolab.node.launch import ADDRESS_VARIABLE, Task, prepare
from raycolab.node.ray_command import ray_environment
from tunnel.address import JoinAddress
from tunnel.errors import AddressError

__all__ = ["Head", "attach", "check_capacity", "join", "leave", "read_address", "start_head"]

START_S = 180.0  # a head: Ray's processes on a cold disk take most of it
POLL_S = 0.3


class Head:
    """The running cluster; make one with `start_head` or `attach`."""

    def __init__(self, data_dir: DataDir, control: str, store: str) -> None:
        self.data_dir = data_dir
        self.store_url = store
        self._client = ControlClient(control)
        self.join_address = str(self._client.request("head")["join_address"])

    def request(self, op: str, **fields: Any) -> dict[str, Any]:
        """Ask the head's supervisor; raises the error it answers with, NoHeadError when it is gone."""
        return self._client.request(op, **fields)

    def status(self) -> dict[str, Any]:
        """What `raycolab status --json` prints: {"nodes": [...], "sweeps": [...]}."""
        status: dict[str, Any] = self.request("status")["status"]
        return status

    def nodes(self) -> list[dict[str, Any]]:
        """Every node: name, state, cpus, gpus, trial, rtt_ms (milliseconds), bytes_sent, bytes_received, warning."""
        nodes: list[dict[str, Any]] = self.status()["nodes"]
        return nodes

    def wait_for_joiners(self, count: int, timeout: float = 600) -> list[str]:
        """The joiners that are up, once there are `count` of them or `timeout` seconds have passed; never raises."""
        deadline = time.monotonic() + timeout
        present: list[str] = []
        while True:
            with contextlib.suppress(ClusterError):
                present = [node["name"] for node in self.nodes()[1:] if node["state"] == "up"]
            if len(present) >= count or time.monotonic() >= deadline:
                return present
            time.sleep(POLL_S)

    def remove(self, name: str) -> None:
        """Send a joiner away; what it was computing goes back in the queue. UnknownNodeError names the mistake."""
        self.request("remove", node=name)

    def connect_ray(self) -> Any:
        """Make plain Ray work in this process: `@ray.remote` then runs on every node. Returns Ray's context."""
        facts = self.request("head")
        os.environ.update(ray_environment(facts["ray_token"], {}))
        import ray

        return ray.init(
            address=facts["ray_address"],
            _node_ip_address=facts["node_ip"],
            namespace="raycolab",
            ignore_reinit_error=True,
            log_to_driver=False,
            logging_level=logging.WARNING,
        )

    def shutdown(self) -> None:
        """End the cluster: every joiner, Ray, the tunnel. The database stays."""
        with contextlib.suppress(NoHeadError):
            self.request("shutdown")
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            try:
                with self.data_dir.lock():
                    return
            except ClusterError:
                time.sleep(POLL_S)

    def __repr__(self) -> str:
        return f"<head with the data directory {self.data_dir.path}>"

    def _repr_html_(self) -> str:
        names = ", ".join(html.escape(f"{node['name']} ({node['state']})") for node in self.nodes())
        return f"<p>Nodes: {names}</p><p>Join address:</p><pre>{html.escape(self.join_address)}</pre>"


def start_head(
    provider: str = "auto",
    *,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    store: str | None = None,
    secrets: Sequence[str] = (),
    new_address: bool = False,
) -> Head:
    """Start this machine as the head, or attach to the head that already runs here, and print the join address.

    `provider` is ngrok, direct, unix or auto; `store` a SQLAlchemy URL; `secrets` names of environment variables that
    trials get; `new_address` makes earlier join addresses worthless. Raises UsageError, PortTakenError, ClusterError.
    """
    chosen = DataDir.chosen(data_dir, os.environ)
    if chosen.read_head() is None:
        cpus, gpus = check_capacity(num_cpus, num_gpus)
        options = {
            "provider": provider,
            "num_cpus": cpus,
            "num_gpus": gpus,
            "store": store,
            "secrets": list(secrets),
            "new_address": new_address,
        }
        chosen.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = chosen.path / "head.log"
        process = _spawn(Task("head", str(chosen.path), options, "json", str(log)), os.environ, subprocess.PIPE)
        _await_head(process, log)
    head = attach(chosen.path)
    print(_next_steps(head))  # noqa: T201 - what the person who runs the cell copies from it
    return head


def attach(data_dir: str | os.PathLike[str] | None = None) -> Head:
    """The running cluster of this data directory, from any process; NoHeadError when there is none."""
    chosen = DataDir.chosen(data_dir, os.environ)
    record = chosen.read_head()
    if record is None:
        raise NoHeadError(
            f"No head is running with the data directory {chosen.path}: start one with `raycolab head` or "
            f"raycolab.start_head(), or give the --data-dir of the one that runs."
        )
    return Head(chosen, record.control, record.store)


def join(
    address: str | None = None,
    *,
    name: str | None = None,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    secrets: Sequence[str] = (),
    release_runtime: bool = False,
    data_dir: str | os.PathLike[str] | None = None,
) -> None:
    """Join this machine to a head and stay until the head ends it, showing what happens.

    Interrupting only detaches: the joiner goes on, `raycolab.leave()` ends it, and running this again shows it again.
    `address` is what the head printed, or RAYCOLAB_JOIN_ADDRESS. Raises UsageError, JoinError, ClusterError.
    """
    if secrets or release_runtime:
        raise UsageError(
            "secrets and release_runtime need Colab, which this version does not drive yet: leave them out."
        )
    chosen = DataDir.chosen(data_dir, os.environ)
    record = _running_joiner(chosen)
    if record is None:
        parsed = read_address(address or os.environ.get(ADDRESS_VARIABLE, ""))
        cpus, gpus = check_capacity(num_cpus, num_gpus)
        chosen.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        events = chosen.path / "joiner.events"
        events.unlink(missing_ok=True)
        events.touch(mode=0o600)
        task = Task(
            "joiner",
            str(chosen.path),
            {"name": name, "num_cpus": cpus, "num_gpus": gpus},
            "json",
            str(chosen.path / "joiner.log"),
        )
        with events.open("ab") as output:
            process = _spawn(task, {**os.environ, ADDRESS_VARIABLE: parsed.text}, output)
        record = {"pid": process.pid, "events": str(events)}
        (chosen.path / "joiner.json").write_text(json.dumps(record))
    try:
        _show_joiner(record)
    except KeyboardInterrupt:
        print("Detached: this machine is still part of the cluster. raycolab.leave() leaves it.")  # noqa: T201


def leave(data_dir: str | os.PathLike[str] | None = None) -> None:
    """End the joiner that `join` started on this machine; nothing happens when there is none."""
    record = _running_joiner(DataDir.chosen(data_dir, os.environ))
    if record is not None:
        os.kill(record["pid"], 15)
        deadline = time.monotonic() + 30
        while _is_alive(record["pid"]) and time.monotonic() < deadline:
            time.sleep(POLL_S)


def read_address(text: str) -> JoinAddress:
    """The join address in what a person pasted; UsageError says how it is damaged."""
    try:
        return JoinAddress.parse(text)
    except AddressError as error:
        raise UsageError(str(error)) from error


def check_capacity(num_cpus: int | None, num_gpus: int | None) -> tuple[int, int]:
    """CPUs and GPUs to give to the cluster; what is not said is what the machine has. UsageError for nonsense."""
    if num_cpus is not None and not 1 <= num_cpus <= 256:
        raise UsageError(f"num_cpus is {num_cpus}: give a number from 1 to 256, or leave it out for all of them.")
    if num_gpus is not None and not 0 <= num_gpus <= 64:
        raise UsageError(f"num_gpus is {num_gpus}: give a number from 0 to 64, or leave it out for all of them.")
    return (cpu_count() if num_cpus is None else num_cpus), (gpu_count() if num_gpus is None else num_gpus)


def _spawn(task: Task, environ: Mapping[str, str], stdout: int | IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a supervisor under its guard, in a session of its own."""
    _, command = prepare(task)
    log = Path(task.log) if task.log else Path(os.devnull)
    with log.open("ab") as errors:
        return subprocess.Popen(
            command,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=errors,
            start_new_session=True,
        )


def _await_head(process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when a head that was just started says that it is up; raise what it says otherwise."""
    assert process.stdout is not None
    with process.stdout as stdout:
        line = stdout.readline()
    if not line:
        raise ClusterError(f"The head ended while it was starting; {log} says why.")
    event = json.loads(line)
    if event["event"] == "failed":
        raise error_from(event)


def _next_steps(head: Head) -> str:
    return (
        f"{head.join_address}\n\n"
        "Keep this line to yourself: whoever has it can join. In each other notebook: raycolab.join('THE LINE ABOVE')\n"
        "Then here: raycolab.declare(...).run()"
    )


def _running_joiner(data_dir: DataDir) -> dict[str, Any] | None:
    try:
        record: dict[str, Any] = json.loads((data_dir.path / "joiner.json").read_text())
    except (OSError, ValueError):
        return None
    return record if _is_alive(record["pid"]) else None


def _is_alive(pid: int) -> bool:
    """Whether the guard of a joiner still runs; reaps it when it was our child."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        return "raycolab" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def _show_joiner(record: Mapping[str, Any]) -> None:
    """Print a joiner's events until it ends; raises what it failed with."""
    with open(record["events"]) as events:
        while True:
            alive = _is_alive(record["pid"])
            for line in events:
                event = json.loads(line)
                if event["event"] == "failed":
                    error = error_from(event)
                    raise error if isinstance(error, (ClusterError, UsageError)) else JoinError(str(error))
                sys.stdout.write(event["text"] + "\n")
            sys.stdout.flush()
            if not alive:
                return
            time.sleep(POLL_S)
