"""Who of a node's processes sets a MAIN up first, and what the others are told of it: one file and one lock per node.

The first process runs the whole setup alone, in a work folder that is new, and writes down what each command of it did.
Those that come later take the folder as it is, run the cells of Python for their own memory, and are told of the
commands. It is first again where what was written down does not hold any more: a setup that did not come to its end,
and one whose commands were followed by those of another MAIN, for both change the same machine.

A follower sets up beside others, unless the setup changes its folder in ways that one process at a time has to repeat:
a cell of Python that writes there, or a command whose files do not stay as it left them. Then followers go one by one,
and a command is run again where the folder is not as that command left it.

The lock is the kernel's (`fcntl`), held by a process for its setup and gone with it, whatever ends the process and
whatever it forked. What is written is whole or not there.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from raycolab.files import write_private
from raycolab.main.commands import CommandResult
from raycolab.main.work_folder import Fill, WorkFolder
from raycolab.trials import Failure

__all__ = ["Setup", "SetupFailedElsewhere"]

POLL_S = 0.05
MOST_FILES = 20_000
"""A folder of more is not looked at: what cells do to it is not noticed."""

Stamp = tuple[int, int, int]
"""A file as it was last written: its kind, its size, and when that was (nanoseconds)."""


class RanCommand(msgspec.Struct, frozen=True):
    """A command of a setup, and the files in the work folder that it changed: None for one that it removed."""

    key: str
    result: CommandResult
    left: dict[str, Stamp | None] = {}


class SetupRecord(msgspec.Struct, frozen=True):
    """A setup that began on the node."""

    folder: str
    at: float  # when it began or came to its end, seconds since the epoch
    is_done: bool = False
    failure: Failure | None = None
    started_again: bool = False  # because a package that was loaded had been replaced
    commands: tuple[RanCommand, ...] = ()
    one_by_one: bool = False  # its followers


class NodeRecord(msgspec.Struct, frozen=True):
    """What the node's processes know of each other."""

    last: str | None = None  # the MAIN whose commands ran last
    setups: dict[str, SetupRecord] = {}


