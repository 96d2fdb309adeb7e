"""The table of faults: what goes wrong, how it was made, what it cost and what was said. `python -m tests.faults`

It makes tests/FAULTS.md: nonsense in each column of each table, orders in each state of a sweep, damaged files, a
full disk and clocks that are set, each against an engine or a store of its own without Ray. What is killed, stopped and
cut off on real clusters is in the tests of tests/integration, which the table's end names. It ends with 1 when a row
says that something was lost, hangs, or is a bug.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest import mock

from raycolab.errors import RaycolabError
from raycolab.node import api
from raycolab.node.data_dir import DataDir, HeadRecord, Identity, JoinedRecord
from raycolab.store import StoreOutageError, open_store, sqlite_url, tables
from raycolab.trials import Metric, SweepState, TrialState
from tests.raycolab.engine.test_poison import ROWS, Asked, engine_over, main_text, orders, poisoned, spec_of

__all__: list[str] = []

_LONGEST = 150
_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One row."""

    what: str
    how: str
    lost: str
    said: str


def main() -> int:
    """Make every fault, and write the table."""
    found = [*poison(), *ordered(), *files(), *disk(), *clocks()]
    lines = [
        "# Faults",
        "",
        f"{len(found)} faults, made by `python -m tests.faults`. Processes that are killed, stopped and cut off, on"
        " real clusters: `tests/integration/test_chaos.py`, `test_losses.py`, `test_outages.py`, `test_ends.py`,"
        " `test_failure_kinds.py`, `tests/raycolab/main/test_process.py`.",
        "",
        "| what | how | lost | said |",
        "|---|---|---|---|",
        *(f"| {each.what} | {each.how} | {each.lost} | {each.said} |" for each in found),
    ]
    (Path(__file__).parent / "FAULTS.md").write_text("\n".join(lines) + "\n")
    bad = [each for each in found if each.lost != "nothing" or "hangs" in each.said or "a bug" in each.said]
    for each in bad:
        sys.stderr.write(f"{each}\n")
    return 1 if bad else 0


def poison() -> Iterator[Fault]:
    """Nonsense in each column of each table of a sweep that was at work."""
    for table in (tables.sweeps, tables.trials, tables.attempts, tables.reports, tables.heads):
        with tempfile.TemporaryDirectory() as folder:
            made = {name: each for name, each in poisoned(Path(folder), table).items() if name.endswith("-0")}

            async def ask(folder: Path, made: dict[str, tuple[str, str]], table: str) -> list[Fault]:
                rows = []
                async with engine_over(folder) as asked:
                    for name, (column, nonsense) in made.items():
                        told = [each for each in await orders(asked, name) if each]
                        held = [each["sentence"] for each in told if each["state"] == "HELD" and each["sentence"]]
                        said = f"HELD: {held[0]}" if held else "it goes on; the value is shown as it is, or not read"
                        await asked.ask(api.Cancel(name))
                        gone = await asked.ask(api.Delete(name))
                        if isinstance(gone, RaycolabError) and "not at rest" in str(gone):
                            await asyncio.sleep(0.1)
                            gone = await asked.ask(api.Delete(name))
                        lost = await complete(asked, "good")
                        said = short(f"{said}; " + ("deleted" if gone is None else str(gone)), folder)
                        rows.append(Fault(f"{table}.{column}", f"set to {nonsense}", lost, said))
                return rows

            yield from bounded(partial(ask, Path(folder), made, table.name))


async def complete(asked: Asked, name: str) -> str:
    """Whether the good sweep has its finished trial."""
    answer = await asked.ask(api.Find(name))
    kept = isinstance(answer, api.FoundSweep) and answer.counts[TrialState.COMPLETE] == 1
    return "nothing" if kept else "a finished trial"


def ordered() -> Iterator[Fault]:
    """Every order in each state of a sweep, with a row of it damaged."""
    for state in SweepState:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            with open_store(sqlite_url(place / "a.db")) as store:
                for name in ("s", "good"):
                    store.create_sweep(name, spec_of(name), main_text(), "f", None, {}, ROWS, 0.0)
                store.update_sweep(store.id_of("s"), state=state)
            with contextlib.closing(sqlite3.connect(place / "a.db")) as base:
                base.execute("update trials set metrics = 'nonsense' where sweep_id = 1 and number = 0")
                base.commit()

            async def ask(place: Path, state: SweepState) -> list[Fault]:
                async with engine_over(place) as asked:
                    told = [each for each in await orders(asked, "s") if each]
                    states = ", ".join(dict.fromkeys(each["state"] for each in told))
                    await asked.ask(api.Cancel("s"))
                    gone = await asked.ask(api.Delete("s"))
                    said = short(f"all answered ({states}); " + ("deleted" if gone is None else str(gone)), place)
                    return [
                        Fault(f"12 orders, {state}", "a trial's metrics damaged", await complete(asked, "good"), said)
                    ]

            yield from bounded(partial(ask, place, state))


