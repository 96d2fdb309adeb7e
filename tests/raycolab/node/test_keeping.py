"""The head's side of its snapshots: when one is taken, what is told of it, and that a bad folder holds nothing up."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from raycolab.errors import ClusterError, RaycolabError, UsageError
from raycolab.node.data_dir import DataDir
from raycolab.node.keeping import FolderProcess, Keeper, Patience, head_answers
from raycolab.store import open_store, sqlite_url
from raycolab.store.snapshots import newest
from tests.in_loop import in_loop
from tunnel.address import JoinAddress, unix_url

FOUND = {"number": 12, "age_s": 480.0, "words": "snapshot 12, 8 min old, of the head on vm"}


class ScriptedFolder:
    """Answers each request with what the test puts there, when it puts it there."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()
        self.answers: asyncio.Queue[dict[str, Any] | RaycolabError] = asyncio.Queue()
        self.ended = False

    async def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """As a folder process, without one."""
        self.asked.put_nowait((op, fields))
        answer = await self.answers.get()
        self.answers.task_done()
        if isinstance(answer, RaycolabError):
            raise answer
        return answer

    async def end(self) -> None:
        """Remember that it was asked to."""
        self.ended = True

    def keeps(self, number: int | None) -> None:
        """The next request is answered with a snapshot, None for nothing new."""
        self.answers.put_nowait({"folder": "/drive", "number": number})


class Clock:
    """A clock that the test moves; every look at it is a moment later, as on a real machine."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


class Stage:
    """A keeper over a scripted folder, with a store's file that the test changes."""

    def __init__(self, root: Path, patience: Patience | None = None) -> None:
        self.folder = ScriptedFolder()
        self.clock = Clock()
        self.database = root / "raycolab.db"
        self.keeper = Keeper(self.folder, DataDir(root), self.database, 0.02, patience or Patience(), self.clock)
        self.change()

    def change(self) -> None:
        """Something was written to the store."""
        with self.database.open("a") as file:
            file.write("x")

    async def next(self) -> tuple[str, dict[str, Any]]:
        """The keeper's next request."""
        return await asyncio.wait_for(self.folder.asked.get(), 10)

    async def settle(self) -> dict[str, Any]:
        """What is told once the last answer was taken in."""
        await self.folder.answers.join()
        await asyncio.sleep(0)  # for the keeper, which has the answer now
        return self.keeper.status()

    async def close(self) -> None:
        """End with a last snapshot that has nothing new."""
        self.folder.keeps(None)
        await self.keeper.close()


@in_loop
async def test_a_snapshot_is_taken_of_what_changed_and_told(tmp_path: Path) -> None:
    """At once at the start, with the join address; its age counts from when it was begun."""
    stage = Stage(tmp_path)
    assert stage.keeper.status() == {
        "folder": None,
        "number": None,
        "age_s": None,
        "up_to_date": False,
        "error": None,
    }
    stage.keeper.tell_address("tunnel+x")
    stage.keeper.start()
    assert await stage.next() == ("keep", {"address": "tunnel+x"})
    stage.folder.keeps(3)
    status = await stage.settle()
    stage.clock.now += 8
    assert status == {"folder": "/drive", "number": 3, "age_s": 0.0, "up_to_date": True, "error": None}
    assert stage.keeper.status()["age_s"] == 8.0
    await stage.close()
    assert stage.folder.ended


@in_loop
async def test_the_next_one_waits_for_a_change_and_for_its_time(tmp_path: Path) -> None:
    """Nothing is asked while nothing changes; a change within the interval waits for its end."""
    stage = Stage(tmp_path)
    stage.keeper.start()
    await stage.next()
    stage.folder.keeps(1)
    await stage.settle()
    stage.clock.now += 100
    await asyncio.sleep(0.05)
    assert stage.folder.asked.empty()
    stage.change()
    await stage.next()
    stage.folder.keeps(None)
    assert (await stage.settle())["number"] == 1
    await stage.close()


@in_loop
async def test_the_end_of_a_sweep_is_kept_at_once(tmp_path: Path) -> None:
    """Whatever the interval; that it is still over is no news."""
    stage = Stage(tmp_path)
    stage.keeper = Keeper(stage.folder, DataDir(tmp_path), stage.database, 1e6, clock=stage.clock)
    stage.keeper.start()
    await stage.next()
    stage.folder.keeps(1)
    for state, is_kept in (("RUNNING", False), ("COMPLETE", True), ("COMPLETE", False)):
        await stage.settle()
        stage.keeper.see({"sweeps": [{"name": "digits", "state": state}]})
        if is_kept:
            await stage.next()
            stage.folder.keeps(2)
        await asyncio.sleep(0.01)
        assert stage.folder.asked.empty()
    await stage.close()


@in_loop
async def test_a_failure_is_told_until_the_next_success(tmp_path: Path) -> None:
    """And is tried again without a new change."""
    stage = Stage(tmp_path)
    stage.keeper.start()
    await stage.next()
    stage.folder.answers.put_nowait(ClusterError("the folder is full."))
    status = await stage.settle()
    assert (status["error"], status["up_to_date"]) == ("the folder is full.", False)
    stage.clock.now += 1
    await stage.next()
    stage.folder.keeps(1)
    assert (await stage.settle())["error"] is None
    await stage.close()


@in_loop
async def test_a_folder_that_hangs_is_told_and_not_waited_for(tmp_path: Path) -> None:
    """For as long as it takes; the last snapshot is given up after a while."""
    stage = Stage(tmp_path, Patience(end_s=0.01))
    stage.keeper.start()
    await stage.next()
    assert stage.keeper.status()["error"] is None
    stage.clock.now += 125
    assert stage.keeper.status()["error"] == "the folder has not answered for 2 min 5 s."
    await stage.keeper.close()
    assert stage.folder.ended


