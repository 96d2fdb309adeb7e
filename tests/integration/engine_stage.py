"""What the engine's tests run on: Ray nodes side by side on this machine, and a supervisor's socket."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import nbformat
import psutil

import raycolab
from raycolab.engine.__main__ import STORE_VARIABLE
from raycolab.main.notebook import MainNotebook
from raycolab.main.work_folder import NODE_DIR_VARIABLE
from raycolab.node import api
from raycolab.node.ray_command import RayPorts, ray_environment, start_command
from raycolab.node.rpc import Channel, EngineLine, Server
from raycolab.search import enumerate_trials
from raycolab.spec.spec import SweepSpec
from raycolab.store import Store, open_store, sqlite_url
from raycolab.trials import SweepState
from tests.in_loop import LoopThread
from tests.integration.sessions import words_of
from tunnel.nodes import PortBlock

__all__ = ["Cluster", "Supervisor", "notebook"]

A = TypeVar("A")

_REPOSITORY = Path(raycolab.__file__).parent.parent


def notebook(*cells: str) -> MainNotebook:
    """A MAIN of these code cells."""
    made = [nbformat.v4.new_code_cell(cell) for cell in cells]  # type: ignore[no-untyped-call]
    book = nbformat.v4.new_notebook(cells=made)  # type: ignore[no-untyped-call]
    return MainNotebook.load(book)


def free_block(start: int, size: int) -> PortBlock:
    """A block of ports from `start` on, all of them free."""
    for first in range(start, 20_999 - size, size):
        if all(_is_free(port) for port in range(first, first + size)):
            return PortBlock(first, size)
    raise RuntimeError("no free ports for the test")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


class Supervisor:
    """The head supervisor's end of the line to the engine."""

    def __init__(self, path: str) -> None:
        self._loop = LoopThread()
        self._line = EngineLine(lambda: None)
        self._server = Server(Path(path), self._answer, self._hear)
        self._changed = threading.Condition()
        self.progress: dict[str, Any] = {}
        self.told: list[set[str]] = []  # the sweeps that each progress names
        self._loop.run(self._server.start())

    async def _answer(self, body: bytes, channel: Channel) -> bytes:
        assert isinstance(api.decode(body, api.HeadRequest), api.EngineIsUp)
        self._line.connected(channel)
        return api.encode(None)

    def _hear(self, body: bytes, channel: Channel) -> None:
        told = api.decode(body, api.Progress)
        with self._changed:
            self.progress = {"sweeps": told.sweeps, "trials": told.trials}
            self.told.append({each["name"] for each in told.sweeps})
            self._changed.notify_all()

    def ask(self, request: api.Request[A]) -> A:
        """The engine's answer."""
        body = self._loop.run(self._line.ask(api.encode(request), restart_s=60))
        answer: A = api.decode(body, request.answer_type())
        return answer

    def tell(self, notice: object) -> None:
        """What needs no answer."""
        self._loop.call(self._line.tell, notice)

    def sweep(self, name: str) -> dict[str, Any]:
        """What was last told of the sweep."""
        return next((each for each in self.progress.get("sweeps", ()) if each["name"] == name), {})

    def wait_for(self, condition: Callable[[], object], timeout_s: float = 90) -> None:
        """Wait until the news make this true."""
        with self._changed:
            assert self._changed.wait_for(condition, timeout_s), self.progress

    def wait_state(self, name: str, state: SweepState, timeout_s: float = 90) -> dict[str, Any]:
        """Wait until the sweep is in this state."""
        self.wait_for(lambda: self.sweep(name).get("state") == state, timeout_s)
        return self.sweep(name)

    def close(self) -> None:
        """Hang up."""
        self._loop.run(self._server.close())
        self._loop.end()


