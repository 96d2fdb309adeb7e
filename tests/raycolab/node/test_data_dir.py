"""The data directory: what it keeps, for whom, and what it says when it cannot."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raycolab.errors import ClusterError, UsageError
from raycolab.node.data_dir import DataDir, HeadRecord, Heads, Identity, MonthTraffic, make_run_dir
from tests.raycolab.situations import a_full_disk

IDENTITY = Identity("hub", "token")
RECORD = HeadRecord(pid=1, control="/nowhere/control.sock", started_at=1.5, store="sqlite:////x/raycolab.db")


def mode(path: Path) -> int:
    """Who may do what with a file."""
    return stat.S_IMODE(path.stat().st_mode)


def test_the_directory_is_what_was_asked_for(tmp_path: Path) -> None:
    """The argument goes before RAYCOLAB_DATA_DIR, and that before the home directory."""
    environ = {"RAYCOLAB_DATA_DIR": str(tmp_path / "b")}
    assert DataDir.chosen(tmp_path / "a", environ).path == tmp_path / "a"
    assert DataDir.chosen(None, environ).path == tmp_path / "b"
    assert DataDir.chosen(None, {}).path == Path.home() / ".raycolab"


def test_reading_makes_nothing(tmp_path: Path) -> None:
    """A command that only looks leaves no directory behind."""
    data = DataDir(tmp_path / "new")
    assert data.load(Identity) is None
    assert data.read_head() is None
    data.clear_head()
    assert not data.path.exists()


def test_records_come_back_as_they_were_saved(tmp_path: Path) -> None:
    """Saving replaces the former one, and before the first there is none."""
    data = DataDir(tmp_path / "deep" / "data")
    assert (data.load(MonthTraffic), data.load(Heads)) == (None, None)
    identity = Identity("ü", "token", {"port": "4321"})
    data.save(Identity("old", "token"))
    data.save(identity)
    data.save(Heads(("b", "a")))
    data.save(MonthTraffic("2026-11", 5))
    assert (data.load(Identity), data.load(Heads)) == (identity, Heads(("b", "a")))
    assert data.load(MonthTraffic) == MonthTraffic("2026-11", 5)


def test_everything_is_for_this_user_alone(tmp_path: Path) -> None:
    """0700 for the directory, 0600 for each file, whatever the umask."""
    data = DataDir(tmp_path / "data")
    before = os.umask(0)
    try:
        data.save(IDENTITY)
        data.save(RECORD)
        data.lock().release()
    finally:
        os.umask(before)
    assert mode(data.path) == 0o700
    assert {path.name: mode(path) for path in data.path.iterdir()} == dict.fromkeys(
        ("identity.json", "head.json", "lock"), 0o600
    )


def test_a_failed_save_keeps_the_old_record(tmp_path: Path) -> None:
    """What cannot be written whole is not written at all, and nothing is left beside."""
    data = DataDir(tmp_path)
    data.save(IDENTITY)
    with a_full_disk(room=0), pytest.raises(ClusterError, match="could not be read or written"):
        data.save(Identity("new", "token"))
    assert data.load(Identity) == IDENTITY
    assert [path.name for path in tmp_path.iterdir()] == ["identity.json"]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda good: b"",
    "NUL bytes": lambda good: bytes(len(good)),
    "half of it": lambda good: good[: len(good) // 2],
    "a list": lambda good: b"[" + good + b"]",
    "null": lambda good: b"null",
    "no UTF-8": lambda good: b'{"hub": "\xff", "store": "\xff", "month": "\xff", "heads": ["\xff"]}',
    "other types": lambda good: json.dumps({name: {} for name in json.loads(good)}).encode(),
}
DELETE = "delete it and start the head again"
NEW = "start the head with --new-address (in a notebook new_address=True), and give joiners the new address"


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    ("kind", "cure"), [(Identity, NEW), (HeadRecord, DELETE), (MonthTraffic, DELETE), (Heads, DELETE)]
)
def test_a_damaged_file_is_one_sentence(tmp_path: Path, kind: Any, cure: str, damage: str) -> None:
    """Nothing is guessed at or replaced in silence: the person decides."""
    data = DataDir(tmp_path)
    data.save(IDENTITY)
    data.save(RECORD)
    data.save(MonthTraffic("2026-11", 5))
    data.save(Heads(("a",)))
    path = tmp_path / kind.FILE
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(ClusterError) as damaged:
        data.load(kind)
    assert str(damaged.value) == f"{path} is damaged: {cure}."


def test_a_head_whose_socket_is_gone_is_no_head(tmp_path: Path) -> None:
    """A head that was killed left its record, and its record is not believed."""
    data = DataDir(tmp_path)
    data.save(RECORD)
    assert data.read_head() is None
    data.save(HeadRecord(1, str(tmp_path / "head.json"), 1.5, ""))  # a file, not a socket
    assert data.read_head() is None


def test_a_record_of_another_version_is_damaged(tmp_path: Path) -> None:
    """Unknown fields are not guessed at."""
    (tmp_path / "head.json").write_text('{"pid": 1, "control": "/x", "started_at": 1, "store": "", "more": 1}')
    with pytest.raises(ClusterError, match=r"head\.json is damaged: delete it and start the head again\.$"):
        DataDir(tmp_path).read_head()


def test_clearing_forgets_the_head(tmp_path: Path) -> None:
    """A head that ends in peace leaves no record."""
    data = DataDir(tmp_path)
    data.save(RECORD)
    data.clear_head()
    assert list(tmp_path.iterdir()) == []


def test_a_second_head_is_refused_by_the_first_ones_process(tmp_path: Path) -> None:
    """One head for each directory; the sentence names the process and the ways on."""
    with DataDir(tmp_path).lock(), pytest.raises(ClusterError) as caught:
        DataDir(tmp_path).lock()
    assert str(caught.value) == (
        f"A head already runs with the data directory {tmp_path} (process {os.getpid()}): attach to it, end it with"
        f" `raycolab down --data-dir {tmp_path}`, or give this one another --data-dir."
    )


def test_a_released_lock_can_be_taken(tmp_path: Path) -> None:
    """Releasing twice is harmless."""
    lock = DataDir(tmp_path).lock()
    lock.release()
    lock.release()
    DataDir(tmp_path).lock().release()


def test_a_lock_on_a_full_disk_is_said(tmp_path: Path) -> None:
    """As on a disk that has no locks, it is no second head's."""
    with a_full_disk(room=0), pytest.raises(UsageError) as refused:
        DataDir(tmp_path).lock()
    assert str(refused.value) == (
        f"The data directory {tmp_path} cannot be locked (File too large): give --data-dir a folder on a local disk,"
        " with room."
    )
    DataDir(tmp_path).lock().release()


