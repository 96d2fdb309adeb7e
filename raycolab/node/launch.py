"""Starting a node's supervisor under its guard: what the machine gives, what to do, and what comes back.

What to do goes into RUN_DIR/task.json (mode 0600, no secrets); the join address of a joiner goes through its
environment; nothing secret is ever in an argv. What happens comes back on stdout: lines for people when `text`, one
JSON object per event when `json`.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from raycolab.errors import ClusterError
from raycolab.files import write_line, write_private
from raycolab.node.data_dir import make_run_dir
from raycolab.node.lifeline import guard_command
from tunnel.machine import namespace_id

__all__ = [
    "ADDRESS_VARIABLE",
    "Task",
    "announce",
    "cpu_count",
    "gpu_count",
    "machine",
    "prepare",
    "read_task",
    "start_detached",
]

ADDRESS_VARIABLE = "RAYCOLAB_JOIN_ADDRESS"
# Starts a command and ends, so that the command is nobody's child. argv: the descriptor of its stdout, the command.
_STARTER = (
    "import subprocess, sys; print(subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL, stdout=int(sys.argv[1]),"
    " start_new_session=True).pid)"
)
_STARTER_S = 30.0


class Task(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a supervisor is to do."""

    role: Literal["head", "joiner"]
    data_dir: str
    options: Mapping[str, Any] = {}  # of HeadOptions or JoinerOptions
    output: Literal["text", "json"] = "text"  # what stdout carries; one object per event as JSON
    log: str | None = None  # a file that outlives the node; None: in the run directory


def cpu_count() -> int:
    """The CPUs that this process may run on, no more than its control group pays for; at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:  # cgroup v2: "max 100000" or "<quota> <period>", in microseconds
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            allowed = min(allowed, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return max(1, allowed)


def machine() -> tuple[str, int]:
    """A text that tells this machine from all others, its containers counting as it; and how many cores it has."""
    return namespace_id().partition("/")[0], os.cpu_count() or 1


def gpu_count() -> int:
    """The NVIDIA GPUs of this machine that CUDA_VISIBLE_DEVICES does not hide."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    return len([path for path in Path("/dev").glob("nvidia[0-9]*") if path.name[6:].isdigit()])


def prepare(task: Task) -> tuple[Path, list[str]]:
    """Make the run directory of a task; returns it and the command that carries the task out under a guard."""
    run_dir = make_run_dir()
    write_private(run_dir / "task.json", msgspec.json.encode(task).decode())
    command = [sys.executable, "-P", "-m", "raycolab.node.supervisor", str(run_dir)]
    return run_dir, guard_command(command, remove=[run_dir])


def start_detached(task: Task, environ: Mapping[str, str], stdout: int) -> tuple[int, Path]:
    """Start a supervisor under its guard in a session of its own, as no child of this process.

    Whatever then becomes of this process, a kernel's for example, the node goes on. Events go to the descriptor
    `stdout`. Returns the guard's process id and the run directory, whose path is in the guard's argv.
    """
    run_dir, command = prepare(task)
    with Path(task.log or os.devnull).open("ab") as errors:
        started = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _STARTER, str(stdout), *command],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            pass_fds=[stdout],
            start_new_session=True,
            timeout=_STARTER_S,
            check=True,
        )
    return int(started.stdout), run_dir


def read_task(run_dir: Path) -> Task:
    """The task that `prepare` wrote. Raises ClusterError when it is gone or damaged."""
    path = run_dir / "task.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Task)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ClusterError(f"{path} cannot be read ({error}): start the node again.") from error


def announce(task: Task, event: str, **fields: Any) -> None:
    """Say on stdout what happened, and on stderr why it failed; that nobody reads it any more is no failure."""
    if event == "failed":
        write_line(sys.stderr, str(fields["error"]))
    if task.output == "json":
        write_line(sys.stdout, json.dumps({"event": event, **fields}))
    elif event != "failed":
        write_line(sys.stdout, _sentence(task, event, fields))


def _sentence(task: Task, event: str, fields: Mapping[str, Any]) -> str:
    if task.role == "head" and event == "up":
        where = f" --data-dir {shlex.quote(task.data_dir)}"
        return (
            f"{fields['join_address']}\n\n"
            f"The head is up. On each other machine:  raycolab join 'THE LINE ABOVE'\n"
            f"Then, here:                             raycolab submit SWEEP.yaml{where}\n"
            f"To see it, to end it:                   raycolab status{where}    raycolab down{where}"
            + "".join(f"\n{note}" for note in fields.get("notes", ()))
        )
    return str(fields.get("text", event))
