"""How a database is opened, and the sentences when it cannot be."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from raycolab.errors import UsageError
from raycolab.store import open_store, sqlite_url
from raycolab.store.opening import fold_log
from raycolab.store.tables import SCHEMA_VERSION
from raycolab.trials import ReportRow, TrialRow, TrialState


def test_a_new_database_is_its_owners_alone(tmp_path: Path) -> None:
    """The folder is made, and the file and what SQLite puts beside it have mode 0600 even under a lax umask."""
    path = tmp_path / "deep" / "er" / "results.sqlite"
    before = os.umask(0)
    try:
        with open_store(sqlite_url(path)) as store:
            store.create_sweep("s", "{}", None, "aa", None, {}, [TrialRow(0, "svc", "iris", {})], 0.0)
            modes = {item.name: stat.S_IMODE(item.stat().st_mode) for item in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("results.sqlite", "results.sqlite-wal", "results.sqlite-shm"), 0o600)
    assert store.location == str(path)


def test_a_relative_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL handed to another process must name the same file there."""
    monkeypatch.chdir(tmp_path)
    assert sqlite_url("r.sqlite") == f"sqlite:///{tmp_path}/r.sqlite"


def test_commits_are_on_the_disk_and_readers_do_not_wait(tmp_path: Path) -> None:
    """WAL stays with the file: a plain sqlite3 sees it, and reads while a write transaction is open."""
    path = tmp_path / "r.sqlite"
    with open_store(sqlite_url(path)):
        pass
    other = sqlite3.connect(path, isolation_level=None)
    assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    other.execute("BEGIN IMMEDIATE")
    with open_store(sqlite_url(path)) as store:
        assert store.sweeps() == []
    other.close()


def test_the_tables_are_the_contracts(tmp_path: Path) -> None:
    """People query the database with their own tools; times are text they can read."""
    path = tmp_path / "r.sqlite"
    with open_store(sqlite_url(path)) as store:
        trial = TrialRow(0, "svc", "iris", {"C": 1.5}, started_at=0.5)
        store.create_sweep("s", "{}", None, "aa", None, {}, [trial], 1_795_379_400.0)
    base = sqlite3.connect(path)
    assert base.execute("SELECT name, created_at FROM sweeps").fetchone() == ("s", "2026-11-22T20:30:00.000000Z")
    rows = base.execute(
        "SELECT number, model, dataset, state, json_extract(config, '$.C'), started_at FROM trials"
    ).fetchall()
    assert rows == [(0, "svc", "iris", "PENDING", 1.5, "1970-01-01T00:00:00.500000Z")]
    assert (
        base.execute("SELECT id, trial_id, number, node, outcome, started_at, ended_at FROM attempts").fetchall() == []
    )
    base.close()


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    """The sentence names the file; nothing is written to it."""
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes, not a database\n" * 50)
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"notes\.txt is not a SQLite database: name another file"):
        open_store(sqlite_url(path))
    assert path.read_bytes() == before


