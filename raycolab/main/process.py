"""MAIN in a process of its own: a plain Python beside the worker that holds its slot, and the line between the two.

Ray's worker has Ray, numpy, pyarrow and private copies of other packages loaded, a path and an environment of Ray's
making. MAIN wants none of it: here it finds a fresh Python, whose packages its cells may replace. When they replace one
that is loaded already the process says so and ends, and another one begins.

    worker                                  process
      Load           ─────────────────►       reads MAIN and sets it up
                     ◄─────────────────     Setting, for each cell; then Loaded, Failed or StartAgain
      Run            ─────────────────►       runs the trial
                     ◄─────────────────     Reported, for each report, which waits for
      Answer         ─────────────────►
                     ◄─────────────────     Ended

The process ends when the line does, and is killed when the worker dies. One that dies is told by its end, not by the
line's: what it forked may hold that open.
"""

from __future__ import annotations

import faulthandler
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from raycolab.engine import steady_clock
from raycolab.engine.messages import Assignment
from raycolab.main.node_setups import SetupFailed
from raycolab.main.output import left_by, output_path
from raycolab.node import api
from raycolab.node.lifeline import die_with_parent
from raycolab.trials import Failure, Metric, Outcome

if TYPE_CHECKING:
    from raycolab.main.compute import Sink

__all__ = ["MainDied", "MainProcess"]

_END_WITHIN_S = 2.0  # once the line has ended
_SIZE_BYTES = 4
# Ray's doing in its worker's environment: of no use to MAIN, or in the way of a Ray that it starts itself.
_NOT_INHERITED = ("PYTHONBREAKPOINT",)
_RAYS = "RAY_"
# Not -m: this module would be `__main__`, which is to be MAIN's.
_PROGRAM = f"from {__name__} import main; main()"


class Load(msgspec.Struct, frozen=True, tag=True):
    """Set MAIN up."""

    main: str  # a MainNotebook's JSON
    sweep: str
    metric: Metric
    node_dir: str
    node: str = "head"  # its name
    archive: str | None = None  # the path of that of MAIN's files


class Run(msgspec.Struct, frozen=True, tag=True):
    """Run a trial."""

    trial: Assignment


class Answer(msgspec.Struct, frozen=True, tag=True):
    """The report was heard."""

    prune: bool


class Setting(msgspec.Struct, frozen=True, tag=True):
    """This cell runs now; None: another process of the node loads MAIN first."""

    cell: int | None


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """MAIN is set up; the seconds that each cell took, by its index."""

    cells: dict[int, float]


class Failed(msgspec.Struct, frozen=True, tag=True):
    """MAIN cannot be set up."""

    failure: Failure


class StartAgain(msgspec.Struct, frozen=True, tag=True):
    """A package that is loaded here was replaced: begin anew in another process."""


class Reported(msgspec.Struct, frozen=True, tag=True):
    """The trial that runs reports."""

    step: int
    value: float


class Ended(msgspec.Struct, frozen=True, tag=True):
    """The trial has ended."""

    outcome: Outcome


_ToProcess = Load | Run | Answer
_FromProcess = Setting | Loaded | Failed | StartAgain | Reported | Ended


class MainDied(Exception):  # noqa: N818  # an event in a worker's life, like SetupFailed
    """MAIN's process ended without a word: the text says how and in which cell, `output` what was printed last.

    Where the process could still say so its output ends with where each of its threads was.
    """

    def __init__(self, sentence: str, output: str = "") -> None:
        super().__init__(sentence, output)  # as it is pickled
        self.output = output

    def __str__(self) -> str:
        return str(self.args[0])

    def __repr__(self) -> str:
        return str(self)


