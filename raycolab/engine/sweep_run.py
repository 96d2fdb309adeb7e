"""One sweep at work: gives the scheduler its events and carries out what it says, on the engine's event loop.

Whatever goes wrong in here (a bug, a search that raises, a configuration that cannot be written) is this sweep's alone:
it ends HELD with the error and its traceback, and nothing is raised to the engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import textwrap
import time
import traceback
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import ray
from msgspec.structs import replace
from ray._private import worker
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raycolab.engine import steady_clock
from raycolab.engine.commit import Committer
from raycolab.engine.dispatch import Slot, SlotPhase
from raycolab.engine.fleet import Fleet, NodeView, OtherWork, Sharing, SlotCpus, fits, shape_on
from raycolab.engine.messages import (
    ENDING,
    HOLD_S,
    NOTHING,
    Bench,
    Command,
    Finished,
    Kill,
    LossCause,
    Plan,
    ScheduleOptions,
    State,
    Write,
)
from raycolab.engine.pull import LEASE_S, Pullers
from raycolab.engine.scheduler import Scheduler
from raycolab.engine.slot import cause_of_end, last_output, run_slot
from raycolab.engine.sweep_queue import Turn
from raycolab.errors import ClusterError, RaycolabError
from raycolab.main.notebook import MainNotebook
from raycolab.main.roles import cell_label, slow_cell_hint
from raycolab.spec.resources import Resources
from raycolab.spec.spec import SweepSpec
from raycolab.store.archives import Archives
from raycolab.summary import SetupStatus, SweepStatus
from raycolab.trials import AttemptRow, SetupFailure, SweepRow, SweepState, TrialRow, TrialState

if TYPE_CHECKING:  # Optuna takes a second to import, and most sweeps need none
    from raycolab.search.studies import Studies

__all__ = ["SweepRun", "live_nodes", "other_work"]

_log = logging.getLogger(__name__)

_TICK_S = 0.25
HEAD_ENDED = "the head was shut down"
# Slots that are told to end are killed after this long.
_END_WITHIN_S = 5.0
_LONGEST_PROGRAM = 80  # characters of a driver's command line


def live_nodes() -> list[NodeView]:
    """The nodes Ray believes alive that can run anything; asks the GCS, so not for an event loop."""
    found: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # Ray's
    return [
        NodeView(
            node["NodeName"],
            node["NodeID"],
            float(node["Resources"].get("CPU", 0.0)),
            float(node["Resources"].get("GPU", 0.0)),
            int(node["Resources"]["memory"]) if "memory" in node["Resources"] else None,
        )
        for node in found
        if node["Alive"]
    ]


def other_work() -> OtherWork:
    """What there is beside the sweep; asks the GCS, so not for an event loop."""
    own: Any = worker.global_worker
    free, queued = {}, {}
    for node in own.gcs_client.get_all_resource_usage().resource_usage_data.batch:
        free[node.node_id.hex()] = node.resources_available.get("CPU", 0.0)
        waiting = node.resource_load_by_shape.resource_demands
        queued[node.node_id.hex()] = sum(
            each.num_ready_requests_queued for each in waiting if set(each.shape) == {"CPU"}
        )
    jobs = own.gcs_client.get_all_job_info(skip_submission_job_info_field=True, skip_is_running_tasks_field=True)
    drivers = [
        f"`{textwrap.shorten(job.entrypoint, _LONGEST_PROGRAM)}` (process {job.driver_pid}, {job.driver_ip_address})"
        for job in jobs.values()
        if not job.is_dead
    ]
    return OtherWork(free, queued, tuple(drivers))


@dataclass(slots=True, eq=False)
class _SlotTask:
    """A slot's process, from its start to its end."""

    id: str
    node: NodeView
    asked: Resources  # by the trials it is for
    ref: Any
    started_at: float
    worked: bool = False  # it ended a trial, or was told to end
    killed: bool = False
    newest: int = 0  # the number of its newest state
    waiting: asyncio.Future[None] | None = None  # its call that is kept, from a slot ...
    waiting_after: int = 0  # ... that has carried out the plan of this number


