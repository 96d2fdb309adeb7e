"""No child outlives its parent: with real processes, whose end is seen at the end of a pipe they all hold."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from raycolab.node import lifeline
from raycolab.node.lifeline import (
    exec_with_lifeline,
    guard_command,
    remove_old_run_dirs,
    remove_run_dir,
)

LIFELINE = Path(lifeline.__file__)
SPAWN_A_DAEMON = """
import os, subprocess, sys
code = "import signal, sys; sys.stdout.write('daemon\\\\n'); sys.stdout.flush(); signal.pause()"
if os.fork() == 0:
    os.setsid()
    subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    os._exit(0)
os.wait()
"""
STUBBORN = """
import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.write(1, b"ready\\n")
signal.pause()
"""
COUNTING = """
import os, signal, sys
def note(number, frame):
    os.write(1, signal.Signals(number).name.encode() + b"\\n")
    if number == signal.SIGTERM:
        sys.exit(0)
for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
    signal.signal(number, note)
os.write(1, b"ready\\n")
while True:
    signal.pause()
"""


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """A run directory as a supervisor makes it."""
    with tempfile.TemporaryDirectory(prefix="rc-test-", ignore_cleanup_errors=True) as parent:
        path = Path(parent) / "run"
        path.mkdir(mode=0o700)
        (path / "file").write_text("x")
        (path / "ray").mkdir()
        (path / "ray").chmod(0o777)  # as Ray opens its own
        yield path


@contextmanager
def _running(argv: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """Run a command whose standard output every process below it inherits: it ends when the last of them has."""
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _next(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _rest(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    return process.stdout.read().split()


def _python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_the_guard_ends_as_its_command_did() -> None:
    """The command's exit code is the guard's; a signal n becomes 128 + n, a missing command 127."""
    for command, code in (
        (["true"], 0),
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -9 $$"], 137),
        (["/no/such/command"], 127),
    ):
        done = subprocess.run(guard_command(command), capture_output=True, check=False)
        assert done.returncode == code


def test_what_the_command_leaves_is_ended() -> None:
    """A daemon in a session of its own, whose parents are gone, does not outlive the command."""
    with _running(guard_command(_python(SPAWN_A_DAEMON + "sys.exit(3)"))) as guard:
        assert _rest(guard) in (["daemon"], [])  # ended before it could write, or after
        assert guard.wait() == 3


def test_a_killed_command_leaves_nothing() -> None:
    """SIGKILL of the command ends its daemon as well."""
    kill_self = SPAWN_A_DAEMON + "os.read(0, 1); os.kill(os.getpid(), 9)"
    with subprocess.Popen(
        guard_command(_python(kill_self)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as guard:
        assert _next(guard) == "daemon"
        assert guard.stdin is not None
        guard.stdin.close()
        assert _rest(guard) == []
        assert guard.wait() == 137


def test_a_stubborn_descendant_is_killed() -> None:
    """Who does not heed SIGTERM within the grace gets SIGKILL."""
    code = f"""
import subprocess, sys
from raycolab.node.lifeline import end_descendants
child = subprocess.Popen([sys.executable, "-c", {STUBBORN!r}], stdout=subprocess.PIPE)
assert child.stdout.readline() == b"ready\\n"
end_descendants(grace_s=0.05)
print("gone" if child.stdout.read() == b"" else "alive")
"""
    done = subprocess.run(_python(code), capture_output=True, text=True, check=True)
    assert done.stdout == "gone\n"


def test_a_killed_guard_tells_its_command() -> None:
    """When the guard itself is killed the command gets SIGTERM and can clean up."""
    with _running(guard_command(_python(COUNTING))) as guard:
        assert _next(guard) == "ready"
        guard.kill()
        assert _rest(guard) == ["SIGTERM"]


def test_signals_are_passed_on() -> None:
    """SIGHUP and SIGTERM reach the command, and so does SIGINT, once however often it comes."""
    with _running(guard_command(_python(COUNTING))) as guard:
        assert _next(guard) == "ready"
        guard.send_signal(signal.SIGINT)
        assert _next(guard) == "SIGINT"
        guard.send_signal(signal.SIGINT)
        guard.send_signal(signal.SIGHUP)
        assert _next(guard) == "SIGHUP"
        guard.send_signal(signal.SIGTERM)
        assert _next(guard) == "SIGTERM"
        assert guard.wait() == 0


def test_exec_with_lifeline_ends_with_its_parent() -> None:
    """A command started through it gets SIGTERM when the process that started it is killed."""
    code = f"""