def test_a_file_cannot_be_the_directory(tmp_path: Path) -> None:
    """Each way in says so and says what to give instead."""
    (tmp_path / "file").touch()
    data = DataDir(tmp_path / "file")
    for use in (lambda: data.load(Identity), data.lock, data.read_head, lambda: data.save(IDENTITY)):
        with pytest.raises(UsageError, match=r"cannot be the data directory \(it is a file\): give --data-dir, or RAY"):
            use()


def test_a_directory_that_cannot_be_made_is_a_usage_error() -> None:
    """/proc takes no directories, from root either."""
    with pytest.raises(UsageError, match=r"^/proc/raycolab cannot be the data directory \(.*a folder you may write to"):
        DataDir("/proc/raycolab").lock()


def test_a_failing_disk_is_no_usage_error(tmp_path: Path) -> None:
    """The path is right then, and the machine is not."""
    (tmp_path / "identity.json").symlink_to("/proc/self/mem")  # reading it fails with EIO
    with pytest.raises(ClusterError, match="could not be read or written"):
        DataDir(tmp_path).load(Identity)


def test_a_run_directory_is_private_and_short() -> None:
    """Sockets in it stay below AF_UNIX's 107 bytes."""
    path = make_run_dir()
    try:
        assert mode(path) == 0o700
        assert len(os.fsencode(path / "session_2026-11-22_20-30-00_123456_1234567" / "sockets" / "plasma_store")) <= 107
    finally:
        path.rmdir()


def test_a_long_temporary_folder_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray would fail with a bare OSError much later."""
    long = tmp_path / ("x" * 40)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with pytest.raises(ClusterError, match="has too long a path for the sockets of Ray: set TMPDIR to a short one"):
        make_run_dir()


def test_a_temporary_folder_that_is_gone_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or full, or read-only."""
    monkeypatch.setattr(tempfile, "tempdir", "/proc")
    with pytest.raises(ClusterError, match=r"No folder can be made in /proc, the one for temporary files \(No such"):
        make_run_dir()


@pytest.mark.parametrize("text", ["a\udcffb", "~nobody-is-called-so"])
def test_a_path_that_is_none_is_a_usage_error(text: str) -> None:
    """Typed by a person, or left in the environment."""
    with pytest.raises(UsageError, match=r"^The data directory "):
        DataDir.chosen(None, {"RAYCOLAB_DATA_DIR": text})


def test_a_nul_in_the_head_s_record_is_no_head(tmp_path: Path) -> None:
    """It was called a bug."""
    (tmp_path / "head.json").write_text('{"pid": 1, "control": "a\\u0000b", "started_at": 0.0, "store": "x"}')
    assert DataDir(tmp_path).read_head() is None
