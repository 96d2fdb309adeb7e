"""Snapshots in a folder that is slow, cuts files and refuses writes: what counts is whole, and the newest is found."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raycolab.errors import RaycolabError, UsageError
from raycolab.sandbox.sessions import probe
from raycolab.store import Store, StoreOutageError, open_store, sqlite_url
from raycolab.store.snapshots import (
    AT_MOST_EVERY_S,
    KEPT,
    described,
    drop_claims,
    is_due,
    newest,
    restore,
    sqlite_path,
    take,
    worth_keeping,
)
from raycolab.trials import AttemptRow, ReportRow, SweepState, TrialRow, TrialState

NOW = 1_795_379_400.0


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A store with one sweep, at its path."""
    path = tmp_path / "home" / "raycolab.db"
    with open_store(sqlite_url(path)) as store:
        store.create_sweep("digits", "{}", None, "aa", None, {}, [TrialRow(0, "svc", "iris", {"C": 1.0})], NOW)
    return path


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """A folder as another machine would see it."""
    (tmp_path / "drive").mkdir()
    return tmp_path / "drive" / "raycolab"


def finish(store: Store, number: int) -> None:
    """Commits one more COMPLETE trial."""
    row = TrialRow(number, "svc", "iris", {"C": 1.0}, TrialState.COMPLETE, {"accuracy": 0.5})
    store.write(store.existing_sweep("digits").id, [row])


def finished(path: Path) -> int:
    """How many trials of a database are COMPLETE, read as our store reads them."""
    with open_store(sqlite_url(path)) as store:
        return store.counts(store.existing_sweep("digits").id)[TrialState.COMPLETE]


def names(folder: Path) -> list[str]:
    """What lies in a folder."""
    return sorted(item.name for item in folder.iterdir())


def test_a_snapshot_is_the_database_as_it_was(database: Path, drive: Path, tmp_path: Path) -> None:
    """The folder is made; what is written later is not in it; restored, it is a store like any other."""
    identity = database.with_name("identity.json")
    identity.write_text('{"secret": 1}')
    with open_store(sqlite_url(database)) as store:
        finish(store, 0)
        snapshot = take(database, drive, NOW, extras=[identity], heads=["a", "b"], machine="vm")
        finish(store, 1)
    assert names(drive) == ["raycolab-000001.db", "raycolab-000001.identity.json", "raycolab-000001.manifest.json"]
    assert newest(drive) == snapshot
    assert (snapshot.number, snapshot.taken_at) == (1, "2026-11-22T20:30:00.000000Z")
    assert [(found.heads, found.machine) for found in described(drive)] == [(("a", "b"), "vm")]
    home = tmp_path / "other machine" / "raycolab.db"
    places = {"db": home, "identity.json": home.with_name("identity.json")}
    assert restore(snapshot, places) == [home, home.with_name("identity.json")]
    assert [stat.S_IMODE(item.stat().st_mode) for item in home.parent.iterdir()] == [0o600, 0o600]
    assert home.with_name("identity.json").read_text() == '{"secret": 1}'
    assert finished(home) == 1


def test_the_last_three_stay(database: Path, drive: Path) -> None:
    """Numbers go on and are never used again."""
    for number in range(1, 6):
        assert take(database, drive, NOW).number == number
    kept = [f"raycolab-00000{number}" for number in range(6 - KEPT, 6)]
    assert names(drive) == sorted(f"{name}.{kind}" for name in kept for kind in ("db", "manifest.json"))


