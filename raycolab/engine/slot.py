"""The slot task: one Ray worker process that loads MAIN once and runs the trials the engine gives it.

The main thread holds MAIN, which runs in a process of its own; two other threads talk to the engine (`ray.get` on a
task's main thread would release the slot's CPU). A slot lives for one sweep: `max_calls=1` ends its process, so no MAIN
leaks into the next.
`SlotProtocol` is the slot's half of what `raycolab.engine.messages` says.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from ray import exceptions

from raycolab.engine.messages import MAX_POINTS, Assignment, LossCause, Plan, Points, SetupStep, State
from raycolab.main.node_setups import SetupFailed
from raycolab.main.process import Load, MainDied, MainProcess
from raycolab.main.work_folder import node_dir
from raycolab.trials import Failure, Metric, Outcome

__all__ = ["SlotProtocol", "cause_of_end", "last_output", "run_slot"]

# A slot that is to end waits this long for the engine to have its reports.
_LAST_REPORTS_S = 30.0
# Before a call is repeated while the engine cannot be reached.
_RETRY_S = 1.0
# One call waits for work, one brings news.
_CALLS = 2
# Weight of the newest round trip.
_SMOOTHING = 0.3
# Of a node: those of the last sweeps that had files.
_KEPT_ARCHIVES = 4

_log = logging.getLogger(__name__)


@ray.remote(max_calls=1, max_retries=0)
def run_slot(
    engine: Any, slot: str, main: str, files: tuple[str, list[Any]] | None, sweep: str, metric: Metric
) -> None:
    """Load `main` (a MainNotebook's JSON) and run trials until the engine says that the slot ends.

    `files` has the digest of what travels with it, and the reference to its archive.
    """
    # Ray's workers answer SIGTERM, which they get when their node ends, with a SystemExit in the midst of the trial: it
    # would count as the trial's own failure.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    here, node = node_dir(os.environ), slot.rpartition(".")[0]
    archive = None if files is None else str(_fetched(files[0], files[1][0], here / "files"))
    protocol = SlotProtocol(slot)
    process = MainProcess(Load(main, sweep, metric, str(here), node, archive), protocol.sets_up)
    for number in range(_CALLS):
        threading.Thread(target=_talk, args=(engine, protocol), name=f"raycolab-talk-{number}", daemon=True).start()
    try:
        protocol.loaded(process.setup())
    except SetupFailed as error:
        protocol.setup_failed(error.failure)
    try:
        while (trial := protocol.take()) is not None:
            protocol.finished(process.compute(trial, protocol.reported))
    finally:  # what ended before MAIN died counts
        protocol.close(_LAST_REPORTS_S)
        process.end()


def _fetched(digest: str, reference: Any, folder: Path) -> Path:
    """An archive on this node's disk, fetched by the first slot that wants it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / digest
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            os.utime(path)
        else:
            part = folder / "part"
            part.write_bytes(ray.get(reference))
            part.rename(path)
            others = sorted(
                (each for each in folder.iterdir() if each.name != "lock"), key=lambda each: each.stat().st_mtime
            )
            for each in others[:-_KEPT_ARCHIVES]:
                each.unlink()
    return path


def _talk(engine: Any, protocol: SlotProtocol) -> None:
    """Carry states to the engine and its plans back until the slot closes."""
    while (state := protocol.next_state()) is not None:
        begun = time.monotonic()
        try:
            plan: Plan = ray.get(engine.sync.remote(state))
        except exceptions.ActorUnavailableError:
            protocol.failed(state)
            time.sleep(_RETRY_S)
        except Exception as error:
            # The engine is gone, or cannot be spoken to, and nobody will take a result: the CPU is worth more than the
            # trial, which the end of this process gives to another slot.
            _log.warning("slot %s ends, it has no engine: %r", state.slot, error)
            os._exit(1)
        else:
            protocol.answered(state, plan, time.monotonic() - begun)


class SlotProtocol:
    """What the slot holds, runs and has to say; shared by the thread that runs trials and those that talk."""

    def __init__(self, slot: str) -> None:
        self._slot = slot
        self._changed = threading.Condition()
        self._plan = 0  # the number of the plan last carried out
        self._unstarted: list[Assignment] = []
        self._running: int | None = None  # the ticket
        self._last_started = 0
        self._prune: int | None = None  # the trial of this ticket may give up
        self._ends = False
        self._closed = False
        # What no call has carried yet. While one with news is under way, that state alone has what it carries.
        self._has_news = False
        self._setup: SetupStep | None = None
        self._loaded: Mapping[int, float] | None = None
        self._setup_failure: Failure | None = None
        self._finished: list[tuple[int, Outcome]] = []
        self._reports: dict[int, list[tuple[int, float]]] = {}
        # The calls under way, and of these the ones that bring news.
        self._under_way = 0
        self._with_news = 0
        self._states = 0
        self._round_trip_s: float | None = None

    # ----- the thread that runs trials -----

    def sets_up(self, cell: int | None) -> None:
        """This cell of MAIN begins; None while another slot of the node goes first."""
        with self._changed:
            self._setup = SetupStep(cell)
            self._say()

    def loaded(self, cell_seconds: Mapping[int, float]) -> None:
        """MAIN is loaded, its cells took this long."""
        with self._changed:
            self._setup, self._loaded = None, cell_seconds
            self._say()

    def setup_failed(self, failure: Failure) -> None:
        """MAIN cannot be loaded, so the slot ends."""
        with self._changed:
            self._setup, self._setup_failure = None, failure
            self._ends = True
            self._say()

    def take(self) -> Assignment | None:
        """Wait for the next trial, which has started then; None when the slot is to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._unstarted or self._ends)
            if self._ends:
                return None
            trial = self._unstarted.pop(0)
            self._running = self._last_started = trial.ticket
            self._say()
            return trial

    def reported(self, step: int, value: float) -> bool:
        """The trial that runs has come this far; True when it may give up."""
        with self._changed:
            if self._running is None:
                return False
            points = self._reports.setdefault(self._running, [])
            points.append((step, value))
            del points[:-MAX_POINTS]
            self._say()
            return self._prune == self._running

    def finished(self, outcome: Outcome) -> None:
        """The trial that runs has ended."""
        with self._changed:
            if self._running is not None:
                self._finished.append((self._running, outcome))
                self._running = None
                self._say()

    def close(self, timeout_s: float) -> None:
        """Wait until the engine has everything, for this long at most, and let the threads that talk end."""
        with self._changed:
            self._changed.wait_for(lambda: not self._has_news and not self._with_news, timeout_s)
            self._closed = True
            self._changed.notify_all()

    # ----- the threads that talk -----

    @property
    def unstarted(self) -> tuple[int, ...]:
        """The tickets of what the slot holds and has not started, in order."""
        return tuple(trial.ticket for trial in self._unstarted)

    @property
    def is_call_due(self) -> bool:
        """Whether `next_state` gives a state without waiting."""
        if self._has_news:
            return not self._with_news
        return not self._under_way and not self._ends

    def next_state(self) -> State | None:
        """Wait until a call is due, and give the state that it carries; None when the slot has closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self.is_call_due)
            if self._closed:
                return None
            self._states += 1
            self._under_way += 1
            self._with_news += self._has_news
            state = State(
                slot=self._slot,
                number=self._states,
                plan=self._plan,
                may_wait=not self._has_news,
                round_trip_s=self._round_trip_s,
                setup=self._setup,
                loaded=self._loaded,
                setup_failure=self._setup_failure,
                running=self._running,
                unstarted=self.unstarted,
                finished=tuple(self._finished),
                reports=tuple((ticket, tuple(points)) for ticket, points in self._reports.items()),
            )
            self._has_news = False
            self._loaded = self._setup_failure = None
            self._finished = []
            self._reports = {}
            return state

    def answered(self, state: State, plan: Plan, elapsed_s: float) -> None:
        """The call with this state came back after this long."""
        with self._changed:
            self._returned(state)
            round_trip_s = max(elapsed_s - plan.held_s, 0.0)
            before = self._round_trip_s
            self._round_trip_s = round_trip_s if before is None else before + (round_trip_s - before) * _SMOOTHING
            self._ends = self._ends or plan.ends
            if plan.number > self._plan:
                self._carry_out(plan)
            self._changed.notify_all()

    def failed(self, state: State) -> None:
        """The call with this state failed: whether it was heard is not known, so it is all said again."""
        with self._changed:
            self._returned(state)
            if not state.may_wait:
                self._loaded, self._setup_failure = state.loaded, state.setup_failure
                self._finished[:0] = state.finished
                again: dict[int, Points] = dict(state.reports)
                for ticket, points in self._reports.items():
                    again[ticket] = (*again.get(ticket, ()), *points)
                self._reports = {ticket: list(points[-MAX_POINTS:]) for ticket, points in again.items()}
                self._has_news = True
            self._changed.notify_all()

    # ----- inside, with the lock -----

    def _say(self) -> None:
        self._has_news = True
        self._changed.notify_all()

    def _returned(self, state: State) -> None:
        self._under_way -= 1
        self._with_news -= not state.may_wait

    def _carry_out(self, plan: Plan) -> None:
        known = {trial.ticket: trial for trial in (*self._unstarted, *plan.new)}
        tickets = [ticket for ticket in plan.hold if ticket > self._last_started and ticket in known]
        self._unstarted = [known[ticket] for ticket in tickets]
        self._plan = plan.number
        self._prune = plan.prune


