"""Notebooks that pull: one trial at a time each, leased, and whose result counts."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator

from raycolab.engine.messages import Finished, Kill, ScheduleOptions, Write
from raycolab.engine.pull import LEASE_S, Pullers
from raycolab.engine.scheduler import Scheduler
from raycolab.trials import ErrorKind, Metric, Outcome, SweepState, TrialRow, TrialState
from tests.in_loop import in_loop

DONE = Outcome(TrialState.COMPLETE, {"acc": 1.0}, started_at=1.0, ended_at=2.0)


class Sweep:
    """A scheduler whose writes are committed at once, and its pullers."""

    def __init__(self, trials: int, *, timeout_s: float | None = None, hold_s: float = 0.05) -> None:
        rows = [TrialRow(number, "svc", "iris", {"C": number}) for number in range(trials)]
        self.scheduler = Scheduler(rows, [], ScheduleOptions("s", Metric("acc"), timeout_s))
        self.pullers = Pullers(self.scheduler, self.acting, time.monotonic, hold_s=hold_s)
        self.finished: Finished | None = None

    @contextlib.contextmanager
    def acting(self) -> Iterator[None]:
        yield
        self.pump()

    def pump(self) -> None:
        while (commands := self.scheduler.commands(time.monotonic())) or self.pullers.see_plans():
            for command in commands:
                match command:
                    case Kill(slot, reason):
                        self.pullers.kill(slot, reason)
                    case Write(write_id):
                        self.scheduler.committed(write_id, time.monotonic())
                    case Finished():
                        self.finished = command

    def row(self, number: int) -> TrialRow:
        return self.scheduler.book.rows[number]

    async def prove(self) -> None:
        """Have the model's smoke trial done."""
        first = await self.pullers.pull("smoke", "head")
        assert first is not None
        assert self.pullers.push("smoke", first.ticket, DONE)


@in_loop
async def test_two_pullers_run_a_sweep() -> None:
    """Each gets one trial at a time, which is RUNNING from then on, and none gets what another has."""
    sweep = Sweep(5)
    await sweep.prove()
    mine = await sweep.pullers.pull("a", "head")
    other = await sweep.pullers.pull("b", "head")
    assert mine is not None
    assert other is not None
    assert {mine.number, other.number} == {1, 2}
    assert sweep.row(1).state is sweep.row(2).state is TrialState.RUNNING
    assert sweep.row(3).state is TrialState.PENDING
    for puller, held in (("a", mine), ("b", other)):
        assert sweep.pullers.push(puller, held.ticket, DONE)
    for _ in (3, 4):
        again = await sweep.pullers.pull("a", "head")
        assert again is not None
        assert sweep.pullers.push("a", again.ticket, DONE)
    assert sweep.finished == Finished(SweepState.COMPLETE)
    assert {sweep.row(number).state for number in range(5)} == {TrialState.COMPLETE}


@in_loop
async def test_one_that_asks_again_gets_what_it_holds() -> None:
    """An answer that was lost on its way, or a loop that was interrupted, costs nothing."""
    sweep = Sweep(2)
    first = await sweep.pullers.pull("a", "head")
    assert first is not None
    assert await sweep.pullers.pull("a", "head") == first
    assert sweep.row(0).attempts == 1


@in_loop
async def test_a_result_that_is_sent_again_counts_once() -> None:
    """The answer to the first may have been lost: it counts, and changes nothing."""
    sweep = Sweep(2)
    held = await sweep.pullers.pull("a", "head")
    assert held is not None
    assert sweep.pullers.push("a", held.ticket, DONE)
    assert sweep.pullers.push("a", held.ticket, Outcome(TrialState.COMPLETE, {"acc": 7.0}))
    assert not sweep.pullers.push("b", held.ticket, DONE)
    assert sweep.row(0).metrics == {"acc": 1.0}
    assert sweep.row(0).attempts == 1


@in_loop
async def test_one_that_waits_gets_what_another_puts_down() -> None:
    """While the model's first trial is out nothing else is given; its notebook ends, and the trial moves on."""
    sweep = Sweep(3, hold_s=5)
    assert await sweep.pullers.pull("a", "head") is not None
    waiting = asyncio.create_task(sweep.pullers.pull("b", "head"))
    await asyncio.sleep(0)
    sweep.pullers.put_down("a")
    held = await waiting
    assert held is not None
    assert held.number == 0
    assert sweep.row(0).attempts == 2


@in_loop
async def test_nothing_is_given_to_one_that_no_longer_asks() -> None:
    """It is told that there was nothing, and is no slot any more."""
    sweep = Sweep(2)
    first = await sweep.pullers.pull("a", "head")
    assert first is not None
    assert await sweep.pullers.pull("b", "head") is None
    assert sweep.pullers.push("a", first.ticket, DONE)
    assert sweep.row(1).state is TrialState.PENDING
    assert sweep.pullers.silent_s(time.monotonic() + 100) > 99


@in_loop
async def test_a_silent_puller_loses_its_trial() -> None:
    """After the lease; its late result does not count, and what another found does."""
    sweep = Sweep(1)
    lost = await sweep.pullers.pull("a", "head")
    assert lost is not None
    sweep.pullers.tick(time.monotonic() + LEASE_S - 5)
    assert sweep.pullers.heartbeat("a", lost.ticket, []) == (True, False)
    sweep.pullers.tick(time.monotonic() + LEASE_S + 5)
    assert sweep.pullers.heartbeat("a", lost.ticket, []) == (False, False)
    again = await sweep.pullers.pull("b", "head")
    assert again is not None
    assert again.number == lost.number
    assert not sweep.pullers.push("a", lost.ticket, Outcome(TrialState.COMPLETE, {"acc": 7.0}))
    assert sweep.pullers.push("b", again.ticket, DONE)
    assert sweep.row(0).metrics == {"acc": 1.0}
    assert sweep.row(0).attempts == 2


@in_loop
async def test_a_trial_that_takes_too_long_is_taken_away() -> None:
    """Nobody can kill a notebook's cell: the trial is FAILED, and the notebook told that it holds nothing."""
    sweep = Sweep(1, timeout_s=10)
    held = await sweep.pullers.pull("a", "head")
    assert held is not None
    sweep.scheduler.tick(time.monotonic() + 11)
    sweep.pump()
    await asyncio.sleep(0)
    assert sweep.row(0).error_kind is ErrorKind.TIMEOUT
    assert sweep.pullers.heartbeat("a", held.ticket, []) == (False, False)
    assert not sweep.pullers.push("a", held.ticket, DONE)


@in_loop
async def test_a_cancelled_sweep_leaves_nobody_waiting() -> None:
    """Neither who holds a trial nor who waits for one."""
    sweep = Sweep(3, hold_s=5)
    held = await sweep.pullers.pull("a", "head")
    assert held is not None
    waiting = asyncio.create_task(sweep.pullers.pull("b", "head"))
    await asyncio.sleep(0)
    sweep.scheduler.cancel(time.monotonic())
    sweep.pump()
    await asyncio.sleep(0)
    sweep.pump()
    assert sweep.finished == Finished(SweepState.CANCELLED)
    sweep.pullers.end()
    assert await waiting is None
    assert not sweep.pullers.push("a", held.ticket, DONE)
