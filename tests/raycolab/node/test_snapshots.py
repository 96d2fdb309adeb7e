"""Snapshots: what is kept and restored, of whom, and when; and that a bad folder holds no head up."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from raycolab.errors import ClusterError, UsageError
from raycolab.main.files import freeze
from raycolab.node import snapshots
from raycolab.node.data_dir import DataDir, Heads, Identity
from raycolab.node.snapshots import ADDRESS_FILE, FolderWork, Snapshots, Status, chosen_folder, head_answers
from raycolab.store import Store, StoreOutageError, open_store, sqlite_url
from raycolab.store.archives import Archives
from raycolab.store.snapshots import KEPT, newest
from raycolab.trials import SweepState, TrialRow, TrialState
from tests.in_loop import in_loop
from tunnel.address import JoinAddress, unix_url

NOW = 1_795_379_400.0
ADDRESS = "tunnel+unix:///hub#token"


class Machine:
    """A head's machine as far as its disk goes: a data directory, and the process that works in the folder."""

    def __init__(self, root: Path, name: str, folder: Path | None, *, in_sqlite: bool = True) -> None:
        self.data_dir = DataDir(root / name)
        self.database = self.data_dir.database_path if in_sqlite else None
        self.folder = folder
        self.now = NOW
        self.looks = 0  # at the clock; each is a moment later, as on a real machine
        self.reports: list[Status] = []
        self.work = self.new_process()

    def new_process(self, status: Status | None = None) -> FolderWork:
        """As at the start of the head, or later anew."""
        return FolderWork(
            self.data_dir,
            self.database,
            lambda: self.folder,
            self.reports.append,
            status=status,
            now=lambda: self.now,
            clock=self.clock,
        )

    def clock(self) -> float:
        """The monotonic clock."""
        self.looks += 1
        return self.now + self.looks / 1e6

    def begin(self, secret: str = "first") -> Store:
        """What a new head has on its disk once it runs."""
        self.data_dir.save(Identity(secret, "token"))
        store = open_store(sqlite_url(self.data_dir.database_path))
        rows = [TrialRow(number, "svc", "iris", {"C": 1.0}) for number in range(9)]
        store.create_sweep("digits", "{}", None, "aa", None, {}, rows, NOW)
        return store

    def keep(self, address: str = ADDRESS) -> int | None:
        """Keep; the number of the snapshot, None when the last one has it all. Raises the status's error."""
        before = self.work.status.number
        assert self.work.step([f"address {address}"])
        status = self.work.status
        if status.error is not None:
            raise ClusterError(status.error)
        return None if status.number == before else status.number

    def step(self, seconds: float, *lines: str) -> Status:
        """What is reported after the process looked once more, this much later."""
        self.now += seconds
        self.work.step(lines)
        return self.work.status

    def restore(self) -> str:
        """As a head does before it starts; what a person gets to know."""
        return " ".join(self.work.restore())

    def secret(self) -> str | None:
        """The secret of the identity here."""
        identity = self.data_dir.load(Identity)
        return None if identity is None else identity.hub

    def finished(self) -> int:
        """How many trials its database has COMPLETE."""
        with open_store(sqlite_url(self.data_dir.database_path)) as store:
            return store.counts(store.existing_sweep("digits").id)[TrialState.COMPLETE]


def finish(store: Store, number: int) -> None:
    """One more COMPLETE trial."""
    row = TrialRow(number, "svc", "iris", {"C": 1.0}, TrialState.COMPLETE, {"accuracy": 0.5})
    store.write(store.existing_sweep("digits").id, [row])


def cut(path: Path) -> None:
    """What a copy that was broken off leaves."""
    path.write_bytes(path.read_bytes()[:-20])


def numbers(folder: Path) -> list[int]:
    """The snapshots that lie there, by their manifests."""
    return sorted(int(path.name[9:15]) for path in folder.glob("raycolab-*.manifest.json"))


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """A folder that outlives machines; it is not there yet."""
    return tmp_path / "drive"


@pytest.fixture
def first(tmp_path: Path, drive: Path) -> Machine:
    """The first head's machine."""
    return Machine(tmp_path, "first", drive)


