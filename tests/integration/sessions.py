"""A cluster of separate processes in simulated sessions, for tests: what a person types, typed by a program."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
import psutil
from nbformat.v4 import new_code_cell, new_notebook

import raycolab
from raycolab.sandbox.sessions import SimulatedSession
from tests.tunnel.edge import PROGRAM
from tunnel.address import JoinAddress, unix_url

__all__ = [
    "RAYCOLAB",
    "Cluster",
    "EdgeProcess",
    "Tab",
    "all_slots_cell",
    "cluster",
    "processes_with",
    "until",
    "words_of",
    "write_main",
    "write_sweep",
]

RAYCOLAB = (sys.executable, "-P", "-m", "raycolab")


class Tab:
    """One simulated session with one long-lived raycolab command in it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.folder = folder
        self.session = SimulatedSession(shared=[folder])
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder / f"{name}.log"
        self._spawned: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
        """Run `raycolab ARGUMENTS` here, in this folder."""
        self.session.start()
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command(*(("env", "-C", str(cwd)) if cwd else ()), *RAYCOLAB, *arguments),
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def command(self, *argv: str) -> list[str]:
        """The arguments that run a command here, with a temporary directory that is seen from outside too."""
        return self.session.command(["env", f"TMPDIR={self.folder}", *argv])

    def run(self, *argv: str, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run another command here to its end."""
        return subprocess.run(
            self.command(*argv), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s
        )

    def spawn(self, argv: Sequence[str], cwd: Path, env: Mapping[str, str], log: Path) -> None:
        """Start another command here, which ends with the session."""
        command = self.session.command(argv, cwd=cwd)
        with log.open("ab") as output:
            self._spawned.append(
                subprocess.Popen(command, env=dict(env), stdin=subprocess.DEVNULL, stdout=output, stderr=output)
            )

    def processes(self) -> list[psutil.Process]:
        """Every process of the session but its first one."""
        first = self.session.first_process
        own = os.readlink(f"/proc/{first}/ns/pid")
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                alive = process.status() != psutil.STATUS_ZOMBIE
                if alive and process.pid != first and os.readlink(f"/proc/{process.pid}/ns/pid") == own:
                    found.append(process)
        return found

    def supervisor(self) -> psutil.Process:
        """The long-lived process of the node that runs here."""
        return next(
            each
            for each in self.processes()
            if words_of(each).startswith(f"{sys.executable} -P -m raycolab.node.supervisor ")
        )

    def guard(self) -> psutil.Process:
        """The guard around that process."""
        parent = self.supervisor().parent()
        assert parent is not None
        return parent

    def said(self) -> str:
        """What the command printed."""
        return self.log.read_text(errors="replace")

    def end(self) -> None:
        """End the session as Colab ends a virtual machine."""
        self.session.end()
        for process in [*self._spawned, *([] if self.process is None else [self.process])]:
            process.wait()


class EdgeProcess:
    """A bad network of one joiner's own, in front of the hub and outside every session."""

    def __init__(self, folder: Path, name: str, delay_s: float = 0.0) -> None:
        self.socket = folder / f"{name}.edge"
        self.address_file = folder / f"{name}.address"
        self.process = subprocess.Popen(
            [
                *(*PROGRAM, "--delay", str(delay_s)),
                *("--listen", f"unix:{self.socket}", "--to", f"unix:{folder / 'hub.sock'}"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._read()

    def tell(self, *lines: str) -> None:
        """Have it do what these lines say, in this order; see `tests.tunnel.edge`."""
        assert self.process.stdin is not None  # a pipe, as asked for
        self.process.stdin.write("".join(f"{line}\n" for line in lines))
        self.process.stdin.flush()

    def stats(self) -> dict[str, Any]:
        """What it has seen so far, and so after it has done all that it was told."""
        self.tell("stats")
        return self._read()

    def lead(self, join_address: str) -> str:
        """Write the join address of the hub as it is behind this edge; returns what `raycolab join` takes for it."""
        hub = JoinAddress.parse(join_address)
        behind = JoinAddress(unix_url(str(self.socket)), hub.pin, hub.secret)
        self.address_file.touch(mode=0o600)
        self.address_file.write_text(behind.text + "\n")
        return f"@{self.address_file}"

    def end(self) -> None:
        """End it, and with it every connection through it."""
        self.process.communicate(timeout=10)

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None  # a pipe, as asked for
        said: dict[str, Any] = json.loads(self.process.stdout.readline())
        assert "error" not in said, said
        return said


class Cluster:
    """A head and its joiners, each in a session of its own, meeting at a unix socket."""

    def __init__(self, folder: Path, env: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.address_file = folder / "address"
        self.env = dict(env or {})
        self.head: Tab | None = None
        self.joiners: dict[str, Tab] = {}
        self.edges: dict[str, EdgeProcess] = {}

    def start_head(self, name: str = "head", num_cpus: int = 1, cwd: Path | None = None) -> Tab:
        """Start a head with the cluster's data directory, and wait until joiners can come."""
        self.address_file.unlink(missing_ok=True)
        tab = Tab(self.folder, name)
        tab.start(
            *("head", "--provider", "unix", "--listen", str(self.folder / "hub.sock")),
            *("--num-cpus", str(num_cpus), "--join-address-file", str(self.address_file)),
            *("--data-dir", str(self.data_dir)),
            env=self.env,
            cwd=cwd,
        )
        self.head = tab
        until(lambda: self.address_file.exists() or tab.process.poll() is not None, 90, tab.said)  # type: ignore[union-attr]
        assert self.address_file.exists(), tab.said()
        return tab

    def start_joiner(self, name: str, num_cpus: int = 1, edge_delay_s: float | None = None) -> Tab:
        """Start a joiner that reads the address from the head's file; with a delay (one way) behind its own edge."""
        tab = Tab(self.folder, name)
        address = f"@{self.address_file}"
        if edge_delay_s is not None:
            self.edges[name] = EdgeProcess(self.folder, name, edge_delay_s)
            address = self.edges[name].lead(self.address_file.read_text())
        tab.start("join", address, "--num-cpus", str(num_cpus))
        self.joiners[name] = tab
        return tab

    def wait_up(self, count: int, timeout_s: float = 120) -> list[dict[str, Any]]:
        """Every node's status, once `count` of them are up."""
        seen: list[dict[str, Any]] = []

        def up() -> bool:
            nonlocal seen
            seen = self.status()["nodes"]
            return sum(node["state"] == "up" for node in seen) == count

        until(up, timeout_s, lambda: f"{seen} {[tab.said() for tab in self.joiners.values()]}")
        return seen

    def raycolab(self, *arguments: str, timeout_s: float = 200.0) -> subprocess.CompletedProcess[str]:
        """Run a raycolab command beside the head, outside every session."""
        return subprocess.run(
            [*RAYCOLAB, *arguments, "--data-dir", str(self.data_dir)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    def status(self) -> dict[str, Any]:
        """What `raycolab status --json` says, asked by this process: polling by the command would take a whole CPU."""
        return raycolab.attach(self.data_dir).status()

    def rows(self, name: str) -> list[dict[str, Any]]:
        """`raycolab results NAME --format json`."""
        done = self.raycolab("results", name, "--format", "json")
        assert done.returncode == 0, done.stderr
        rows: list[dict[str, Any]] = json.loads(done.stdout)
        return rows

    def end(self) -> None:
        """End every session and every edge that has not ended."""
        while self.joiners:
            self.joiners.popitem()[1].end()
        if self.head is not None:
            self.head.end()
            self.head = None
        while self.edges:
            self.edges.popitem()[1].end()


@contextlib.contextmanager
def cluster(env: Mapping[str, str] | None = None) -> Iterator[Cluster]:
    """A cluster whose sessions all end with the block; its folder has a short path, for the sockets in it."""
    folder = Path(tempfile.mkdtemp(prefix="rct-"))
    made = Cluster(folder, env)
    made.data_dir.mkdir()
    try:
        yield made
    finally:
        made.end()
        shutil.rmtree(folder, ignore_errors=True)


def words_of(process: psutil.Process) -> str:
    """Its command line; nothing once it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def processes_with(variable: str, value: str) -> list[str]:
    """Every living process that has this in its environment: what was started with it, and what that started."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(variable) == value and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {words_of(process)}")
    return found


def until(true: Any, timeout_s: float, why: Any) -> None:
    """Wait until `true()`; fails with what `why()` says."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, why()
        time.sleep(0.1)


def write_main(folder: Path, *cells: str) -> Path:
    """A MAIN.ipynb of these code cells."""
    path = folder / "MAIN.ipynb"
    notebook = new_notebook(cells=[new_code_cell(source) for source in cells])
    nbformat.write(notebook, path)
    return path


def all_slots_cell(folder: Path, slots: int) -> str:
    """A cell of MAIN with `wait_for_all_slots()`: a trial that calls it goes on once this many slots have begun one.

    So every slot has its share however slow the machine is. The very first trial goes on at once, for a model's first
    one runs alone.
    """
    return f"""
import os, pathlib, socket, time
def wait_for_all_slots():
    marks = pathlib.Path({str(folder)!r}, "slots")
    first = not marks.exists()
    marks.mkdir(exist_ok=True)
    (marks / f"{{socket.gethostname()}}-{{os.getpid()}}").touch()
    while not first and len(list(marks.iterdir())) < {slots}:
        time.sleep(0.05)
"""


def write_sweep(folder: Path, name: str, lines: Sequence[str]) -> Path:
    """A sweep file for the folder's MAIN.ipynb."""
    path = folder / f"{name}.yaml"
    path.write_text("\n".join([f"name: {name}", "main: MAIN.ipynb", *lines]) + "\n")
    return path