class SetupFailedElsewhere(Exception):  # noqa: N818  # an event in a worker's life
    """The process that this one waited for could not set MAIN up; `failure` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


class Setup:
    """One process's part in setting one MAIN up, from `begin` to `end`."""

    def __init__(self, node_dir: Path, sweep: str, fingerprint: str, clock: Callable[[], float] = time.time) -> None:
        """`fingerprint` is of all that workers run: the code and the files that travel with it."""
        self._work = node_dir / "work"
        self._sweep = sweep
        self._key = hashlib.sha256(f"{sweep}\n{fingerprint}".encode()).hexdigest()[:32]
        self._clock = clock
        self._lock: int | None = None
        self._known: SetupRecord | None = None  # of a follower
        self._mine = SetupRecord("", 0.0)  # of the first
        self._before: dict[str, Stamp] | None = None  # the folder as it was last looked at
        self._left: dict[str, Stamp | None] = {}  # what commands left there, the later one's word counting
        self._times: Counter[str] = Counter()  # how often each command of the cell that runs was met
        self._cell = 0
        self.folder: WorkFolder | None = None

    # ----- whose turn it is -----

    def begin(self, fill: Fill | None = None, waits: Callable[[], None] = lambda: None) -> Path:
        """Wait for this process's turn, calling `waits` once if that takes a while; the work folder.

        Raises SetupFailedElsewhere when the process that was first could not, while this one waited.
        """
        arrived = self._clock()
        self._work.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(self._work / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        has_waited = False
        while not self._take_turn(arrived, fill):
            if not has_waited:
                has_waited = True
                waits()
            time.sleep(POLL_S)
        assert self.folder is not None  # it has come to its turn
        self._before = self._look()
        return self.folder.path

    def _take_turn(self, arrived: float, fill: Fill | None) -> bool:
        if self._locked(fcntl.LOCK_EX):
            known = self._usable(arrived)
            if known is None:
                self._be_first(fill)
            else:
                self._follow(known)
                if not known.one_by_one:
                    self._locked(fcntl.LOCK_SH)
            return True
        if self._locked(fcntl.LOCK_SH):
            known = self._usable(arrived)
            if known is not None and not known.one_by_one:
                self._follow(known)
                return True
            self._unlock()
        return False

    def _usable(self, arrived: float) -> SetupRecord | None:
        """The setup of this MAIN, where what is known of it still holds."""
        record = self._read()
        known = record.setups.get(self._key)
        if known is not None and known.failure is not None and known.at >= arrived:
            self._unlock()
            raise SetupFailedElsewhere(known.failure)
        holds = known is not None and known.is_done and (not known.commands or record.last == self._key)
        return known if holds and known is not None and Path(known.folder).is_dir() else None

    def _be_first(self, fill: Fill | None) -> None:
        earlier = self._read().setups.get(self._key)
        self.folder = WorkFolder.make(self._work, self._sweep, fill)
        again = earlier is not None and earlier.started_again and not earlier.is_done
        self._mine = SetupRecord(str(self.folder.path), self._clock(), started_again=again)
        self._write(self._mine)

    def _follow(self, known: SetupRecord) -> None:
        self.folder = WorkFolder(Path(known.folder))
        self._known = known

    # ----- while cells run -----

    @property
    def is_first(self) -> bool:
        """Whether this process runs everything."""
        return self._known is None

    @property
    def may_start_again(self) -> bool:
        """Whether the process may begin anew: the first may once, and who follows runs what the first has left."""
        return not self._mine.started_again

    def cell(self, index: int) -> None:
        """This cell runs next."""
        self._cell = index
        self._times.clear()

    def command(self, text: str, run: Callable[[], CommandResult]) -> CommandResult:
        """How a command of the cell ended: run here, or known from the process that was first."""
        self._times[text] += 1
        key = f"{self._cell} {self._times[text]} {text}"
        if self._known is not None:
            return self._told(self._known, key, run)
        self._notice_python()
        if not self._mine.commands:  # before it runs, for it may end this process
            self._write(self._mine, last=True)
        result = run()
        before, self._before = self._before, self._look()
        left = _changes(before, self._before)
        self._left |= left
        self._mine = msgspec.structs.replace(self._mine, commands=(*self._mine.commands, RanCommand(key, result, left)))
        return result

    def _told(self, known: SetupRecord, key: str, run: Callable[[], CommandResult]) -> CommandResult:
        ran = next((each for each in known.commands if each.key == key), None)
        if ran is None:  # the process that was first did not come by here
            return run()
        if known.one_by_one:
            now = self._look()
            if now is not None and any(now.get(name) != stamp for name, stamp in ran.left.items()):
                again = run()
                return again if again.status == 0 else ran.result
        return ran.result

    def _notice_python(self) -> None:
        """See what cells of Python did to the folder since it was last looked at."""
        now = self._look()
        if _changes(self._before, now):
            self._mine = msgspec.structs.replace(self._mine, one_by_one=True)
        self._before = now

    # ----- how it ended -----

    def start_again(self) -> None:
        """The process begins anew, which it does once for each setup."""
        if self.is_first:
            self._write(msgspec.structs.replace(self._mine, started_again=True, commands=()))
        self._unlock()

    def end(self, failure: Failure | None = None) -> None:
        """The setup has come to its end, or failed."""
        if self.is_first:
            self._notice_python()
            undone = self._before is not None and any(
                self._before.get(name) != stamp
                for command in self._mine.commands
                for name, stamp in command.left.items()
            )
            self._write(
                msgspec.structs.replace(
                    self._mine,
                    at=self._clock(),
                    is_done=failure is None,
                    failure=failure,
                    one_by_one=self._mine.one_by_one or undone,
                ),
                last=bool(self._mine.commands),
            )
        self._unlock()

    def release(self) -> None:
        """This process works in the folder no more."""
        self._unlock()
        if self.folder is not None:
            self.folder.release()

    # ----- the file, the lock, the folder -----

    def _read(self) -> NodeRecord:
        try:
            return msgspec.json.decode((self._work / "setups.json").read_bytes(), type=NodeRecord)
        except (FileNotFoundError, msgspec.DecodeError):
            return NodeRecord()

    def _write(self, mine: SetupRecord, *, last: bool = False) -> None:
        self._mine = mine
        record = self._read()
        setups = {key: each for key, each in record.setups.items() if Path(each.folder).is_dir()}
        changed = NodeRecord(self._key if last else record.last, setups | {self._key: mine})
        write_private(self._work / "setups.json", msgspec.json.encode(changed).decode())

    def _locked(self, how: int) -> bool:
        assert self._lock is not None  # `begin` has opened it
        try:
            fcntl.lockf(self._lock, how | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _look(self) -> dict[str, Stamp] | None:
        """The files and folders in the work folder; None where there are too many to look at."""
        assert self.folder is not None  # it has come to its turn
        found: dict[str, Stamp] = {}
        folders = [self.folder.path]
        while folders:
            with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
                for entry in entries:
                    stat = entry.stat(follow_symlinks=False)
                    is_dir = entry.is_dir(follow_symlinks=False)
                    # What is in a folder is looked at by itself: its own time would say it twice.
                    stamp = (
                        (stat.st_mode >> 12, 0, 0) if is_dir else (stat.st_mode >> 12, stat.st_size, stat.st_mtime_ns)
                    )
                    found[os.path.relpath(entry.path, self.folder.path)] = stamp
                    if is_dir and entry.name != "__pycache__":
                        folders.append(Path(entry.path))
            if len(found) > MOST_FILES:
                return None
        return {name: stamp for name, stamp in found.items() if "__pycache__" not in name}


def _changes(before: Mapping[str, Stamp] | None, now: Mapping[str, Stamp] | None) -> dict[str, Stamp | None]:
    """What was written, and None for what was removed, between two looks."""
    if before is None or now is None:
        return {}
    changed = {name: stamp for name, stamp in now.items() if before.get(name) != stamp}
    return {**changed, **dict.fromkeys(before.keys() - now.keys())}