@pytest.fixture
def second(tmp_path: Path, drive: Path) -> Machine:
    """Another machine, with nothing on its disk."""
    return Machine(tmp_path, "second", drive)


# What is kept, what is restored, and of whom.


def test_a_fresh_machine_takes_up_what_another_one_left(first: Machine, second: Machine) -> None:
    """Results and identity; the note says which snapshot, how old and from where, and its age goes on."""
    with first.begin() as store:
        finish(store, 0)
        assert first.keep() == 1
    second.now = NOW + 480
    note = second.restore()
    assert note == f"Restored from {first.folder}: snapshot 1, 8 min old, of the head on {os.uname().nodename}."
    assert (second.work.status.number, round(second.work.status.begun_at or 0)) == (1, NOW)
    assert (second.finished(), second.secret()) == (1, "first")
    assert second.keep() == 2


@pytest.mark.parametrize("in_sqlite", [True, False])
def test_the_files_of_a_sweep_are_restored_with_it(tmp_path: Path, drive: Path, in_sqlite: bool) -> None:
    """Each is copied to the folder once, also where the database is elsewhere."""
    (tmp_path / "data.csv").write_text("1")
    files, archive = freeze(tmp_path, ["data.csv"], None)
    first, second = (Machine(tmp_path, name, drive, in_sqlite=in_sqlite) for name in ("first", "second"))
    with first.begin():
        first.keep()
        Archives.of(first.data_dir.path).add(files.digest, len(archive), 0, archive)
        first.step(31.0)
    assert [path.name for path in (drive / "raycolab-files").iterdir()] == [f"{files.digest}.tar.zst"]
    second.restore()
    assert Archives.of(second.data_dir.path).read(files.digest, 0) == archive


@pytest.mark.parametrize("what", ["db", "identity.json", "manifest.json"])
def test_the_one_before_is_restored_when_the_newest_is_cut(
    first: Machine, second: Machine, drive: Path, what: str
) -> None:
    """Whichever of its files it is."""
    with first.begin() as store:
        for number in range(2):
            finish(store, number)
            first.keep()
    cut(drive / f"raycolab-000002.{what}")
    note = second.restore()
    assert "snapshot 1, " in note
    # Without its manifest nobody knows of it.
    assert ("The newest there, snapshot 2, is not whole." in note) == (what != "manifest.json")
    assert second.finished() == 1


def test_a_folder_with_nothing_whole_is_not_written_over(first: Machine, second: Machine, drive: Path) -> None:
    """A new head's snapshots would push out what may still be on its way."""
    with first.begin():
        first.keep()
    cut(drive / "raycolab-000001.db")
    with pytest.raises(ClusterError, match=r"None of the snapshots in .*drive is whole, the newest is number 1: if th"):
        second.restore()


def test_an_empty_folder_has_nothing_to_restore(first: Machine, drive: Path) -> None:
    """Nor has one that is not there; pieces of a first snapshot that was never finished are none."""
    assert first.restore() == ""
    drive.mkdir()
    (drive / "raycolab-000001.db").write_bytes(b"half of a data")
    assert first.restore() == ""


def test_a_folder_on_a_drive_that_is_not_mounted_is_an_error(first: Machine, drive: Path) -> None:
    """A new head would think that there was nothing to restore, and write to its own disk."""
    first.folder = drive / "MyDrive" / "raycolab"
    with pytest.raises(ClusterError, match=r"there is no .*MyDrive: mount the Drive it is on"):
        first.restore()
    with first.begin(), pytest.raises(ClusterError, match="mount the Drive"):
        first.keep()
    assert not drive.exists()


def test_what_the_machine_has_wins(first: Machine, second: Machine) -> None:
    """Its own results or identity are never replaced; that the folder's are another's is said, and they stay."""
    with first.begin() as store:
        finish(store, 0)
        first.keep()
    with second.begin("second"):
        note = second.restore()
        assert "goes on with what is in" in note
        assert "snapshot 1, 0.0 s old, of the head on" in note
        for _ in range(KEPT):
            with pytest.raises(ClusterError, match=r"drive has the snapshots of another head .*: nothing is kept ther"):
                second.keep()
    assert second.secret() == "second"
    assert first.restore() == ""
    assert numbers(second.data_dir.path.parent / "drive") == [1]


