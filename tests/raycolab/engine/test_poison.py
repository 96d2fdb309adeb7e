"""Nonsense in each column of each table: the sweep is named and HELD, every order answered, delete always possible."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from sqlalchemy import Table

from raycolab.engine.actor import Engine
from raycolab.engine.fleet import NodeView
from raycolab.errors import RaycolabError
from raycolab.main.notebook import MainNotebook
from raycolab.node import api
from raycolab.spec.spec import SweepSpec
from raycolab.store import open_store, sqlite_url, tables
from raycolab.trials import AttemptRow, ErrorKind, Outcome, ReportRow, SweepState, TrialRow, TrialState
from tests.in_loop import in_loop

NONSENSE = ("'nonsense'", "-1")
ROWS = (
    TrialRow(0, "m", "d", {"C": 1.0}, TrialState.COMPLETE, {"metric": 1.0}, "head", 1, 1.0, 2.0),
    TrialRow(
        *(1, "m", "d", {"C": 2.0}, TrialState.FAILED, {}, "head", 1, 1.0, 2.0),
        *(ErrorKind.EXCEPTION, "ValueError: no", "a traceback", 0, "output"),
    ),
    TrialRow(2, "m", "d", {"C": 3.0}),
)
# What may hold anything of its type, or is nobody's: it is shown, or not read at all.
HARMLESS = {
    *("name", "spec_fingerprint", "code_fingerprint", "node", "dataset", "error", "traceback", "output", "outcome"),
    *("reason", "model", "owner", "machine", "heartbeat", "cell_index", "same_as", "step", "value", "main"),
}


def spec_of(name: str, most: int = 3) -> str:
    """The declaration of a sweep of this many trials."""
    space = {"C": [float(number + 1) for number in range(most)]}
    return SweepSpec.from_arguments(name, models={"m": space}, datasets=["d"], method="grid").to_json()


def main_text() -> str:
    """A MAIN's JSON."""
    cell = nbformat.v4.new_code_cell("def compute(model, dataset, C):\n    return C")  # type: ignore[no-untyped-call]
    return MainNotebook.load(nbformat.v4.new_notebook(cells=[cell])).to_json()  # type: ignore[no-untyped-call]


@pytest.mark.usefixtures("_exits")
def test_a_sweep_whose_name_is_nonsense_can_be_deleted(tmp_path: Path) -> None:
    """By what it is shown as."""

    @in_loop
    async def go() -> None:
        with open_store(sqlite_url(tmp_path / "a.db")) as store:
            store.create_sweep("s", spec_of("s"), main_text(), "f", None, {}, ROWS, 0.0)
        with contextlib.closing(sqlite3.connect(tmp_path / "a.db")) as base:
            base.execute("update sweeps set name = x'00ff'")
            base.commit()
        async with engine_over(tmp_path) as asked:
            (shown,) = asked.engine._progress().sweeps
            assert (shown["state"], "is damaged: its name" in shown["sentence"]) == ("HELD", True)
            assert "b'\\x00\\xff'" in str(await asked.ask(api.Find("s")))
            await delete(asked, shown["name"])

    go()


def poisoned(folder: Path, table: Table) -> dict[str, tuple[str, str]]:
    """A database with one sweep for each column of the table and each nonsense that SQLite takes there, and a good one.

    They were at work when the last head ended.
    """
    made: dict[str, tuple[str, str]] = {}
    with open_store(sqlite_url(folder / "a.db")) as store:
        for column in table.columns:
            for number, nonsense in enumerate(NONSENSE):
                if not (column.primary_key or column.foreign_keys or column is tables.sweeps.c.name):
                    made[f"{column.name}-{number}"] = column.name, nonsense
        ids = {}
        for name in (*made, "good"):
            row = store.create_sweep(name, spec_of(name), main_text(), "f", None, {}, ROWS, 0.0)
            store.write(row.id, [], [AttemptRow(1, 1, "head", "FAILED", 1.0, 2.0, "no")], [ReportRow(1, 0, 0.5)])
            store.update_sweep(row.id, state=SweepState.RUNNING)
            ids[name] = row.id
    with contextlib.closing(sqlite3.connect(folder / "a.db")) as base:
        for name, (column_name, nonsense) in made.items():
            where = {
                "sweeps": f"id = {ids[name]}",
                "heads": f"sweep_id = {ids[name]}",
                "trials": f"sweep_id = {ids[name]} and number = 2",
            }.get(table.name, f"trial_id in (select id from trials where sweep_id = {ids[name]})")
            if table is tables.heads:
                base.execute(f"insert into heads values ({ids[name]}, 'x', 'y', '2026-11-22T20:30:00.000000Z')")
            base.execute(f"update {table.name} set {column_name} = {nonsense} where {where}")
        base.commit()
    return made