def test_a_folder_in_place_of_the_file_is_named(tmp_path: Path) -> None:
    """SQLite says only that it cannot open it."""
    with pytest.raises(UsageError, match=r"cannot open the database .*--data-dir or store="):
        open_store(sqlite_url(tmp_path))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file where a folder should be."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot make the folder of .*file.*: a file is in its place; choose"):
        open_store(sqlite_url(tmp_path / "file" / "results.sqlite"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_one_may_not_write_to_is_named(tmp_path: Path) -> None:
    """The way out is another folder."""
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match=r"cannot create the database .*Permission denied; choose a folder"):
        open_store(sqlite_url(tmp_path / "results.sqlite"))


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    """The sentence names both versions and the cure."""
    path = tmp_path / "r.sqlite"
    with open_store(sqlite_url(path)):
        pass
    base = sqlite3.connect(path)
    base.execute("UPDATE raycolab_schema SET version = ?", (SCHEMA_VERSION + 1,))
    base.commit()
    base.close()
    with pytest.raises(UsageError, match=r"of a newer raycolab .*version 4, this one knows 3.*--upgrade raycolab"):
        open_store(sqlite_url(path))


VERSION_1 = (Path(__file__).parent / "version_1.sql").read_text()


def version_1(path: Path, *more: str) -> None:
    """A database as raycolab 0.1.0 left it: two sweeps, a finished trial with its attempts, a pending one."""
    base = sqlite3.connect(path)
    base.executescript(VERSION_1)
    for statement in more:
        base.execute(statement)
    base.commit()
    base.close()


def test_a_version_1_database_is_brought_up_in_place(tmp_path: Path) -> None:
    """What rows hold stays, what is new has its tables and columns; opening it again changes nothing more."""
    path = tmp_path / "r.sqlite"
    version_1(path)
    for _ in range(2):
        with open_store(sqlite_url(path)) as store:
            sweep = store.existing_sweep("digits")
            done, waiting = store.trials(sweep.id)
            assert (done.state, done.metrics, done.output) == (TrialState.COMPLETE, {"accuracy": 0.5}, "epoch 1")
            assert waiting == TrialRow(1, "svc", "iris", {"C": 2.0})
            assert [row.outcome for row in store.attempts(sweep.id)] == ["LOST", "COMPLETE"]
            assert store.reports(sweep.id) == {}
            assert (sweep.main_version, done.main_version, done.seed) == (1, None, None)
    base = sqlite3.connect(path)
    assert base.execute("SELECT version FROM raycolab_schema").fetchall() == [(SCHEMA_VERSION,)]
    with open_store(sqlite_url(tmp_path / "new.sqlite")):
        new = sqlite3.connect(tmp_path / "new.sqlite")
    for table in ("sweeps", "trials", "attempts", "reports", "heads"):
        columns = f"SELECT name, type, \"notnull\", dflt_value FROM pragma_table_info('{table}') ORDER BY name"
        assert base.execute(columns).fetchall() == new.execute(columns).fetchall()
    base.close()
    with open_store(sqlite_url(path)) as store:
        store.write(sweep.id, [], [], [ReportRow(1, 1, 0.25)])
        assert store.claim(sweep.id, "a", 0.0, 60.0) is None


def test_an_upgrade_is_whole_or_not_at_all(tmp_path: Path) -> None:
    """A table of somebody else's in the way of a new one: the sentence names it, version and rows stay."""
    path = tmp_path / "r.sqlite"
    version_1(path, "CREATE TABLE reports (mine TEXT)")
    before = list(sqlite3.connect(path).iterdump())
    with pytest.raises(UsageError, match=r"already has a table 'reports' of another program: give raycolab"):
        open_store(sqlite_url(path))
    assert list(sqlite3.connect(path).iterdump()) == before


def test_another_programs_tables_are_not_touched(tmp_path: Path) -> None:
    """Optuna, for one, has a table `trials` too."""
    path = tmp_path / "optuna.sqlite"
    base = sqlite3.connect(path)
    base.execute("CREATE TABLE trials (trial_id INTEGER)")
    base.commit()
    base.close()
    with pytest.raises(
        UsageError, match=r"already has a table 'trials' of another program: give raycolab a database of its own"
    ):
        open_store(sqlite_url(path))


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("sqlite://", r"results must outlive the process, '.*' would not: write sqlite:///results"),
        ("sqlite:///:memory:", "results must outlive the process"),
        ("sqlite:///file:r.sqlite?uri=true", "results must outlive the process"),
        ("results.sqlite", r"'results\.sqlite' is not a database URL: write sqlite:///results"),
        ("postgresql:/me:hunter2@host/name", "is not a database URL"),
        ("postgres://h/n", "write postgresql://"),
        ("nosuch://h/n", "write sqlite:///"),
        pytest.param(
            "postgresql+pg8000://h/n",
            r"driver of 'postgresql\+pg8000://' is not installed .*: for PostgreSQL run pip install",
            marks=pytest.mark.skipif(importlib.util.find_spec("pg8000") is not None, reason="pg8000 is installed here"),
        ),
    ],
)
def test_a_url_that_names_no_database_is_refused_with_an_example(url: str, sentence: str) -> None:
    """In memory, a bare path, a kind that there is not, a driver that is missing; a password is never repeated."""
    with pytest.raises(UsageError, match=sentence) as caught:
        open_store(url)
    assert "hunter2" not in str(caught.value)


def copied(path: Path, folder: Path) -> list[str]:
    """The names of the sweeps in a copy of the database's one file, opened elsewhere."""
    folder.mkdir()
    with open_store(sqlite_url(shutil.copy(path, folder / "copy.sqlite"))) as store:
        return [sweep.name for sweep in store.sweeps()]


def test_a_copy_of_the_one_file_has_all_after_close_and_fold(tmp_path: Path) -> None:
    """While rows are only in the log beside it, that is named; people copied the file and had nothing."""
    path = tmp_path / "r.sqlite"
    store = open_store(sqlite_url(path))
    store.create_sweep("s", "{}", None, "aa", None, {}, [], 0.0)
    assert store.beside == f"{path}-wal"
    assert copied(path, tmp_path / "before") == []
    store.fold()
    assert store.beside is None
    assert copied(path, tmp_path / "folded") == ["s"]
    store.create_sweep("t", "{}", None, "aa", None, {}, [], 0.0)
    with sqlite3.connect(path) as reader:  # another program has it open
        reader.execute("SELECT * FROM sweeps").fetchall()
        store.close()
    assert copied(path, tmp_path / "closed") == ["s", "t"]


def test_the_log_of_a_killed_program_is_folded_by_the_next_that_opens(tmp_path: Path) -> None:
    """So that a file copied after a crash is whole once anybody has looked at the results."""
    path = tmp_path / "r.sqlite"
    code = (
        "import os, sys; from raycolab.store import open_store; store = open_store(sys.argv[1]);"
        "store.create_sweep('s', '{}', None, 'aa', None, {}, [], 0.0); os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", code, sqlite_url(path)], check=False, timeout=60)
    assert copied(path, tmp_path / "before") == []
    with open_store(sqlite_url(path)) as store:
        assert store.beside is None
        assert copied(path, tmp_path / "after") == ["s"]


def test_a_log_that_cannot_be_folded_is_named_and_nothing_fails(tmp_path: Path) -> None:
    """A reader in the midst of a transaction keeps the rows where they are."""
    path = tmp_path / "r.sqlite"
    store = open_store(sqlite_url(path))
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM sweeps").fetchall()
    store.create_sweep("s", "{}", None, "aa", None, {}, [], 0.0)
    fold_log(store._engine, 0.05)
    assert store.beside == f"{path}-wal"
    reader.close()
    store.close()
    assert copied(path, tmp_path / "after") == ["s"]
