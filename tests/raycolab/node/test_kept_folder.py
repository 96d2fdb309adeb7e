"""The folder of the snapshots: what is kept and restored, and of whom, when anything may be cut, gone or another's."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from raycolab.errors import ClusterError, RaycolabError, UsageError
from raycolab.node.data_dir import DataDir
from raycolab.node.kept_folder import ADDRESS_FILE, KeptFolder, chosen_folder, is_wanted, main
from raycolab.store import Store, StoreOutageError, open_store, sqlite_url
from raycolab.store.snapshots import KEPT
from raycolab.trials import SweepState, TrialRow, TrialState

NOW = 1_795_379_400.0
ADDRESS = "tunnel+unix:///hub#token"


class Machine:
    """A head's machine as far as its disk goes: a data directory, and the process that works in the folder."""

    def __init__(self, root: Path, name: str, folder: Path, *, in_sqlite: bool = True) -> None:
        self.data_dir = DataDir(root / name)
        self.database = self.data_dir.database_path if in_sqlite else None
        self.folder = folder
        self.now = NOW
        self.kept = self.new_process()

    def new_process(self) -> KeptFolder:
        """As after a restart of the head."""
        return KeptFolder(self.data_dir, self.database, lambda: self.folder, lambda: self.now)

    def begin(self, secret: str = "first") -> Store:
        """What a new head has on its disk once it runs."""
        self.data_dir.save_identity({"secret": secret})
        store = open_store(sqlite_url(self.data_dir.database_path))
        rows = [TrialRow(number, "svc", "iris", {"C": 1.0}) for number in range(9)]
        store.create_sweep("digits", "{}", None, "aa", None, {}, rows, NOW)
        return store

    def keep(self) -> int | None:
        """Keep; the number of the snapshot, None when the last one has it all."""
        number: int | None = self.kept.keep(ADDRESS)["number"]
        return number

    def look_and_restore(self) -> dict[str, Any]:
        """As a head does before it starts."""
        seen = self.kept.look()
        self.kept.restore()
        return seen

    def finished(self) -> int:
        """How many trials its database has COMPLETE."""
        with open_store(sqlite_url(self.data_dir.database_path)) as store:
            return store.counts(store.existing_sweep("digits").id)[TrialState.COMPLETE]


def finish(store: Store, number: int) -> None:
    """One more COMPLETE trial."""
    row = TrialRow(number, "svc", "iris", {"C": 1.0}, TrialState.COMPLETE, {"accuracy": 0.5})
    store.write(store.existing_sweep("digits").id, [row])


def cut(path: Path) -> None:
    """What a copy broken off leaves."""
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


def test_a_fresh_machine_takes_up_what_another_one_left(first: Machine, second: Machine) -> None:
    """Results and identity; what it finds says which snapshot, how old and from where, and the head's join address."""
    with first.begin() as store:
        finish(store, 0)
        assert first.keep() == 1
    second.now = NOW + 480
    seen = second.look_and_restore()
    assert seen["found"]["number"] == 1
    assert seen["found"]["age_s"] == 480
    assert seen["found"]["words"] == f"snapshot 1, 8 min old, of the head on {os.uname().nodename}"
    assert seen["address"] == ADDRESS + "\n"
    assert second.finished() == 1
    assert second.data_dir.load_identity() == {"secret": "first"}
    assert second.keep() == 2


@pytest.mark.parametrize("what", ["db", "identity.json", "manifest.json"])
def test_the_one_before_is_restored_when_the_newest_is_cut(
    first: Machine, second: Machine, drive: Path, what: str
) -> None:
    """Whichever of its files it is, or all of them are missing; the newest number is told."""
    with first.begin() as store:
        for number in range(2):
            finish(store, number)
            first.keep()
    cut(drive / f"raycolab-000002.{what}")
    assert second.kept.look()["found"]["number"] == 1
    for path in drive.glob("raycolab-000002.*"):
        path.unlink()
    assert second.look_and_restore()["found"]["number"] == 1
    assert second.finished() == 1


def test_a_folder_with_nothing_whole_is_not_written_over(first: Machine, second: Machine, drive: Path) -> None:
    """A new head's snapshots would push out what may still be on its way."""
    with first.begin():
        first.keep()
    cut(drive / "raycolab-000001.db")
    with pytest.raises(
        ClusterError, match=r"None of the snapshots in .*drive is whole, the newest is number 1: if they"
    ):
        second.kept.look()


