"""Who of a node's processes sets a MAIN up first, and what the others are told of it: one file and one lock per node.

The first process runs the whole setup alone, in a work folder that is new, and writes down what each command of it did.
Those that come later share its folder: they run the cells of Python for their own memory, beside each other, and are
told of the commands. A process is first again where what was written down does not hold any more: a setup that did not
come to its end, and one whose commands were followed by those of another MAIN, for both change the same machine.

Sharing a folder has to mean the same as having one. It does not where a file is written twice and a cell of Python may
have seen it in between, where a cell fails that has not failed before, or where a file has another size afterwards than
the first process left it with. From then on each process of this MAIN runs all of its setup in a folder of its own.

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
from collections.abc import Callable
from pathlib import Path

import msgspec

from raycolab.files import write_private
from raycolab.main.commands import CommandResult
from raycolab.main.work_folder import Fill, WorkFolder
from raycolab.trials import Failure

__all__ = ["Setup", "SetupFailed"]

POLL_S = 0.05
CLOCK_S = 0.01  # a little more than the clock of file systems takes from one time to the next
MOST_FILES = 20_000
"""A folder of more is not looked at: what cells do to it is not noticed."""

Stamp = tuple[int, int, int]
"""A file as it was last written: its kind, its size, and when that was (nanoseconds)."""


class SetupRecord(msgspec.Struct, frozen=True):
    """A setup that began on the node."""

    folder: str
    at: float  # when it began or came to its end, by the monotonic clock of the machine
    is_done: bool = False
    failure: Failure | None = None
    started_again: bool = False  # because a package that was loaded had been replaced
    commands: dict[str, CommandResult] = {}
    is_shared: bool = True  # others may use the folder
    sizes: dict[str, int] = {}  # of what cells of Python wrote


class NodeRecord(msgspec.Struct, frozen=True):
    """What the node's processes know of each other."""

    last: str | None = None  # the MAIN whose commands ran last
    setups: dict[str, SetupRecord] = {}