@dataclass(frozen=True, slots=True)
class _SentMain:
    """One version of MAIN, in Ray's object store."""

    version: int
    ref: Any  # of its JSON
    # The digest of its files and the reference to their archive: in a list, so that Ray does not hand each slot the
    # archive itself.
    files: tuple[str, list[Any]] | None


def _put(sweep: SweepRow, archives: Archives) -> _SentMain:
    """Put MAIN, and the archive of its files, into the object store; ClusterError when that is not here."""
    text = sweep.main or ""
    files = MainNotebook.from_json(text).origin.files
    if files is None:
        return _SentMain(sweep.main_version, ray.put(text), None)
    path = archives.path(files.digest)
    if path is None:
        raise ClusterError(archives.lost())
    return _SentMain(sweep.main_version, ray.put(text), (files.digest, [ray.put(path.read_bytes())]))


class SweepRun:
    """A sweep from its turn to its `Finished`."""

    def __init__(
        self,
        engine: Any,
        committer: Committer,
        sweep: SweepRow,
        rows: Sequence[TrialRow],
        attempts: Sequence[AttemptRow],
        studies: Studies | None,
        turn: Turn,
        archives: Archives,
    ) -> None:
        """`engine` is the actor's own handle, which slots call; `studies` are of a sweep that proposes or prunes."""
        self.sweep = sweep
        self.pulled = turn.pulled
        self.spec = SweepSpec.from_json(sweep.spec)
        self.fleet = Fleet()
        self._studies = studies
        self.scheduler = Scheduler(rows, attempts, _options(self.spec, turn.expect_slots, turn.goes_on), studies)
        self._now = steady_clock()
        self.pullers = Pullers(self.scheduler, self._acting, self._now)
        # Why a node gets no trials, for people.
        self.benched: dict[str, str] = {}
        self._engine = engine
        self._committer = committer
        self._archives = archives
        self._loop = asyncio.get_running_loop()
        self._finished: asyncio.Future[Finished] = self._loop.create_future()
        self._main: _SentMain | None = None
        # Every slot's process until it has ended, whether or not the scheduler still counts it.
        self._tasks: dict[str, _SlotTask] = {}
        self._watches: set[asyncio.Task[None]] = set()
        self._ends = False
        self._sharing = Sharing()
        # MAIN, and the most seconds that each cell of it took.
        self._cells = MainNotebook.from_json(sweep.main).cells if sweep.main else ()
        self._cell_seconds: dict[int, float] = {}

    # ----- its life -----

    @property
    def finished(self) -> Finished | None:
        """How it ended; None while it runs."""
        return self._finished.result() if self._finished.done() else None

    async def run(self) -> None:
        """Work until the scheduler is finished."""
        try:
            ticker = asyncio.create_task(self._tick())
            with self._acting():
                pass  # there may be nothing to do at all
            await asyncio.shield(self._finished)  # which others ask, when the engine is told to end
        finally:
            ticker.cancel()
            self.pullers.end()

    async def end_slots(self) -> None:
        """Tell every slot to end, and kill what does not within a few seconds."""
        self._ends = True
        for task in self._tasks.values():
            _wake(task)
        if self._watches:
            await asyncio.wait(self._watches, timeout=_END_WITHIN_S)
        for task in self._tasks.values():
            self._kill(task)
        if self._watches:
            await asyncio.wait(self._watches, timeout=_END_WITHIN_S)

    def give_up(self, error: RaycolabError) -> None:
        """The sweep cannot go on here: end it as it stands."""
        self._finish(Finished(SweepState.HELD, str(error)))

    def suspend(self) -> None:
        """The head ends in order: what is known is written, and the next head goes on from there."""
        with self._own_errors():
            if self.finished is None:
                self.scheduler.suspend(self._now(), HEAD_ENDED)
                self._store_rest()

    def _store_rest(self) -> None:
        """Have what has ended stored, though nobody waits for it any more."""
        write = self.scheduler.book.take_write()
        if write is not None:
            self._committer.write(self.sweep.id, write, lambda *_: None)

    @contextlib.contextmanager
    def _own_errors(self) -> Iterator[None]:
        """Whatever is raised in here ends this sweep, and no other."""
        try:
            yield
        except Exception as error:
            if self._finished.done():
                _log.warning("sweep %s, which is over: %r", self.sweep.name, error)
                return
            _log.exception("sweep %s is held", self.sweep.name)
            with contextlib.suppress(Exception):  # what has ended is stored all the same, as far as it can be
                self._store_rest()
            text = "".join(traceback.format_exception(error))
            self._finish(Finished(SweepState.HELD, _held_by(self.sweep.name, error), text))

    def _finish(self, over: Finished) -> None:
        if not self._finished.done():
            self._finished.set_result(over)

    async def _tick(self) -> None:
        while self.finished is None:
            rest = _TICK_S
            main = await self._sent() if self._due(self._now()) else None
            with self._acting():
                now = self._now()
                self.scheduler.tick(now)
                self.pullers.tick(now)
                if main is not None:
                    for node, asked in self._due(now):
                        self._start_slot(node, asked, main, now)
            with self._own_errors():
                if self.pulled and self.pullers.silent_s(now) > LEASE_S and self.scheduler.book.all_committed:
                    self._finish(Finished(SweepState.DECLARED, "no notebook pulls it"))
                deadline = self.scheduler.next_deadline()
                rest = rest if deadline is None else min(rest, max(deadline - self._now(), 0.01))
            await asyncio.sleep(rest)

    async def _sent(self) -> _SentMain | None:
        """MAIN in the object store, each version once; None when there is none to be had, which ends the sweep."""
        if self._main is None or self._main.version != self.sweep.main_version:
            with self._own_errors():
                try:
                    self._main = await asyncio.to_thread(_put, self.sweep, self._archives)
                except RaycolabError as error:
                    self.give_up(error)
        return self._main if self.finished is None else None

    # ----- nodes -----

    def see_nodes(self, nodes: Iterable[NodeView]) -> None:
        """These nodes are there now."""
        with self._acting():
            now = self._now()
            lost, new = self.fleet.update(nodes)
            for name in lost:
                self._forget_node(name, now)
            for node in self.fleet.nodes:
                if node.name in new and any(fits(node, asked) for asked in self.spec.resources.values()):
                    self.scheduler.node_up(node.name, now, node.memory_bytes)

    def see_other_work(self, seen: OtherWork) -> None:
        """This is what other Ray programs have of the CPUs, and wait for: a slot may have to make room."""
        with self._acting():
            now = self._now()
            slots = [
                SlotCpus(slot, task.node, shape_on(task.node, task.asked).cpus, task.started_at, bool(task.newest))
                for slot, task in self._tasks.items()
            ]
            if (giver := self._sharing.giver(now, seen, slots)) is not None:
                _log.info("slot %s leaves after its trial: other Ray work waits for a CPU", giver)
                self.scheduler.slot_serves(giver, frozenset(), now)

    def lose_node(self, name: str) -> None:
        """The node's link is gone for good; Ray will notice later."""
        with self._acting():
            self.fleet.lose(name)
            self._forget_node(name, self._now())

    def _forget_node(self, name: str, now: float) -> None:
        self.benched.pop(name, None)
        self.scheduler.node_lost(name, now)

    # ----- slots -----

    def has(self, slot: str) -> bool:
        """Whether the slot is this sweep's."""
        return slot in self._tasks

    async def sync(self, state: State) -> Plan:
        """A slot's call: hear what it says, and answer when there is something to say."""
        task = self._tasks.get(state.slot)
        if task is None:
            return ENDING
        if state.number <= task.newest:
            return NOTHING
        task.newest = state.number
        _wake(task)
        begun = time.monotonic()
        with self._acting():
            self._hear(task, state)
        if state.may_wait and self._plan(task, state) is NOTHING:
            await self._wait(task, state.plan)
        plan = self._plan(task, state) if state.number == task.newest else NOTHING
        return replace(plan, held_s=time.monotonic() - begun)

    def _hear(self, task: _SlotTask, state: State) -> None:
        if state.loaded is not None:
            _log.info("slot %s has loaded MAIN in %.1f s", task.id, sum(state.loaded.values()))
            for cell, seconds in state.loaded.items():
                self._cell_seconds[cell] = max(seconds, self._cell_seconds.get(cell, 0.0))
        if state.setup_failure is not None:
            _log.warning("slot %s could not load MAIN: %s", task.id, state.setup_failure.summary)
        task.worked = task.worked or bool(state.finished)
        if self.finished is None:
            self.scheduler.hear(state, self._now())

    def _plan(self, task: _SlotTask, state: State) -> Plan:
        """What the slot in this state should do now."""
        plan = ENDING if self._ends else self.scheduler.plan(state)
        task.worked = task.worked or plan.ends
        return plan

    async def _wait(self, task: _SlotTask, after: int) -> None:
        """Until a newer call of the slot comes, or its plan is newer than the one it has carried out."""
        task.waiting, task.waiting_after = self._loop.create_future(), after
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HOLD_S):
                await task.waiting

    def _wake_whose_plan_changed(self) -> None:
        for task in self._tasks.values():
            if task.waiting is not None:
                slot = self.scheduler.slots.get(task.id)
                if slot is None or slot.plan > task.waiting_after:
                    _wake(task)

    def _due(self, now: float) -> list[tuple[NodeView, Resources]]:
        """The slots to start now."""
        return [] if self.pulled or self.finished else self.fleet.due(now, self._work(), self._taken())

    def _taken(self) -> list[tuple[str, Resources]]:
        """What the slots there are take of which node."""
        return [(task.node.id, task.asked) for task in self._tasks.values()]

    def _work(self) -> dict[Resources, int]:
        """How many trials wait that ask for the same."""
        waiting = self.scheduler.waiting()
        work = dict.fromkeys(self.spec.resources.values(), 0)
        for model, asked in self.spec.resources.items():
            work[asked] += waiting.get(model, 0)
        return work

    def _models_of(self, asked: Resources) -> frozenset[str] | None:
        """The models whose trials ask for this; None where all do."""
        models = frozenset(model for model, each in self.spec.resources.items() if each == asked)
        return None if len(models) == len(self.spec.models) else models

    def _start_slot(self, node: NodeView, asked: Resources, main: _SentMain, now: float) -> None:
        slot = f"{node.name}.{uuid.uuid4().hex[:12]}"
        shape = shape_on(node, asked)
        ref = run_slot.options(
            name=f"raycolab-slot {slot}",
            num_cpus=shape.cpus,
            num_gpus=shape.gpus,
            memory=shape.memory_bytes or None,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False),
        ).remote(self._engine, slot, main.ref, main.files, self.sweep.name, self.spec.metric)
        task = self._tasks[slot] = _SlotTask(slot, node, asked, ref, now)
        self.scheduler.slot_starting(
            Slot(
                slot,
                node.name,
                models=self._models_of(asked),
                for_one=asked.fresh_process,
                main_version=main.version,
            ),
            now,
        )
        watch = asyncio.create_task(self._watch(task))
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)

    async def _watch(self, task: _SlotTask) -> None:
        """Wait for the end of a slot's task, and tell the scheduler what it means."""
        error: RayError | None = None
        try:
            await task.ref
        except RayError as raised:
            error = raised
        cause, reason = cause_of_end(error, task.killed)
        now = self._now()
        del self._tasks[task.id]
        _wake(task)
        if cause in (LossCause.CRASH, LossCause.OOM):
            _log.warning("slot %s is gone: %s", task.id, reason)
        self.fleet.ended(task.node.id, task.worked, now)
        with self._acting():
            self.scheduler.slot_down(task.id, cause, now, f"{reason} on {task.node.name}", last_output(error))

    def _kill(self, task: _SlotTask) -> None:
        if not task.killed:
            task.killed = True
            self._loop.run_in_executor(None, lambda: ray.cancel(task.ref, force=True, recursive=False))

    # ----- commands -----

    @contextlib.contextmanager
    def _acting(self) -> Iterator[None]:
        """Tell the scheduler something: what it commands then is carried out, and calls that wait are answered."""
        with self._own_errors():
            yield
            self._carry_out_all()
            if self.pullers.see_plans():
                self._carry_out_all()
        self._wake_whose_plan_changed()

    def _carry_out_all(self) -> None:
        if self.finished is None:
            for command in self.scheduler.commands(self._now()):
                self._carry_out(command)

    def _carry_out(self, command: Command) -> None:
        match command:
            case Kill(slot, reason, number):
                _log.info("slot %s is killed: %s%s", slot, reason, "" if number is None else f" (#{number})")
                if slot in self._tasks:
                    self._kill(self._tasks[slot])
                else:
                    self.pullers.kill(slot, reason)
            case Write():
                self._committer.write(self.sweep.id, command, self._committed_in_thread)
            case Bench(node, sentence, setup):
                _log.warning("%s", sentence)
                self.benched[node] = sentence
                if setup:
                    self.fleet.bar(node)
            case Finished():
                self._finish(command)

    def _committed_in_thread(self, write_id: int, error: Exception | None) -> None:
        self._loop.call_soon_threadsafe(self._committed, write_id, error)

    def _committed(self, write_id: int, error: Exception | None) -> None:
        if isinstance(error, RaycolabError):
            self.give_up(error)
            return
        with self._acting():
            if error is not None:
                raise error
            self.scheduler.committed(write_id, self._now())

    # ----- what people ask, and are told -----

    def pause(self) -> None:
        """Give out nothing more for now."""
        with self._acting():
            self.scheduler.pause(self._now())

    def resume(self) -> None:
        """Go on."""
        with self._acting():
            self.scheduler.resume(self._now())

    def end(self, state: SweepState) -> None:
        """STOPPED: end when what runs has ended; CANCELLED: end now."""
        with self._acting():
            (self.scheduler.stop if state is SweepState.STOPPED else self.scheduler.cancel)(self._now())

    def retry(self, states: Iterable[TrialState]) -> int:
        """Run the trials in these final states again; how many that are."""
        with self._acting():
            return self.scheduler.retry(states, self._now())
        return 0  # an error of its own has ended it

    def change_main(self, states: Iterable[TrialState]) -> None:
        """MAIN has changed, as `extend` has told: trials in these final states, and all that wait, run the new one."""
        with self._acting():
            self._cells = MainNotebook.from_json(self.sweep.main or "").cells
            self._cell_seconds.clear()
            self.benched.clear()
            self.fleet.forgive()
            self.scheduler.change_main(states, self._now())

    def extend(self, sweep: SweepRow, rows: Sequence[TrialRow], reports: Mapping[int, Mapping[int, float]]) -> None:
        """It may have been declared larger: take in what is new, as the store has it."""
        with self._acting():
            self.scheduler.add(rows, self._now())
            if sweep.spec != self.sweep.spec:
                self.spec = SweepSpec.from_json(sweep.spec)
                self.scheduler.change(_options(self.spec, None, goes_on=True))
                for task in self._tasks.values():
                    self.scheduler.slot_serves(task.id, self._models_of(task.asked), self._now())
                if self._studies is not None:
                    self._studies.renew(self.spec, list(self.scheduler.book.rows.values()), reports)
            self.sweep = sweep

    @property
    def setup_failures(self) -> tuple[SetupFailure, ...]:
        """Why nodes could not set MAIN up."""
        return SetupFailure.grouped(self.scheduler.nodes.setup_failed)

    def status(self, sentence: str | None) -> SweepStatus:
        """Where the sweep stands."""
        book = self.scheduler.book
        state = SweepState.PAUSED if self.scheduler.is_paused else SweepState.RUNNING
        told = [*self.benched.values(), *self.scheduler.models.held.values(), *self._unmet(), *self._sharing.sentences]
        return SweepStatus.of(
            self.sweep.name,
            state,
            dict(book.counts),
            self.spec.metric,
            best=book.best,
            eta_s=None if sentence else self.scheduler.eta_s(self._now()),  # while nothing counts, nobody knows
            sentence=sentence or "; ".join(told) or None,
            tally=book.tally,
            slots=self.fleet.slots_on(self._taken()),
            hints=self._hints(),
            curves=book.curves.found(book.rows),
            setup_failures=self.setup_failures,
        )

    def setups(self) -> dict[str, SetupStatus]:
        """The cell that runs on each node where MAIN is being loaded."""
        found: dict[str, SetupStatus] = {}
        for slot in self.scheduler.slots.values():
            if slot.phase is SlotPhase.STARTING and slot.setup is not None and slot.setup.cell is not None:
                number, line = cell_label(self._cells, slot.setup.cell)
                since = datetime.fromtimestamp(slot.setup_since, UTC).isoformat(timespec="seconds")
                found.setdefault(slot.node, SetupStatus(number, line, since))
        return found

    def _hints(self) -> list[str]:
        """What would make the sweep faster."""
        means = [mean_s for model in self.spec.models if (mean_s := self.scheduler.pace.mean_s(model)) is not None]
        hint = slow_cell_hint(self._cells, self._cell_seconds, max(means, default=None))
        return [] if hint is None else [hint]

    def _unmet(self) -> list[str]:
        """What no node has that trials wait for."""
        models = self.spec.resources.items()
        return [
            _nobody_has(count, [model for model, each in models if each == asked], asked)
            for asked, count in self._work().items()
            if count and not self.pulled and self.fleet.fit_nowhere(asked)
        ]

    def trials(self) -> dict[str, str]:
        """The trial that runs on each node."""
        return {node: row.title for node, row in self.scheduler.running_on().items()}