# Ray's errors that mean that the node, or the way to it, is gone. WorkerCrashedError is the process alone.
_NODE_ERRORS: tuple[type[BaseException], ...] = (
    exceptions.NodeDiedError,
    exceptions.LocalRayletDiedError,
    exceptions.ObjectLostError,
    exceptions.ActorDiedError,
    exceptions.ActorUnavailableError,
    exceptions.ActorUnschedulableError,
    exceptions.TaskUnschedulableError,
    exceptions.OutOfDiskError,
    exceptions.ObjectStoreFullError,
    exceptions.RuntimeEnvSetupError,
)


def cause_of_end(error: BaseException | None, killed: bool) -> tuple[LossCause, str]:
    """Why a slot task ended, from what awaiting it raised; with the sentence for the attempts table."""
    if killed:
        return LossCause.KILLED, "killed"
    if error is None:
        return LossCause.ENDED, "its slot ended"
    if isinstance(error, exceptions.OutOfMemoryError):
        return LossCause.OOM, "its process was killed because the node ran out of memory"
    if isinstance(error, _NODE_ERRORS):
        return LossCause.NODE, f"its node was lost ({type(error).__name__})"
    if isinstance(error, exceptions.RayTaskError) and isinstance(error.cause, MainDied):
        return LossCause.CRASH, str(error.cause)
    if isinstance(error, exceptions.RayTaskError):
        return LossCause.CRASH, f"its slot failed: {error.cause!r}" if error.cause else "its slot failed"
    return LossCause.CRASH, f"its process died ({type(error).__name__})"


def last_output(error: BaseException | None) -> str:
    """What MAIN printed last in the process whose death ended the slot task; empty where that is not known."""
    if isinstance(error, exceptions.RayTaskError) and isinstance(error.cause, MainDied):
        return error.cause.output
    return ""