import subprocess, sys, signal
from raycolab.node.lifeline import exec_with_lifeline
subprocess.Popen(exec_with_lifeline([sys.executable, "-c", {COUNTING!r}]))
signal.pause()
"""
    with _running(_python(code)) as parent:
        assert _next(parent) == "ready"
        parent.kill()
        assert _rest(parent) == ["SIGTERM"]


def test_exec_with_lifeline_notices_a_parent_that_is_gone_already() -> None:
    """A command whose parent is not the one that was named never starts."""
    argv = exec_with_lifeline(["echo", "started"])
    done = subprocess.run(["sh", "-c", '"$@"; exit $?', "sh", *argv], capture_output=True, check=False)
    assert done.stdout == b""
    assert done.returncode == 128 + signal.SIGTERM


def test_the_guard_removes_run_directories(run_dir: Path) -> None:
    """What the command kept in its run directory is gone when the command is."""
    done = subprocess.run(guard_command(["sh", "-c", f"test -e {run_dir}/file"], remove=[run_dir]), check=False)
    assert done.returncode == 0
    assert not run_dir.exists()


def test_what_a_killed_guard_left_is_removed_by_the_next_node(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is an hour old and nobody works in it."""
    monkeypatch.setattr(tempfile, "tempdir", str(run_dir.parent))
    remove_old_run_dirs("ru*")
    assert run_dir.exists()
    os.utime(run_dir, (0, 0))
    command = f"import sys; sys.path.insert(0, {str(LIFELINE.parent)!r}); import lifeline, pathlib\n"
    command += f"lifeline.hold_run_dir(pathlib.Path({str(run_dir)!r})); print('ready', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as at_work:
        assert at_work.stdout is not None
        assert at_work.stdout.readline() == "ready\n"
        remove_old_run_dirs("ru*")
        assert run_dir.exists()
        at_work.kill()
    remove_old_run_dirs("ru*")
    assert not run_dir.exists()


def test_only_a_run_directory_is_removed(run_dir: Path) -> None:
    """What is open to others, a link, a file, or not below the temporary directory stays, and is named."""
    link = run_dir.parent / "link"
    link.symlink_to(run_dir)
    for path in (link, run_dir / "file", Path.home()):
        with pytest.raises(ValueError, match=str(path)):
            remove_run_dir(path)
    run_dir.chmod(0o750)
    with pytest.raises(ValueError, match="open to others"):
        remove_run_dir(run_dir)
    done = subprocess.run(guard_command(["true"], remove=[run_dir]), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "open to others" in done.stderr
    assert (run_dir / "file").exists()
    remove_run_dir(run_dir.parent / "never made")


def test_wrong_arguments_are_named() -> None:
    """The guard says what it does not understand instead of guessing."""
    script = guard_command([])[:-1]
    for words in (["true"], ["--"], ["--remove", "--", "true"], ["--exec", "--", "true"]):
        done = subprocess.run([*script, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("lifeline: ")


def test_the_guard_is_light() -> None:
    """One runs beside every long-lived process, so it loads nothing heavy."""
    code = "import sys, raycolab.node.lifeline; print(*sorted({'asyncio', 'ray', 'ssl', 'logging'} & set(sys.modules)))"
    done = subprocess.run(_python(code), capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
