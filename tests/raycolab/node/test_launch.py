"""What a machine gives, what a supervisor is to do, and what it says."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from raycolab.errors import ClusterError
from raycolab.node.launch import Task, announce, cpu_count, gpu_count, prepare, read_task

HEAD = Task("head", "/data dir", {"num_cpus": 2})
JOINER = Task("joiner", "/data", {"name": "tab"}, "json", "/data/joiner.log")


@pytest.fixture
def prepared() -> Iterator[tuple[Path, list[str]]]:
    """A prepared joiner, whose run directory is removed."""
    run_dir, command = prepare(JOINER)
    yield run_dir, command
    shutil.rmtree(run_dir)


def test_a_task_is_read_as_it_was_prepared(prepared: tuple[Path, list[str]]) -> None:
    """From a file that only its owner reads, in a directory that only its owner enters."""
    run_dir, _ = prepared
    assert read_task(run_dir) == JOINER
    assert stat.S_IMODE(run_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE((run_dir / "task.json").stat().st_mode) == 0o600


def test_the_command_is_a_supervisor_under_a_guard(prepared: tuple[Path, list[str]]) -> None:
    """The guard removes the run directory, which is all that the argv tells."""
    run_dir, command = prepared
    guard, supervisor = command[: command.index("--")], command[command.index("--") + 1 :]
    assert guard[-2:] == ["--remove", str(run_dir)]
    assert supervisor[1:] == ["-P", "-m", "raycolab.node.supervisor", str(run_dir)]


@pytest.mark.parametrize("content", [b"", bytes(50), b'{"role": "head"', b'{"role": "boss", "data_dir": "/"}'])
def test_a_damaged_task_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    """Half a file, NUL bytes, or a role that is none."""
    (tmp_path / "task.json").write_bytes(content)
    with pytest.raises(ClusterError, match=r"^/.*/task\.json cannot be read \(.*\): start the node again\.$"):
        read_task(tmp_path)


def test_a_head_that_is_up_says_what_to_type_next(capsys: pytest.CaptureFixture[str]) -> None:
    """The join address alone on the first line, then the commands, each with its data directory."""
    announce(HEAD, "up", join_address="tunnel+ws://h#token")
    first, _, *rest = capsys.readouterr().out.splitlines()
    assert first == "tunnel+ws://h#token"
    assert [line.split(":", 1)[1].strip() for line in rest] == [
        "raycolab join 'THE LINE ABOVE'",
        "raycolab submit SWEEP.yaml --data-dir '/data dir'",
        "raycolab status --data-dir '/data dir'    raycolab down --data-dir '/data dir'",
    ]


def test_what_a_head_restored_is_said_after_its_address(capsys: pytest.CaptureFixture[str]) -> None:
    """The first line stays the join address, for whoever reads it by a program."""
    announce(HEAD, "up", join_address="tunnel+ws://h#token", notes=["Restored from /drive."])
    lines = capsys.readouterr().out.splitlines()
    assert (lines[0], lines[-1]) == ("tunnel+ws://h#token", "Restored from /drive.")


@pytest.mark.parametrize(
    ("output", "line"),
    [("text", "joined as tab\n"), ("json", '{"event": "joining", "text": "joined as tab"}\n')],
)
def test_events_are_lines(capsys: pytest.CaptureFixture[str], output: str, line: str) -> None:
    """For people their text, for programs an object."""
    announce(Task("joiner", "/data", output=output), "joining", text="joined as tab")
    assert capsys.readouterr() == (line, "")


@pytest.mark.parametrize("output", ["text", "json"])
def test_a_failure_is_a_sentence_on_stderr(capsys: pytest.CaptureFixture[str], output: str) -> None:
    """And for programs an event on stdout, with the exit code."""
    announce(Task("joiner", "/data", output=output), "failed", error="No.", kind="JoinError", exit_code=3)
    said = capsys.readouterr()
    assert said.err == "No.\n"
    if output == "json":
        assert json.loads(said.out) == {"event": "failed", "error": "No.", "kind": "JoinError", "exit_code": 3}
    else:
        assert said.out == ""


def test_cpus_are_those_this_process_may_use() -> None:
    """A process that is bound to one CPU has one, whatever the machine has."""
    allowed = os.sched_getaffinity(0)
    assert 1 <= cpu_count() <= len(allowed)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert cpu_count() == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize(("visible", "count"), [("", 0), ("-1", 0), ("0", 1), ("0, 3,GPU-8932f937", 3), (",", 0)])
def test_gpus_are_those_cuda_may_see(monkeypatch: pytest.MonkeyPatch, visible: str, count: int) -> None:
    """CUDA_VISIBLE_DEVICES lists numbers or names; empty and -1 hide them all."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_count() == count


def test_without_that_variable_all_gpus_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device files count, /dev/nvidiactl and the like do not."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpu_count() == sum(name.removeprefix("nvidia").isdigit() for name in os.listdir("/dev"))
