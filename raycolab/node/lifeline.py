"""No child outlives its parent, whatever ends the parent: SIGKILL of any one process of a node leaves nothing behind.

Three measures of the Linux kernel, and a command that applies them. Standard library and psutil only, and quick to
import, since one of these runs beside every long-lived process.

1. A child asks to be signalled when its parent dies (`die_with_parent`, PR_SET_PDEATHSIG).
2. An ancestor adopts what its dead descendants leave (`adopt_orphans`, PR_SET_CHILD_SUBREAPER), whatever process group
   or session the orphans have moved to, and ends them (`end_descendants`).
3. The *guard* is such an ancestor: it runs one command, and when that ends for any reason it ends the rest and removes
   the command's run directories. When the guard is killed its command gets SIGTERM and cleans up after itself. Where
   both are killed the next node that starts on this machine removes what they left (`remove_old_run_dirs`).

    python lifeline.py [--remove DIR]... -- COMMAND...     the guard; ends as COMMAND ended (128 + n for signal n)
    python lifeline.py --exec PARENT -- COMMAND...         becomes COMMAND, which gets SIGTERM when process PARENT dies

PR_SET_PDEATHSIG looks at the *thread* that made the child: start such children from a thread that lives on, as an
asyncio loop's own does, never from a pool's.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import stat
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import psutil

__all__ = [
    "adopt_orphans",
    "die_with_parent",
    "end_descendants",
    "exec_with_lifeline",
    "guard_command",
    "hold_run_dir",
    "remove_old_run_dirs",
    "remove_run_dir",
]

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PR_SET_CHILD_SUBREAPER = 36
# asm-generic/siginfo.h: si_code of a signal that the kernel sent, here for a terminal's Ctrl-C or hang-up.
_SI_KERNEL = 0x80
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_GRACE_S = 5.0  # between SIGTERM and SIGKILL, for what is left when the command has ended
_KILL_S = 10.0  # for the kernel to carry out a SIGKILL
_OLD_S = 3600.0  # of a run directory that nobody holds: a new one is not held yet
# Started by its path, it needs no package and imports nothing from a user's folder.
_SCRIPT = (sys.executable, "-P", __file__)


def die_with_parent(parent: int, number: int = signal.SIGTERM) -> None:
    """Have this process signalled when `parent`, the process that started it, ends; at once if it is gone already."""
    _prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it ended before the line above
        os.kill(os.getpid(), number)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_descendants(grace_s: float = _GRACE_S) -> None:
    """End every descendant of this process: SIGTERM, up to `grace_s` to comply, then SIGKILL until none is left.

    Reaps those that are this process's children, so call it only where nobody else waits for them.
    """
    deadline = time.monotonic() + grace_s
    asked: set[psutil.Process] = set()
    empty_looks = 0  # in a row; a single look may miss a process whose parent dies during it
    while empty_looks < 2 and time.monotonic() < deadline + _KILL_S:
        alive = _living_descendants()
        empty_looks = 0 if alive else empty_looks + 1
        for process in alive:
            if time.monotonic() >= deadline:
                _send(process, signal.SIGKILL)
            elif process not in asked:
                asked.add(process)
                _send(process, signal.SIGTERM)
                _send(process, signal.SIGCONT)  # a stopped process sees SIGTERM only once it goes on
        psutil.wait_procs(alive, timeout=0.1)


def remove_run_dir(path: Path) -> None:
    """Remove a run directory and all in it; one that is already gone is fine.

    Raises ValueError for what cannot be one: a link, a directory of another user or open to others, or one that does
    not lie below the directory for temporary files.
    """
    if _is_run_dir(path):
        shutil.rmtree(path, ignore_errors=True)


def hold_run_dir(path: Path) -> None:
    """Say that this process works in a run directory, until it ends; no failure where that cannot be said."""
    with contextlib.suppress(OSError):
        fcntl.flock(os.open(path, os.O_RDONLY | os.O_CLOEXEC), fcntl.LOCK_SH | fcntl.LOCK_NB)


def remove_old_run_dirs(pattern: str) -> None:
    """Remove the run directories of nodes whose every process was killed, guard included."""
    for path in Path(tempfile.gettempdir()).glob(pattern):
        with contextlib.suppress(OSError, ValueError):
            if _is_run_dir(path) and time.time() - path.stat().st_mtime > _OLD_S:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path, ignore_errors=True)
                finally:
                    os.close(descriptor)


def guard_command(command: Sequence[str], *, remove: Sequence[Path] = ()) -> list[str]:
    """The arguments that run `command` under a guard, which removes the run directories `remove` at the end."""
    return [*_SCRIPT, *(word for path in remove for word in ("--remove", str(path))), "--", *command]


def exec_with_lifeline(command: Sequence[str]) -> list[str]:
    """Give the arguments that become `command`, which gets SIGTERM when this process, which must start it, dies."""
    return [*_SCRIPT, "--exec", str(os.getpid()), "--", *command]


def _guard(command: Sequence[str], remove: Sequence[Path]) -> int:
    """Run the command to its end and end what it left; returns the guard's own exit code."""
    for path in remove:
        _is_run_dir(path)
    adopt_orphans()
    signal.pthread_sigmask(signal.SIG_BLOCK, {*_FORWARDED, signal.SIGCHLD})
    guard = os.getpid()
    child = os.fork()
    if child == 0:
        _become(command, guard)
    try:
        code = _watch(child)
    finally:
        end_descendants()
        for path in remove:
            remove_run_dir(path)
    return 128 - code if code < 0 else code


