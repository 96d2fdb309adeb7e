"""What runs at the border of a simulated session: its keeper, its first process, and the way in.

`raycolab.sandbox.sessions` runs it by path with the standard library alone (`python -I -S session_init.py …`), as
one of

    keep SPEC              make the namespaces, start the session's first process in them, and end it when standard
                           input ends; one JSON line on standard output tells how it went:
                           {"init": PID} or {"refused": STEP, "why": REASON}
    enter PID CWD -- ARGV  run ARGV in the session whose first process is PID, pass signals on, end as ARGV ends

SPEC is JSON: {"user": bool, "hostname": str, "address": str, "shared": [directory…]}. Everything is done with system
calls: `unshare`, `nsenter`, `mount` and `ip` need not be installed.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

__all__ = ["MASKED", "main"]

MASKED = ("/tmp", "/dev/shm")
"""The directories every session has for itself alone."""

# linux/sched.h
_NEW_MOUNTS, _NEW_HOSTNAME, _NEW_USER, _NEW_PIDS, _NEW_NETWORK = 1 << 17, 1 << 26, 1 << 28, 1 << 29, 1 << 30
_NAMESPACES = ("user", "net", "uts", "pid", "mnt")  # in the order to enter: each needs rights the first one gives
# linux/mount.h
_NO_SUID, _NO_DEVICES, _BIND, _RECURSIVE, _PRIVATE = 1 << 1, 1 << 2, 1 << 12, 1 << 14, 1 << 18
# linux/prctl.h, linux/capability.h
_PDEATHSIG, _DROP_CAPABILITY = 1, 24
_NET_ADMIN, _SYS_ADMIN = 12, 21
# linux/sockios.h, linux/if.h
_SET_FLAGS, _SET_ADDRESS, _SET_NETMASK, _UP_RUNNING = 0x8914, 0x8916, 0x891C, 0x41
_PASSED_ON = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
_ABANDONED = signal.SIGALRM  # between our own two processes only: the one that started the command was killed


def _keep(spec: Mapping[str, Any]) -> int:
    """Hold one session: from its making until standard input ends or its first process does."""
    try:
        _leave_namespaces(user=spec["user"])
        reading, writing = os.pipe()
        first = os.fork()
        if first == 0:
            os.close(reading)
            _be_first(spec, writing)
    except OSError as error:
        return _say({"refused": error.filename, "why": error.strerror})
    os.close(writing)
    with os.fdopen(reading) as pipe:
        refusal = json.loads(pipe.read() or '{"refused": "starting a first process", "why": "it ended"}')
    if _say(refusal or {"init": first}):
        return 1
    ended = os.pidfd_open(first)
    watched = select.poll()
    watched.register(sys.stdin.fileno(), select.POLLIN | select.POLLHUP)
    watched.register(ended, select.POLLIN)
    watched.poll()
    os.kill(first, signal.SIGKILL)  # the kernel ends all the rest, and waitpid returns when that is done
    os.waitpid(first, 0)
    return 0


def _leave_namespaces(*, user: bool) -> None:
    """Move this process to a network, mounts and host name of its own, and its children to process ids of their own."""
    uid, gid = os.geteuid(), os.getegid()
    flags = _NEW_MOUNTS | _NEW_HOSTNAME | _NEW_PIDS | _NEW_NETWORK
    _call("making namespaces", "unshare", flags | (_NEW_USER if user else 0))
    if user:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with _step(f"writing {name} of a user namespace"), open(f"/proc/self/{name}", "w") as file:
                file.write(text)


def _be_first(spec: Mapping[str, Any], writing: int) -> NoReturn:
    """Be process 1 of the session: furnish it, say so on the pipe, then reap what ends until killed."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    try:
        _call("prctl", "prctl", _PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        try:
            _mount_own(spec["shared"])
            _bring_loopback_up(spec["address"])
            _name_host(spec["hostname"], spec["address"])
        except OSError as error:
            os.write(writing, json.dumps({"refused": error.filename, "why": error.strerror}).encode())
            os._exit(1)
        os.write(writing, b"{}")  # raises if the keeper died before the death signal was set
        _drop_streams(writing)
        while True:
            signal.sigwait({signal.SIGCHLD})
            while _reap():
                pass
    finally:
        os._exit(1)


def _mount_own(shared: Sequence[str]) -> None:
    """Give the session /tmp, /dev/shm and /proc of its own, with the shared directories at their own paths."""
    _mount("keeping mounts private", None, "/", None, _RECURSIVE | _PRIVATE)
    held = [(path, os.open(path, os.O_PATH | os.O_DIRECTORY)) for path in shared]  # before /tmp covers them
    for path in MASKED:
        _mount(f"mounting {path}", b"tmpfs", path, b"tmpfs", _NO_SUID | _NO_DEVICES, b"mode=1777")
    _mount("mounting /proc", b"proc", "/proc", b"proc", _NO_SUID | _NO_DEVICES)
    for path, descriptor in held:
        os.makedirs(path, exist_ok=True)
        source = f"/proc/self/fd/{descriptor}".encode()
        _mount(f"sharing {path}", source, path, None, _BIND | _RECURSIVE)
        os.close(descriptor)


def _bring_loopback_up(address: str) -> None:
    """Switch the loopback interface on and give it the session's private address too."""
    with _step("bringing loopback up"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh", b"lo", _UP_RUNNING))
        for request, value in ((_SET_ADDRESS, address), (_SET_NETMASK, "255.255.255.255")):
            packed = struct.pack("16sHH4s8x", b"lo:0", socket.AF_INET, 0, socket.inet_aton(value))
            fcntl.ioctl(any_socket, request, packed)


def _name_host(hostname: str, address: str) -> None:
    """Set the host name and have it resolve to the private address, as in a container."""
    hosts = "/tmp/hosts"
    with _step("naming the host"), open(hosts, "w") as file:
        socket.sethostname(hostname)
        file.write(f"127.0.0.1\tlocalhost\n::1\tlocalhost\n{address}\t{hostname}\n")
    if os.path.exists("/etc/hosts"):
        _mount("mounting /etc/hosts", hosts.encode(), "/etc/hosts", None, _BIND)
    os.unlink(hosts)


def _drop_streams(pipe: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)
    os.close(pipe)


def _enter(first: int, cwd: str, argv: Sequence[str]) -> int:
    """Run a command in the session and end as it ends, by the same signal if it was one."""
    # Two processes wait for the command: this one, which its starter may kill at any moment, and another that then ends
    # the command and reaps it. An init that does not reap would otherwise keep the whole session from ending.
    signal.pthread_sigmask(signal.SIG_BLOCK, {*_PASSED_ON, _ABANDONED, signal.SIGCHLD})
    waiting = os.fork()
    if waiting:
        return _end_as(_attend(waiting))
    try:
        for descriptor in _open_namespaces(first):
            _call("entering a session", "setns", descriptor, 0)
            os.close(descriptor)
    except OSError as error:
        sys.stderr.write(f"the session of process {first} cannot be entered: {error.strerror}\n")
        return 125
    _call("prctl", "prctl", _PDEATHSIG, int(_ABANDONED), 0, 0, 0)
    command = os.fork()  # the first process that is inside with its id too
    if command == 0:
        _become(cwd, argv)
    return _end_as(_attend(command))


def _attend(child: int) -> int:
    """Pass signals on to the child until it ends, and give its exit code, negative for a signal."""
    while True:
        received = signal.sigwaitinfo({*_PASSED_ON, _ABANDONED, signal.SIGCHLD}).si_signo
        if received != signal.SIGCHLD:
            os.kill(child, signal.SIGKILL if received == _ABANDONED else received)
            continue
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)


def _open_namespaces(first: int) -> list[int]:
    """Open those namespaces of the session that are not this process's own already."""
    own = {name: os.readlink(f"/proc/self/ns/{name}") for name in _NAMESPACES}
    paths = [(name, f"/proc/{first}/ns/{name}") for name in _NAMESPACES]
    return [os.open(path, os.O_RDONLY) for name, path in paths if os.readlink(path) != own[name]]


def _become(cwd: str, argv: Sequence[str]) -> NoReturn:
    """Turn this process, a child inside the session, into the command."""
    os.setsid()
    for capability in (_NET_ADMIN, _SYS_ADMIN):  # Colab's containers have neither
        _call("prctl", "prctl", _DROP_CAPABILITY, capability, 0, 0, 0)
    _call("prctl", "prctl", _PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.chdir(cwd if os.path.isdir(cwd) else "/")
    os.environ["TMPDIR"] = "/tmp"
    os.environ["HOSTNAME"] = socket.gethostname()
    try:
        os.execvp(argv[0], list(argv))
    except OSError as error:
        sys.stderr.write(f"{argv[0]} cannot be run: {error.strerror}\n")
        os._exit(127)


@contextlib.contextmanager
def _step(what: str) -> Iterator[None]:
    """Have an OSError in the block carry `what` as its filename."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, what) from error


def _call(what: str, name: str, *arguments: object) -> None:
    """Make a system call through libc; OSError with `what` as its filename when it is refused."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno() or errno.EPERM
        raise OSError(number, os.strerror(number), what)


def _mount(
    what: str, source: bytes | None, target: str, kind: bytes | None, flags: int, data: bytes | None = None
) -> None:
    _call(what, "mount", source, os.fsencode(target), kind, ctypes.c_ulong(flags), data)


def _reap() -> bool:
    """Reap one child that has ended, if there is one."""
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False


def _end_as(code: int) -> int:
    """End by the signal -`code`, or give `code` back when it is none."""
    if code < 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


def _say(report: Mapping[str, object]) -> int:
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.flush()
    return 0 if "init" in report else 1


def main(arguments: Sequence[str]) -> int:
    """Be the keeper of a session, or enter one."""
    match arguments:
        case ["keep", spec]:
            return _keep(json.loads(spec))
        case ["enter", first, cwd, "--", *argv] if argv:
            return _enter(int(first), cwd, argv)
    raise SystemExit("session_init: keep SPEC | enter PID CWD -- ARGV")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