class Asked:
    """An engine over the database, without Ray: its sweeps are pulled, or find no node."""

    def __init__(self, folder: Path) -> None:
        url = sqlite_url(folder / "a.db")
        nodes: list[NodeView] = []
        self.engine = Engine(
            url, str(folder / "none"), str(folder), "me", str(folder), handle=self, nodes=lambda: nodes
        )

    async def ask(self, request: api.Request[Any]) -> Any:
        """The answer, be it a refusal; whatever else is raised is ours."""
        try:
            async with asyncio.timeout(30):
                return api.decode(await self.engine._answer(api.encode(request), None), request.answer_type())  # type: ignore[arg-type]  # which it does not use
        except RaycolabError as error:
            return error

    def sweep(self, name: str) -> Any:
        """What is told of it; None once it is deleted."""
        return next((each for each in self.engine._progress().sweeps if each["name"] == name), None)


@contextlib.asynccontextmanager
async def engine_over(folder: Path) -> AsyncIterator[Asked]:
    """An engine that has looked at what the last one left."""
    asked = Asked(folder)
    try:
        async with asyncio.timeout(30):
            await asked.engine._taken_over.wait()
        yield asked
    finally:
        assert not any(task.done() for task in asked.engine._tasks)
        for task in asked.engine._tasks:
            task.cancel()
        await asyncio.gather(*asked.engine._tasks, return_exceptions=True)
        await asyncio.to_thread(asked.engine._committer.call(type(asked.engine._store).close).result, 30)


@pytest.fixture
def _exits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An engine that ends this process ends the test instead."""
    ended: list[int] = []
    monkeypatch.setattr("os._exit", ended.append)
    yield
    assert not ended


@pytest.mark.parametrize(
    "table", [tables.sweeps, tables.trials, tables.attempts, tables.reports, tables.heads], ids=str
)
@pytest.mark.usefixtures("_exits")
def test_nonsense_in_a_column_holds_its_sweep_alone(tmp_path: Path, table: Table) -> None:
    """It was at work when the head ended; each order is answered, it can be deleted, and the good one completes."""

    @in_loop
    async def go() -> None:
        made = poisoned(tmp_path, table)
        async with engine_over(tmp_path) as asked:
            for name, (column, nonsense) in made.items():
                said = await orders(asked, name)
                if column not in HARMLESS and nonsense == "'nonsense'":
                    held = [each["sentence"] or "" for each in said if each and each["state"] == "HELD"]
                    assert any("damaged" in each for each in held), (name, said)
                shown = [each["sentence"] or "" for each in said if each]
                assert not any("bug" in each or "nexpected" in each for each in shown), (name, said)
                await delete(asked, name)
            await pulled_to_its_end(asked, "good")

    go()


async def delete(asked: Asked, name: str) -> None:
    """Cancel it, and delete it once it is at rest."""
    await asked.ask(api.Cancel(name))
    gone = None
    for _ in range(500):
        if (gone := await asked.ask(api.Delete(name))) is None:
            break
        assert "is not at rest" in str(gone), (name, gone)
        await asyncio.sleep(0.01)
    assert (gone, asked.sweep(name)) == (None, None)


async def orders(asked: Asked, name: str) -> list[Any]:
    """Give every order, and ask everything; what was told of the sweep after each."""
    found = await asked.ask(api.Find(name))
    sweep_id = found.row.id if isinstance(found, api.FoundSweep) else 1
    told = []
    for request in (
        *(api.ReadRows(sweep_id, "trials"), api.ReadRows(sweep_id, "attempts"), api.ReadRows(sweep_id, "reports")),
        *(api.ReadOutput(name, 1), api.Pull(name, "p", "head") if found is None else api.Retry(name)),
        *(api.Pause(name), api.Resume(name), api.Declare(spec_of(name, 4), None, {}), api.Start(name)),
        *(api.Retry(name, "lost"), api.Stop(name), api.Start(name)),
    ):
        await asked.ask(request)
        await asyncio.sleep(0)
        told.append(asked.sweep(name))
    return told


async def pulled_to_its_end(asked: Asked, name: str) -> None:
    """A notebook takes its trials until it is COMPLETE."""
    await asked.ask(api.Stop(name))
    await asked.ask(api.Retry(name))
    for _ in range(50):
        answer = await asked.ask(api.Pull(name, "p", "head", begin=True))
        assert isinstance(answer, api.Pulled), answer
        if answer.over is not None:
            assert answer.over is SweepState.COMPLETE
            return
        if answer.trial is not None:
            done = Outcome(TrialState.COMPLETE, {"metric": 1.0}, started_at=1.0, ended_at=2.0)
            await asked.ask(api.Push(name, "p", answer.trial.ticket, done))
        await asyncio.sleep(0.05)
    raise AssertionError("it never ended")
