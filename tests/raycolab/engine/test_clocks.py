"""A clock that is set, by an hour or a day, forward or back: no deadline, lease, budget or duration minds."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from raycolab.engine import steady_clock
from raycolab.engine.guards import Budget
from raycolab.engine.messages import ScheduleOptions
from raycolab.engine.pull import LEASE_S
from raycolab.trials import AttemptRow, Metric, Outcome, TrialState
from tests.in_loop import in_loop
from tests.raycolab.engine.test_sweep_run import Stage

STEPS = [3600.0, -3600.0, 86400.0, -86400.0]


class TimeOfDay:
    """The machine's own clock, which a person or a time server sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead_s = 0.0
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + self.ahead_s)


@pytest.mark.parametrize("step_s", STEPS)
def test_a_steady_clock_does_not_jump(monkeypatch: pytest.MonkeyPatch, step_s: float) -> None:
    """It shows the time of day as it was when the clock was made, and what has gone by since then."""
    day = TimeOfDay(monkeypatch)
    clock = steady_clock()
    before = clock()
    assert abs(before - time.time()) < 60
    day.ahead_s = step_s
    assert 0 <= clock() - before < 60


@pytest.mark.parametrize("step_s", STEPS)
def test_a_sweep_at_work_does_not_notice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step_s: float) -> None:
    """Its trial does not run longer than its timeout, its budget is not used up, its lease holds, nor is it odd."""

    @in_loop
    async def go() -> None:
        day = TimeOfDay(monkeypatch)
        stage = Stage(tmp_path)
        run = stage.run
        run.scheduler.change(ScheduleOptions("s", Metric("score"), timeout_s=1000.0, time_budget_s=1000.0))
        ticket = await stage.pull()
        assert ticket is not None
        day.ahead_s = step_s
        run.scheduler.tick(run._now())
        run.pullers.tick(run._now())
        assert run.pullers.silent_s(run._now()) < LEASE_S
        assert run.pullers.heartbeat("a", ticket, []) == (True, False)
        begun = run._now()
        outcome = Outcome(TrialState.COMPLETE, {"score": 1.0}, started_at=begun, ended_at=begun + 1.5)
        assert run.pullers.push("a", ticket, outcome)
        assert run.finished is None
        assert await stage.pull() is not None, "there is time left"
        rows = await asyncio.to_thread(stage.stored)
        assert [row.duration_s for row in rows if row.state is TrialState.COMPLETE] == [1.5]
        assert run.status(None).eta_s is not None

    go()


@pytest.mark.parametrize("step_s", [0.0, *STEPS])
def test_a_budget_that_goes_on_counts_what_was_worked(step_s: float) -> None:
    """Not the time between two heads, nor the clock that was set in between."""
    attempts = [
        AttemptRow(0, 1, "a", "COMPLETE", 1000.0, 1060.0),
        AttemptRow(1, 1, "b", "COMPLETE", 1030.0, 1070.0),
        AttemptRow(2, 1, "a", "COMPLETE", 200000.0 + step_s, 200030.0 + step_s),
        AttemptRow(3, 1, "a", "LOST", 200030.0 + step_s, None),
    ]
    options = ScheduleOptions("s", Metric("score"), time_budget_s=120.0, goes_on=True)
    budget = Budget(options, [], attempts)
    assert not budget.is_spent(5.0)
    budget.begun(5.0)
    assert budget.until == 25.0
    assert budget.is_spent(25.0)
