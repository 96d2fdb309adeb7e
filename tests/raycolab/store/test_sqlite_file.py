"""The file of a SQLite store: where it is, what makes a new snapshot of it worth taking, and claims in a copy."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from raycolab.errors import UsageError
from raycolab.store import Store, StoreOutageError, open_store, sqlite_url
from raycolab.store.sqlite_file import drop_claims, sqlite_path, worth_keeping
from raycolab.trials import AttemptRow, ReportRow, SweepState, TrialRow, TrialState

NOW = 1_795_379_400.0


def row(state: TrialState, attempts: int = 0) -> TrialRow:
    """The only trial, in a state."""
    return TrialRow(0, "svc", "iris", {"C": 1.0}, state, attempts=attempts)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A store with a sweep of one trial, at its path."""
    path = tmp_path / "raycolab.db"
    with open_store(sqlite_url(path)) as store:
        store.create_sweep("digits", "{}", None, "aa", None, {}, [row(TrialState.PENDING)], NOW)
    return path


def test_the_path_is_that_of_the_url() -> None:
    """None for a server; what is no URL is a usage error."""
    assert sqlite_path(sqlite_url("/x/a b.db")) == Path("/x/a b.db")
    assert sqlite_path("postgresql://me@host/name") is None
    with pytest.raises(UsageError, match="is not a database URL"):
        sqlite_path("results.sqlite")


@pytest.mark.parametrize(
    ("change", "is_worth"),
    [
        (lambda store, sweep: store.write(sweep, [row(TrialState.RUNNING)]), False),
        (lambda store, sweep: store.claim(sweep, "me", NOW, 60), False),
        (lambda store, sweep: store.write(sweep, [], [], [ReportRow(0, 1, 0.5)]), False),
        (lambda store, sweep: store.write(sweep, [row(TrialState.FAILED)]), True),
        (lambda store, sweep: store.write(sweep, [], [AttemptRow(0, 1, "head", "LOST", NOW, NOW + 1)]), True),
        (lambda store, sweep: store.update_sweep(sweep, state=SweepState.PAUSED), True),
        (lambda store, sweep: store.delete_sweep("digits"), True),
    ],
    ids=["a trial that runs", "a claim", "a report", "a trial's end", "an attempt's end", "a pause", "a deletion"],
)
def test_what_somebody_would_miss_is_worth_keeping(
    database: Path, change: Callable[[Store, int], object], is_worth: bool
) -> None:
    """What changes all the time is not."""
    before = worth_keeping(database)
    with open_store(sqlite_url(database)) as store:
        change(store, store.existing_sweep("digits").id)
    assert (worth_keeping(database) != before) is is_worth


def test_a_file_that_is_gone_or_no_database_is_said(tmp_path: Path) -> None:
    """And none is made."""
    with pytest.raises(StoreOutageError, match=r"a\.db cannot be looked at \(.*\): put it back, or go on"):
        worth_keeping(tmp_path / "a.db")
    assert not (tmp_path / "a.db").exists()
    (tmp_path / "b.db").write_text("hello" * 1000)
    with pytest.raises(
        StoreOutageError, match=r"^the database .*b\.db cannot be written \(.*\): mend that, then start the head"
    ):
        drop_claims(tmp_path / "b.db")


def test_a_copy_has_nobody_s_claims(database: Path) -> None:
    """One of before there were claims has none to lose."""
    with open_store(sqlite_url(database)) as store:
        sweep = store.existing_sweep("digits").id
        assert store.claim(sweep, "one", NOW, 60) is None
        drop_claims(database)
        assert store.claim(sweep, "other", NOW, 60) is None
    with contextlib.closing(sqlite3.connect(database)) as base:
        base.execute("drop table heads")
    drop_claims(database)
