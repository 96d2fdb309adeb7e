"""One sweep at work: gives the scheduler its events and carries out its commands, on the engine's event loop."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raycolab.engine.cluster_view import cause_of_end
from raycolab.engine.commit import Committer
from raycolab.engine.eta import nobody_has
from raycolab.engine.fleet import Fleet, NodeView
from raycolab.engine.messages import (
    Assign,
    Bench,
    Command,
    Finished,
    Kill,
    LossCause,
    Prune,
    Retire,
    Revoke,
    ScheduleOptions,
    Write,
)
from raycolab.engine.pull import LEASE_S, Pullers
from raycolab.engine.scheduler import Scheduler
from raycolab.engine.slot import run_slot
from raycolab.engine.slot_line import SlotLine
from raycolab.engine.slot_words import (
    Call,
    End,
    Ended,
    GaveBack,
    Give,
    PruneIt,
    Ready,
    Reply,
    Reported,
    SetupBroke,
    SlotWord,
    Started,
    TakeBack,
)
from raycolab.engine.sweep_queue import Turn
from raycolab.errors import RaycolabError
from raycolab.spec.resources import Resources
from raycolab.spec.spec import SweepSpec
from raycolab.summary import SweepStatus
from raycolab.trials import AttemptRow, SweepRow, SweepState, TrialRow, TrialState

if TYPE_CHECKING:  # Optuna takes a second to import, and most sweeps need none
    from raycolab.search.studies import Studies

__all__ = ["SweepRun"]

_log = logging.getLogger(__name__)

_TICK_S = 0.25
_END_WITHIN_S = 5.0  # slots that are told to end are killed after so long


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
        lock_dir: str,
    ) -> None:
        """`engine` is the actor's own handle, which slots call; `studies` are of a sweep that proposes or prunes."""
        self.sweep = sweep
        self.pulled = turn.pulled
        self.spec = SweepSpec.from_json(sweep.spec)
        self.fleet = Fleet()
        self._studies = studies
        self.scheduler = Scheduler(rows, attempts, _options(self.spec, turn.expect_slots, turn.goes_on), studies)
        self.pullers = Pullers(self.scheduler, self._pump, time.time())
        self._engine = engine
        self._committer = committer
        self._lock_dir = lock_dir
        self._loop = asyncio.get_running_loop()
        self._finished: asyncio.Future[Finished] = self._loop.create_future()
        self._main: Any = None  # reference to MAIN's JSON in the object store
        self._lines: dict[str, SlotLine] = {}
        self._node_of: dict[str, str] = {}
        self._asked_by: dict[str, Resources] = {}  # what the trials of each slot ask for
        # The slots' tasks, until each has ended.
        self._refs: dict[str, Any] = {}
        self._watches: set[asyncio.Task[None]] = set()
        self._killed: set[str] = set()
        self._worked: set[str] = set()  # slots that ended a trial, or were told to end
        # Why a node gets no trials, for people.
        self.benched: dict[str, str] = {}

    # ----- its life -----

    @property
    def finished(self) -> Finished | None:
        """How it ended; None while it runs."""
        return self._finished.result() if self._finished.done() else None

    async def run(self) -> None:
        """Work until the scheduler is finished."""
        self._main = await asyncio.to_thread(ray.put, self.sweep.main or "")
        ticker = asyncio.create_task(self._tick())
        try:
            self._pump()
            await self._finished
        finally:
            ticker.cancel()
            self.pullers.end()

    async def end_slots(self) -> None:
        """Tell every slot to end, and kill what does not within a few seconds."""
        for line in self._lines.values():
            line.say(End())
        if self._watches:
            await asyncio.wait(self._watches, timeout=_END_WITHIN_S)
        for slot in list(self._refs):
            self._kill(slot)
        if self._watches:
            await asyncio.wait(self._watches, timeout=_END_WITHIN_S)

    def give_up(self, error: RaycolabError) -> None:
        """The store will not take the sweep's rows: end it as it stands."""
        self._finish(Finished(SweepState.HELD, str(error)))

    def _finish(self, over: Finished) -> None:
        if not self._finished.done():
            self._finished.set_result(over)

    async def _tick(self) -> None:
        while True:
            now = time.time()
            self.scheduler.tick(now)
            self.pullers.tick(now)
            for node, asked in () if self.pulled else self.fleet.due(now, self._work()):
                self._start_slot(node, asked, now)
            self._pump()
            if self.pulled and self.pullers.silent_s(now) > LEASE_S and self.scheduler.book.all_committed:
                self._finish(Finished(SweepState.DECLARED, "no notebook pulls it"))
            deadline = self.scheduler.next_deadline()
            rest = _TICK_S if deadline is None else min(_TICK_S, max(deadline - time.time(), 0.01))
            await asyncio.sleep(rest)

    # ----- nodes -----

    def see_nodes(self, nodes: Iterable[NodeView]) -> None:
        """These nodes are there now."""
        now = time.time()
        lost, new = self.fleet.update(nodes)
        for name in lost:
            self._forget_node(name, now)
        for node in self.fleet.nodes:
            if node.name in new and any(self.fleet.fits(node, asked) for asked in self.spec.resources.values()):
                self.scheduler.node_up(node.name, now, node.memory_bytes)
        self._pump()

    def lose_node(self, name: str) -> None:
        """The node's link is gone for good; Ray will notice later."""
        self.fleet.lose(name)
        self._forget_node(name, time.time())
        self._pump()

    def _forget_node(self, name: str, now: float) -> None:
        for slot in [slot for slot, node in self._node_of.items() if node == name]:
            self._lines.pop(slot, None)
        self.benched.pop(name, None)
        self.scheduler.node_lost(name, now)

    # ----- slots -----

    def has(self, slot: str) -> bool:
        """Whether the slot is this sweep's and counts."""
        return slot in self._lines

    async def sync(self, call: Call) -> Reply:
        """A slot's call: hear it, and answer when there is something to say."""
        line = self._lines[call.slot]
        now = time.time()
        if call.round_trip_s is not None:
            self.scheduler.round_trip(call.slot, call.round_trip_s)
        for word in line.hear(call):
            self._hear(call.slot, word, now)
        self._pump()
        return await line.reply(call)

    def _hear(self, slot: str, word: SlotWord, now: float) -> None:
        match word:
            case Started(ticket):
                self.scheduler.started(slot, ticket, now)
            case Reported(ticket, points):
                for step, value in points:
                    self.scheduler.reported(slot, ticket, step, value, now)
            case Ended(ticket, outcome):
                self._worked.add(slot)
                self.scheduler.finished(slot, ticket, outcome, now)
            case GaveBack(tickets):
                self.scheduler.revoked(slot, tickets, now)
            case Ready(cell_seconds):
                _log.info("slot %s has loaded MAIN in %.1f s", slot, sum(cell_seconds.values()))
                self.scheduler.slot_up(slot, self._node_of[slot], now)
            case SetupBroke(failure):
                _log.warning("slot %s could not load MAIN: %s", slot, failure.summary)
                self.scheduler.setup_failed(slot, failure, now)

    def _work(self) -> dict[Resources, int]:
        """How many trials wait that ask for the same."""
        waiting = self.scheduler.dispatch.waiting()
        work = dict.fromkeys(self.spec.resources.values(), 0)
        for model, asked in self.spec.resources.items():
            work[asked] += 0 if model in self.scheduler.models.held else waiting.get(model, 0)
        return work

    def _models_of(self, asked: Resources) -> frozenset[str] | None:
        """The models whose trials ask for this; None where all do."""
        models = frozenset(model for model, each in self.spec.resources.items() if each == asked)
        return None if len(models) == len(self.spec.models) else models

    def _start_slot(self, node: NodeView, asked: Resources, now: float) -> None:
        slot = f"{node.name}.{uuid.uuid4().hex[:12]}"
        shape = self.fleet.started(slot, node.name, asked)
        task = run_slot.options(
            name=f"raycolab-slot {slot}",
            num_cpus=shape.cpus,
            num_gpus=shape.gpus,
            memory=shape.memory_bytes or None,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False),
        ).remote(self._engine, slot, self._main, self.spec.metric, self._lock_dir)
        self._lines[slot] = SlotLine(slot)
        self._node_of[slot] = node.name
        self._asked_by[slot] = asked
        self._refs[slot] = task
        self.scheduler.slot_starting(slot, node.name, now, models=self._models_of(asked), for_one=asked.fresh_process)
        watch = asyncio.create_task(self._watch(slot, task))
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)

    async def _watch(self, slot: str, task: Any) -> None:
        """Wait for the end of a slot's task, and tell the scheduler what it means."""
        error: RayError | None = None
        try:
            await task
        except RayError as raised:
            error = raised
        cause, reason = cause_of_end(error, slot in self._killed)
        now = time.time()
        self._lines.pop(slot, None)
        self._refs.pop(slot, None)
        node = self._node_of.pop(slot)
        self._asked_by.pop(slot)
        if cause in (LossCause.CRASH, LossCause.OOM):
            _log.warning("slot %s is gone: %s", slot, reason)
        self.fleet.ended(slot, slot in self._worked, now)
        self.scheduler.slot_down(slot, cause, now, f"{reason} on {node}")
        self._pump()

    def _kill(self, slot: str) -> None:
        task = self._refs.get(slot)
        if task is not None and slot not in self._killed:
            self._killed.add(slot)
            self._loop.run_in_executor(None, lambda: ray.cancel(task, force=True, recursive=False))

    # ----- commands -----

    def _pump(self) -> None:
        for command in self.scheduler.commands(time.time()):
            self._carry_out(command)

    def _carry_out(self, command: Command) -> None:
        match command:
            case Assign(slot) | Revoke(slot) | Prune(slot) | Kill(slot) if self.pullers.has(slot):
                self.pullers.obey(command)
            case Assign(slot, assignments):
                self._lines[slot].say(Give(assignments))
            case Retire(slot):
                self._worked.add(slot)
                self._lines[slot].say(End())
            case Revoke(slot, tickets):
                self._lines[slot].say(TakeBack(tickets))
            case Prune(slot, ticket):
                self._lines[slot].say(PruneIt(ticket))
            case Kill(slot, reason, number):
                _log.info("slot %s is killed: %s%s", slot, reason, "" if number is None else f" (#{number})")
                self._kill(slot)
            case Write():
                self._committer.write(self.sweep.id, command, self._committed_in_thread)
            case Bench(node, sentence, setup):
                _log.warning("%s", sentence)
                self.benched[node] = sentence
                if setup:
                    self.fleet.bar(node)
            case Finished():
                self._finish(command)

    def _committed_in_thread(self, write_id: int, error: RaycolabError | None) -> None:
        self._loop.call_soon_threadsafe(self._committed, write_id, error)

    def _committed(self, write_id: int, error: RaycolabError | None) -> None:
        if error is not None:
            self.give_up(error)
            return
        self.scheduler.committed(write_id, time.time())
        self._pump()

    # ----- what people ask, and are told -----

    def pause(self) -> None:
        """Give out nothing more for now."""
        self.scheduler.pause(time.time())
        self._pump()

    def resume(self) -> None:
        """Go on."""
        self.scheduler.resume(time.time())
        self._pump()

    def end(self, state: SweepState) -> None:
        """STOPPED: end when what runs has ended; CANCELLED: end now."""
        (self.scheduler.stop if state is SweepState.STOPPED else self.scheduler.cancel)(time.time())
        self._pump()

    def retry(self, states: Iterable[TrialState]) -> None:
        """Run the trials in these final states again."""
        self.scheduler.retry(states, time.time())
        self._pump()

    def extend(self, sweep: SweepRow, rows: Sequence[TrialRow], reports: Mapping[int, Mapping[int, float]]) -> None:
        """It may have been declared larger: take in what is new, as the store has it."""
        self.scheduler.add(rows, time.time())
        if sweep.spec != self.sweep.spec:
            self.spec = SweepSpec.from_json(sweep.spec)
            self.scheduler.change(_options(self.spec, None, goes_on=True))
            for slot, asked in self._asked_by.items():
                self.scheduler.slot_serves(slot, self._models_of(asked), time.time())
            if self._studies is not None:
                self._studies.renew(self.spec, list(self.scheduler.book.rows.values()), reports)
        self.sweep = sweep
        self._pump()

    def news(self, sentence: str | None) -> SweepStatus:
        """Where the sweep stands."""
        book = self.scheduler.book
        state = SweepState.PAUSED if self.scheduler.is_paused else SweepState.RUNNING
        told = [*self.benched.values(), *self.scheduler.models.held.values(), *self._unmet()]
        eta_s = self.scheduler.eta_s(time.time())
        return SweepStatus.of(
            *(self.sweep.name, state, dict(book.counts), self.spec.metric, book.best, eta_s),
            *(sentence or "; ".join(told) or None, book.tally, self.fleet.slots_on()),
        )

    def _unmet(self) -> list[str]:
        """What no node has that trials wait for."""
        models = self.spec.resources.items()
        return [
            nobody_has(count, [model for model, each in models if each == asked], str(asked), bool(asked.gpus))
            for asked, count in self._work().items()
            if count and not self.pulled and self.fleet.fit_nowhere(asked)
        ]

    def trials(self) -> dict[str, str]:
        """The trial that runs on each node."""
        return {node: row.title for node, row in self.scheduler.running_on().items()}


def _options(spec: SweepSpec, expect_slots: int | None, goes_on: bool) -> ScheduleOptions:
    return ScheduleOptions(
        *(spec.name, spec.metric, spec.timeout_s, expect_slots),
        max_failures=spec.max_failures,
        time_budget_s=spec.time_budget_s,
        max_concurrent=spec.max_concurrent_trials,
        goes_on=goes_on,
    )
