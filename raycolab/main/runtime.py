"""MAIN at work in a worker process: its cells once, then `compute` per trial. No Ray here, and no scheduling.

Setup is all cells that workers run, in their order, in a work folder of the sweep's own. On each node one process does
it first, alone; those that come later are told what its shell commands and file-writing magics did (`node_setups`). A
command whose status is not 0 fails setup; `name = !command` is the program's own business and runs in every worker.

A cell or a trial begins where setup's last cell has left off: in the work folder, unless that changed the directory.

The namespace is IPython's `__main__`, in `sys.modules` until `close`, so MAIN's classes pickle within the process, and
by value with cloudpickle. A worker process loads one MAIN in its life. In a process that has a shell already, such as a
kernel, that one stays the current one.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from raycolab.errors import MainError
from raycolab.main.compute import (
    BadReturnError,
    Sink,
    is_pruned,
    metrics_of,
    reporting,
    signature_of,
)
from raycolab.main.failure import failure_of
from raycolab.main.files import cure_for_missing, unpack
from raycolab.main.kernel_only import KernelOnly, needs_colab
from raycolab.main.node_setups import Setup, SetupFailed
from raycolab.main.notebook import MainNotebook
from raycolab.main.output import MainOutput, output_path
from raycolab.main.packages import StartAgainError
from raycolab.main.roles import Cell, CellRole
from raycolab.main.seeds import seeded
from raycolab.main.source import runnable
from raycolab.main.trial import CurrentTrial, running
from raycolab.main.work_folder import Place
from raycolab.trials import Config, ErrorKind, Failure, Metric, Outcome, Scalar, TrialState

if TYPE_CHECKING:
    from raycolab.main.shell import MainShell

__all__ = ["CellTiming", "MainRuntime", "SetupReport"]

_NO_COMPUTE = "MAIN ran to its end and left no `compute` to call: define it in a cell that workers run."


@dataclass(frozen=True, slots=True)
class CellTiming:
    """How long one cell of MAIN took to set up."""

    index: int
    seconds: float
    role: CellRole


@dataclass(frozen=True, slots=True)
class SetupReport:
    """What setting MAIN up took, cell by cell in the order they ran, and the last lines it printed."""

    cells: tuple[CellTiming, ...]
    output: str


class MainRuntime:
    """One MAIN loaded in this process. `node_dir` is the folder of this node, shared by its workers.

    `archive` has the files that travel with MAIN, where it has any; `node` is the node's name.
    `in_worker` is False in a kernel, which can answer the calls that `KernelOnly` answers in a worker. `progress` gets
    the index of each cell that setup begins, and None while another process of the node goes first.
    """

    def __init__(
        self,
        main: MainNotebook,
        *,
        node_dir: Path,
        sweep: str = "sweep",
        archive: Path | None = None,
        node: str = "head",
        in_worker: bool = True,
        clock: Callable[[], float] = time.time,
        progress: Callable[[int | None], None] = lambda cell: None,
    ) -> None:
        self._main = main
        self._folder = node_dir
        self._archive = archive
        self._node = node
        self._in_worker = in_worker
        self._setup = Setup(node_dir, sweep, main.code_fingerprint())
        self._place: Place | None = None  # where setup left off
        self._clock = clock
        self._progress = progress
        # A worker's outlives it, should it be killed: the file of its process.
        self._output = MainOutput(output_path(node_dir, os.getpid()) if in_worker else None)
        wanted = needs_colab(cell.source for cell in main.cells if cell.role is not CellRole.SKIP)
        self._kernel_only = KernelOnly(stand_in=wanted) if in_worker else None
        self._shell: MainShell | None = None
        self._compute: Callable[[str, str, Config], object] | None = None  # of model, dataset and configuration
        self._timings: list[CellTiming] = []

    def setup(self) -> SetupReport:
        """Run MAIN's cells; raises SetupFailed with the first cell that fails.

        StartAgainError when a package that is loaded here was replaced, so that another process has to do it.
        """
        from raycolab.main.shell import start_shell  # IPython takes a while to import

        _mend_matplotlib_backend()
        own = Place.now("/")
        self._shell = start_shell(self._folder / "ipython")
        folder = self._setup.begin(self._fill, waits=lambda: self._progress(None))
        try:
            self._place = Place.of(folder)
            if self._main.is_python_file:
                self._shell.user_ns["__file__"] = str(folder / self._main.name)
            if self._kernel_only is not None:
                self._kernel_only.install()
            self._run_cells(self._shell)
            compute = self._found_compute(self._shell)
            if not self._setup.end():
                raise StartAgainError("the work folder cannot be shared")
            self._compute = compute
        except SetupFailed as error:
            if not self._setup.end(error.failure):
                raise StartAgainError("the work folder cannot be shared") from error
            raise
        except StartAgainError:
            self._setup.start_again()
            raise
        finally:
            own.enter()
        return SetupReport(tuple(self._timings), self._output.text())

    def compute(
        self,
        model: str,
        dataset: str,
        config: Config,
        metric: Metric,
        *,
        seed: int | None = None,
        number: int = 0,
        attempt: int = 1,
        sink: Sink | None = None,
    ) -> Outcome:
        """Run one trial. Whatever MAIN's code raises, KeyboardInterrupt and SystemExit included, is an Outcome.

        Its random numbers start from `seed`; with None they go on where they are. `sink` gets what the trial reports
        and may end it: then the trial is PRUNED, with the value it reported last.
        """
        if self._shell is None or self._compute is None:
            raise RuntimeError("setup() has to come first")
        self._output.clear()
        metrics: dict[str, Scalar] = {}
        failure: Failure | None = None
        state = TrialState.COMPLETE
        started_at = self._clock()
        current = CurrentTrial(number, model, dataset, config, seed, attempt, self._node, self._work_folder)
        with self._at_work(self._shell), seeded(seed), running(current), reporting(sink) as last_reported:
            try:
                value = self._compute(model, dataset, config)
                if inspect.isawaitable(value):
                    value = self._shell.run_coroutine(_awaited(value))
                metrics = metrics_of(value, metric)
            except BadReturnError as error:
                state, failure = TrialState.FAILED, Failure(ErrorKind.BAD_RETURN, "BadReturn", str(error))
            # The user's code may raise anything; SystemExit from it must not end the worker.
            except BaseException as error:
                if is_pruned(error):
                    last = last_reported()
                    state, metrics = TrialState.PRUNED, {} if last is None else {metric.name: last}
                else:
                    kind = ErrorKind.OOM if isinstance(error, MemoryError) else ErrorKind.EXCEPTION
                    state, failure = TrialState.FAILED, self._failure(kind, error)
            ended_at = self._clock()
            self._shell.events.trigger("post_execute")  # closes the trial's figures
            self._shell.forget_output()
        return Outcome(state, metrics, failure, started_at, ended_at, self._output.text())

    @property
    def main_module(self) -> ModuleType | None:
        """MAIN's namespace, which is `__main__`; None before `setup`."""
        return None if self._shell is None else self._shell.user_module

    def close(self) -> None:
        """Give the process its own `__main__` and IPython back."""
        if self._shell is None:
            return
        if self._kernel_only is not None:
            self._kernel_only.remove()
        self._shell.end()
        self._setup.release()
        self._shell = self._compute = None
        self._output.close()

    # --- setup -------------------------------------------------------------------------------------------------------

    def _run_cells(self, shell: MainShell) -> None:
        if self._in_worker:  # others may have installed something while this process waited
            shell.packages.check(always=False, loaded=set(sys.modules))
        for cell in self._main.cells:
            if cell.role is not CellRole.SKIP:
                self._run_cell(shell, cell)

    def _found_compute(self, shell: MainShell) -> Callable[[str, str, Config], object]:
        """MAIN's `compute` as a function of model, dataset and configuration."""
        compute = shell.user_ns.get("compute")
        try:
            if not callable(compute):
                raise MainError(_NO_COMPUTE)
            written = None
            with contextlib.suppress(MainError):  # what reading MAIN cannot tell, running it may
                written = self._main.signature()
            signature = signature_of(compute, written)
        except MainError as error:
            raise SetupFailed(Failure(ErrorKind.SETUP, "MainError", str(error))) from error
        return lambda *trial: compute(**signature.arguments(*trial))

    def _run_cell(self, shell: MainShell, cell: Cell) -> None:
        """Run and time one cell."""
        started = self._clock()
        self._progress(cell.index)
        try:
            with self._at_work(shell):
                shell.run_main_cell(cell.index, runnable(cell.source), self._setup)
        except StartAgainError as again:
            if self._in_worker and self._setup.may_start_again:
                raise
            if again.__cause__ is not None:
                raise SetupFailed(self._failure(ErrorKind.SETUP, again.__cause__, cell)) from again
        # A cell may raise anything; what it raises is this node's failure to set MAIN up.
        except BaseException as error:
            raise SetupFailed(self._failure(ErrorKind.SETUP, error, cell)) from error
        self._timings.append(CellTiming(cell.index, self._clock() - started, cell.role))

    def _fill(self, folder: Path) -> None:
        """Put what travels with MAIN into its work folder, and MAIN itself where it may ask for its own path."""
        files = self._main.origin.files
        if files is not None and self._archive is not None:
            with self._archive.open("rb") as archive:
                unpack(archive, files.digest, folder)
        if self._main.is_python_file:
            (folder / self._main.name).write_text("\n".join(cell.source for cell in self._main.cells))

    @property
    def _work_folder(self) -> Path:
        return Path.cwd() if self._setup.folder is None else self._setup.folder.path

    def _failure(self, kind: ErrorKind, error: BaseException, cell: Cell | None = None) -> Failure:
        origin, cure = self._main.origin, None
        with contextlib.suppress(Exception):  # the exception's own attributes may raise anything
            cure = cure_for_missing(error, origin.folder, origin.beside, self._work_folder)
        return failure_of(kind, error, cell, "" if cell is None else self._output.text(), cure)

    @contextlib.contextmanager
    def _at_work(self, shell: MainShell) -> Iterator[None]:
        """While MAIN's code runs: its output is kept, `display` and `get_ipython` are there, packages are guarded."""
        own = Place.now("/")
        if self._place is not None:
            self._place.enter()
        try:
            with self._output.captured(descriptors=self._in_worker), shell.builtin_trap, shell.packages.in_force():
                yield
        finally:
            if self._compute is None and self._place is not None:  # a cell of setup: the next goes on from there
                self._place = Place.now(self._place.directory)
            own.enter()


def _mend_matplotlib_backend() -> None:
    """A kernel's MPLBACKEND may name a module this worker lacks; matplotlib would fail at its import."""
    backend = os.environ.get("MPLBACKEND", "")
    if not backend.startswith("module://"):
        return
    try:
        known = importlib.util.find_spec(backend.removeprefix("module://")) is not None
    except (ImportError, ValueError):
        known = False
    if not known:
        os.environ["MPLBACKEND"] = "agg"


async def _awaited(value: object) -> object:
    return await value  # type: ignore[misc]  # asked of inspect.isawaitable