def test_an_empty_folder_has_nothing_to_restore(first: Machine, drive: Path) -> None:
    """Nor has one that is not there; pieces of a first snapshot that was never finished are none."""
    assert first.kept.look() == {"folder": str(drive)}
    drive.mkdir()
    (drive / "raycolab-000001.db").write_bytes(b"half of a data")
    assert first.kept.look() == {"folder": str(drive)}


def test_a_folder_on_a_drive_that_is_not_mounted_is_said(first: Machine, drive: Path) -> None:
    """A new head would think there was nothing to restore, and write to its own disk."""
    first.folder = drive / "MyDrive" / "raycolab"
    with pytest.raises(ClusterError, match=r"there is no .*MyDrive: mount the Drive it is on"):
        first.kept.look()
    with first.begin(), pytest.raises(ClusterError, match="mount the Drive"):
        first.keep()
    assert not drive.exists()


def test_what_the_machine_has_wins(first: Machine, second: Machine) -> None:
    """Its own results or identity are never replaced; that the folder's are another's is said, and they stay there."""
    with first.begin() as store:
        finish(store, 0)
        first.keep()
    with second.begin("second"):
        note = second.kept.look()["note"]
        assert "goes on with what is in" in note
        assert "snapshot 1, 0.0 s old, of the head on" in note
        for _ in range(KEPT):
            with pytest.raises(
                ClusterError, match=r"drive has the snapshots of another head .*: nothing is kept there"
            ):
                second.keep()
    assert second.data_dir.load_identity() == {"secret": "second"}
    assert first.kept.look() == {"folder": str(first.folder), "note": None}
    assert numbers(first.folder) == [1]


def test_of_two_heads_the_one_that_took_over_goes_on(first: Machine, second: Machine, drive: Path) -> None:
    """The former one still runs, cut off: it is told, and destroys nothing, nor does what it writes late."""
    with first.begin() as store:
        first.keep()
        second.look_and_restore()
        finish(store, 0)
        late = first.keep()  # it cannot know yet
        assert second.keep() == 3
        finish(store, 1)
        with pytest.raises(ClusterError, match="another head"):
            first.keep()
        assert "snapshot 3" in first.new_process().look()["note"]
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
    second.look_and_restore()
    third.look_and_restore()
    assert second.keep() == 2
    with pytest.raises(ClusterError, match="another head"):
        third.keep()
    assert fourth.look_and_restore()["found"]["number"] == 2
    assert fourth.keep() == 3


def test_only_what_is_worth_keeping_makes_a_snapshot(first: Machine) -> None:
    """A finished trial is, a running one and a renewed claim are not; after a restart of the head one is taken."""
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
    first.kept = first.new_process()
    assert first.keep() == 4


def test_an_address_made_worthless_does_not_come_back(first: Machine, second: Machine, drive: Path) -> None:
    """With a new identity no snapshot of the old one stays, so that none can be fallen back on."""
    with first.begin() as store:
        for number in range(KEPT):
            finish(store, number)
            first.keep()
        first.data_dir.save_identity({"secret": "new"})
        assert first.keep() == 2 * KEPT
    cut(drive / f"raycolab-{2 * KEPT:06d}.db")
    second.look_and_restore()
    assert second.data_dir.load_identity() == {"secret": "new"}


def test_the_sweeps_of_a_restored_store_are_free(first: Machine, second: Machine) -> None:
    """Whoever ran them ran them in another database; a clock that was ahead must not keep them."""
    with first.begin() as store:
        assert store.claim(store.existing_sweep("digits").id, "first", NOW + 1e6, 60) is None
        first.keep()
    second.look_and_restore()
    with open_store(sqlite_url(second.data_dir.database_path)) as store:
        assert store.claim(store.existing_sweep("digits").id, "second", NOW, 60) is None


def test_a_restoration_that_breaks_off_takes_nobodys_place(first: Machine, second: Machine, drive: Path) -> None:
    """What is there of it is this machine's own from then on, and the good snapshots stay."""
    with first.begin():
        first.keep()
    second.kept.look()
    (drive / "raycolab-000001.db").unlink()
    with pytest.raises(StoreOutageError, match="cannot be restored"):
        second.kept.restore()
    assert second.data_dir.load_heads() == []
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
        first.kept.keep("another")
    assert path.read_text() == "another\n"
    assert sorted(item.name for item in drive.iterdir() if not item.name.startswith("raycolab-")) == [ADDRESS_FILE]


