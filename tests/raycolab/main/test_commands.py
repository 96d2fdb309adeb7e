"""Commands that run once per node, whoever comes first."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from raycolab.main.commands import CommandResult, NodeOnce


def test_the_first_runs_and_the_others_read(tmp_path: Path) -> None:
    """Of two workers one runs the command; both have its status and its last lines."""
    ran: list[str] = []

    def command() -> CommandResult:
        ran.append("x")
        return CommandResult(0, "installed\n")

    results = [NodeOnce(tmp_path / "locks", "fingerprint").run("1", command) for _ in range(2)]
    assert results == [CommandResult(0, "installed\n")] * 2
    assert ran == ["x"]


def test_whoever_comes_while_it_runs_waits(tmp_path: Path) -> None:
    """The lock holds until the marker is written: the second worker neither runs the command nor passes it."""
    running, finish = threading.Event(), threading.Event()
    results: list[CommandResult] = []

    def slow() -> CommandResult:
        running.set()
        assert finish.wait(10)
        return CommandResult(0, "slow")

    def forbidden() -> CommandResult:
        raise AssertionError("ran twice")

    first = threading.Thread(target=lambda: results.append(NodeOnce(tmp_path, "f").run("1", slow)))
    second = threading.Thread(target=lambda: results.append(NodeOnce(tmp_path, "f").run("1", forbidden)))
    first.start()
    assert running.wait(10)
    second.start()
    assert results == []
    finish.set()
    first.join(10)
    second.join(10)
    assert results == [CommandResult(0, "slow")] * 2


def test_waiting_has_an_end(tmp_path: Path) -> None:
    """A command that never ends on this node is named as the reason, not waited for."""

    def impatient() -> CommandResult:
        with pytest.raises(TimeoutError, match="a command in them does not end: correct it, or mark its cell"):
            NodeOnce(tmp_path, "f", lock_wait_s=0).run("1", lambda: CommandResult(0))
        return CommandResult(0)

    NodeOnce(tmp_path, "f").run("1", impatient)


def test_keys_and_fingerprints_tell_commands_apart(tmp_path: Path) -> None:
    """Another command, or another MAIN, is not taken for one that ran."""
    for fingerprint, key in (("f", "1"), ("f", "2"), ("g", "1")):
        result = NodeOnce(tmp_path, fingerprint).run(key, lambda: CommandResult(0, fingerprint + key))  # noqa: B023
        assert result.output == fingerprint + key


def test_a_failure_is_shared_for_a_minute_and_then_tried_again(tmp_path: Path) -> None:
    """Workers fail together with the first; a node that is tried again later tries the command again."""
    now = [1000.0]
    once = NodeOnce(tmp_path, "f", clock=lambda: now[0])
    assert once.run("1", lambda: CommandResult(7, "no network")).status == 7
    now[0] += 59
    assert once.run("1", lambda: CommandResult(0)).status == 7
    now[0] += 2
    assert once.run("1", lambda: CommandResult(0)).status == 0
    now[0] += 1e6
    assert once.run("1", lambda: CommandResult(7)).status == 0


def test_a_failure_belongs_to_its_attempt_and_a_success_to_all(tmp_path: Path) -> None:
    """A command that failed too early is tried in its place; one that succeeded early is not run again there."""
    once = NodeOnce(tmp_path, "f")
    assert once.run("1", lambda: CommandResult(1), "early").status == 1
    assert once.run("1", lambda: CommandResult(0, "now"), "in-place").status == 0
    assert once.run("1", lambda: CommandResult(1), "early") == CommandResult(0, "now")


def test_what_a_command_raises_leaves_no_marker(tmp_path: Path) -> None:
    """A command that could not even start is tried again."""
    once = NodeOnce(tmp_path, "f")

    def broken() -> CommandResult:
        raise OSError("no such program")

    with pytest.raises(OSError, match="no such program"):
        once.run("1", broken)
    assert once.run("1", lambda: CommandResult(0, "ok")).output == "ok"


def test_the_folder_is_its_owners(tmp_path: Path) -> None:
    """What commands printed is nobody else's business."""
    NodeOnce(tmp_path / "locks", "f").run("1", lambda: CommandResult(0))
    assert stat.S_IMODE((tmp_path / "locks").stat().st_mode) == 0o700