class Cluster:
    """Ray nodes, an engine, a store and a supervisor's socket in a short temporary folder."""

    def __init__(self, cpus: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rc", dir="/tmp"))
        self.environment = ray_environment(
            secrets.token_hex(20), {**os.environ, "PYTHONPATH": str(_REPOSITORY), "RAY_DEDUP_LOGS": "0"}
        )
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}
        self.url = sqlite_url(self.folder / "raycolab.db")
        self.store: Store = open_store(self.url)
        self._block = free_block(20_000, 48)
        self._address = f"127.77.0.1:{self._block.first}"
        self.supervisor = Supervisor(str(self.folder / "control.sock"))
        ports = RayPorts.of(self._block)
        self._spawn(
            "head",
            start_command(
                ports,
                node_ip="127.77.0.1",
                node_name="head",
                head_address=None,
                num_cpus=cpus,
                num_gpus=0,
                temp_dir=str(self.folder / "r1"),
            ),
        )
        self._wait_for_port(self._block.first)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in reversed(list(self.nodes)):
            self.end_node(name)
        self.supervisor.close()
        self.store.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _spawn(self, name: str, command: list[str]) -> None:
        log = (self.folder / f"{name}.log").open("wb")
        environment = {**self.environment, NODE_DIR_VARIABLE: str(self.folder / name)}
        self.nodes[name] = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, cwd=self.folder, start_new_session=True
        )

    def _wait_for_port(self, port: int) -> None:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.77.0.1", port)) == 0:
                    return
            time.sleep(0.1)
        raise RuntimeError("Ray's head did not start")

    def add_node(self, number: int, cpus: int, gpus: int = 0) -> str:
        """One more Ray node beside the others, up; its name. A node that had no turn within Ray's 30 s begins again."""
        name = f"joiner-{number - 1}"
        for attempt in range(3):
            block = free_block(self._block.first + self._block.count, 48)
            self._spawn(
                name,
                start_command(
                    RayPorts.of(block),
                    node_ip=f"127.77.0.{number}",
                    node_name=name,
                    head_address=self._address,
                    num_cpus=cpus,
                    num_gpus=gpus,
                    temp_dir=str(self.folder / f"r{number}-{attempt}"),
                ),
            )
            deadline = time.monotonic() + 90  # Ray's own 30 s, and how long a busy machine takes to get there
            while self.nodes[name].poll() is None and time.monotonic() < deadline:
                if "Ray runtime started" in (self.folder / f"{name}.log").read_text(errors="replace"):
                    return name
                time.sleep(0.1)
            self.end_node(name)
        raise RuntimeError(f"{name} did not start: " + (self.folder / f"{name}.log").read_text(errors="replace"))

    def end_node(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        """End a node; SIGKILL ends its whole process group, as a VM that vanishes."""
        process = self.nodes.pop(name)
        if how is signal.SIGKILL:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.terminate()
        process.wait(60)

    def start_engine(self) -> None:
        """What the supervisor does once Ray is up."""
        command = [
            *(sys.executable, "-m", "raycolab.engine"),
            *("--ray-address", self._address, "--node-ip", "127.77.0.1"),
            *("--control", str(self.folder / "control.sock"), "--lock-dir", str(self.folder / "locks")),
            *("--data-dir", str(self.folder)),
            *("--owner", "the stage"),
        ]
        environment = {**self.environment, STORE_VARIABLE: self.url}
        done = subprocess.run(command, env=environment, cwd=self.folder, capture_output=True, timeout=120)
        assert done.returncode == 0, done.stderr.decode()

    def kill_engine(self) -> None:
        """End the actor's process, which Ray starts again."""
        self.worker("ray::Engine").kill()

    def worker(self, words: str) -> psutil.Process:
        """The first of Ray's workers on the head whose command line has these words."""
        head = psutil.Process(self.nodes["head"].pid)
        return next(child for child in head.children(recursive=True) if words in words_of(child))

    def declare(self, name: str, main: MainNotebook, **arguments: Any) -> int:
        """A sweep in the store; its id."""
        spec = SweepSpec.from_arguments(name, **arguments)
        rows = enumerate_trials(spec, [])
        sweep = self.store.create_sweep(
            name, spec.to_json(), main.to_json(), spec.fingerprint(), main.code_fingerprint(), {}, rows, time.time()
        )
        return sweep.id

    def extend(self, name: str, **arguments: Any) -> None:
        """Declare a sweep larger than it is."""
        spec = SweepSpec.from_arguments(name, **arguments)
        sweep = self.store.existing_sweep(name)
        self.store.write(sweep.id, enumerate_trials(spec, self.store.trials(sweep.id)))
        self.store.update_sweep(sweep.id, spec=spec.to_json(), spec_fingerprint=spec.fingerprint())