class SetupFailed(Exception):  # noqa: N818  # an event in a worker's life, caught where slots are run
    """MAIN could not be set up on this node; `failure` says which cell, and why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure

    def __str__(self) -> str:
        return self.failure.summary


class Setup:
    """One process's part in setting one MAIN up, from `begin` to `end`."""

    def __init__(self, node_dir: Path, sweep: str, fingerprint: str) -> None:
        """`fingerprint` is of all that workers run: the code and the files that travel with it."""
        self._work = node_dir / "work"
        self._sweep = sweep
        self._key = hashlib.sha256(f"{sweep}\n{fingerprint}".encode()).hexdigest()[:32]
        self._lock: int | None = None
        self._known: SetupRecord | None = None  # of one who shares
        self._mine = SetupRecord("", 0.0)  # of the first
        self._cell = 0
        self._times: Counter[str] = Counter()  # how often each command of the cell that runs was met
        self._files: dict[str, Stamp] | None = None  # the folder as it was last looked at
        self._by_commands: set[str] = set()  # what they wrote since a cell of Python ran last
        self._seen: set[str] = set()  # what was written before: cells of Python may have made use of it
        self._by_python: set[str] = set()
        self.folder: WorkFolder | None = None

    # ----- whose turn it is -----

    def begin(self, fill: Fill | None = None, waits: Callable[[], None] = lambda: None) -> Path:
        """Wait for this process's turn, calling `waits` once if that takes a while; the work folder.

        Raises SetupFailed when the process that was first could not, while this one waited. It waits for as
        long as that takes: the engine ends a slot whose setup does not come to its end.
        """
        arrived = time.monotonic()
        self._work.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._open_lock()
        has_waited = False
        while not self._take_turn(arrived, fill):
            if not has_waited:
                has_waited = True
                waits()
            time.sleep(POLL_S)
        assert self.folder is not None  # it has come to its turn
        self._files = self._look()
        return self.folder.path

    def _take_turn(self, arrived: float, fill: Fill | None) -> bool:
        if self._locked(fcntl.LOCK_EX):
            known = self._usable(arrived)
            if known is None:
                self._be_first(fill)
            else:
                self._share(known)
                self._locked(fcntl.LOCK_SH)
            return True
        if self._locked(fcntl.LOCK_SH):
            known = self._usable(arrived)
            if known is not None:
                self._share(known)
                return True
            self._locked(fcntl.LOCK_UN)
        return False

    def _usable(self, arrived: float) -> SetupRecord | None:
        """The setup of this MAIN whose folder may be shared, where what is known of it still holds."""
        record = self._read()
        known = record.setups.get(self._key)
        if known is None:
            return None
        if known.failure is not None and known.at >= arrived:
            self._unlock()
            raise SetupFailed(known.failure)
        holds = known.is_done and known.is_shared and (not known.commands or record.last == self._key)
        return known if holds and Path(known.folder).is_dir() else None

    def _be_first(self, fill: Fill | None) -> None:
        earlier = self._read().setups.get(self._key, self._mine)
        self.folder = WorkFolder.make(self._work, self._sweep, fill)
        self._mine = SetupRecord(
            str(self.folder.path),
            time.monotonic(),
            started_again=earlier.started_again and not earlier.is_done,
            is_shared=earlier.is_shared,
        )
        self._write(self._mine)

    def _share(self, known: SetupRecord) -> None:
        self.folder = WorkFolder(Path(known.folder))
        self._known = known

    # ----- while cells run -----

    @property
    def may_start_again(self) -> bool:
        """Whether the process may begin anew, because packages were replaced: once for each setup."""
        return not self._mine.started_again

    def cell(self, index: int, *, only_commands: bool) -> None:
        """This cell runs next."""
        self._cell = index
        self._times.clear()
        if not only_commands:
            self._seen |= self._by_commands
            self._by_commands.clear()

    def command(self, text: str, run: Callable[[], CommandResult]) -> CommandResult:
        """How a command of the cell ended: run here, or known from the process that was first."""
        self._times[text] += 1
        key = hashlib.sha256(f"{self._cell} {self._times[text]} {text}".encode()).hexdigest()[:32]
        if self._known is not None:  # what the first process did not come by is this one's alone
            return self._known.commands.get(key) or run()
        self._notice_python()
        if not self._mine.commands:  # before it runs, for it may end this process
            self._write(self._mine, last=True)
        result = run()
        self._by_commands |= self._changed()
        if self._by_commands:
            time.sleep(CLOCK_S)  # what is written next has another time
        self._mine = msgspec.structs.replace(self._mine, commands={**self._mine.commands, key: result})
        return result

    def _notice_python(self) -> None:
        """See what cells of Python did to the folder since it was last looked at."""
        changed = self._changed()
        self._by_python |= changed
        self._seen |= changed

    def _changed(self) -> set[str]:
        """What was written or removed since the last look; what was seen in another form cannot be shared."""
        before, self._files = self._files, self._look()
        if before is None or self._files is None:
            return set()
        changed = {name for name in before.keys() | self._files.keys() if before.get(name) != self._files.get(name)}
        if changed & self._seen:
            self._mine = msgspec.structs.replace(self._mine, is_shared=False)
        return changed

    # ----- how it ended -----

    def end(self, failure: Failure | None = None) -> bool:
        """The setup has come to its end, or failed; False when that does not count, and the process has to begin anew.

        It does not where a folder was shared that cannot be.
        """
        if self._known is None:
            self._notice_python()
            files = self._files or {}
            self._write(
                msgspec.structs.replace(
                    self._mine,
                    at=time.monotonic(),
                    is_done=failure is None,
                    failure=failure,
                    sizes={name: files[name][1] for name in self._by_python if name in files},
                ),
                last=bool(self._mine.commands),
            )
        elif failure is not None or self._differs(self._known):
            self._unlock()
            self._stop_sharing(self._known)
            return False
        self._unlock()
        return True

    def start_again(self) -> None:
        """The process begins anew because packages were replaced."""
        if self._known is None:
            self._write(msgspec.structs.replace(self._mine, started_again=True))
        self._unlock()

    def release(self) -> None:
        """This process works in the folder no more."""
        self._unlock()
        if self.folder is not None:
            self.folder.release()

    def _differs(self, known: SetupRecord) -> bool:
        files = self._look() or {}
        return any(name in files and files[name][1] != size for name, size in known.sizes.items())

    def _stop_sharing(self, known: SetupRecord) -> None:
        self._open_lock()
        while not self._locked(fcntl.LOCK_EX):
            time.sleep(POLL_S)
        self._write(msgspec.structs.replace(self._read().setups.get(self._key, known), is_shared=False))
        self._unlock()

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

    def _open_lock(self) -> None:
        self._lock = os.open(self._work / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

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