def test_of_two_heads_the_one_that_took_over_goes_on(first: Machine, second: Machine, drive: Path) -> None:
    """The former one still runs, cut off: it gets an error and destroys nothing, nor does what it writes late."""
    with first.begin() as store:
        first.keep()
        second.restore()
        finish(store, 0)
        late = first.keep()  # it cannot know yet
        assert second.keep() == 3
        finish(store, 1)
        with pytest.raises(ClusterError, match="another head"):
            first.keep()
        assert "snapshot 3" in " ".join(first.new_process().restore())
    with open_store(sqlite_url(second.data_dir.database_path)) as theirs:
        for number in range(4):
            finish(theirs, number)
            second.keep()
    assert late == 2
    assert numbers(drive) == [5, 6, 7]


def test_of_two_heads_that_restored_the_same_the_first_to_write_goes_on(
    first: Machine, second: Machine, tmp_path: Path, drive: Path
) -> None:
    """A third machine takes up the winner's."""
    with first.begin():
        first.keep()
    third, fourth = (Machine(tmp_path, name, drive) for name in ("third", "fourth"))
    second.restore()
    third.restore()
    assert second.keep() == 2
    with pytest.raises(ClusterError, match="another head"):
        third.keep()
    assert "snapshot 2" in fourth.restore()
    assert fourth.keep() == 3


def test_only_what_is_worth_keeping_makes_a_snapshot(first: Machine) -> None:
    """A finished trial is, a running one and a renewed claim are not; after a restart of the process one is taken."""
    with first.begin() as store:
        assert first.keep() == 1
        sweep = store.existing_sweep("digits").id
        store.write(sweep, [TrialRow(0, "svc", "iris", {"C": 1.0}, TrialState.RUNNING)])
        assert store.claim(sweep, "me", NOW, 60) is None
        assert first.keep() is None
        finish(store, 0)
        assert first.keep() == 2
        store.update_sweep(sweep, state=SweepState.COMPLETE)
        assert first.keep() == 3
    first.work = first.new_process(first.work.status)
    assert first.work.status.number == 3
    assert first.keep() == 4


def test_an_address_made_worthless_does_not_come_back(first: Machine, second: Machine, drive: Path) -> None:
    """With a new identity no snapshot of the old one stays, so that none can be fallen back on."""
    with first.begin() as store:
        for number in range(KEPT):
            finish(store, number)
            first.keep()
        first.data_dir.save(Identity("new", "token"))
        assert first.keep() == 2 * KEPT
    cut(drive / f"raycolab-{2 * KEPT:06d}.db")
    second.restore()
    assert second.secret() == "new"


def test_the_sweeps_of_a_restored_store_are_free(first: Machine, second: Machine) -> None:
    """Whoever ran them ran them in another database; a clock that was ahead must not keep them."""
    with first.begin() as store:
        assert store.claim(store.existing_sweep("digits").id, "first", NOW + 1e6, 60) is None
        first.keep()
    second.restore()
    with open_store(sqlite_url(second.data_dir.database_path)) as store:
        assert store.claim(store.existing_sweep("digits").id, "second", NOW, 60) is None


def test_a_restoration_that_breaks_off_takes_nobodys_place(first: Machine, second: Machine) -> None:
    """The database of this machine cannot be written: nothing of the snapshot stays, and the good ones do."""
    with first.begin():
        first.keep()
    (second.data_dir.path / f".raycolab.db.{os.getpid()}.part").mkdir(parents=True)
    with pytest.raises(StoreOutageError, match="cannot be restored"):
        second.restore()
    assert second.data_dir.load(Heads) is None
    assert not second.data_dir.database_path.exists()


def test_the_join_address_lies_beside_for_this_user_alone(first: Machine, drive: Path) -> None:
    """Replaced when it changes, left alone when it does not, and nothing else is left."""
    with first.begin():
        first.keep()
        path = drive / ADDRESS_FILE
        before = path.stat().st_mtime_ns
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        first.keep()
        assert path.stat().st_mtime_ns == before
        first.keep("another")
    assert path.read_text() == "another\n"
    assert sorted(item.name for item in drive.iterdir() if not item.name.startswith("raycolab-")) == [ADDRESS_FILE]


