"""Pull style: a notebook asks for one trial after another and runs them itself, beside or instead of the workers.

    exp = raycolab.declare(...)
    while exp.not_done():
        task = exp.get_task()
        task.compute()
        task.send_data()
        task.done()

Any number of notebooks may do so at once, on any node of the cluster. A task is leased: it goes to another when its
notebook dies. Interrupting the loop keeps the task; running the cell again goes on with it.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from raycolab.engine import steady_clock
from raycolab.engine.messages import MAX_POINTS, Assignment
from raycolab.errors import ClusterError, MainError, UsageError
from raycolab.main.compute import BadReturnError, metrics_of
from raycolab.main.notebook import MainNotebook
from raycolab.node.api import Heartbeat, Pull, Push, PutDown, ReadFiles, Request
from raycolab.trials import Config, Metric, Outcome, Scalar, SweepState, TrialState, trial_title

if TYPE_CHECKING:
    from raycolab.main.runtime import MainRuntime

__all__ = ["Puller", "Task"]

A = TypeVar("A")


class Asked(Protocol):
    """The head."""

    def ask(self, request: Request[A], *, timeout_s: float | None = None) -> A:
        """Its answer; raises ClusterError."""


HEARTBEAT_S = 10.0  # a sixth of the lease
POLL_S = 0.3
REPORT_S = 0.5  # a trial's reports travel together so long
RETRY_S = 1.0
GIVE_UP_S = 60.0  # a head that does not answer for so long


class Task:
    """One trial in this notebook's hands; `Sweep.get_task` gives it.

    `number`, `model`, `dataset` and `config` (flat; nested names joined by "/") say what to compute.
    """

    def __init__(self, puller: Puller, assignment: Assignment) -> None:
        self.number = assignment.number
        self.model = assignment.model
        self.dataset = assignment.dataset
        self.config: Config = assignment.config
        self.seed = assignment.seed
        self._attempt = assignment.attempt
        self._puller = puller
        self._ticket = assignment.ticket
        self._clock = steady_clock()
        self._began = self._clock()
        self._outcome: Outcome | None = None
        self._is_sent = False

    def compute(self) -> Mapping[str, Scalar] | None:
        """Run MAIN's `compute` here; its metrics, or None when it failed, which is said and does not raise.

        MAIN's cells run once in this process, before its first task. MainError says which one cannot.
        """
        runtime = self._puller.runtime()
        with _own_main_module(runtime):
            outcome = runtime.compute(
                *(self.model, self.dataset, self.config, self._puller.metric),
                seed=self.seed,
                number=self.number,
                attempt=self._attempt,
                sink=self._puller.reported,
            )
        failure = outcome.failure
        if failure is not None and failure.ename == "KeyboardInterrupt":
            raise KeyboardInterrupt(f"{self} was interrupted; it is still yours: run the loop again to go on with it.")
        self._outcome = outcome
        if failure is not None:
            _say(f"{self} failed: {failure.summary}")
            return None
        return outcome.metrics

    def send_data(self, data: float | Mapping[str, Any] | None = None) -> bool:
        """Send what `compute` measured, or your own `data`, as `compute` would return it.

        False when the task was given to another notebook in the meantime, and this result does not count. Raises
        UsageError for data without the sweep's metric, and when there is nothing to send.
        """
        if data is not None:
            try:
                metrics = metrics_of(data, self._puller.metric)
            except BadReturnError as error:
                raise UsageError(str(error).replace("compute returned", "send_data was given")) from error
            self._outcome = Outcome(TrialState.COMPLETE, metrics, started_at=self._began, ended_at=self._clock())
        if self._outcome is None:
            raise UsageError(f"{self} has no data yet: call its compute() first, or give send_data what you measured.")
        counts = self._puller.push(self._ticket, self._outcome)
        self._is_sent = True
        if not counts:
            _say(f"{self} had gone to another notebook, or was ended: this result does not count.")
        return counts

    def done(self) -> None:
        """The task is over; UsageError when its data was not sent."""
        if not self._is_sent:
            raise UsageError(f"{self} is not done: nothing was sent. Call its compute() and its send_data() first.")

    def __repr__(self) -> str:
        return trial_title(self.number, self.model, self.dataset)


class Puller:
    """This process, as it pulls trials of one sweep."""

    def __init__(
        self,
        name: str,
        head: Asked,
        node: str,
        main: str,
        metric: Metric,
        folder: Path,
        *,
        main_version: int = 1,
        give_up_s: float = GIVE_UP_S,
    ) -> None:
        """`main` is a MainNotebook's JSON; in `folder` its shell commands leave what they did on this machine, `node`.

        A head that does not answer is asked again for `give_up_s`.
        """
        self._give_up_s = give_up_s
        self.metric = metric
        self._name = name
        self._head = head
        self._node = node
        self._main = main
        self._main_version = main_version
        self._folder = folder
        self._id = f"{os.getpid()}-{secrets.token_hex(6)}"
        self._runtime: MainRuntime | None = None
        self._told: str | None = None
        self._changed = threading.Condition()
        self._ticket: int | None = None  # of the trial it holds
        self._points: list[tuple[int, float]] = []  # reported, not sent
        self._prune = False
        self._beating = False
        atexit.register(self.close)

    def next(self, *, begin: bool = False) -> Task | None:
        """Wait for the next trial, the one it holds if any; None when the sweep is at rest.

        `begin` lets a sweep that is held go on, and has one at work look for what was added to it.
        """
        while True:
            pulled = self._ask(Pull(self._name, self._id, self._node, begin, self._main_version))
            begin = False
            if pulled.trial is not None:
                self._hold(pulled.trial)
                return Task(self, pulled.trial)
            if pulled.over is not None:
                if pulled.over is not SweepState.COMPLETE:
                    _say(pulled.sentence or f"The sweep {self._name!r} is {pulled.over.lower()}.")
                return None
            self._tell_once(pulled.sentence)
            time.sleep(POLL_S)

    def push(self, ticket: int, outcome: Outcome) -> bool:
        """How the trial ended; whether that counts."""
        with self._changed:
            points, self._points = self._points, []
        if points:
            self._ask(Heartbeat(self._name, self._id, ticket, points))
        counts = self._ask(Push(self._name, self._id, ticket, outcome))
        with self._changed:
            if self._ticket == ticket:
                self._ticket = None
        return counts

    def reported(self, step: int, value: float) -> bool:
        """The trial that runs reports; whether it is to end."""
        with self._changed:
            self._points = [*self._points[1 - MAX_POINTS :], (step, value)]
            self._changed.notify_all()
            return self._prune

    def runtime(self) -> MainRuntime:
        """MAIN, loaded in this process."""
        while self._runtime is None:
            # IPython takes a while to import.
            from raycolab.main.node_setups import SetupFailed
            from raycolab.main.packages import StartAgainError
            from raycolab.main.runtime import MainRuntime

            main = MainNotebook.from_json(self._main)
            files = main.origin.files
            runtime = MainRuntime(
                main,
                node_dir=self._folder,
                sweep=self._name,
                archive=None if files is None else self._fetched(files.digest),
                node=self._node,
                in_worker=False,
                clock=steady_clock(),
            )
            with _own_main_module(runtime):
                try:
                    runtime.setup()
                except StartAgainError:  # in a work folder of its own
                    runtime.close()
                    continue
                except SetupFailed as error:
                    runtime.close()
                    raise MainError(f"MAIN cannot be set up in this notebook: {error}.") from error
            self._runtime = runtime
        return self._runtime

    def close(self) -> None:
        """The process ends: what it holds is for another, and MAIN is unloaded."""
        with self._changed:
            ticket, self._ticket = self._ticket, None
        with contextlib.suppress(ClusterError):
            if ticket is not None:
                self._head.ask(PutDown(self._name, self._id), timeout_s=2.0)
        if self._runtime is not None:
            self._runtime.close()
            self._runtime = None

    # ----- inside -----

    def _fetched(self, digest: str) -> Path:
        """The archive of MAIN's files, from the head; verified as it is unpacked."""
        path = self._folder / "files" / digest
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            part = path.with_name(f"{digest}.{self._id}")
            with part.open("wb") as file:
                while piece := self._ask(ReadFiles(digest, file.tell())):
                    file.write(piece)
            part.rename(path)
        return path

    def _hold(self, assignment: Assignment) -> None:
        with self._changed:
            if self._ticket != assignment.ticket:
                self._ticket, self._points, self._prune = assignment.ticket, [], False
            self._told = None
            if not self._beating:
                self._beating = True
                threading.Thread(target=self._beat, name="raycolab-pull", daemon=True).start()

    def _beat(self) -> None:
        """Let the head hear of this notebook, and of what its trial reports, as long as the process lives."""
        sent_at = time.monotonic()
        while True:
            with self._changed:
                rest = (REPORT_S if self._points else HEARTBEAT_S) - (time.monotonic() - sent_at)
                if rest > 0:
                    self._changed.wait(rest)
                    continue
                ticket, points, self._points = self._ticket, self._points, []
            sent_at = time.monotonic()
            if ticket is None:
                continue
            try:
                answer = self._head.ask(Heartbeat(self._name, self._id, ticket, points))
            except ClusterError:  # whoever pushes next says what is wrong
                with self._changed:
                    if self._ticket == ticket:
                        self._points = [*points, *self._points][-MAX_POINTS:]
            else:
                with self._changed:
                    self._prune = self._ticket == ticket and (answer.prune or not answer.held)

    def _ask(self, request: Request[A]) -> A:
        """Ask the head, again while it does not answer."""
        deadline = time.monotonic() + self._give_up_s
        while True:
            try:
                return self._head.ask(request)
            except ClusterError as error:
                if time.monotonic() >= deadline:
                    raise
                self._tell_once(str(error))
                time.sleep(RETRY_S)

    def _tell_once(self, waits: str | None) -> None:
        if waits is not None and waits != self._told:
            _say(f"{self._name}: waits; {waits}")
            self._told = waits


@contextlib.contextmanager
def _own_main_module(runtime: MainRuntime) -> Iterator[None]:
    """MAIN is `__main__` while it runs, and the notebook's own is again afterwards."""
    own = sys.modules["__main__"]
    theirs = runtime.main_module
    if theirs is not None:
        sys.modules["__main__"] = theirs
    try:
        yield
    finally:
        sys.modules["__main__"] = own


def _say(text: str) -> None:
    """For the person who runs the loop."""
    print(text, flush=True)  # noqa: T201