def test_a_snapshot_is_taken_while_the_database_is_written(database: Path, drive: Path, tmp_path: Path) -> None:
    """The writer never fails, and each snapshot holds what was committed before it began."""
    stop = threading.Event()
    committed = [0]
    errors: list[Exception] = []

    def write() -> None:
        try:
            with open_store(sqlite_url(database)) as store:
                while not stop.is_set():
                    finish(store, committed[0])
                    committed[0] += 1
        except Exception as error:
            errors.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            before = committed[0]
            snapshot = take(database, drive, NOW)
            restore(snapshot, {"db": tmp_path / f"{number}.db"})
            assert before <= finished(tmp_path / f"{number}.db") <= committed[0] + 1
    finally:
        stop.set()
        writer.join()
    assert errors == []


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_cut_or_changed_the_newest_whole_one_is_found(
    data: st.DataObject, database: Path, tmp_path: Path
) -> None:
    """Any byte of any file of the newest snapshots: cut, changed, emptied or removed."""
    drive = tmp_path / "drive"
    shutil.rmtree(drive, ignore_errors=True)
    whole = [take(database, drive, NOW) for _ in range(KEPT)]
    damaged = data.draw(st.integers(0, KEPT))
    for snapshot in whole[KEPT - damaged :]:
        kind = data.draw(st.sampled_from(["db", "manifest.json"]))
        path = drive / f"raycolab-{snapshot.number:06d}.{kind}"
        content = path.read_bytes()
        at = data.draw(st.integers(0, len(content.rstrip()) - 1))
        match data.draw(st.sampled_from(["cut", "removed", "changed" if kind == "db" else "zeroed"])):
            case "cut":
                path.write_bytes(content[:at])
            case "removed":
                path.unlink()
            case "changed":
                path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            case "zeroed":
                path.write_bytes(bytes(len(content)))
    assert newest(drive) == (whole[KEPT - damaged - 1] if damaged < KEPT else None)


@pytest.mark.parametrize(
    "text",
    [
        *("[]", "{}", '{"files": [1]}', "null"),
        '{"number": 2, "taken_at": "", "files": [], "heads": []}',
        '{"number": 2, "taken_at": "2026-11-22T20:30:00.000000Z", "files": [], "heads": []}',
    ],
)
def test_a_manifest_of_somebody_else_is_skipped(database: Path, drive: Path, text: str) -> None:
    """So are files that only look alike."""
    snapshot = take(database, drive, NOW)
    (drive / "raycolab-000002.manifest.json").write_text(text)
    (drive / "raycolab-000003.db").write_bytes(b"a copy under way")
    (drive / "raycolab-final.db").write_bytes(b"a person's own copy")
    assert newest(drive) == snapshot
    assert take(database, drive, NOW).number == 4
    assert "raycolab-000003.db" not in names(drive)
    assert "raycolab-final.db" in names(drive)


def test_a_manifest_cannot_name_a_file_elsewhere(database: Path, drive: Path) -> None:
    """Restoring writes beside the database only."""
    snapshot = take(database, drive, NOW)
    path = drive / "raycolab-000001.manifest.json"
    found = json.loads(path.read_text())
    found["files"].append({"name": "../x", "size": 0, "sha256": ""})
    path.write_text(json.dumps(found))
    assert newest(snapshot.folder) is None


def test_a_folder_without_snapshots_has_none(drive: Path) -> None:
    """Nor has one that is not there."""
    assert newest(drive) is None
    drive.mkdir(parents=True)
    assert newest(drive) is None