def test_an_address_that_cannot_be_written_is_an_error_and_the_snapshot_stands(first: Machine, drive: Path) -> None:
    """A folder of its name is in the way."""
    (drive / ADDRESS_FILE / "x").mkdir(parents=True)
    sentence = r"^the join address cannot be written to .*join-address\.txt \(Is a directory\): mend that, or set RAYCO"
    with first.begin(), pytest.raises(ClusterError, match=sentence):
        first.keep()
    assert numbers(drive) == [1]


def test_a_store_elsewhere_keeps_the_identity_alone(tmp_path: Path, drive: Path) -> None:
    """It is restored alone too, and results that lie in the folder are not pushed out."""
    head, other, in_sqlite = (
        Machine(tmp_path, name, drive, in_sqlite=name == "files") for name in ("server", "server2", "files")
    )
    head.data_dir.save(Identity("x", "token"))
    assert (head.keep(), head.keep()) == (1, None)
    other.restore()
    assert other.secret() == "x"
    assert not other.data_dir.database_path.exists()
    shutil.rmtree(drive)
    with in_sqlite.begin():
        in_sqlite.keep()
    fresh = Machine(tmp_path, "server3", drive, in_sqlite=False)
    fresh.restore()
    with pytest.raises(ClusterError, match="has results of a head with a store in SQLite, and this one's is not"):
        fresh.keep()


def test_a_damaged_database_is_an_error(first: Machine, drive: Path) -> None:
    """And no snapshot is taken of it."""
    with first.begin():
        first.keep()
    first.data_dir.database_path.write_bytes(b"no database at all" * 1000)
    with pytest.raises(ClusterError, match="cannot be looked at"):
        first.keep()
    assert numbers(drive) == [1]


def test_an_identity_that_was_deleted_under_a_running_head_is_an_error(first: Machine) -> None:
    """What the system refuses is a sentence, and the way on."""
    identity = first.data_dir.path / "identity.json"
    with first.begin():
        identity.unlink()
        with pytest.raises(ClusterError) as refused:
            first.keep()
    assert str(refused.value) == (
        f"snapshots cannot be kept or restored (No such file or directory: {identity}):"
        " mend that, or set RAYCOLAB_SNAPSHOTS to another folder."
    )


