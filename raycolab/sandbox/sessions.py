"""Simulated sessions: one machine plays many notebook sessions that cannot reach each other.

A session has its own network (a loopback, and the private address 172.28.0.12 that every Colab session has), process
ids, host name, /tmp, /dev/shm and /proc, so a node behaves in it as in a notebook tab: it can dial nobody. What the
sessions share is the rest of the file system, and those directories under /tmp they were given; a unix socket in one of
them is the only way from one to another. Ending a session kills its first process and with it everything inside, as
Colab ends a virtual machine.

Linux only. Needs root or user namespaces, which some systems refuse: `probe` tells, and says what would allow them.
What runs inside the border is in `raycolab.sandbox.session_init`. This is no security boundary: files are shared.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from raycolab.errors import RaycolabError
from raycolab.sandbox import session_init

__all__ = ["PRIVATE_ADDRESS", "Capability", "Kind", "NamespacesRefusedError", "SimulatedSession", "probe"]

PRIVATE_ADDRESS = "172.28.0.12"
"""The address every session has, as on Colab."""

Kind = Literal["root", "user"]
"""How a session is made: with root's rights, or in a user namespace that gives them inside."""

_SWITCH_OFF = "RAYCOLAB_NO_NAMESPACES"  # set to anything but 0: probe() says refused
_START_S = 20.0
_END_S = 20.0  # the kernel ends every process of the session in it
_INIT = (sys.executable, "-I", "-S", session_init.__file__)
# sysctl file, the value that refuses, the line that allows
_SWITCHES = (
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    ),
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
    ("/proc/sys/user/max_user_namespaces", "0", "sudo sysctl -w user.max_user_namespaces=15000"),
)
_CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")
_CONTAINER_LINE = "docker run --privileged …"


class NamespacesRefusedError(RaycolabError):
    """This system does not let a simulated session be made; the text says what it refused and what allows it."""


@dataclass(frozen=True, slots=True)
class Capability:
    """Whether simulated sessions can be made here, and how; `reason` is a sentence when `kind` is None."""

    kind: Kind | None
    reason: str = ""


def probe() -> Capability:
    """Tell whether this machine can make simulated sessions, by making one."""
    if os.environ.get(_SWITCH_OFF, "0") not in ("", "0"):
        return Capability(None, f"{_SWITCH_OFF} is set, so no simulated sessions are made; unset it to allow them.")
    if platform.system() != "Linux":
        return Capability(None, f"Simulated sessions need Linux; this is {platform.system()}.")
    reason = ""
    kinds: tuple[Kind, ...] = ("root", "user") if os.geteuid() == 0 else ("user",)
    for kind in kinds:
        try:
            with SimulatedSession(kind=kind):
                return Capability(kind)
        except NamespacesRefusedError as error:
            reason = str(error)
    return Capability(None, reason)


class SimulatedSession:
    """One simulated session: a context manager, or `start` and `end`.

    Several commands may run in it at once. `command` gives the arguments that run one, for `subprocess` and `asyncio`
    alike: the process they start is outside, passes signals on (all that can be caught; its SIGKILL is the command's
    too), has the command's standard streams, and ends as the command ends.

    When the process that made the session dies, the session ends.
    """

    def __init__(self, *, shared: Sequence[Path] = (), hostname: str | None = None, kind: Kind | None = None) -> None:
        # Directories that this session sees although they lie in places, such as /tmp, that each has for itself.
        self._shared = sorted({path.resolve() for path in (*shared, *_places_of_python())})
        # Not digits alone, which the resolver takes for an address.
        self.hostname = hostname or f"tab-{secrets.token_hex(6)}"
        self._kind = kind or ("root" if os.geteuid() == 0 else "user")
        self._keeper: subprocess.Popen[str] | None = None
        self._first: int | None = None  # the process whose end is the session's, as numbered outside
        for path in shared:
            if not path.is_dir() or str(path.resolve()) in session_init.MASKED:
                raise ValueError(f"{path} cannot be shared with a session: it must be a directory below /tmp")

    def start(self) -> None:
        """Make the session; NamespacesRefusedError when the system does not allow it."""
        spec = {
            "user": self._kind == "user",
            "hostname": self.hostname,
            "address": PRIVATE_ADDRESS,
            "shared": [str(path) for path in self._shared if _is_masked(path)],
        }
        # A terminal's Ctrl-C is for the commands: the keeper, in a session of its own, does not get it.
        keeper = subprocess.Popen(
            [*_INIT, "keep", json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._keeper = keeper
        assert keeper.stdout is not None  # a pipe, as asked for
        report = json.loads(keeper.stdout.readline() or '{"refused": "starting Python", "why": "it ended"}')
        keeper.stdout.close()
        if "init" not in report:
            self.end()
            raise NamespacesRefusedError(_refusal(report["refused"], report["why"]))
        self._first = report["init"]

    @property
    def first_process(self) -> int:
        """The id, as seen from outside, of the process whose end is the session's."""
        if self._first is None:
            raise RuntimeError("the simulated session is not running")
        return self._first

    def command(self, argv: Sequence[str], *, cwd: Path | None = None) -> list[str]:
        """Give the arguments that run `argv` in the session, in `cwd` (default: the current directory)."""
        return [*_INIT, "enter", str(self.first_process), str(cwd or Path.cwd()), "--", *argv]

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout_s: float = 60.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the session to its end and give its exit code, output and errors."""
        return subprocess.run(
            self.command(argv, cwd=cwd),
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    def end(self) -> None:
        """Kill the session's first process, and so every process in it; returns when none is left."""
        keeper, self._keeper, self._first = self._keeper, None, None
        if keeper is None:
            return
        assert keeper.stdin is not None  # a pipe, as asked for
        keeper.stdin.close()  # which is what the keeper waits for
        try:
            keeper.wait(_END_S)
        except subprocess.TimeoutExpired:
            keeper.kill()  # the first process dies with it
            keeper.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


def _places_of_python() -> list[Path]:
    """List where this Python and its packages lie, should that be in a directory the session does not see."""
    places = {sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.dirname(sys.executable), *sys.path}
    return [Path(place) for place in places if os.path.isdir(place) and _is_masked(Path(place).resolve())]


def _is_masked(path: Path) -> bool:
    """Tell whether the path lies below a directory that every session has for itself."""
    return any(Path(masked) in path.parents for masked in session_init.MASKED)


def _refusal(what: str, why: str) -> str:
    """Say what the system refused and which line allows it."""
    text = f"Simulated sessions need namespaces of their own, and this system refused them ({what}: {why})."
    for switch, refusing, line in _SWITCHES:
        try:
            if Path(switch).read_text().strip() == refusing:
                return f"{text} To allow them, run: {line}"
        except OSError:
            continue  # this kernel has no such switch
    if any(Path(mark).exists() for mark in _CONTAINER_MARKS):
        return f"{text} To allow them, start the container with: {_CONTAINER_LINE}"
    return f"{text} To allow them, run as root, or in a container started with: {_CONTAINER_LINE}"