def files() -> Iterator[Fault]:
    """Files of the data directory that hold something else."""
    for name, content in (
        ("head.json", b'{"pid": 1, "control": "a\\u0000b", "started_at": 0.0, "store": "x"}'),
        ("head.json", b""),
        ("head.json", b"[1]"),
        ("head.json", b"\xff\xfe"),
        ("identity.json", b"{}"),
        ("joined.json", b"nonsense"),
        ("raycolab.db", b"no database at all, and longer than its first page would be" * 50),
        ("raycolab.db", b"SQLite format 3\x00" + b"\xff" * 5000),
        ("raycolab.db-wal", b"nonsense" * 500),
    ):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            with open_store(sqlite_url(place / "raycolab.db")) as store:
                store.create_sweep("s", spec_of("s"), main_text(), "f", None, {}, ROWS, 0.0)
            (place / name).write_bytes(content)

            def look(place: Path = place, name: str = name) -> str:
                if name.startswith("raycolab.db"):
                    with open_store(sqlite_url(place / "raycolab.db")) as store:
                        return f"read: {len(store.sweeps())} sweep"
                kind = next(each for each in (HeadRecord, Identity, JoinedRecord) if name == each.FILE)
                found = DataDir(place).read_head() if kind is HeadRecord else DataDir(place).load(kind)
                return f"read as {found}"

            yield Fault(f"{name}", short(f"holds {content[:24]!r}", place), "nothing", short(said_by(look), place))


def disk() -> Iterator[Fault]:
    """A database that cannot be opened or written."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        yield Fault(
            "the database's folder", "a file is there", "nothing", short(said_by(lambda: in_a_file(place)), place)
        )
        url = sqlite_url(place / "a.db")
        with open_store(url) as store:
            store.create_sweep("s", spec_of("s"), main_text(), "f", None, {}, ROWS, 0.0)
        for words, error in (("its disk is full", "free some space"), ("locked", "end that program")):
            yield Fault(f"the database: {words}", "an order while it lasts", "nothing", refused(place, words, error))


def in_a_file(place: Path) -> str:
    (place / "file").write_text("x")
    with open_store(sqlite_url(place / "file" / "a.db")):
        return "opened"


def refused(place: Path, words: str, cure: str) -> str:
    """What is said to an order while the database cannot be written."""

    async def ask() -> list[Fault]:
        async with engine_over(place) as asked:
            asked.engine._committer._outage = f"the database cannot be used: {words}: {cure}."
            answer = await asked.ask(api.Start("s"))
            assert isinstance(answer, (StoreOutageError, RaycolabError))
            asked.engine._committer._outage = None
            return [Fault("", "", "", f"refused: {answer}; then: {await asked.ask(api.Start('s')) or 'done'}")]

    (fault,) = bounded(ask)
    return fault.said


def clocks() -> Iterator[Fault]:
    """The time of day is set while a sweep is at work."""
    from raycolab.engine.messages import ScheduleOptions
    from tests.raycolab.engine.test_sweep_run import Stage

    real = time.time
    for step_s in (3600.0, -3600.0, 86400.0, -86400.0):
        with tempfile.TemporaryDirectory() as folder:

            async def go(place: Path, step_s: float) -> list[Fault]:
                stage = Stage(place)
                stage.run.scheduler.change(ScheduleOptions("s", Metric("score"), timeout_s=20.0, time_budget_s=300.0))
                ticket = await stage.pull()
                with mock.patch("time.time", return_value=real() + step_s):
                    stage.run.scheduler.tick(stage.run._now())
                    stage.run.pullers.tick(stage.run._now())
                    held, _ = stage.run.pullers.heartbeat("a", ticket or 0, [])
                failed = [row for row in stage.run.scheduler.book.rows.values() if row.state is TrialState.FAILED]
                over = stage.run.finished
                said = "nothing: timeout, budget and lease hold" if held and not failed and over is None else str(over)
                return [
                    Fault("the clock", f"set by {step_s:+.0f} s", "a trial" if failed or not held else "nothing", said)
                ]

            yield from bounded(partial(go, Path(folder), step_s))


def bounded(work: Callable[[], Awaitable[list[Fault]]]) -> list[Fault]:
    """The rows, or one that says that it hangs."""

    async def within() -> list[Fault]:
        async with asyncio.timeout(_WITHIN_S):
            return await work()

    try:
        return asyncio.run(within())
    except TimeoutError:
        return [Fault("?", "?", "?", "hangs")]


def said_by(look: Callable[[], str]) -> str:
    """What it gives, or the sentence of our error; any other is a bug."""
    try:
        return look()
    except RaycolabError as error:
        return str(error)
    except Exception as error:
        return f"a bug: {error!r}"


def short(text: str, folder: Path) -> str:
    """For a table's cell."""
    text = " ".join(text.replace(str(folder), "DIR").replace("|", "/").split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


if __name__ == "__main__":
    import logging

    logging.disable(logging.CRITICAL)
    os.environ.setdefault("TZ", "UTC")
    sys.exit(main())