def test_an_address_that_cannot_be_written_is_said_and_the_snapshot_stands(first: Machine, drive: Path) -> None:
    """A folder of its name is in the way."""
    (drive / ADDRESS_FILE / "x").mkdir(parents=True)
    sentence = (
        r"^the join address cannot be written to .*join-address\.txt \(Is a directory\): mend that, or set RAYCOLAB"
    )
    with first.begin(), pytest.raises(ClusterError, match=sentence):
        first.keep()
    assert numbers(drive) == [1]


def test_a_store_elsewhere_keeps_the_identity_alone(tmp_path: Path, drive: Path) -> None:
    """It is restored alone too, and results that lie in the folder are not pushed out."""
    head, other, in_sqlite = (
        Machine(tmp_path, name, drive, in_sqlite=name == "files") for name in ("server", "server2", "files")
    )
    head.data_dir.save_identity({"secret": "x"})
    assert (head.keep(), head.keep()) == (1, None)
    other.look_and_restore()
    assert other.data_dir.load_identity() == {"secret": "x"}
    assert not other.data_dir.database_path.exists()
    shutil.rmtree(drive)
    with in_sqlite.begin():
        in_sqlite.keep()
    fresh = Machine(tmp_path, "server3", drive, in_sqlite=False)
    fresh.look_and_restore()
    with pytest.raises(ClusterError, match="has results of a head with a store in SQLite, and this one's is not"):
        fresh.keep()


def test_a_database_that_is_damaged_is_said(first: Machine, drive: Path) -> None:
    """And no snapshot is taken of it."""
    with first.begin():
        first.keep()
    first.data_dir.database_path.write_bytes(b"no database at all" * 1000)
    with pytest.raises(RaycolabError, match="cannot be looked at"):
        first.keep()
    assert numbers(drive) == [1]


def test_without_a_folder_nothing_is_done(first: Machine) -> None:
    """On Colab, as long as no Drive is mounted."""
    kept = KeptFolder(first.data_dir, first.database, lambda: None)
    assert kept.look() == kept.keep(ADDRESS) == {"folder": None}


def test_the_folder_is_the_one_that_was_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Set but empty means none, also on Colab; what is no path is a usage error."""
    monkeypatch.chdir(tmp_path)
    assert chosen_folder({"RAYCOLAB_SNAPSHOTS": "kept"}) == tmp_path / "kept"
    assert chosen_folder({}) is None
    assert chosen_folder({"RAYCOLAB_SNAPSHOTS": ""}) is None
    assert [is_wanted(environ) for environ in ({}, {"RAYCOLAB_SNAPSHOTS": ""}, {"RAYCOLAB_SNAPSHOTS": "x"})] == [
        False,
        False,
        True,
    ]
    with pytest.raises(UsageError, match=r"^RAYCOLAB_SNAPSHOTS ~nobody-is-called-so: there is no such user"):
        chosen_folder({"RAYCOLAB_SNAPSHOTS": "~nobody-is-called-so"})


def test_what_the_system_refuses_is_an_answer(
    first: Machine, drive: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The identity was deleted under a running head."""
    with first.begin():
        pass
    identity = first.data_dir.path / "identity.json"
    identity.unlink()
    monkeypatch.setenv("RAYCOLAB_SNAPSHOTS", str(drive))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"op": "keep", "address": ""}\n')))
    main(str(first.data_dir.path), str(first.database))
    answer = json.loads(capsys.readouterr().out)
    assert (answer["ok"], answer["kind"], answer["error"]) == (
        False,
        "ClusterError",
        f"snapshots cannot be kept or restored (No such file or directory: {identity}): mend that, or set"
        " RAYCOLAB_SNAPSHOTS to another folder.",
    )


def test_the_process_answers_lines(first: Machine, tmp_path: Path) -> None:
    """An error is an answer as well, of a kind that its reader knows, and the next line is answered."""
    (tmp_path / "file").touch()
    process = subprocess.run(
        [sys.executable, "-m", "raycolab.node.kept_folder", str(first.data_dir.path), str(first.database)],
        env={**os.environ, "RAYCOLAB_SNAPSHOTS": str(tmp_path / "file")},
        input="".join(json.dumps(line) + "\n" for line in ({"op": "look"}, {"op": "keep", "address": ""})),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    answers = [json.loads(line) for line in process.stdout.splitlines()]
    assert [(answer["ok"], answer["kind"]) for answer in answers] == [(False, "ClusterError")] * 2
    assert "cannot be looked for (Not a directory)" in answers[0]["error"]