def test_the_folder_is_the_one_that_was_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Set but empty means none, also on Colab; what is no path is a usage error."""
    monkeypatch.chdir(tmp_path)
    assert chosen_folder({"RAYCOLAB_SNAPSHOTS": "kept"}) == tmp_path / "kept"
    assert [chosen_folder(environ) for environ in ({}, {"RAYCOLAB_SNAPSHOTS": ""})] == [None, None]
    for environ in ({}, {"RAYCOLAB_SNAPSHOTS": ""}):
        assert Snapshots.chosen(DataDir(tmp_path), None, tmp_path, environ) is None
    with pytest.raises(UsageError, match=r"^RAYCOLAB_SNAPSHOTS ~nobody-is-called-so: there is no such user"):
        Snapshots.chosen(DataDir(tmp_path), None, tmp_path, {"RAYCOLAB_SNAPSHOTS": "~nobody-is-called-so"})


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan"])
def test_an_interval_that_is_none_is_a_usage_error(tmp_path: Path, text: str) -> None:
    """Seconds above 0."""
    environ = {"RAYCOLAB_SNAPSHOTS": "x", "RAYCOLAB_SNAPSHOT_S": text}
    with pytest.raises(UsageError, match="RAYCOLAB_SNAPSHOT_S"):
        Snapshots.chosen(DataDir(tmp_path), None, tmp_path, environ)


# When: the process's own loop, at the pace of a clock that the test moves.


def test_a_snapshot_is_taken_when_something_changed_and_its_time_has_come(first: Machine) -> None:
    """At once with the first address, then at most every 30 s, and none while nothing changes."""
    with first.begin() as store:
        assert first.step(0).number is None
        assert first.step(0, f"address {ADDRESS}").number == 1
        assert (first.work.status.up_to_date, round(first.work.status.begun_at or 0)) == (True, NOW)
        assert first.step(100).number == 1
        finish(store, 0)
        assert first.step(1).number == 2
        finish(store, 1)
        assert (first.step(29).number, first.work.status.up_to_date) == (2, False)
        assert (first.step(1).number, first.work.status.up_to_date) == (3, True)


def test_the_end_of_a_sweep_and_of_the_head_are_kept_at_once(first: Machine) -> None:
    """Whatever the interval."""
    with first.begin() as store:
        first.keep()
        for number, line in ((2, "now"), (3, "end")):
            finish(store, number)
            assert first.step(1, line).number == number
    assert not first.work.step(["end"])


def test_a_failure_stays_in_the_status_until_the_next_success(first: Machine, drive: Path) -> None:
    """It is tried again without a new change, at the same pace."""
    drive.touch()
    with first.begin():
        status = first.step(0, f"address {ADDRESS}")
        assert "cannot be looked for (Not a directory)" in str(status.error)
        drive.unlink()
        assert first.step(29).error == status.error
        status = first.step(1)
    assert (status.error, status.number, status.up_to_date) == (None, 1, True)


def test_without_a_drive_results_end_with_the_tab(first: Machine, drive: Path) -> None:
    """The status says it, and a Drive that is mounted later is found."""
    first.folder = None
    assert first.restore() == ""
    with first.begin():
        error = first.step(0, f"address {ADDRESS}").error
        assert str(error).startswith("no Drive is mounted: results end with this tab. Mount it")
        first.folder = drive
        assert first.step(30).folder == str(drive)


def test_the_status_says_since_when_the_folder_is_waited_for(first: Machine) -> None:
    """For the head, which sees by it that the folder hangs; while it is waited for nothing counts as kept."""
    with first.begin():
        first.keep()
    waiting = [report for report in first.reports if report.waiting_since is not None]
    assert [(round(report.waiting_since or 0), report.up_to_date) for report in waiting] == [(NOW, False)]
    assert first.reports[-1] == first.work.status
    assert first.work.status.waiting_since is None


# The head's side, with real processes.


def child(root: Path, code: str) -> Snapshots:
    """A head's side whose process runs this code; `report` there writes the status file."""
    prelude = (
        "import itertools, json, pathlib, sys, time\n"
        "def report(**fields): part = pathlib.Path(sys.argv[1] + '.part'); part.write_text(json.dumps(fields));"
        " part.rename(sys.argv[1])\n"
        "lines = itertools.takewhile(lambda line: line != 'end\\n', iter(sys.stdin.readline, ''))\n"
    )
    return Snapshots([sys.executable, "-c", prelude + code], os.environ, root)


async def until(true: Any) -> None:
    """Wait until it is; a real process needs its time."""
    for _ in range(3000):
        if true():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never became true")


@in_loop
async def test_what_a_process_says_at_the_start_reaches_the_person(tmp_path: Path) -> None:
    """Its notes, its error by its exit code, and its last words where it has left none."""
    restored = child(tmp_path, "next(lines); report(notes=['Restored.'])\nfor line in lines: pass")
    assert await restored.restore() == ["Restored."]
    await restored.close()
    for number, (code, kind, sentence) in enumerate(
        (
            ("report(error='It runs.'); sys.exit(3)", ClusterError, "It runs."),
            ("report(error='Mind the path.'); sys.exit(2)", UsageError, "Mind the path."),
            (
                "report(); sys.exit('out of memory')",
                ClusterError,
                "the process that takes snapshots ended: out of memory.",
            ),
        )
    ):
        run_dir = tmp_path / str(number)
        run_dir.mkdir()
        with pytest.raises(kind) as refused:
            await child(run_dir, code).restore()
        assert (type(refused.value), str(refused.value)) == (kind, sentence)


