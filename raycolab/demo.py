"""`raycolab demo`: the whole of it on one machine. A head and joiners in simulated sessions, real Ray, a real sweep.

Where the system refuses namespaces the same runs as plain processes side by side, and the result says so.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from raycolab.cluster import Head, attach
from raycolab.errors import ClusterError, UsageError
from raycolab.examples import example_path
from raycolab.node.data_dir import DataDir
from raycolab.node.launch import ADDRESS_VARIABLE
from raycolab.node.lifeline import exec_with_lifeline
from raycolab.node.snapshots import FOLDER_VARIABLE
from raycolab.sandbox.sessions import Capability, SimulatedSession, probe
from raycolab.spec.file import load_sweep_file
from raycolab.sweep import Sweep, declare_spec
from raycolab.text import counted

__all__ = ["DemoResult", "run_demo"]

START_S = 120.0  # until the head is joinable, then as long until its joiners are up
END_S = 30.0
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo did."""

    sweep: Sweep
    nodes: Sequence[Mapping[str, Any]]  # every node of the cluster, as `status --json` has it
    seconds: float  # from nothing to the last result
    note: str | None  # what this machine did not allow


def run_demo(
    data_dir: DataDir,
    *,
    joiners: int,
    jobs_per_pair: int,
    say: Callable[[str], None],
    progress: Callable[[Mapping[str, Any], list[Mapping[str, Any]]], None] | None = None,
) -> DemoResult:
    """Run the example's sweep on a head and `joiners` joiners of one CPU each; `say` gets a line for each step.

    Raises RaycolabError; leaves nothing running, and the database in the data directory.
    """
    if find_spec("sklearn") is None:
        raise UsageError("The demo's MAIN needs scikit-learn: run `pip install 'raycolab[demo]'` and try again.")
    began = time.monotonic()
    file = load_sweep_file(example_path("sweep.yaml"), [f"jobs_per_pair={jobs_per_pair}"])
    with data_dir.lock():
        pass  # a head that runs with it already is told before anything is started
    with _stage(data_dir) as stage:
        if stage.note:
            say(stage.note)
        where = "" if stage.note else ", each in a session without a network"
        say(f"starting a head and {counted(joiners, 'joiner')}{where}")
        say("Ray starts on the head ...")
        head = stage.head(data_dir)
        say(f"after {time.monotonic() - began:.0f} s the head is up; the joiners join it and start Ray ...")
        sweep = declare_spec(file.spec, main=file.main_path, data_dir=data_dir.path, announce=say)
        for _ in range(joiners):
            stage.joiner(head.join_address)
        deadline = time.monotonic() + START_S
        up: list[str] = []
        while len(present := head.wait_for_joiners(joiners, timeout=POLL_S)) < joiners:
            for name in present:
                if name not in up:
                    up.append(name)
                    say(f"{name} is up")
            if stage.has_lost_one() or time.monotonic() > deadline:
                raise ClusterError(f"Only {len(present)} of {joiners} joiners came up: {stage.last_words()}")
        say(f"after {time.monotonic() - began:.0f} s these nodes are up: {', '.join(['head', *present])}")
        say("each loads MAIN.ipynb once, then trials are given out ...")
        sweep.start(expect_slots=joiners + 1)
        sweep.wait(progress=progress)
        return DemoResult(sweep, head.nodes(), time.monotonic() - began, stage.note)


class _Stage:
    """Where the demo's processes run: each in a session of its own; or side by side, with a note that says why."""

    def __init__(
        self, folder: Path, shared: Sequence[Path], capability: Capability, ending: contextlib.ExitStack
    ) -> None:
        refused = f"{capability.reason} The joiners ran as plain processes on this machine."
        self.note = None if capability.kind else refused
        self._kind = capability.kind
        self._folder = folder
        self._shared = shared
        self._ending = ending
        self._logs: list[Path] = []  # the head's, and each joiner's
        self._processes: list[subprocess.Popen[bytes]] = []

    def head(self, data_dir: DataDir) -> Head:
        """Start the head and wait until joiners can come."""
        address = self._folder / "address"
        arguments = [
            *("head", "--provider", "unix", "--listen", str(self._folder / "hub.sock"), "--num-cpus", "1"),
            *("--join-address-file", str(address), "--data-dir", str(data_dir.path)),
        ]
        process = self._start(arguments, {FOLDER_VARIABLE: ""})  # what is tried here is not to be kept
        deadline = time.monotonic() + START_S
        while not address.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise ClusterError(f"The demo's head did not start: {self.last_words()}")
            time.sleep(POLL_S)
        return attach(data_dir.path)

    def joiner(self, address: str) -> None:
        """Start a joiner."""
        self._start(["join", "--num-cpus", "1"], {ADDRESS_VARIABLE: address})

    def has_lost_one(self) -> bool:
        """Whether a process has ended by itself."""
        return any(process.poll() is not None for process in self._processes)

    def last_words(self) -> str:
        """The last line that a joiner wrote; the head's, while there is no joiner."""
        logs = self._logs[1:] or self._logs
        texts = [log.read_text(errors="replace").strip().splitlines() for log in logs]
        return next((lines[-1] for lines in reversed(texts) if lines), "no output")

    def _session(self) -> SimulatedSession:
        try:
            return SimulatedSession(shared=self._shared, kind=self._kind)
        except ValueError as error:
            raise UsageError(f"{error}; give --data-dir another one.") from error

    def _start(self, arguments: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Run `raycolab ARGUMENTS`; it ends with the stage."""
        # The control socket of the head must be seen from outside its session, so the folder is its temporary one too.
        command = ["env", f"TMPDIR={self._folder}", sys.executable, "-P", "-m", "raycolab", *arguments]
        if self.note is None:
            command = self._ending.enter_context(self._session()).command(command)
        else:  # a session ends with this process, a plain process must be told to
            command = exec_with_lifeline(command)
        log = self._folder / f"{len(self._logs)}.log"
        self._logs.append(log)
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._processes.append(process)
        self._ending.callback(_end, process)
        return process


@contextlib.contextmanager
def _stage(data_dir: DataDir) -> Iterator[_Stage]:
    """A stage whose processes all end with the block."""
    with contextlib.ExitStack() as ending:
        folder = Path(tempfile.mkdtemp(prefix="rcd-"))
        ending.callback(shutil.rmtree, folder, ignore_errors=True)
        yield _Stage(folder, [data_dir.path, folder], probe(), ending)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, then make it."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
