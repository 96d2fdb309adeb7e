"""The engine's actor: takes the slots' calls, runs the sweeps one at a time in order of start, does what people ask.

It holds nothing that is not in the store: killed and started again, it takes up what was at work or waiting. Everything
runs on the actor's event loop, but for the store's thread and short calls to Ray in threads of the pool.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import ray

from raycolab.engine import stored_sweeps
from raycolab.engine.commit import Committer
from raycolab.engine.control import ControlLine, Message
from raycolab.engine.messages import ENDING, Plan, State
from raycolab.engine.pull import assignment_to_json, outcome_from_json
from raycolab.engine.sweep_queue import Turn, Turns
from raycolab.engine.sweep_run import SweepRun, live_nodes
from raycolab.errors import ClusterError, RaycolabError, UsageError
from raycolab.spec.spec import Method, SweepSpec
from raycolab.store import Store, open_store
from raycolab.summary import SweepNews, sweeps_json
from raycolab.trials import AT_REST, SweepRow, SweepState, TrialRow

if TYPE_CHECKING:
    from raycolab.search.studies import Studies

__all__ = ["Engine"]

_log = logging.getLogger(__name__)

_LOOK_AT_NODES_S = 1.0
_TELL_S = 0.5
# A sweep in these states goes on only when a person says so.
_UNTIL_ASKED = (AT_REST | {SweepState.PAUSED}) - {SweepState.COMPLETE}
_STALE_S = 60.0  # another head may take a sweep over whose head was silent for so long

T = TypeVar("T")


class Engine:
    """One per cluster; see the module's text."""

    def __init__(self, store_url: str, control: str, lock_dir: str, owner: str) -> None:
        """Open the store and begin; runs on the actor's event loop."""
        self._lock_dir = lock_dir
        self._owner = owner
        self._claimed: set[int] = set()  # sweeps that no other head may run now
        self._self = ray.get_runtime_context().current_actor
        self._loop = asyncio.get_running_loop()
        self._committer = Committer(open_store(store_url), self._outage_in_thread)
        self._control = ControlLine(control, self._obey)
        # Held while a sweep is taken up or laid down, and while an order is carried out.
        self._changing = asyncio.Lock()
        self._turns = Turns()
        # Set once what the last engine left is known here: until then there is nothing to tell.
        self._taken_over = asyncio.Event()
        self._current: SweepRun | None = None
        # Sweeps that are over and whose slots are ending.
        self._ending: set[SweepRun] = set()
        # What was last known of the sweeps that are not at work.
        self._resting: dict[str, SweepNews] = {}
        self._outage: str | None = None
        self._tasks = [
            self._loop.create_task(self._watched(work()))
            for work in (self._control.run, self._work_off, self._look_at_nodes, self._tell, self._renew_claims)
        ]

    async def ping(self) -> str:
        """Answer once the engine works."""
        return "raycolab-engine"

    async def sync(self, state: State) -> Plan:
        """A slot's call; one that no sweep knows is told to end."""
        for run in (self._current, *self._ending):
            if run is not None and run.has(state.slot):
                return await run.sync(state)
        return ENDING

    # ----- its tasks -----

    async def _watched(self, work: Any) -> None:
        """Run one of the engine's tasks; what ends it unexpectedly is in the log and ends the actor."""
        try:
            await work
        except Exception:
            # A bug of ours: Ray starts the actor again, which takes up everything from the store.
            _log.exception("the engine failed")
            os._exit(1)

    async def _work_off(self) -> None:
        """Run the sweeps, one at a time."""
        async with self._changing:
            for name in await self._stored(stored_sweeps.queued_sweeps):
                sweep = await self._stored(partial(Store.existing_sweep, name=name))
                await self._rest(sweep, sweep.state, None)
                self._turns.add(name, Turn(goes_on=sweep.state is SweepState.RUNNING))
        self._taken_over.set()
        while True:
            await self._turns.wait()
            run = await self._take_up()
            if run is not None:
                await run.run()
                async with self._changing:
                    await self._lay_down_if_over()

    async def _take_up(self) -> SweepRun | None:
        """Make the first sweep of the queue the current one; None when it cannot run."""
        async with self._changing:
            first = self._turns.take()
            if first is None:
                return None
            name, turn = first
            try:
                sweep = await self._stored(lambda store: store.existing_sweep(name))
                await self._claim(sweep)
                rows = await self._stored(lambda store: store.trials(sweep.id))
                attempts = await self._stored(lambda store: store.attempts(sweep.id))
                studies = await self._studies(sweep, rows)
                # A sweep that is pulled is not at work for the store: a new engine waits for its pullers.
                state = SweepState.DECLARED if turn.pulled else SweepState.RUNNING
                await self._stored(lambda store: store.update_sweep(sweep.id, state=state))
            except RaycolabError as error:
                _log.warning("sweep %s cannot run: %s", name, error)
                self._resting.pop(name, None)
                return None
            self._resting.pop(name, None)
            self._current = SweepRun(
                *(self._self, self._committer, sweep, rows, attempts, studies, turn), lock_dir=self._lock_dir
            )
            self._current.see_nodes(await asyncio.to_thread(live_nodes))
            _log.info("sweep %s runs", name)
            return self._current

    async def _lay_down_if_over(self) -> None:
        """When the current sweep is over: write its state and let its slots end."""
        run = self._current
        if run is None or run.finished is None:
            return
        over = run.finished
        try:
            await self._stored(lambda store: store.update_sweep(run.sweep.id, state=over.state))
        except RaycolabError as error:
            _log.warning("sweep %s is over, its state is not stored: %s", run.sweep.name, error)
        await self._release(run.sweep)
        # Only now is it told: who hears that a sweep is over finds it so in the store, and may delete it.
        news = run.news(None)
        sentence = over.sentence or news.sentence  # without one of its own: which nodes did not take part, and why
        self._resting[run.sweep.name] = replace(news, state=over.state, eta_s=None, sentence=sentence)
        self._current = None
        self._ending.add(run)
        _log.info("sweep %s: %s", run.sweep.name, over.state)
        ending = self._loop.create_task(self._watched(run.end_slots()))
        ending.add_done_callback(lambda _: self._ending.discard(run))

    async def _studies(self, sweep: SweepRow, rows: Sequence[TrialRow]) -> Studies | None:
        """What proposes and prunes, as it stands after these rows; None for a sweep that does neither."""
        spec = SweepSpec.from_json(sweep.spec)
        if spec.method is not Method.BAYES and spec.early_stop is None:
            return None
        reports = await self._stored(lambda store: store.reports(sweep.id))
        return await asyncio.to_thread(_make_studies, spec, rows, reports)

    async def _renew_claims(self) -> None:
        """Let other heads know that this one lives; a sweep that another has taken over is given up."""
        while True:
            await asyncio.sleep(_STALE_S / 3)
            for sweep_id in list(self._claimed):
                sentence = await self._take(sweep_id)
                if sentence is not None and self._current is not None and self._current.sweep.id == sweep_id:
                    self._current.give_up(ClusterError(sentence))

    async def _claim(self, sweep: SweepRow) -> None:
        """Make the sweep this head's; ClusterError when another one runs it."""
        sentence = await self._take(sweep.id)
        if sentence is not None:
            raise ClusterError(sentence)

    async def _take(self, sweep_id: int) -> str | None:
        sentence = await self._stored(lambda store: store.claim(sweep_id, self._owner, time.time(), _STALE_S))
        (self._claimed.add if sentence is None else self._claimed.discard)(sweep_id)
        return sentence

    async def _release(self, sweep: SweepRow) -> None:
        """Let other heads have a sweep that is at rest."""
        self._claimed.discard(sweep.id)
        try:
            await self._stored(lambda store: store.release(sweep.id, self._owner))
        except RaycolabError as error:
            _log.warning("sweep %s stays claimed: %s", sweep.name, error)

    async def _look_at_nodes(self) -> None:
        while True:
            nodes = await asyncio.to_thread(live_nodes)
            if self._current is not None:
                self._current.see_nodes(nodes)
            await asyncio.sleep(_LOOK_AT_NODES_S if self._current is None or nodes else 0.1)

    async def _tell(self) -> None:
        """Tell the supervisor what changed, twice a second at most."""
        told: Message = {}
        await self._taken_over.wait()
        while True:
            news = self._news()
            if news != told:
                self._control.tell(news)
                told = news
            await asyncio.sleep(_TELL_S)

    def _news(self) -> Message:
        sweeps = [*self._resting.values()]
        trials: dict[str, str] = {}
        if self._current is not None:
            sweeps.append(self._current.news(self._outage))
            trials = self._current.trials()
        return {"progress": {"sweeps": sweeps_json(sweeps), "trials": trials}}

    # ----- what people ask -----

    async def _obey(self, message: Message) -> Message | None:
        """Carry out one line of the supervisor; None for one that wants no answer."""
        if message.get("op") == "node_lost":
            if self._current is not None:
                self._current.lose_node(str(message.get("node")))
            return None
        number = message.get("id")
        try:
            if message.get("op") in ("pull", "push", "pulse", "put_down"):
                return {"id": number, "ok": True, **await self._hear_puller(message)}
            async with self._changing:
                await self._order(str(message.get("op")), str(message.get("sweep")), message)
        except RaycolabError as error:
            return {"id": number, "ok": False, "error": str(error), "kind": type(error).__name__}
        self._control.tell(self._news())  # before the answer, so that who asked sees what it changed
        return {"id": number, "ok": True}

    async def _order(self, op: str, name: str, message: Message) -> None:
        await self._lay_down_if_over()  # a sweep that is over takes no orders any more
        sweep = await self._stored(lambda store: store.existing_sweep(name))
        run = self._current if self._current is not None and self._current.sweep.name == name else None
        await self._claim(sweep)
        try:
            await self._carry_out(op, sweep, run, message)
        finally:
            if run is None and name not in self._turns:
                await self._release(sweep)

    async def _carry_out(self, op: str, sweep: SweepRow, run: SweepRun | None, message: Message) -> None:
        match op:
            case "start":
                await (self._start(sweep, message.get("expect_slots")) if run is None else self._go_on(run))
            case "resume":
                await (self._start(sweep, None) if run is None else self._go_on(run))
            case "pause":
                await self._pause(sweep, run)
            case "stop" | "cancel":
                await self._end(sweep, run, SweepState.STOPPED if op == "stop" else SweepState.CANCELLED)
            case "retry":
                await self._retry(sweep, run, message.get("which"))
            case _:
                raise UsageError(
                    f"the head knows no order {op!r}, so it is of another version of raycolab: end it with `raycolab"
                    " down`, and start it again."
                )

    async def _start(self, sweep: SweepRow, expect_slots: int | None) -> None:
        """Put the sweep in the queue, unless it has nothing to do."""
        if sweep.main is None:
            raise UsageError(
                f"sweep {sweep.name!r} was declared without a MAIN, so that workers have nothing to run: delete it, and"
                " declare it with `main`."
            )
        if await self._stored(lambda store: stored_sweeps.has_work(store, sweep)):
            await self._rest(sweep, SweepState.QUEUED, self._waits_for())
            self._turns.add(sweep.name, Turn(expect_slots))
        else:
            over = sweep.state in (SweepState.STOPPED, SweepState.CANCELLED)
            await self._rest(sweep, sweep.state if over else SweepState.COMPLETE, None)

    async def _go_on(self, run: SweepRun) -> None:
        """Take in trials that were added to the sweep at work, and end its pause."""
        await self._extend(run)
        run.pulled = False
        run.resume()
        await self._stored(lambda store: store.update_sweep(run.sweep.id, state=SweepState.RUNNING))

    async def _extend(self, run: SweepRun) -> None:
        sweep = await self._stored(lambda store: store.existing_sweep(run.sweep.name))
        rows = await self._stored(lambda store: store.trials(sweep.id))
        run.extend(sweep, rows, await self._stored(lambda store: store.reports(sweep.id)))

    async def _pause(self, sweep: SweepRow, run: SweepRun | None) -> None:
        if run is not None:
            run.pause()
            await self._stored(lambda store: store.update_sweep(sweep.id, state=SweepState.PAUSED))
        elif self._turns.drop(sweep.name):
            await self._rest(sweep, SweepState.PAUSED, None)
        elif sweep.state is not SweepState.PAUSED:
            raise UsageError(f"sweep {sweep.name!r} is not running ({sweep.state}): there is nothing to pause.")

    async def _end(self, sweep: SweepRow, run: SweepRun | None, state: SweepState) -> None:
        if run is not None:
            run.end(state)
            return
        self._turns.drop(sweep.name)
        if await self._stored(lambda store: stored_sweeps.has_work(store, sweep)):
            await self._stored(lambda store: stored_sweeps.cancel_rows(store, sweep, state, time.time()))
            await self._rest(sweep, state, None)

    async def _retry(self, sweep: SweepRow, run: SweepRun | None, which: object) -> None:
        states = stored_sweeps.retried_states(which)
        if run is not None:
            run.retry(states)
        elif await self._stored(lambda store: stored_sweeps.retry_rows(store, sweep, states)):
            await self._start(sweep, None)

    # ----- notebooks that pull -----

    async def _hear_puller(self, message: Message) -> Message:
        """Answer one that asks for a trial (pull), sends a result (push), lives (pulse) or leaves (put_down)."""
        name, puller = str(message.get("sweep")), str(message.get("puller"))
        if message.get("op") == "pull":
            return await self._pull(name, puller, message)
        run = self._current
        if run is None or run.sweep.name != name:
            return {"held": False, "prune": False}
        ticket = int(message.get("ticket", 0))
        match message.get("op"):
            case "push":
                return {"held": run.pullers.push(puller, ticket, outcome_from_json(message["outcome"]))}
            case "pulse":
                held, prune = run.pullers.pulse(puller, ticket, message["points"])
                return {"held": held, "prune": prune}
        run.pullers.put_down(puller)
        return {}

    async def _pull(self, name: str, puller: str, message: Message) -> Message:
        """The puller's trial, where the sweep is at work; else how it ended, or what it waits for once it is queued."""
        async with self._changing:
            await self._lay_down_if_over()
            run = self._current
            if run is None or run.sweep.name != name:
                sweep = await self._stored(lambda store: store.existing_sweep(name))
                has_work = await self._stored(lambda store: stored_sweeps.has_work(store, sweep))
                if not has_work or (sweep.state in _UNTIL_ASKED and not message.get("begin")):
                    told = self._resting.get(name)
                    return {"over": sweep.state.value if has_work else "COMPLETE", "sentence": told and told.sentence}
                await self._claim(sweep)
                self._turns.add(name, Turn(pulled=True))
                return {"waits": self._waits_for()}
            if message.get("begin"):  # it may just have been extended
                await self._extend(run)
        assignment = await run.pullers.pull(puller, str(message.get("node")))
        if assignment is not None:
            return {"trial": assignment_to_json(assignment)}
        return {"waits": "it is paused" if run.scheduler.is_paused else None}

    # ----- inside -----

    async def _rest(self, sweep: SweepRow, state: SweepState, sentence: str | None) -> None:
        """Store the state of a sweep that is not at work, and remember what to tell of it."""
        if state is not sweep.state:
            await self._stored(lambda store: store.update_sweep(sweep.id, state=state))
        row = replace(sweep, state=state)
        self._resting[sweep.name] = await self._stored(lambda store: stored_sweeps.news_of(store, row, sentence))

    def _waits_for(self) -> str | None:
        if self._current is None:
            return None
        paused = " (paused)" if self._current.scheduler.is_paused else ""
        return f"waits for its turn behind {self._current.sweep.name}{paused}"

    async def _stored(self, call: Callable[[Store], T]) -> T:
        result: T = await asyncio.wrap_future(self._committer.call(call))
        return result

    def _outage_in_thread(self, sentence: str | None) -> None:
        self._loop.call_soon_threadsafe(self._note_outage, sentence)

    def _note_outage(self, sentence: str | None) -> None:
        self._outage = sentence


def _make_studies(spec: SweepSpec, rows: Sequence[TrialRow], reports: Mapping[int, Mapping[int, float]]) -> Studies:
    from raycolab.search.studies import Studies  # Optuna takes a second to import, and most sweeps need none

    return Studies(spec, rows, reports)