def _wake(task: _SlotTask) -> None:
    """Have the slot's call answered that is kept."""
    if task.waiting is not None and not task.waiting.done():
        task.waiting.set_result(None)
    task.waiting = None


def _held_by(sweep: str, error: Exception) -> str:
    """The sentence for a sweep that an error of ours, or of its search, has stopped."""
    what = f"{type(error).__name__}: {error}".strip(": ").splitlines()[0].rstrip(". ")
    return (
        f"an unexpected error stopped the sweep: {what}. What has finished is kept, and other sweeps go on. "
        f"Its traceback is in the engine's log; to try again: raycolab resume {sweep}"
    )


def _nobody_has(count: int, models: Iterable[str], asked: Resources) -> str:
    """The sentence for trials that no node there is large enough for."""
    needs, they = ("1 trial of {} needs", "it waits") if count == 1 else (f"{count} trials of {{}} need", "they wait")
    cure = "a tab with a GPU (on Colab: Runtime > Change runtime type)" if asked.gpus else "a larger machine"
    return (
        f"{needs.format(', '.join(models))} {asked} and no node here has that; {they} until one does: "
        f"join {cure}, or ask for less in the sweep's resources"
    )


def _options(spec: SweepSpec, wait_for_slots: int | None, goes_on: bool) -> ScheduleOptions:
    return ScheduleOptions(
        *(spec.name, spec.metric, spec.timeout_s, wait_for_slots),
        seed=spec.seed if spec.reseed else None,
        max_failures=spec.max_failures,
        time_budget_s=spec.time_budget_s,
        max_concurrent=spec.max_concurrent_trials,
        goes_on=goes_on,
    )
