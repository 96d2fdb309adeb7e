"""An error belongs to one sweep: whatever goes wrong while it is at work holds it, and is not raised to the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raycolab.engine.commit import Committer
from raycolab.engine.fleet import NodeView
from raycolab.engine.messages import ENDING, State
from raycolab.engine.sweep_queue import Turn
from raycolab.engine.sweep_run import SweepRun
from raycolab.spec.spec import SweepSpec
from raycolab.store import open_store, sqlite_url
from raycolab.store.archives import Archives
from raycolab.trials import Config, Outcome, SweepState, TrialRow, TrialState
from tests.in_loop import in_loop
from tests.raycolab.engine.script import Search

DONE = Outcome(TrialState.COMPLETE, {"score": 1.0}, started_at=1.0, ended_at=2.0)


class Overflowing(Search):
    """A search whose second proposal, or whose judgement, cannot be had."""

    def propose(self, row: TrialRow) -> Config:
        if row.number == 1:
            return {"C": float(10**400)}
        return super().propose(row)

    def ended(self, row: TrialRow) -> None:
        raise ValueError("bad end")


class Stage:
    """A sweep at work on a store, pulled by notebooks, so that no Ray is needed."""

    def __init__(self, folder: Path, studies: Any = None) -> None:
        self.store = open_store(sqlite_url(folder / "a.db"))
        spec = SweepSpec.from_arguments("s", models={"m": {"C": [1.0]}}, datasets=["d"], jobs_per_pair=1)
        rows = [TrialRow(number, "m", "d", None if studies else {"C": number}) for number in range(3)]
        self.sweep = self.store.create_sweep("s", spec.to_json(), None, "f", None, {}, rows, 0.0)
        self.committer = Committer(self.store, lambda _: None)
        self.run = SweepRun(None, self.committer, self.sweep, rows, [], studies, Turn(pulled=True), Archives.of(folder))
        self.run.see_nodes([NodeView("head", "1", 1.0, 0.0)])

    async def pull(self) -> int | None:
        """A notebook's trial, which it completes; None where there is none."""
        pulling = asyncio.create_task(self.run.pullers.pull("a", "head"))
        await asyncio.sleep(0)
        if self.run.finished is not None:
            self.run.pullers.end()
        trial = await pulling
        return None if trial is None else trial.ticket

    def stored(self) -> list[TrialRow]:
        """The rows, after all that was given to be written."""
        rows: list[TrialRow] = self.committer.call(lambda store: store.trials(self.sweep.id)).result(10)
        return rows


def held(stage: Stage, error: str) -> None:
    """The sweep is HELD with this error, and nobody else heard of it."""
    over = stage.run.finished
    assert over is not None
    assert over.state is SweepState.HELD
    assert over.sentence is not None
    assert error in over.sentence
    assert "raycolab resume s" in over.sentence
    assert over.traceback is not None
    assert error.split(":")[0] in over.traceback
    assert "Traceback" in over.traceback


@in_loop
async def test_a_search_that_raises_holds_its_sweep_and_keeps_what_has_ended(tmp_path: Path) -> None:
    """A number that overflows while the next trial is proposed: the one before it is stored as COMPLETE."""
    stage = Stage(tmp_path, type("Raising", (Overflowing,), {"ended": Search.ended})())
    ticket = await stage.pull()
    assert ticket is not None
    assert stage.run.pullers.push("a", ticket, DONE)
    assert await stage.pull() is None
    held(stage, "OverflowError: int too large to convert to float")
    assert [row.state for row in stage.stored()].count(TrialState.COMPLETE) == 1


@in_loop
async def test_a_search_that_cannot_take_a_result_holds_its_sweep(tmp_path: Path) -> None:
    """What is asked of the sweep afterwards changes nothing, and raises nothing."""
    stage = Stage(tmp_path, Overflowing())
    ticket = await stage.pull()
    assert ticket is not None
    stage.run.pullers.push("a", ticket, DONE)
    held(stage, "ValueError: bad end")
    over = stage.run.finished
    for ask in (stage.run.pause, stage.run.resume, lambda: stage.run.end(SweepState.STOPPED)):
        ask()
    stage.run.retry([TrialState.FAILED])
    stage.run.lose_node("head")
    assert stage.run.finished is over
    assert await stage.run.sync(State("head.1", 1, 0, may_wait=True)) is ENDING


@pytest.mark.parametrize("kind", ["store", "callback"])
def test_a_write_that_raises_holds_its_sweep(tmp_path: Path, kind: str) -> None:
    """What the store raises that is no refusal of its own, or what goes wrong as the rows are counted."""

    @in_loop
    async def go() -> None:
        stage = Stage(tmp_path)
        broken: Callable[..., None] = _raise
        if kind == "store":
            stage.store.write = broken  # type: ignore[method-assign]
        else:
            stage.run.scheduler.book.commit = broken  # type: ignore[method-assign]
        assert await stage.pull() is not None
        await asyncio.to_thread(stage.stored)
        await asyncio.sleep(0)
        held(stage, "OverflowError: too large")
        assert stage.committer.call(lambda store: store.existing_sweep("s")).result(10) == stage.sweep

    go()


def _raise(*_: object, **__: object) -> None:
    raise OverflowError("too large")