@in_loop
async def test_the_last_snapshot_comes_after_the_one_under_way(tmp_path: Path) -> None:
    """What finished since is in it."""
    stage = Stage(tmp_path)
    stage.keeper.start()
    await stage.next()
    closing = asyncio.create_task(stage.keeper.close())
    stage.folder.keeps(1)
    await stage.next()
    stage.folder.keeps(2)
    await closing
    assert stage.keeper.status()["number"] == 2


@in_loop
async def test_without_a_drive_results_end_with_the_tab(tmp_path: Path) -> None:
    """It is said, and a Drive that is mounted later is found."""
    stage = Stage(tmp_path)
    stage.keeper.start()
    await stage.next()
    stage.folder.answers.put_nowait({"folder": None})
    status = await stage.settle()
    assert status["error"].startswith("no Drive is mounted: results end with this tab. Mount it")
    stage.clock.now += 1
    await stage.next()
    stage.folder.keeps(1)
    assert (await stage.settle())["folder"] == "/drive"
    await stage.close()


@in_loop
async def test_what_was_restored_is_said_with_its_age(tmp_path: Path) -> None:
    """And it is the last snapshot until there is another."""
    stage = Stage(tmp_path)
    stage.folder.answers.put_nowait({"folder": "/drive", "found": FOUND, "newest": 13, "address": ""})
    stage.folder.answers.put_nowait({"number": 12})
    notes = await stage.keeper.restore()
    assert notes == [
        "Restored from /drive: snapshot 12, 8 min old, of the head on vm. The newest there, snapshot 13, is not whole."
    ]
    assert [stage.folder.asked.get_nowait()[0] for _ in range(2)] == ["look", "restore"]
    status = stage.keeper.status()
    assert (status["number"], round(status["age_s"])) == (12, 480)


@in_loop
async def test_with_nothing_to_restore_a_head_just_starts(tmp_path: Path) -> None:
    """Where the machine has something of its own there may be something to say."""
    stage = Stage(tmp_path)
    for answer, notes in (
        ({"folder": None}, []),
        ({"folder": "/drive"}, []),
        ({"folder": "/drive", "note": None}, []),
        ({"folder": "/drive", "note": "Mind."}, ["Mind."]),
    ):
        stage.folder.answers.put_nowait(answer)
        assert await stage.keeper.restore() == notes


@in_loop
async def test_a_folder_that_does_not_answer_stops_the_start(tmp_path: Path) -> None:
    """A head that began anew would push out what could not be seen."""
    stage = Stage(tmp_path, Patience(start_s=0.01))
    with pytest.raises(ClusterError, match=r"The folder of the snapshots has not answered for 0\.0 s: mount it again"):
        await stage.keeper.restore()


@in_loop
async def test_an_address_that_nobody_answers_is_no_living_head(tmp_path: Path) -> None:
    """Nor is one that cannot be read, or was never written."""
    gone = JoinAddress(unix_url(str(tmp_path / "hub.sock")), bytes(32), bytes(32)).text
    assert [await head_answers(text) for text in ("", "tunnel+cut", gone)] == [False] * 3


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan"])
def test_an_interval_that_is_none_is_a_usage_error(tmp_path: Path, text: str) -> None:
    """Seconds above 0."""
    environ = {"RAYCOLAB_SNAPSHOTS": "x", "RAYCOLAB_SNAPSHOT_S": text}
    with pytest.raises(UsageError, match="RAYCOLAB_SNAPSHOT_S"):
        Keeper.chosen(DataDir(tmp_path), None, tmp_path, environ)


def test_without_a_folder_there_is_no_keeper(tmp_path: Path) -> None:
    """Not on Colab, and none was named."""
    assert Keeper.chosen(DataDir(tmp_path), None, tmp_path, {}) is None


@in_loop
async def test_a_process_that_ends_is_started_again(tmp_path: Path) -> None:
    """The request it had is answered with an error that says why it ended."""
    code = "import sys; n = input(); sys.exit('out of memory') if 'die' in n else print('{\"ok\": true, \"is\": 1}')"
    process = FolderProcess([sys.executable, "-c", code], os.environ, tmp_path / "log")
    assert await process.ask("live") == {"is": 1}
    for _ in range(2):  # it may have ended already, or not yet
        with pytest.raises(ClusterError, match=r"^the process that takes snapshots ended, and is started again: "):
            await process.ask("die")
    with pytest.raises(ClusterError, match=r"ended, and is started again: out of memory\.$"):
        await process.ask("die")
    await process.end()


@in_loop
async def test_a_real_folder_that_hangs_holds_nothing_up(tmp_path: Path) -> None:
    """A read in it that never returns: the snapshot before it stands, the event loop is free, the end is quick."""
    data_dir, drive = DataDir(tmp_path / "data"), tmp_path / "drive"
    data_dir.save_identity({"secret": "x"})
    open_store(sqlite_url(data_dir.database_path)).close()
    drive.mkdir()
    os.mkfifo(drive / "join-address.txt")  # who reads it waits for somebody to write
    keeper = Keeper.chosen(data_dir, None, tmp_path, {**os.environ, "RAYCOLAB_SNAPSHOTS": str(drive)})
    assert keeper is not None
    assert await keeper.restore() == []
    keeper.tell_address("tunnel+x")
    keeper.start()
    writing = await asyncio.wait_for(asyncio.to_thread(os.open, drive / "join-address.txt", os.O_WRONLY), 30)
    try:
        assert newest(drive) is not None
        assert (keeper.status()["number"], keeper.status()["error"]) == (None, None)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(keeper.close(), 0.1)
    finally:
        os.close(writing)