class MainProcess:
    """MAIN, loaded in a process that this one, whose main thread must make it, has started."""

    def __init__(self, load: Load, progress: Callable[[int | None], None] = lambda cell: None) -> None:
        """`progress` gets the index of each cell that begins; None while another process of the node loads MAIN."""
        self._load = load
        self._progress = progress
        self._cell: int | None = None  # that setup is in
        self._start()

    def setup(self) -> Mapping[int, float]:
        """Set MAIN up: the seconds of each cell. Raises SetupFailed, and MainDied when a cell ends the process."""
        self._send(self._load)
        while True:
            match self._receive():
                case Setting(cell=cell):
                    self._cell = cell
                    self._progress(cell)
                case Loaded(cells=cells):
                    self._cell = None
                    return cells
                case Failed(failure=failure):
                    raise SetupFailed(failure)
                case StartAgain():
                    self.end()
                    self._start()
                    self._send(self._load)

    def compute(self, trial: Assignment, sink: Sink) -> Outcome:
        """Run a trial; raises MainDied."""
        self._send(Run(trial))
        while True:
            match self._receive():
                case Reported(step=step, value=value):
                    self._send(Answer(sink(step, value)))
                case Ended(outcome=outcome):
                    return outcome

    def end(self) -> None:
        """End the process; once more is fine."""
        if self._line.fileno() < 0:
            return
        self._line.close()
        os.close(self._ended)
        try:
            self._process.wait(_END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _start(self) -> None:
        self._line, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM, str(theirs.fileno()), str(os.getpid())],
                env=_environment(os.environ),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        self._ended = os.pidfd_open(self._process.pid)
        self._either = select.poll()
        for descriptor in (self._line.fileno(), self._ended):
            self._either.register(descriptor, select.POLLIN)

    def _send(self, message: _ToProcess) -> None:
        try:
            _send(self._line, message)
        except OSError as error:
            raise self._died() from error

    def _receive(self) -> _FromProcess:
        if self._line.fileno() not in dict(self._either.poll()):
            raise self._died()
        message: _FromProcess | None = _receive(self._line, _FromProcess)
        if message is None:
            raise self._died()
        return message

    def _died(self) -> MainDied:
        try:
            code = self._process.wait(_END_WITHIN_S)
        except subprocess.TimeoutExpired:  # it has closed the line, and lives
            self._process.kill()
            code = self._process.wait()
        where = "" if self._cell is None else f" in cell {self._cell}"
        output = left_by(output_path(Path(self._load.node_dir), self._process.pid))
        return MainDied(f"its process {_how_it_ended(code)}{where}", output)


def _how_it_ended(code: int) -> str:
    """The words for an exit code as `subprocess` has it."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:  # a real-time signal
        name = f"signal {-code}"
    return f"was killed ({name}{', as the system does when memory runs out' if -code == signal.SIGKILL else ''})"


def _environment(base: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in base.items() if name not in _NOT_INHERITED and not name.startswith(_RAYS)}
    # Sets of texts have the same order wherever a trial runs, as a kernel could have given them.
    return {"PYTHONHASHSEED": "0"} | kept


def _send(line: socket.socket, message: _ToProcess | _FromProcess) -> None:
    body = api.encode(message)
    line.sendall(len(body).to_bytes(_SIZE_BYTES) + body)


def _receive(line: socket.socket, kind: Any) -> Any:
    """The next message; None when the line has ended."""
    size = _exactly(line, _SIZE_BYTES)
    body = None if size is None else _exactly(line, int.from_bytes(size))
    return None if body is None else api.decode(body, kind)


def _exactly(line: socket.socket, size: int) -> bytes | None:
    """The next bytes; None when the line has ended."""
    body = bytearray()
    while len(body) < size:
        try:
            piece = line.recv(size - len(body))
        except ConnectionResetError:
            return None
        if not piece:
            return None
        body += piece
    return bytes(body)


# ----- in the process -----


def _serve(line: socket.socket) -> None:
    """Load MAIN and run trials until the line ends."""
    # The worker needs none of these.
    from raycolab.main.notebook import MainNotebook
    from raycolab.main.packages import StartAgainError
    from raycolab.main.runtime import MainRuntime

    load: Load | None = _receive(line, Load)
    if load is None:
        return

    own, one_at_a_time = os.getpid(), threading.Lock()

    def reported(step: int, value: float) -> bool:
        if os.getpid() != own:  # a process that MAIN forked has the line, but no say
            return False
        with one_at_a_time:
            _send(line, Reported(step, value))
            answer: Answer | None = _receive(line, Answer)
        return answer is None or answer.prune

    runtime = MainRuntime(
        MainNotebook.from_json(load.main),
        node_dir=Path(load.node_dir),
        sweep=load.sweep,
        archive=None if load.archive is None else Path(load.archive),
        node=load.node,
        progress=lambda cell: _send(line, Setting(cell)),
        clock=steady_clock(),
    )
    try:
        report = runtime.setup()
    except SetupFailed as error:
        _send(line, Failed(error.failure))
        return
    except StartAgainError:
        _send(line, StartAgain())
        return
    _send(line, Loaded({cell.index: cell.seconds for cell in report.cells}))
    while (order := _receive(line, Run)) is not None:
        trial: Assignment = order.trial
        outcome = runtime.compute(
            *(trial.model, trial.dataset, trial.config, load.metric),
            seed=trial.seed,
            number=trial.number,
            attempt=trial.attempt,
            sink=reported,
        )
        _send(line, Ended(outcome))
    runtime.close()


def main() -> None:
    """Serve the worker that started this process."""
    descriptor, worker = map(int, sys.argv[1:])
    die_with_parent(worker, signal.SIGKILL)
    # To descriptor 2, which is the file of what MAIN prints: it outlives this process.
    faulthandler.enable(all_threads=False)
    faulthandler.register(signal.SIGTERM, all_threads=False, chain=True)
    sys.argv[1:] = []
    with socket.socket(fileno=descriptor) as line:
        line.set_inheritable(False)
        _serve(line)
