"""Real notebook kernels in simulated sessions, for tests: what a person does in a notebook tab, done by a program."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import psutil
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

from tests.integration.sessions import Tab, words_of

__all__ = ["EXAMPLES", "Kernel", "NotebookTab", "Opened", "Said", "fill_in", "kernel_in", "read_example", "shown"]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
COLAB = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "PYTHONPATH": "/env/python"}
"""What the kernels of Colab have in their environment, and so has everything they start."""

CELL_S = 100
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class NotebookTab:
    """One simulated session in which kernels run, one after another, as in a tab whose kernel is restarted."""

    def __init__(self, folder: Path, name: str, cpu: int = 0) -> None:
        """`cpu` counts from 0 and goes round: the tab has one CPU, as its node then has."""
        self.name = name
        cpus = sorted(os.sched_getaffinity(0))
        self.cpu = cpus[cpu % len(cpus)]
        self.data_dir = folder / f"{name}-data"
        self.tab = Tab(folder, name)
        self.tab.session.start()
        self._kernels = 0

    def kernel(self) -> KernelManager:
        """A kernel that is not started yet; its sockets are files in the folder, which every session sees."""
        self._kernels += 1
        return _SessionKernel(self, self.tab.folder / f"{self.name}-{self._kernels}")

    def dressed(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> list[str]:
        """The arguments that run a command on the tab's CPU, with what kernels have in their environment on Colab."""
        folder = self.tab.folder
        settings = {
            **COLAB,
            "TMPDIR": str(folder),
            "RAYCOLAB_DATA_DIR": str(self.data_dir),
            "IPYTHONDIR": str(folder / "ipython"),
            **(env or {}),
        }
        words = [f"{name}={value}" for name, value in settings.items()]
        # A kernel would watch for the end of a process whose id means another one inside.
        return ["env", "-u", "JPY_PARENT_PID", *words, "taskset", "--cpu-list", str(self.cpu), *argv]

    def processes(self) -> list[psutil.Process]:
        """Every process of the session but its first one, and those of a kernel."""
        return [each for each in self.tab.processes() if "ipykernel_launcher" not in words_of(each)]

    def end(self) -> None:
        """End the session as Colab ends a virtual machine."""
        self.tab.end()


class _SessionKernel(KernelManager):
    """Starts its kernel inside a session, with what Colab has in the environment."""

    def __init__(self, tab: NotebookTab, prefix: Path) -> None:
        super().__init__(transport="ipc", ip=str(prefix), connection_file=f"{prefix}.json")
        self._inside = tab

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        tab, words = self._inside.tab, super().format_kernel_cmd(extra_arguments)
        return tab.session.command(self._inside.dressed(words), cwd=tab.folder)


@dataclass
class Said:
    """What a cell put out: its text, the last version of what was updated in place, and an error's traceback."""

    text: str = ""
    display: str = ""
    display_id: str = ""  # of that
    error: str | None = None


class Kernel:
    """A kernel of a tab, and a person who types in it."""

    def __init__(self, manager: KernelManager) -> None:
        self._manager = manager
        self._client = manager.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=CELL_S)
        self._running = ""
        self.said = Said()

    def run(self, code: str) -> Said:
        """Run a cell to its end."""
        self.begin(code)
        return self.finish()

    def begin(self, code: str) -> None:
        """Start a cell."""
        self.said = Said()
        self._running = self._client.execute(code)

    def finish(self) -> Said:
        """Wait until the cell has ended."""
        self._read(lambda idle: idle)
        return self.said

    def read_until(self, wanted: str) -> None:
        """Wait until what the cell has put out has something that this pattern matches."""
        self._read(lambda idle: re.search(wanted, self.said.text + self.said.display) is not None)

    def interrupt(self) -> None:
        """Press Stop: the message that Jupyter sends to a kernel of another machine."""
        self._client.control_channel.send(self._client.session.msg("interrupt_request"))

    def kill(self) -> None:
        """Kill the kernel's process, and nothing else, with SIGKILL."""
        file = str(self._manager.connection_file)
        found = [each for each in psutil.process_iter() if _is_kernel(each, file)]
        assert len(found) == 1, found
        found[0].kill()

    def close(self) -> None:
        """End the kernel as a notebook server does."""
        self._client.stop_channels()
        if self._manager.has_kernel:
            self._manager.shutdown_kernel(now=True)

    def _read(self, enough: Any) -> None:
        deadline = time.monotonic() + CELL_S
        idle = False
        while not enough(idle):
            assert not idle, f"the cell ended and said only {self.said}"
            message = self._client.get_iopub_msg(timeout=max(deadline - time.monotonic(), 0.1))
            if message["parent_header"].get("msg_id") != self._running:
                continue
            content = message["content"]
            match message["msg_type"]:
                case "stream":
                    self.said.text += content["text"]
                case "execute_result":
                    self.said.text += content["data"]["text/plain"]
                case "display_data" | "update_display_data":
                    self.said.display = content["data"].get("text/plain", "")
                    self.said.display_id = content.get("transient", {}).get("display_id", "")
                case "error":
                    self.said.error = _COLOURS.sub("", "\n".join(content["traceback"]))
                case "status":
                    idle = content["execution_state"] == "idle"


