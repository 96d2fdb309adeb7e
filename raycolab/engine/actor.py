"""The engine's actor: takes the slots' calls, runs the sweeps one at a time in order of start, does what people ask.

It holds nothing that is not in the store: killed and started again, it takes up what was at work or waiting. Everything
runs on the actor's event loop, but for the store's thread, and for reading and short calls to Ray in threads of the
pool. Whatever goes wrong with one sweep, and is not the store's or the cluster's, holds that sweep alone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import time
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import ray

from raycolab.engine import Starts, stored_sweeps
from raycolab.engine.commit import Committer
from raycolab.engine.fleet import NodeView
from raycolab.engine.messages import ENDING, Finished, Plan, State
from raycolab.engine.sweep_queue import Turn, Turns
from raycolab.engine.sweep_run import SweepRun, live_nodes, other_work
from raycolab.errors import ClusterError, RaycolabError, UnknownSweepError, UsageError
from raycolab.node import api
from raycolab.node.rpc import OTHER_VERSION, Channel, SupervisorLine
from raycolab.spec.spec import Method, StoredSpecError, SweepSpec
from raycolab.store import DamagedRowError, Store, open_store
from raycolab.store.archives import Archives
from raycolab.summary import SweepStatus, sweeps_json
from raycolab.trials import AT_REST, SweepRow, SweepState, TrialRow, TrialState

if TYPE_CHECKING:
    from raycolab.search.studies import Studies

__all__ = ["Engine"]

_log = logging.getLogger(__name__)

_FOR_A_PERSON: ContextVar[bool] = ContextVar("for_a_person", default=False)  # who waits for an order's answer
_LOOK_AT_NODES_S = 1.0
_TELL_S = 0.5
# A sweep in these states goes on only when a person says so.
_UNTIL_ASKED = (AT_REST | {SweepState.PAUSED}) - {SweepState.COMPLETE}
_SHOWN_AT_REST = 20  # of the sweeps that ended under an earlier engine, the latest
_STALE_S = 60.0  # another head may take a sweep over whose head has been silent for this long

T = TypeVar("T")
R = TypeVar("R")


class Engine:
    """One per cluster; see the module's text."""

    def __init__(
        self,
        store_url: str,
        control: str,
        lock_dir: str,
        owner: str,
        data_dir: str,
        *,
        handle: Any = None,
        nodes: Callable[[], list[NodeView]] = live_nodes,
    ) -> None:
        """Open the store and begin; runs on the actor's event loop. RuntimeError when it was started too often.

        `handle` is what slots call, this actor unless given.
        """
        _log_to(Path(lock_dir) / "engine.log")
        if Starts(lock_dir).note(time.monotonic()):
            raise RuntimeError("the engine ends again and again")  # Ray starts no actor again that cannot be made
        self._lock_dir = lock_dir
        self._owner = owner
        self._claimed: set[int] = set()  # sweeps that no other head may run now
        self._self = handle or ray.get_runtime_context().current_actor
        self._live_nodes = nodes
        self._loop = asyncio.get_running_loop()
        self._store = open_store(store_url)
        self._archives = Archives.of(data_dir)
        self._committer = Committer(self._store, self._outage_in_thread)
        self._line = SupervisorLine(control, self._answer, self._hear)
        # Held while a sweep is taken up or laid down, and while an order is carried out.
        self._changing = asyncio.Lock()
        self._turns = Turns()
        # Set once what the last engine left is known here: until then there is nothing to tell.
        self._taken_over = asyncio.Event()
        self._current: SweepRun | None = None
        # Sweeps that are over and whose slots are ending.
        self._ending: set[SweepRun] = set()
        # What was last known of the sweeps that are not at work.
        self._resting: dict[str, SweepStatus] = {}
        self._outage: str | None = None
        self._has_ended = False
        self._tasks = [
            self._loop.create_task(self._watched(work()))
            for work in (self._line.run, self._work_off, self._look_at_nodes, self._tell, self._renew_claims)
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

    async def _watched(self, work: Coroutine[Any, Any, None]) -> None:
        """Run one of the engine's tasks; what ends it unexpectedly is in the log and ends the actor."""
        try:
            await work
        except Exception:
            # A bug of ours that belongs to no sweep: Ray starts the actor again, which takes up all from the store.
            _log.exception("the engine failed")
            os._exit(1)

    async def _work_off(self) -> None:
        """Run the sweeps, one at a time."""
        async with self._changing:
            for name, damage in (await self._stored(Store.damaged_sweeps)).items():
                self._note_damage(name, damage)
            for sweep in await self._stored(stored_sweeps.queued_sweeps):
                await self._rest(sweep, sweep.state, None)
                self._turns.add(sweep.name, Turn(goes_on=sweep.state is SweepState.RUNNING))
            await self._read(stored_sweeps.drop_archives, self._archives)
            for sweep in (await self._stored(Store.sweeps))[-_SHOWN_AT_REST:]:
                if sweep.name not in self._resting and sweep.state is not SweepState.DECLARED:
                    self._resting[sweep.name] = await self._status_of(sweep, None)
        self._taken_over.set()
        while True:
            await self._turns.wait()
            run = await self._take_up()
            if run is not None:
                try:
                    await run.run()
                except Exception as error:
                    run.give_up(self._as_its_own(run.sweep.name, error))
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
            except UnknownSweepError:  # it was deleted in the meantime
                self._resting.pop(name, None)
                return None
            except DamagedRowError as error:
                self._note_damage(name, error)
                return None
            nodes = await asyncio.to_thread(self._live_nodes)
            try:
                await self._claim(sweep)
                run = await self._made_run(sweep, turn)
                run.see_nodes(nodes)
                # A sweep that is pulled is not at work for the store: a new engine waits for its pullers.
                state = SweepState.DECLARED if turn.pulled else SweepState.RUNNING
                await self._stored(lambda store: store.update_sweep(sweep.id, state=state))
            except ClusterError as error:  # another head runs it: its state is that head's to say
                _log.warning("sweep %s cannot run: %s", name, error)
                self._resting[name] = await self._status_of(replace(sweep, state=SweepState.HELD), str(error))
                return None
            except Exception as error:
                await self._hold(sweep, self._as_its_own(name, error))
                return None
            self._resting.pop(name, None)
            self._current = run
            _log.info("sweep %s runs", name)
            return run

    async def _made_run(self, sweep: SweepRow, turn: Turn) -> SweepRun:
        rows = await self._stored(lambda store: store.trials(sweep.id))
        attempts = await self._stored(lambda store: store.attempts(sweep.id))
        await asyncio.to_thread(stored_sweeps.check, sweep, rows)
        studies = await self._studies(sweep, rows)
        return SweepRun(self._self, self._committer, sweep, rows, attempts, studies, turn, self._archives)

    async def _lay_down_if_over(self) -> None:
        """When the current sweep is over: write its state and let its slots end."""
        run = self._current
        if run is None or run.finished is None:
            return
        over: Finished = run.finished
        sweep = replace(run.sweep, setup_failures=run.setup_failures)
        await self._end_claim(sweep, over.state)
        # Only now is it told: who hears that a sweep is over finds it so in the store, and may delete it.
        try:
            # What failed in the midst of counting is counted anew.
            status = run.status(None) if over.traceback is None else await self._status_of(sweep, None)
            status.to_json()
        except Exception:
            _log.exception("sweep %s is shown as it is stored", sweep.name)
            status = await self._status_of(sweep, None)
        sentence = over.sentence or status.sentence  # without one of its own: which nodes did not take part, and why
        told = msgspec.structs.replace(status, state=over.state, eta_s=None, sentence=sentence)
        self._resting[run.sweep.name] = told
        self._current = None
        self._ending.add(run)
        _log.info("sweep %s: %s", run.sweep.name, over.state)
        ending = self._loop.create_task(self._end_slots(run))
        ending.add_done_callback(lambda _: self._ending.discard(run))

    async def _end_slots(self, run: SweepRun) -> None:
        try:
            await run.end_slots()
        except Exception:
            _log.exception("the slots of sweep %s did not end", run.sweep.name)

    async def _hold(self, sweep: SweepRow, error: RaycolabError) -> None:
        """What went wrong is this sweep's alone: it waits for a person, and the others go on."""
        await self._end_claim(sweep, SweepState.HELD)
        self._resting[sweep.name] = await self._status_of(replace(sweep, state=SweepState.HELD), str(error))

    def _note_damage(self, name: str, damage: DamagedRowError) -> None:
        """The sweep's own row is nonsense: it waits for a person, who hears why."""
        _log.error("sweep %s is held: %s", name, damage)
        self._turns.drop(name)
        self._resting[name] = SweepStatus(name=name, state=SweepState.HELD, sentence=str(damage))

    def _as_its_own(self, name: str, error: Exception) -> RaycolabError:
        """The error that a sweep is held with; its traceback is in the log."""
        _log.error("sweep %s is held", name, exc_info=error)
        if isinstance(error, RaycolabError):
            return error
        what = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".: ")
        return RaycolabError(
            f"{what} (its traceback is in {self._lock_dir}/engine.log): mend that and resume the sweep, or delete it"
        )

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

    async def _end_claim(self, sweep: SweepRow, state: SweepState) -> None:
        """Store how the sweep is left, and let other heads have it."""
        try:
            await self._stored(
                lambda store: store.update_sweep(sweep.id, state=state, setup_failures=sweep.setup_failures)
            )
        except RaycolabError as error:  # it was deleted, or another head has taken it over
            _log.warning("sweep %s is %s, which is not stored: %s", sweep.name, state, error)
        await self._release(sweep.id)
        await self._stored(Store.fold)  # people copy the database's file when a sweep is over

    async def _release(self, sweep_id: int) -> None:
        """Let other heads have a sweep that is at rest."""
        self._claimed.discard(sweep_id)
        try:
            await self._stored(lambda store: store.release(sweep_id, self._owner))
        except RaycolabError as error:
            _log.warning("sweep %d stays claimed: %s", sweep_id, error)

    async def _look_at_nodes(self) -> None:
        while True:
            nodes = await asyncio.to_thread(self._live_nodes)
            if self._current is not None:
                self._current.see_nodes(nodes)
                if nodes:
                    self._current.see_other_work(await asyncio.to_thread(other_work))
            await asyncio.sleep(_LOOK_AT_NODES_S if self._current is None or nodes else 0.1)

    async def _tell(self) -> None:
        """Tell the supervisor what changed, twice a second at most."""
        told: api.Progress | None = None
        await self._taken_over.wait()
        while True:
            status = self._progress()
            if status != told:
                self._line.tell(status)
                told = status
            await asyncio.sleep(_TELL_S)

    def _progress(self) -> api.Progress:
        """Where every sweep stands; one at work of which that cannot be said is held."""
        waits = self._waits_for()
        resting = [
            msgspec.structs.replace(each, sentence=waits) if name in self._turns else each
            for name, each in self._resting.items()
        ]
        if (run := self._current) is not None:
            try:
                return api.Progress(sweeps_json([*resting, run.status(self._outage)]), run.trials(), run.setups())
            except Exception as error:
                run.give_up(self._as_its_own(run.sweep.name, error))
        return api.Progress(sweeps_json(resting), {})

    async def _status_of(self, sweep: SweepRow, sentence: str | None) -> SweepStatus:
        """Where a resting sweep stands, as far as that can be said."""
        try:
            status = await self._stored(lambda store: stored_sweeps.stored_status(store, sweep, sentence))
            status.to_json()
        except Exception:
            _log.exception("sweep %s cannot be shown", sweep.name)
            return await self._stored(lambda store: stored_sweeps.plain_status(store, sweep, sentence))
        return status

    # ----- what is asked -----

    def _hear(self, body: bytes, channel: Channel) -> None:
        lost: api.NodeLost = api.decode(body, api.NodeLost)
        if self._current is not None:
            self._current.lose_node(lost.node)

    async def _answer(self, body: bytes, channel: Channel) -> bytes:
        """Answer a request of a client of the head."""
        try:
            request: api.EngineRequest = api.decode(body, api.EngineRequest)
        except msgspec.DecodeError as error:
            _log.warning("a request cannot be read: %s", error)
            raise UsageError(OTHER_VERSION) from error
        return api.encode(await self._carry_out(request))

    async def _carry_out(self, request: api.EngineRequest) -> object:
        if self._has_ended:
            raise ClusterError("The head is shutting down: start it again, and then ask this again.")
        match request:
            case api.EndEngine():
                await self._shut_down()
                return None
            case api.Find() | api.ListSweeps() | api.ReadRows() | api.ReadOutput():
                return await self._read(stored_sweeps.answer, request)
            case api.Pull():
                return await self._pull(request)
            case api.Push() | api.Heartbeat() | api.PutDown():
                return self._hear_puller(request)
            case api.Declare():
                return await self._declare(request)
            case api.PutFiles(digest, size, offset, piece):
                return await asyncio.to_thread(self._archives.add, digest, size, offset, piece)
            case api.ReadFiles(digest, offset):
                return await asyncio.to_thread(self._archives.read, digest, offset)
        _FOR_A_PERSON.set(True)
        async with self._changing:
            await self._order(request)
        self._line.tell(self._progress())  # before the answer, so that who asked sees what it changed
        return None

    async def _shut_down(self) -> None:
        """Leave everything as the next head wants to find it, and close the database."""
        async with self._changing:
            self._has_ended = True
            if self._current is not None:
                self._current.suspend()
            for task in self._tasks[1:]:  # all but the line, on which this is answered
                task.cancel()
            for sweep_id in list(self._claimed):
                await self._release(sweep_id)
            await self._stored(Store.close)

    async def _declare(self, request: api.Declare) -> list[str]:
        _FOR_A_PERSON.set(True)
        async with self._changing:
            declared = await self._read(stored_sweeps.declaration, request)
            await self._stored(declared.write)
            await self._lay_down_if_over()
            await self._see_declared(SweepSpec.from_json(request.spec).name, declared.again)
        self._line.tell(self._progress())
        return declared.lines

    async def _see_declared(self, name: str, again: Collection[TrialState]) -> None:
        """What was added to a sweep is told at once: one at work takes it in, of one at rest the new size is shown.

        Where MAIN has changed, the trials in these final states wait again.
        """
        if self._current is not None and self._current.sweep.name == name:
            await self._extend(self._current)
            if again:
                self._current.change_main(again)
            return
        sweep = await self._stored(lambda store: store.existing_sweep(name))
        if again:
            await self._stored(lambda store: stored_sweeps.retry_rows(store, sweep, again))
            await self._read(stored_sweeps.drop_archives, self._archives)
        if name in self._resting:
            await self._rest(sweep, sweep.state, self._resting[name].sentence)

    async def _order(self, request: api.Order) -> None:
        await self._lay_down_if_over()  # a sweep that is over takes no orders any more
        name = request.sweep
        run = self._current if self._current is not None and self._current.sweep.name == name else None
        if isinstance(request, api.Delete):
            await self._delete(name, run)
            return
        try:
            sweep = await self._stored(lambda store: store.existing_sweep(name))
        except DamagedRowError as error:
            self._note_damage(name, error)
            raise
        await self._claim(sweep)
        try:
            await self._change(request, sweep, run)
        except Exception as error:
            if isinstance(error, RaycolabError) and not isinstance(error, (DamagedRowError, StoredSpecError)):
                raise  # a refusal
            own = self._as_its_own(name, error)
            self._turns.drop(name)
            await self._hold(sweep, own) if run is None else run.give_up(own)
            raise own from error
        finally:
            if run is None and name not in self._turns:
                await self._release(sweep.id)

    async def _change(self, request: api.Order, sweep: SweepRow, run: SweepRun | None) -> None:
        match request:
            case api.Start(expect_slots=expect_slots):
                await (self._start(sweep, expect_slots) if run is None else self._go_on(run))
            case api.Resume():
                if run is None:
                    await self._refuse_without_work(sweep, "resume")
                await (self._start(sweep, None) if run is None else self._go_on(run))
            case api.Pause():
                await self._pause(sweep, run)
            case api.Stop():
                await self._end(sweep, run, SweepState.STOPPED)
            case api.Cancel():
                await self._end(sweep, run, SweepState.CANCELLED)
            case api.Retry(which=which):
                await self._retry(sweep, run, stored_sweeps.RETRIED[which])

    async def _delete(self, name: str, run: SweepRun | None) -> None:
        """Whatever its rows hold, a sweep can be deleted that no head is at work on."""
        sweep_id = await self._stored(lambda store: store.id_of(name))
        if run is not None or name in self._turns:
            raise UsageError(f"The sweep {name!r} is not at rest: run `raycolab cancel {shlex.quote(name)}` first.")
        if (by_another := await self._take(sweep_id)) is not None:
            raise ClusterError(by_another)
        await self._stored(lambda store: store.delete_sweep(name))
        self._claimed.discard(sweep_id)
        self._resting.pop(name, None)
        await self._read(stored_sweeps.drop_archives, self._archives)

    async def _start(self, sweep: SweepRow, expect_slots: int | None) -> None:
        """Put the sweep in the queue, unless it has nothing to do."""
        if sweep.main is None:
            raise UsageError(
                f"sweep {sweep.name!r} was declared without a MAIN, so that workers have nothing to run: delete it, and"
                " declare it with `main`."
            )
        if await self._stored(lambda store: stored_sweeps.has_work(store, sweep)):
            await self._rest(sweep, SweepState.QUEUED, None)
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
        await self._refuse_without_work(sweep, "stop" if state is SweepState.STOPPED else "cancel")
        self._turns.drop(sweep.name)
        await self._stored(lambda store: stored_sweeps.cancel_rows(store, sweep, state, time.time()))
        await self._rest(sweep, state, None)

    async def _refuse_without_work(self, sweep: SweepRow, order: str) -> None:
        """UsageError, instead of an order that would do nothing, when every trial of this sweep has ended."""
        if await self._stored(lambda store: stored_sweeps.has_work(store, sweep)):
            return
        name = shlex.quote(sweep.name)
        raise UsageError(
            f"The sweep {sweep.name!r} is {sweep.state}: every trial has ended, so there is nothing to {order}."
            + (f" To run what is not COMPLETE again: `raycolab retry {name}`." if order == "resume" else "")
        )

    async def _retry(self, sweep: SweepRow, run: SweepRun | None, states: Collection[TrialState]) -> None:
        if run is not None:
            count = run.retry(states)
        elif count := await self._stored(lambda store: stored_sweeps.retry_rows(store, sweep, states)):
            await self._start(sweep, None)
        if not count:
            wanted = " or ".join(state for state in TrialState if state in states)
            raise UsageError(f"The sweep {sweep.name!r} has no trial that is {wanted}: there is nothing to retry.")

    # ----- notebooks that pull -----

    def _hear_puller(self, request: api.Push | api.Heartbeat | api.PutDown) -> object:
        """One sends a result, lives or leaves."""
        run = self._current
        if run is None or run.sweep.name != request.sweep:
            return {api.Push: False, api.Heartbeat: api.HeartbeatAnswer(), api.PutDown: None}[type(request)]
        match request:
            case api.Push():
                return run.pullers.push(request.puller, request.ticket, request.outcome)
            case api.Heartbeat():
                return api.HeartbeatAnswer(*run.pullers.heartbeat(request.puller, request.ticket, request.points))
            case api.PutDown():
                run.pullers.put_down(request.puller)
        return None

    async def _pull(self, request: api.Pull) -> api.Pulled:
        """The puller's trial, where the sweep is at work; else how it ended, or what it waits for once it is queued."""
        name = request.sweep
        async with self._changing:
            await self._lay_down_if_over()
            run = self._current
            if run is None or run.sweep.name != name:
                sweep = await self._stored(lambda store: store.existing_sweep(name))
                has_work = await self._stored(lambda store: stored_sweeps.has_work(store, sweep))
                if not has_work or (sweep.state in _UNTIL_ASKED and not request.begin):
                    over = sweep.state if has_work else SweepState.COMPLETE
                    return api.Pulled(
                        over=over, sentence=self._resting[name].sentence if name in self._resting else None
                    )
                await self._claim(sweep)
                self._turns.add(name, Turn(pulled=True))
                return api.Pulled(sentence=self._waits_for())
            if request.begin:  # it may just have been extended
                await self._extend(run)
        if request.main_version != run.sweep.main_version:
            raise UsageError(
                f"MAIN of the sweep {name!r} has changed since this notebook declared it: run the cell with `declare` "
                "again."
            )
        trial = await run.pullers.pull(request.puller, request.node, request.main_version)
        return api.Pulled(trial, sentence="it is paused" if trial is None and run.scheduler.is_paused else None)

    # ----- inside -----

    async def _rest(self, sweep: SweepRow, state: SweepState, sentence: str | None) -> None:
        """Store the state of a sweep that is not at work, and remember what to tell of it."""
        if state is not sweep.state:
            await self._stored(lambda store: store.update_sweep(sweep.id, state=state))
        self._resting[sweep.name] = await self._status_of(replace(sweep, state=state), sentence)

    def _waits_for(self) -> str | None:
        if self._current is None:
            return None
        paused = " (paused)" if self._current.scheduler.is_paused else ""
        return f"waits for its turn behind {self._current.sweep.name}{paused}"

    async def _read(self, read: Callable[[Store, R], T], request: R) -> T:
        """Read the store in a thread of the pool: writing goes on meanwhile."""
        return await asyncio.to_thread(read, self._store, request)

    async def _stored(self, call: Callable[[Store], T]) -> T:
        """Call the store in its thread, after all that was written before.

        While the database cannot be used that waits; for a person, who is told so, nothing is done later instead.
        """
        result: T = await asyncio.wrap_future(self._committer.call(call, waits=not _FOR_A_PERSON.get()))
        return result

    def _outage_in_thread(self, sentence: str | None) -> None:
        self._loop.call_soon_threadsafe(self._note_outage, sentence)

    def _note_outage(self, sentence: str | None) -> None:
        self._outage = sentence


def _make_studies(spec: SweepSpec, rows: Sequence[TrialRow], reports: Mapping[int, Mapping[int, float]]) -> Studies:
    from raycolab.search.studies import Studies  # Optuna takes a second to import, and most sweeps need none

    return Studies(spec, rows, reports)


def _log_to(path: Path) -> None:
    """What this process has to say goes to the log of the engine, beside what starting it printed."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("raycolab")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
