"""What a machine has, judged: memory, shared memory, files, ports, disks."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from raycolab.diagnostics.check import Verdict
from raycolab.diagnostics.machine import (
    available_memory,
    files,
    memory,
    ports,
    run_folder,
    shared_memory,
    shared_memory_room,
)
from raycolab.errors import ClusterError
from tunnel.nodes import FIRST_PORT, LAST_PORT

GB = 10**9
INFINITE = -1  # resource.RLIM_INFINITY


@pytest.mark.parametrize(("available", "verdict"), [(12 * GB, Verdict.GOOD), (GB // 2, Verdict.BAD)])
def test_memory(available: int, verdict: Verdict) -> None:
    """Ray and one small trial must fit."""
    found = memory(available)
    assert found.verdict is verdict
    assert ("12.0 GB" if verdict is Verdict.GOOD else "Only 500 MB") in found.message


def test_the_memory_of_this_machine_is_some() -> None:
    """Whoever runs these tests has some."""
    assert 0 < available_memory() < 1 << 50


@pytest.mark.parametrize(
    ("room", "verdict", "words"),
    [
        (6 * GB, Verdict.GOOD, "Ray takes up to 3.6 GB"),
        (64 * 10**6, Verdict.NOTE, "add --shm-size=3.6gb"),
        (None, Verdict.BAD, "There is no /dev/shm"),
    ],
)
def test_shared_memory(room: int | None, verdict: Verdict, words: str) -> None:
    """Too little of it slows Ray down and breaks nothing; none at all does."""
    found = shared_memory(room, 12 * GB)
    assert (found.verdict, words in found.message) == (verdict, True), found.message


def test_a_large_machine_needs_no_more_than_ray_takes() -> None:
    """Ray's object store has a largest size by itself."""
    assert shared_memory(11 * GB, 1000 * GB).verdict is Verdict.GOOD


def test_no_shared_memory_is_seen(tmp_path: Path) -> None:
    """As where nothing is mounted."""
    assert shared_memory_room(str(tmp_path / "none")) is None
    assert (shared_memory_room(str(tmp_path)) or 0) > 0


@pytest.mark.parametrize(
    ("limit", "verdict", "words"),
    [
        (INFINITE, Verdict.GOOD, "No limit"),
        (1 << 20, Verdict.GOOD, "1048576 files"),
        (1024, Verdict.NOTE, "enough for about 12 other nodes"),
        (300, Verdict.BAD, "enough for about 1 other node:"),
        (64, Verdict.BAD, "not enough for one"),
    ],
)
def test_open_files(limit: int, verdict: Verdict, words: str) -> None:
    """Each other node takes a file for each of its ports."""
    found = files(limit)
    assert (found.verdict, words in found.message) == (verdict, True), found.message


def test_no_block_of_ports_is_left() -> None:
    """Another program has every eighth one."""
    found = ports(2, frozenset(range(FIRST_PORT, LAST_PORT + 1, 8)))
    assert (found.verdict, "No 32 ports in a row" in found.message) == (Verdict.BAD, True)


class TestTheFolderForTemporaryFiles:
    """Where Ray's sockets and logs lie."""

    def test_it_is_left_as_it_was(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A folder is made there, and removed."""
        with tempfile.TemporaryDirectory(dir="/tmp", prefix="rct-") as folder:
            monkeypatch.setattr(tempfile, "tempdir", folder)
            assert folder in run_folder().message
            assert list(Path(folder).iterdir()) == []

    def test_too_long_a_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The sentence is that of a head that could not start."""
        monkeypatch.setattr(tempfile, "tempdir", f"{tmp_path}/{'x' * 40}")
        with pytest.raises(ClusterError, match="too long a path"):
            run_folder()
