"""What the engine tells of sweeps that wait, rest, or cannot be written at the moment."""

from __future__ import annotations

import asyncio
from pathlib import Path

from raycolab.node import api
from raycolab.store import Store, StoreOutageError, open_store, sqlite_url
from raycolab.trials import SweepState, TrialState
from tests.in_loop import in_loop
from tests.raycolab.engine.test_poison import ROWS, Asked, delete, engine_over, main_text, spec_of


def declared(folder: Path, **states: SweepState) -> None:
    """A database with sweeps of these names in these states."""
    with open_store(sqlite_url(folder / "a.db")) as store:
        for name, state in states.items():
            row = store.create_sweep(name, spec_of(name), main_text(), "f", None, {}, ROWS, 0.0)
            store.update_sweep(row.id, state=state)


async def at_work(asked: Asked, name: str) -> None:
    """Wait until it is its turn."""
    for _ in range(500):
        run = asked.engine._current
        if run is not None and run.sweep.name == name:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(asked.sweep(name))


def test_a_sweep_waits_behind_the_one_that_is_at_work_now(tmp_path: Path) -> None:
    """It was said to wait behind one that had long ended."""

    @in_loop
    async def go() -> None:
        declared(tmp_path, a=SweepState.RUNNING, b=SweepState.QUEUED, c=SweepState.QUEUED)
        async with engine_over(tmp_path) as asked:
            await at_work(asked, "a")
            assert asked.sweep("c")["sentence"] == "waits for its turn behind a"
            await asked.ask(api.Cancel("a"))
            await at_work(asked, "b")
            assert asked.sweep("c")["sentence"] == "waits for its turn behind b"

    go()


def test_a_new_engine_tells_of_the_sweeps_that_have_ended(tmp_path: Path) -> None:
    """With their counts and their best, as the one before it did; one that was deleted is gone."""

    @in_loop
    async def go() -> None:
        declared(tmp_path, over=SweepState.STOPPED, held=SweepState.HELD, new=SweepState.DECLARED)
        async with engine_over(tmp_path) as asked:
            over, held = asked.sweep("over"), asked.sweep("held")
            assert (over["state"], over["complete"], over["best"]["value"]) == ("STOPPED", 1, 1.0)
            assert (held["state"], held["failed"]) == ("HELD", 1)
            assert asked.sweep("new") is None
            await delete(asked, "over")
            assert asked.sweep("over") is None

    go()


class Full(Store):
    """A database whose disk is full."""

    def update_sweep(self, *_: object, **__: object) -> None:
        raise StoreOutageError("the database x cannot be used: its disk is full: free some space.")


def test_an_order_that_cannot_be_written_is_refused_and_not_carried_out_later(tmp_path: Path) -> None:
    """It waited for the disk, its client was told to try again, and then it was done all the same."""

    @in_loop
    async def go() -> None:
        declared(tmp_path, a=SweepState.HELD)
        async with engine_over(tmp_path) as asked:
            store = asked.engine._store
            asked.engine._committer._store = Full(store._engine)
            refused = await asked.ask(api.Start("a"))
            assert "its disk is full: free some space" in str(refused)
            asked.engine._committer._store = store
            assert asked.sweep("a")["state"] == "HELD"
            assert await asked.ask(api.Start("a")) is None

    go()


def test_an_engine_that_is_told_to_end_leaves_all_in_order(tmp_path: Path) -> None:
    """What runs waits again uncharged, no claim is left, and the database is one file; then it takes no orders."""

    @in_loop
    async def go() -> None:
        declared(tmp_path, a=SweepState.RUNNING)
        asked = Asked(tmp_path)
        await asked.engine._taken_over.wait()
        await at_work(asked, "a")
        given = await asked.ask(api.Pull("a", "p", "head", begin=True))
        assert given.trial is not None
        async with asyncio.timeout(30):
            assert await asked.ask(api.EndEngine()) is None
        assert not (tmp_path / "a.db-wal").exists()
        assert "shutting down" in str(await asked.ask(api.Start("a")))
        asked.engine._tasks[0].cancel()
        await asyncio.gather(*asked.engine._tasks, return_exceptions=True)

    go()
    with open_store(sqlite_url(tmp_path / "a.db")) as store:
        sweep = store.existing_sweep("a")
        assert sweep.state is SweepState.RUNNING
        assert store.counts(sweep.id)[TrialState.PENDING] == 1
        assert [each.outcome for each in store.attempts(sweep.id)] == ["CANCELLED"]
        assert store.claim(sweep.id, "another head", 0.0, 60.0) is None