def _become(command: Sequence[str], parent: int) -> NoReturn:
    """Turn this process into `command`."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    die_with_parent(parent)
    try:
        os.execvp(command[0], list(command))
    except OSError as error:
        sys.stderr.write(f"lifeline: cannot run {command[0]}: {error.strerror}\n")
        os._exit(127)


def _watch(child: int) -> int:
    """Pass signals on to the child, reap what ends below, and return the child's exit code when it has ended."""
    interrupted = False
    while True:
        received = signal.sigwaitinfo({*_FORWARDED, signal.SIGCHLD})
        if received.si_signo != signal.SIGCHLD:
            # A terminal signals its whole foreground group, the child included, and a second Ctrl-C must not
            # interrupt the child's clean-up.
            again = received.si_signo == signal.SIGINT and interrupted
            interrupted = interrupted or received.si_signo == signal.SIGINT
            if received.si_code != _SI_KERNEL and not again:
                os.kill(child, received.si_signo)
            continue
        while (ended := _reap_one()) is not None:
            if ended[0] == child:
                return os.waitstatus_to_exitcode(ended[1])


def _reap_one() -> tuple[int, int] | None:
    """Reap one child that has ended: its process id and wait status, or None when there is none."""
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None


def _is_run_dir(path: Path) -> bool:
    """Whether the run directory exists; ValueError when what is there cannot be one."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    if not stat.S_ISDIR(found.st_mode):
        raise ValueError(f"{path} is not a directory of its own")
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise ValueError(f"{path} belongs to somebody else or is open to others")
    if Path(tempfile.gettempdir()).resolve() not in path.resolve().parents:
        raise ValueError(f"{path} does not lie below {tempfile.gettempdir()}")
    return True


def _living_descendants() -> list[psutil.Process]:
    """This process's descendants that have not ended, after reaping its own children that have."""
    while _reap_one() is not None:
        pass
    alive = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                alive.append(process)
    return alive


def _send(process: psutil.Process, number: int) -> None:
    # It may have ended in between, or have become another user's; psutil never signals an id that was given away.
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        process.send_signal(number)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


def main(arguments: Sequence[str]) -> int:
    """Run as the guard, or with --exec become the command."""
    if "--" not in arguments or arguments[-1] == "--":
        raise SystemExit("lifeline: the command to run comes after --")
    end_of_options = list(arguments).index("--")
    options, command = list(arguments[:end_of_options]), arguments[end_of_options + 1 :]
    if options[:1] == ["--exec"] and len(options) == 2 and options[1].isdecimal():
        _become(command, int(options[1]))
    if len(options) % 2 or any(word != "--remove" for word in options[::2]):
        raise SystemExit("lifeline: the only options are --exec PARENT, or --remove DIR")
    try:
        return _guard(command, [Path(word) for word in options[1::2]])
    except ValueError as error:
        raise SystemExit(f"lifeline: {error}") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
