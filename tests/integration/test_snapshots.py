"""A head whose session ends with its whole disk, and one on a new disk that has nothing but the folder of snapshots."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from raycolab.store.snapshots import DATABASE, Snapshot, newest, restore
from tests.integration.outage_stage import Sweep
from tests.integration.sessions import RAYCOLAB, Cluster, Tab, cluster, until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

JOINERS = ("tab-1", "tab-2")


@pytest.fixture
def three() -> Iterator[Cluster]:
    """A head that keeps snapshots, and two joiners that read the join address from where it keeps them, all up."""
    with cluster({"RAYCOLAB_GRACE_S": "4", "RAYCOLAB_SNAPSHOT_S": "1"}) as made:
        drive = made.folder / "drive"
        made.env["RAYCOLAB_SNAPSHOTS"] = str(drive)
        made.start_head()
        until(lambda: newest(drive) and (drive / "join-address.txt").exists(), 30, made.status)
        for name in JOINERS:
            made.joiners[name] = Tab(made.folder, name)
            made.joiners[name].start("join", f"@{drive / 'join-address.txt'}", "--num-cpus", "1")
        made.wait_up(3)
        yield made


def finished(snapshot: Snapshot, scratch: Path) -> set[int]:
    """The trials that a snapshot has COMPLETE."""
    scratch.mkdir(exist_ok=True)
    copy = scratch / f"{snapshot.number}.db"
    if not copy.exists():
        restore(snapshot, {DATABASE: copy})
    with contextlib.closing(sqlite3.connect(copy)) as base:
        return {number for (number,) in base.execute("select number from trials where state = 'COMPLETE'")}


def latest(drive: Path) -> Snapshot:
    """The newest whole snapshot."""
    found = newest(drive)
    assert found is not None
    return found


@pytest.mark.slow
def test_a_head_on_a_new_disk_resumes_from_the_folder(three: Cluster, tmp_path: Path) -> None:
    """The newest snapshot is cut short: same address, the joiners return, nothing the one before had runs again."""
    drive, address = three.folder / "drive", three.address_file.read_text()
    sweep = Sweep(three, "kept", trials=75, trial_s=0.4, held=3)
    sweep.wait_complete(15)
    before = latest(drive).number
    until(lambda: latest(drive).number > before + 1, 60, three.status)
    assert three.head is not None
    three.head.end()
    sweep.process.communicate(timeout=60)
    shutil.rmtree(three.data_dir)
    cut = latest(drive)
    database = drive / f"raycolab-{cut.number:06d}.db"
    database.write_bytes(database.read_bytes()[: database.stat().st_size // 2])
    taken = latest(drive)
    kept = finished(taken, tmp_path)
    assert taken.number == cut.number - 1
    assert 15 <= len(kept) < sweep.trials

    head = three.start_head("head-again")
    assert three.address_file.read_text() == address == (drive / "join-address.txt").read_text()
    assert f"Restored from {drive}: snapshot {taken.number}, " in head.said()
    assert f"The newest there, snapshot {cut.number}, is not whole." in head.said()
    three.wait_up(3)
    sweep.release()
    sweep.wait_complete(sweep.trials, 120)
    assert {row["state"] for row in three.rows("kept")} == {"COMPLETE"}
    runs = Counter(x for x, _, _ in sweep.runs())
    assert {runs[row["config/x"]] for row in three.rows("kept") if row["number"] in kept} == {1}
    assert {each.node for each in sweep.attempts() if each.trial not in kept} <= {"head", "joiner-1", "joiner-2"}

    refused = second_head(three)
    assert refused.returncode == 3
    assert f"The head whose snapshots are in {drive} is running (snapshot " in refused.stderr
    until(lambda: latest(drive).number > cut.number and finished_all(three, sweep, tmp_path), 30, three.status)
    shown = three.raycolab("status").stdout
    assert f"snapshot {three.status()['snapshots']['number']}, " in shown
    assert f" in {drive}" in shown


def second_head(three: Cluster) -> subprocess.CompletedProcess[str]:
    """A head on a third disk with the same folder, run to its end."""
    where = ("--provider", "unix", "--listen", str(three.folder / "other.sock"))
    return subprocess.run(
        [*RAYCOLAB, "head", *where, "--num-cpus", "1", "--data-dir", str(three.folder / "third")],
        env={**os.environ, **three.env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def finished_all(three: Cluster, sweep: Sweep, scratch: Path) -> bool:
    """Whether the newest snapshot has the whole sweep, and the head says so."""
    said = three.status()["snapshots"]
    snapshot = latest(three.folder / "drive")
    if said["number"] != snapshot.number or not said["up_to_date"] or said["error"] is not None:
        return False
    return len(finished(snapshot, scratch / "after")) == sweep.trials