def _is_kernel(process: psutil.Process, file: str) -> bool:
    """Whether it is the kernel of this connection file, and none of the processes that lead into its session."""
    with contextlib.suppress(psutil.Error):
        words = process.cmdline()
        return file in words and words[1:3] == ["-m", "ipykernel_launcher"]
    return False


@contextlib.contextmanager
def kernel_in(tab: NotebookTab) -> Iterator[Kernel]:
    """A new kernel in the tab, ended with the block."""
    manager = tab.kernel()
    manager.start_kernel(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    kernel = Kernel(manager)
    try:
        yield kernel
    finally:
        kernel.close()


@dataclass
class Opened:
    """A notebook opened in a tab, run cell by cell in the order of the file."""

    notebook: nbformat.NotebookNode
    client: NotebookClient
    thread: threading.Thread | None = field(default=None)

    @classmethod
    def of(cls, notebook: nbformat.NotebookNode, tab: NotebookTab) -> Opened:
        """Open it; its kernel is not started yet."""
        return cls(notebook, NotebookClient(notebook, km=tab.kernel(), timeout=CELL_S))

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Keep its kernel running."""
        with self.client.setup_kernel(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
            yield

    def run(self, *ids: str) -> None:
        """Run the code cells of these ids; an error in one raises."""
        for index, cell in enumerate(self.notebook.cells):
            if cell.id in ids:
                self.read()
                self.client.execute_cell(cell, index)

    def read(self) -> None:
        """Take in what was updated while no cell ran, as a page does; nbclient reads only what a running cell says."""
        with contextlib.suppress(queue.Empty):
            while True:
                message = self.client.kc.get_iopub_msg(timeout=0)
                if message["msg_type"] == "update_display_data":
                    self.client.process_message(message, self.notebook.cells[0], 0)

    def start(self) -> None:
        """Run it from top to bottom, in a thread."""

        def everything() -> None:
            with self.running():
                self.run(*(cell.id for cell in self.code_cells))

        self.thread = threading.Thread(target=everything, daemon=True)
        self.thread.start()

    @property
    def code_cells(self) -> list[nbformat.NotebookNode]:
        """Its cells of code."""
        return [cell for cell in self.notebook.cells if cell.cell_type == "code"]

    def cell(self, name: str) -> nbformat.NotebookNode:
        """The cell of this id."""
        return next(cell for cell in self.notebook.cells if cell.id == name)


def read_example(name: str, **fields: Any) -> nbformat.NotebookNode:
    """A notebook of `examples/` with these form fields filled in; nothing is to be installed."""
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    for field_name, value in {"SOURCE": "", **fields}.items():
        fill_in(notebook, field_name, value)
    return notebook


def fill_in(notebook: nbformat.NotebookNode, name: str, value: Any) -> None:
    """Type a value into a form field, `NAME = ...  # @param ...`, as Colab's form does."""
    filled = 0
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source, count = re.subn(
                rf"(?m)^{name} = .*(?=  # @param )", lambda _: f"{name} = {value!r}", cell.source
            )
            filled += count
    assert filled == 1, f"the notebook has {filled} form fields called {name}"


def shown(cell: nbformat.NotebookNode) -> str:
    """What a cell shows, as plain text."""
    texts = [
        output.text
        if output.output_type == "stream"
        else "\n".join(output.get("traceback", []))
        if output.output_type == "error"
        else output.data.get("text/plain", "")
        for output in cell.outputs
    ]
    return _COLOURS.sub("", "\n".join(texts))
