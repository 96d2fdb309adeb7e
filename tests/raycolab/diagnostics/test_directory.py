"""The data directory: looked at, and left as it was."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from raycolab.diagnostics.check import Verdict
from raycolab.diagnostics.directory import file_system, nodes_here, running, writable
from raycolab.errors import ClusterError, UsageError
from raycolab.joining import write_record
from raycolab.node.data_dir import DataDir, HeadRecord


@contextlib.contextmanager
def sleeper(word: str) -> Iterator[int]:
    """A process whose command line has this word, as long as the block; its id, once it is what it says."""
    command = [sys.executable, "-c", "print(flush=True); input()", word]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None  # a pipe, as asked for
        process.stdout.readline()  # for a moment after it was started it has no command line to be seen
        yield process.pid
        process.kill()


def test_a_directory_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    """What lies above it can be written to."""
    found = writable(DataDir(tmp_path / "not" / "yet"))
    assert found.verdict is not Verdict.BAD
    assert found.message.startswith(f"{tmp_path}/not/yet can be written to. ")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be(tmp_path: Path) -> None:
    """Whoever one is, nothing can be made in /proc, nor in a file."""
    (tmp_path / "file").touch()
    for path in (Path("/proc/data"), tmp_path / "file"):
        with pytest.raises(UsageError, match="cannot be the data directory"):
            writable(DataDir(path))


def test_a_damaged_identity_is_found_before_a_head_needs_it(tmp_path: Path) -> None:
    """In the words of the head that would not start."""
    (tmp_path / "identity.json").write_text("{")
    with pytest.raises(ClusterError, match=r"identity\.json is damaged: start the head with --new-address"):
        writable(DataDir(tmp_path))


def test_a_running_head(tmp_path: Path) -> None:
    """Its process, and how it is found and ended."""
    data_dir = DataDir(tmp_path / "data")
    with socket.socket(socket.AF_UNIX) as control:
        control.bind(str(tmp_path / "control"))
        control.listen()
        data_dir.save(HeadRecord(4321, str(tmp_path / "control"), 0.0, "sqlite://"))
        found = running(data_dir)
    assert found.verdict is Verdict.NOTE
    assert f"A head runs here with {data_dir.path} (process 4321)" in found.message


def test_a_running_joiner(tmp_path: Path) -> None:
    """A second one would share its machine."""
    mark = str(tmp_path / "run")
    with sleeper(mark) as joiner:
        write_record(DataDir(tmp_path), {"pid": joiner, "run_dir": mark})
        found = running(DataDir(tmp_path))
    assert found.verdict is Verdict.NOTE
    assert f"(process {joiner}): raycolab.join() shows it" in found.message


def test_nodes_of_other_directories_are_seen(tmp_path: Path) -> None:
    """By what every supervisor's command line begins with."""
    with sleeper("raycolab.node.supervisor") as node:
        found = running(DataDir(tmp_path))
        assert node in nodes_here()
    assert found.verdict is Verdict.NOTE
    assert "of another directory or cluster (process " in found.message


@pytest.mark.parametrize(
    ("path", "kind"), [("/content/drive/MyDrive/data", "fuse.drive"), ("/content/data", "overlay"), ("/", "overlay")]
)
def test_the_file_system_is_that_of_the_nearest_mount(path: str, kind: str) -> None:
    """Drive is a disk of its own below the root's."""
    assert file_system(Path(path), {"/": "overlay", "/content/drive": "fuse.drive"}) == kind