@in_loop
async def test_a_folder_that_does_not_answer_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that began anew would push out what could not be seen."""
    monkeypatch.setattr(snapshots, "START_S", 0.1)
    hangs = child(tmp_path, "time.sleep(1000)")
    with pytest.raises(ClusterError, match=r"The folder of the snapshots has not answered for 0\.1 s: mount it again"):
        await hangs.restore()


@in_loop
async def test_a_process_that_ends_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the address; meanwhile the status says why it ended, and which snapshot there is."""
    monkeypatch.setattr(snapshots, "RESTART_S", 1.0)
    code = (
        "line = next(lines)\n"
        "if line == 'restore\\n': report(notes=[], number=7, up_to_date=True); next(lines); sys.exit('out of memory')\n"
        f"assert line == 'address {ADDRESS}\\n', line\n"
        "report(number=8)\n"
        "for line in lines: pass\n"
    )
    keeper = child(tmp_path, code)
    assert await keeper.restore() == []
    keeper.keep(ADDRESS)
    await until(lambda: keeper.status().error is not None)
    status = keeper.status()
    assert status.error == "the process that takes snapshots ended, and is started again: out of memory."
    assert (status.number, status.up_to_date) == (7, False)
    await until(lambda: keeper.status().number == 8)
    await keeper.close()


@in_loop
async def test_only_news_of_a_sweep_at_rest_makes_a_snapshot_at_once(tmp_path: Path) -> None:
    """That it is still over is no news."""
    keeper = child(tmp_path, "got = []\nfor line in lines: got.append(line.strip()); report(notes=got)")
    await keeper.restore()
    keeper.keep(ADDRESS)
    for state in ("RUNNING", "COMPLETE", "COMPLETE"):
        keeper.on_progress({"sweeps": [{"name": "digits", "state": state}]})
    await keeper.close()
    status = msgspec.json.decode((tmp_path / "snapshots.json").read_bytes(), type=Status)
    assert status.notes == ("restore", f"address {ADDRESS}", "now")


@in_loop
async def test_a_real_folder_that_hangs_holds_nothing_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read in it never returns: the status says so, the event loop is free, and the end is quick."""
    monkeypatch.setattr(snapshots, "END_S", 0.1)
    monkeypatch.setattr(snapshots, "QUIET_S", 0.2)
    data_dir, drive = DataDir(tmp_path / "data"), tmp_path / "drive"
    data_dir.save(Identity("x", "token"))
    open_store(sqlite_url(data_dir.database_path)).close()
    drive.mkdir()
    os.mkfifo(drive / ADDRESS_FILE)  # who reads it waits for somebody to write
    command = [sys.executable, "-m", "raycolab.node.snapshots", str(data_dir.path), str(data_dir.database_path)]
    keeper = Snapshots(command, {**os.environ, "RAYCOLAB_SNAPSHOTS": str(drive)}, tmp_path)
    assert await keeper.restore() == []
    keeper.keep(ADDRESS)
    await until(lambda: keeper.status().error)
    assert keeper.status().error.startswith("the folder has not answered for ")
    assert newest(drive) is not None
    async with asyncio.timeout(10):
        await keeper.close()


@in_loop
async def test_a_real_folder_has_the_last_snapshot_when_the_head_has_ended(tmp_path: Path) -> None:
    """Restored or new, with the address beside it."""
    data_dir, drive = DataDir(tmp_path / "data"), tmp_path / "drive"
    keeper = Snapshots.chosen(data_dir, None, tmp_path, {**os.environ, "RAYCOLAB_SNAPSHOTS": str(drive)})
    assert keeper is not None
    assert await keeper.restore() == []
    data_dir.save(Identity("x", "token"))
    open_store(sqlite_url(data_dir.database_path)).close()
    keeper.keep(ADDRESS)
    await keeper.close()
    assert (drive / ADDRESS_FILE).read_text() == f"{ADDRESS}\n"
    status = keeper.status()
    assert (status.folder, status.number, status.up_to_date, status.error) == (str(drive), 1, True, None)


@in_loop
async def test_an_address_that_nobody_answers_is_no_living_head(tmp_path: Path) -> None:
    """Nor is one that cannot be read, or was never written."""
    gone = JoinAddress(unix_url(str(tmp_path / "hub.sock")), bytes(32), bytes(32)).text
    assert [await head_answers(text) for text in ("", "tunnel+cut", gone)] == [False] * 3