def test_nothing_is_restored_over_what_is_there(database: Path, drive: Path, tmp_path: Path) -> None:
    """Neither database nor extra file, nor beside a log that would be played into it."""
    identity = database.with_name("identity.json")
    identity.write_text("{}")
    snapshot = take(database, drive, NOW, extras=[identity])
    with pytest.raises(UsageError, match=r"a snapshot is not restored over .*home/raycolab\.db: move that file away"):
        restore(snapshot, {"db": database})
    for name in ("identity.json", "r.db-wal"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_text("mine")
        with pytest.raises(UsageError, match=name):
            restore(snapshot, {"db": folder / "r.db", "identity.json": folder / "identity.json"})
        assert names(folder) == [name]


def test_a_snapshot_cut_since_it_was_found_leaves_nothing_behind(database: Path, drive: Path, tmp_path: Path) -> None:
    """The folder may change under us at any time."""
    identity = database.with_name("identity.json")
    identity.write_text("{}")
    snapshot = take(database, drive, NOW, extras=[identity])
    places = {"db": tmp_path / "new" / "r.db", "identity.json": tmp_path / "new" / "identity.json"}
    (drive / "raycolab-000001.identity.json").write_text("")
    with pytest.raises(StoreOutageError, match=r"it is not whole any more; start the head again, an older"):
        restore(snapshot, places)
    (drive / "raycolab-000001.db").unlink()
    with pytest.raises(StoreOutageError, match=r"cannot be restored \(No such file"):
        restore(snapshot, places)
    assert names(tmp_path / "new") == []


@pytest.mark.parametrize(
    ("start", "sentence"),
    [(8192, r"damaged|malformed"), (-4096, r"\.db is damaged \(.+\), so no snapshot is taken of it: go on")],
    ids=["all but its head", "its last page"],
)
def test_a_damaged_database_pushes_no_good_snapshot_out(database: Path, drive: Path, start: int, sentence: str) -> None:
    """It is said to be damaged, and the folder stays as it was."""
    with open_store(sqlite_url(database)) as store:
        for number in range(200):
            finish(store, number)
    good = take(database, drive, NOW)
    with contextlib.closing(sqlite3.connect(database)) as base:
        base.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = database.read_bytes()
    database.write_bytes(content[:start] + b"\x55" * len(content[start:]))
    with pytest.raises(RaycolabError, match=sentence):
        take(database, drive, NOW)
    assert newest(drive) == good
    assert len(names(drive)) == 2


def test_only_the_folder_itself_is_made(database: Path, tmp_path: Path) -> None:
    """A Drive that is not mounted must not become a folder of this machine."""
    with pytest.raises(StoreOutageError, match="No such file"):
        take(database, tmp_path / "content" / "drive" / "raycolab", NOW)
    assert not (tmp_path / "content").exists()


def test_a_snapshot_may_hold_no_database(drive: Path, database: Path, tmp_path: Path) -> None:
    """Of a head whose store is elsewhere; only what has a place is restored from any."""
    identity = database.with_name("identity.json")
    identity.write_text("{}")
    assert take(None, drive, NOW, extras=[identity]).digests.keys() == {"identity.json"}
    assert take(database, drive, NOW, extras=[identity]).digests.keys() == {"db", "identity.json"}
    for snapshot in described(drive):
        copy = tmp_path / str(snapshot.number) / "identity.json"
        assert restore(snapshot, {"identity.json": copy}) == [copy]
        assert names(copy.parent) == ["identity.json"]


def test_who_was_taken_over_from_comes_last(database: Path, drive: Path) -> None:
    """Whatever a head wrote after another one had gone on from its snapshots, that one's are restored."""
    take(database, drive, NOW, heads=["a"])
    successor = take(database, drive, NOW, heads=["a", "b"])
    take(database, drive, NOW, heads=["a"])
    assert newest(drive) == successor
    assert [snapshot.number for snapshot in described(drive)] == [2, 3, 1]


def test_a_folder_that_cannot_be_used_is_an_outage(database: Path, tmp_path: Path) -> None:
    """A file is in its place: one sentence with the folder, the reason and the comfort."""
    (tmp_path / "drive").write_text("")
    with pytest.raises(StoreOutageError, match=r"no snapshot can be written to .*drive/x \(.*nothing is lost"):
        take(database, tmp_path / "drive" / "x", NOW)
    with pytest.raises(StoreOutageError, match=r"cannot be looked for"):
        newest(tmp_path / "drive")


def test_a_database_or_extra_file_that_is_gone_is_an_outage(database: Path, drive: Path, tmp_path: Path) -> None:
    """Nothing half is left in the folder, and no empty database is made."""
    with pytest.raises(StoreOutageError, match=r"nowhere\.db cannot be copied"):
        take(tmp_path / "nowhere.db", drive, NOW)
    assert not (tmp_path / "nowhere.db").exists()
    with pytest.raises(StoreOutageError, match="No such file"):
        take(database, drive, NOW, extras=[tmp_path / "identity.json"])
    assert names(drive) == []


ON_A_SMALL_DISK = """
import json, os, sys
from raycolab.store import StoreOutageError
from raycolab.store.snapshots import newest, take

database, drive = sys.argv[1:]
first = take(database, drive, 0.0)
with open(os.path.join(drive, "filler"), "wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(4096))
    except OSError:
        pass
try:
    take(database, drive, 0.0)
    said = None
except StoreOutageError as error:
    said = str(error)
found, left = newest(drive) == first, sorted(os.listdir(drive))
os.unlink(os.path.join(drive, "filler"))
print(json.dumps([said, found, left, take(database, drive, 0.0).number]))
"""


@pytest.mark.skipif(probe().kind is None, reason=probe().reason or "disks can be mounted")
def test_a_full_folder_is_an_outage_and_keeps_the_last_snapshot(database: Path, tmp_path: Path) -> None:
    """What was begun is taken away again; with room the next one succeeds."""
    drive = tmp_path / "drive"
    drive.mkdir()
    user = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    mount = 'mount -t tmpfs -o size=1m none "$2" && exec "$3" -c "$4" "$1" "$2"'
    words = [str(database), str(drive), sys.executable, ON_A_SMALL_DISK]
    command = ["unshare", *user, "--mount", "sh", "-c", mount, "sh", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    said, found, left, number = json.loads(done.stdout)
    assert said == (
        f"no snapshot can be written to {drive} (No space left on device): "
        "nothing is lost as long as this machine keeps its own disk."
    )
    assert (found, left) == (True, ["filler", "raycolab-000001.db", "raycolab-000001.manifest.json"])
    assert number == 2


def test_an_old_file_that_cannot_be_removed_hinders_nothing(database: Path, drive: Path) -> None:
    """`unlink` refuses it, a folder of its name; the next snapshot tries again."""
    take(database, drive, NOW)
    (drive / "raycolab-000001.db").unlink()
    (drive / "raycolab-000001.db").mkdir()
    taken = [take(database, drive, NOW) for _ in range(KEPT)]
    assert newest(drive) == taken[-1]
    assert "raycolab-000001.db" in names(drive)
    (drive / "raycolab-000001.db").rmdir()
    (drive / "raycolab-000001.db").write_text("")
    take(database, drive, NOW)
    assert "raycolab-000001.db" not in names(drive)


def test_a_snapshot_is_due_when_something_changed_and_the_last_is_old_enough() -> None:
    """Never without a change, at once after the first one, then at most so often; a change meanwhile counts."""
    every = AT_MOST_EVERY_S
    assert not is_due(NOW, changed_at=None, taken_at=None, tried_at=None)
    assert is_due(NOW, changed_at=NOW, taken_at=None, tried_at=None)
    assert not is_due(NOW + every - 1, changed_at=NOW + 5, taken_at=NOW, tried_at=NOW)
    assert is_due(NOW + every, changed_at=NOW + 5, taken_at=NOW, tried_at=NOW)
    assert is_due(NOW + every, changed_at=NOW, taken_at=NOW, tried_at=NOW)
    assert not is_due(NOW + 1_000, changed_at=NOW - 1, taken_at=NOW, tried_at=NOW)


def test_a_snapshot_that_failed_is_due_again_without_a_new_change() -> None:
    """Or the last rows of a sweep would wait for the next sweep; and not sooner than any other."""
    assert not is_due(NOW + 39, changed_at=NOW + 5, taken_at=NOW, tried_at=NOW + 10)
    assert is_due(NOW + 40, changed_at=NOW + 5, taken_at=NOW, tried_at=NOW + 10)


# --- the database's file ---------------------------------------------------------------------------------------------


def row(state: TrialState, attempts: int = 0) -> TrialRow:
    """The only trial, in a state."""
    return TrialRow(0, "svc", "iris", {"C": 1.0}, state, attempts=attempts)


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
