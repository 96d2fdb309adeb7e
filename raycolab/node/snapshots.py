"""A head's snapshots in a folder that outlives its machine, such as one on a mounted Drive.

    join-address.txt          0600 where the folder has modes: what joiners read with `@FILE`
    raycolab-000012.*         snapshots of the store and the identity (see `raycolab.store.snapshots`)
    raycolab-files/           the files that travel with MAINs, each archive once (see `raycolab.store.archives`)

The folder may be slow, full, gone, or hang for minutes, and a process that waits in a hanging folder cannot even be
killed. So one child process, `python -m raycolab.node.snapshots`, does all that touches it: restores what is there
before the head starts, looks every second whether the database changed, and takes snapshots (`FolderWork`). The head
writes it a line when something happens that it cannot see, and reads from its status file how far it is
(`Snapshots`). Only at the start and at the end does the head wait for it, and not for ever.

    restore            restore where this machine has nothing of its own; the status then has `notes`
    address TEXT       joiners reach the head there; snapshots begin with the first of these
    now                take a snapshot at once, a sweep is over
    end                take the last snapshot and end

**Whose the folder is** needs no clock and no lock, which such folders do not have. A data directory has a name of its
own, and remembers the names of those whose snapshots it took up (`heads`, the last is its own). What it writes says so.
It writes only where all snapshots are of these heads: of two heads the one that took up the other's snapshots goes on,
and the other one, or a stranger, gets an error and destroys nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import secrets
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from raycolab.colab import drive_folder, is_colab
from raycolab.errors import ClusterError, RaycolabError, UsageError
from raycolab.files import read_text, typed_path, write_private
from raycolab.node.data_dir import DataDir, Heads, Identity
from raycolab.node.lifeline import exec_with_lifeline
from raycolab.store import snapshots as stored
from raycolab.store.archives import Archives
from raycolab.summary import SnapshotStatus
from raycolab.text import duration_text, utc_seconds
from raycolab.trials import AT_REST, SweepState
from tunnel.address import JoinAddress
from tunnel.dial import Transient, dial
from tunnel.errors import AddressError, PinMismatch, Refused
from tunnel.messages import Hello, Resume

__all__ = [
    "ADDRESS_FILE",
    "FOLDER_VARIABLE",
    "FolderWork",
    "Snapshots",
    "Status",
    "chosen_folder",
    "head_answers",
    "main",
]

FOLDER_VARIABLE = "RAYCOLAB_SNAPSHOTS"
EVERY_VARIABLE = "RAYCOLAB_SNAPSHOT_S"  # the shortest time between two snapshots, in seconds
ADDRESS_FILE = "join-address.txt"
ARCHIVES = "raycolab-files"
LONGEST_ADDRESS_FILE = 100_000  # bytes
HEADS_REMEMBERED = 100
LOOK_S = 1.0  # between two looks at whether the database changed
POLL_S = 0.05  # between two looks at the status file while a person waits for it
DIAL_S = 10.0  # a head that lives answers within it
RESTART_S = 10.0  # before a process that ended by itself is started again
# How long the head waits for the folder: each time that a restoration touches it, since nothing else is possible then;
# for the last snapshot; and in between, when nobody waits, until the status says so.
START_S = 60.0
END_S = 20.0
QUIET_S = 60.0
NO_FOLDER = (
    "no Drive is mounted: results end with this tab. Mount it (from google.colab import drive; "
    f"drive.mount('/content/drive')), or set {FOLDER_VARIABLE} to a folder that outlives this machine."
)
_OVER = {*AT_REST, SweepState.PAUSED}

log = logging.getLogger("raycolab.snapshots")


class Status(msgspec.Struct, frozen=True):
    """The status file. Times are of the machine's monotonic clock, which both processes read."""

    folder: str | None = None
    number: int | None = None  # of the last snapshot
    begun_at: float | None = None  # when that one was begun
    up_to_date: bool = False  # it has all that is worth keeping
    error: str | None = None  # why none can be taken
    waiting_since: float | None = None  # for the folder
    notes: tuple[str, ...] | None = None  # what a person should know about the restoration, once it is over


def chosen_folder(environ: Mapping[str, str]) -> Path | None:
    """The folder of RAYCOLAB_SNAPSHOTS (set, but empty: none), else on Colab one on Drive where that is mounted."""
    given = environ.get(FOLDER_VARIABLE)
    if given is not None:
        return typed_path(given, FOLDER_VARIABLE).absolute() if given else None
    return drive_folder() if is_colab(environ) else None


# The head's side.


class Snapshots:
    """The child process that keeps one head's snapshots, and is asked to restore before anything else."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], run_dir: Path) -> None:
        """`command` gets the path of its status file as its last argument."""
        self._status_path = run_dir / "snapshots.json"
        self._log_path = run_dir / "snapshots.log"
        self._command = [*command, str(self._status_path)]
        # Copies are made in the run directory: whatever ends the process, they go with it.
        self._environment = {**environ, "TMPDIR": str(run_dir)}
        self._process: asyncio.subprocess.Process | None = None
        self._alive: asyncio.Task[None] | None = None
        self._address = ""
        self._over: frozenset[tuple[str, str]] = frozenset()  # the sweeps that are at rest, with their states

    @classmethod
    def chosen(
        cls, data_dir: DataDir, store_url: str | None, run_dir: Path, environ: Mapping[str, str]
    ) -> Snapshots | None:
        """The snapshots of a head with this environment, None where none are to be kept. Touches no folder."""
        if not environ.get(FOLDER_VARIABLE, is_colab(environ)):
            return None
        if FOLDER_VARIABLE in environ:
            chosen_folder(environ)  # the path is looked at here, for its error
        _every_s(environ)
        database = data_dir.database_path if store_url is None else stored.sqlite_path(store_url)
        command = [sys.executable, "-P", "-m", "raycolab.node.snapshots", str(data_dir.path), str(database or "")]
        return cls(command, environ, run_dir)

    async def restore(self) -> list[str]:
        """Restore store and identity where this machine has none of its own; returns what a person should know.

        Raises ClusterError where the folder does not answer, has nothing whole, or is that of a head that lives.
        """
        self._process = process = await self._started()
        self._send("restore")
        began = time.monotonic()
        try:
            while (status := self._read()).notes is None:
                if process.returncode is not None:
                    error = status.error or f"the process that takes snapshots ended: {self._last_words()}."
                    raise (UsageError if process.returncode == UsageError.exit_code else ClusterError)(error)
                if time.monotonic() - (status.waiting_since or began) > START_S and not status.error:
                    raise ClusterError(
                        f"The folder of the snapshots has not answered for {duration_text(START_S)}: mount it"
                        f" again, or set {FOLDER_VARIABLE} to another folder, and start the head again."
                    )
                await asyncio.sleep(POLL_S)
        except BaseException:  # the end of the head among them
            await self._kill()
            raise
        self._alive = asyncio.create_task(self._keep_alive())
        return list(status.notes)

    def keep(self, address: str) -> None:
        """Keep snapshots from now on, and beside them the address at which joiners reach the head."""
        self._address = address
        self._send(f"address {address}")

    def on_progress(self, progress: Mapping[str, Any]) -> None:
        """Take a snapshot at once when a sweep has just come to rest."""
        over = frozenset((sweep["name"], sweep["state"]) for sweep in progress["sweeps"] if sweep["state"] in _OVER)
        if not over <= self._over:
            self._send("now")
        self._over = over

    def status(self) -> SnapshotStatus:
        """How far the process is, or that the folder hangs."""
        status, now = self._read(), time.monotonic()
        error, waited_s = status.error, now - (status.waiting_since or now)
        if waited_s > QUIET_S:
            error = f"{status.folder or 'the folder'} has not answered for {duration_text(waited_s)}."
        age_s = None if status.begun_at is None else round(now - status.begun_at, 1)
        return SnapshotStatus(
            folder=status.folder, number=status.number, age_s=age_s, up_to_date=status.up_to_date, error=error
        )

    async def close(self) -> None:
        """Take the last snapshot if the folder is quick enough, and end the process."""
        if self._alive is None or self._process is None:
            return
        self._alive.cancel()
        await asyncio.gather(self._alive, return_exceptions=True)
        self._send("end")
        try:
            await asyncio.wait_for(self._process.wait(), END_S)
            error = self._read().error
        except TimeoutError:
            error = f"{self._read().folder or 'the folder'} does not answer."
        finally:
            await self._kill()
        if error is not None:
            log.warning("the last snapshot was not taken: %s", error)

    async def _started(self) -> asyncio.subprocess.Process:
        self._log_path.touch(mode=0o600)
        with self._log_path.open("ab") as errors:
            return await asyncio.create_subprocess_exec(
                *exec_with_lifeline(self._command),
                env=self._environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,  # a terminal's Ctrl-C is for the head, which then wants its last snapshot
            )

    async def _keep_alive(self) -> None:
        """Start the process again whenever it ends by itself; what it knew is in its status file."""
        while self._process is not None:
            await self._process.wait()
            error = f"the process that takes snapshots ended, and is started again: {self._last_words()}."
            log.warning("%s", error)
            ended = msgspec.structs.replace(self._read(), up_to_date=False, error=error, waiting_since=None)
            _write_status(self._status_path, ended)
            await asyncio.sleep(RESTART_S)
            with contextlib.suppress(OSError):  # no memory, say: the old process has still ended, so it is tried again
                self._process = await self._started()
            self._send(f"address {self._address}")

    async def _kill(self) -> None:
        """Kill the process. One that waits in a folder that hangs may not die before that answers; nobody waits."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), 1.0)

    def _send(self, line: str) -> None:
        if self._process is not None and self._process.returncode is None:
            assert self._process.stdin is not None  # a pipe, as asked for
            self._process.stdin.write(f"{line}\n".encode())  # a few short lines: they need no draining

    def _read(self) -> Status:
        try:
            return msgspec.json.decode(self._status_path.read_bytes(), type=Status)
        except FileNotFoundError:
            return Status()

    def _last_words(self) -> str:
        lines = self._log_path.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def _every_s(environ: Mapping[str, str]) -> float:
    text = environ.get(EVERY_VARIABLE, "")
    try:
        every_s = float(text or stored.AT_MOST_EVERY_S)
    except ValueError:
        every_s = 0.0
    if not every_s > 0:
        raise UsageError(f"{EVERY_VARIABLE} is {text!r}: give a number of seconds above 0.")
    return every_s


# The child's side.


class FolderWork:
    """What the child process does for one head."""

    def __init__(
        self,
        data_dir: DataDir,
        database: Path | None,
        folder: Callable[[], Path | None],
        report: Callable[[Status], None],
        *,
        status: Status | None = None,
        every_s: float = stored.AT_MOST_EVERY_S,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`database` is the SQLite file of the store, None for a store elsewhere; `folder` is asked every time.

        `report` gets the status whenever it changes; `status` is what the process before, if there was one, reported
        last. The clock must not go back.
        """
        self.status = status or Status()
        self._data_dir = data_dir
        self._database = database
        self._folder = folder
        self._report = report
        self._every_s = every_s
        self._now = now
        self._clock = clock
        self._identity = data_dir.path / Identity.FILE
        self._archives = Archives.of(data_dir.path)
        base = () if database is None else (database, Path(f"{database}-wal"))
        self._watched = (*base, self._identity, self._archives.folder)
        self._address = ""
        self._signature: object = None  # of the files, at the last look
        self._changed_at: float | None = None
        self._tried_at: float | None = None
        self._kept_at: float | None = None  # when the last attempt that succeeded was begun
        self._kept: tuple[Path, str] | None = None  # the folder and the content of the last snapshot

    def step(self, lines: Sequence[str]) -> bool:
        """Do what the lines say, and take a snapshot if one is due; False once there is nothing more to do.

        Raises RaycolabError when a restoration fails. A snapshot that fails is in the status.
        """
        is_wanted = False
        for line in lines:
            word, _, rest = line.partition(" ")
            if word == "restore":
                self._set(notes=tuple(self.restore()))
            elif word == "address":
                self._address = rest
            is_wanted = is_wanted or word != "restore"
        if self._address:
            self._look_at_files()
            times = {"changed_at": self._changed_at, "taken_at": self._kept_at, "tried_at": self._tried_at}
            if is_wanted or stored.is_due(self._clock(), **times, every_s=self._every_s):
                try:
                    self.keep()
                except RaycolabError as error:
                    self._set(error=str(error))
        return "end" not in lines

    def restore(self) -> list[str]:
        """Restore store and identity where this machine has none of its own; returns what a person should know.

        Raises ClusterError where nothing can be said of what is in the folder and a new head could push good snapshots
        out of it, and where its head lives; StoreOutageError when the snapshot is not whole any more.
        """
        with self._waiting():
            folder = self._folder()
            if folder is None:
                return []
            if self._identity.exists() or (self._database is not None and self._database.exists()):
                return self._notes_on_others(folder)
            _require_parent(folder)
            there = stored.described(folder)
            found = stored.newest(folder)
            if found is None:
                if there:
                    raise ClusterError(
                        f"None of the snapshots in {folder} is whole, the newest is number {there[0].number}: if they"
                        " are still on their way, wait and start again; to begin anew, move them away or set"
                        f" {FOLDER_VARIABLE} to another folder."
                    )
                return []
            address = _read_address(folder)
        if asyncio.run(head_answers(address)):
            raise ClusterError(
                f"The head whose snapshots are in {folder} is running ({self._words(found)}): go on there, or end it"
                f" first. For a cluster beside it, set {FOLDER_VARIABLE} to another folder."
            )
        with self._waiting():
            self._copy_back(found, there)
        age_s = max(self._now() - utc_seconds(found.taken_at), 0.0)
        self._set(folder=str(folder), number=found.number, begun_at=self._clock() - age_s)
        cut = f" The newest there, snapshot {there[0].number}, is not whole." if there[0].number > found.number else ""
        return [f"Restored from {folder}: {self._words(found)}.{cut}"]

    def keep(self) -> None:
        """Write the join address, and a snapshot unless the last one has all that is worth keeping.

        Raises RaycolabError, which says why nothing was kept.
        """
        begun = self._tried_at = self._clock()
        with self._waiting():
            folder = self._folder()
            if folder is None:
                raise ClusterError(NO_FOLDER)
            _require_parent(folder)
            there = stored.described(folder)
            heads = self._heads()
            self._refuse_others(folder, there, heads)
            identity = _digest(self._identity.read_bytes())
            content = f"{stored.worth_keeping(self._database) if self._database else ''} {identity}"
            made: dict[str, Any] = {}
            self._archives.copy_missing(folder / ARCHIVES)  # first: a snapshot names those of its sweeps
            if self._kept != (folder, content):
                # Restored, an older identity would bring back a join address that was made worthless: none may stay.
                is_new = any(snapshot.digests.get(Identity.FILE) != identity for snapshot in there)
                for _ in range(stored.KEPT if is_new else 1):
                    snapshot = stored.take(
                        self._database,
                        folder,
                        self._now(),
                        extras=[self._identity],
                        heads=heads,
                        machine=socket.gethostname(),
                    )
                self._kept = folder, content
                made = {"number": snapshot.number, "begun_at": begun}
            if self._address:
                _write_address(folder, self._address)
        self._kept_at = begun
        self._set(folder=str(folder), up_to_date=True, error=None, **made)

    def _look_at_files(self) -> None:
        signature = [_signature(path) for path in self._watched]
        if signature != self._signature:
            self._signature, self._changed_at = signature, self._clock()
            self._set(up_to_date=False)

    def _copy_back(self, snapshot: stored.Snapshot, there: Sequence[stored.Snapshot]) -> None:
        places: dict[str, Path] = {Identity.FILE: self._identity}
        if self._database is not None:
            places[stored.DATABASE] = self._database
        stored.restore(snapshot, places)
        self._archives.take_back(Path(snapshot.folder) / ARCHIVES)
        if self._database is not None and self._database.exists():
            stored.drop_claims(self._database)
        # Last: a directory that is not all of that snapshot must not take up its place in the folder.
        before = dict.fromkeys(head for each in there for head in each.heads)
        self._data_dir.save(Heads((*list(before)[-HEADS_REMEMBERED:], secrets.token_hex(8))))

    def _heads(self) -> tuple[str, ...]:
        """The names of the heads whose snapshots are ours, this one's last."""
        found = self._data_dir.load(Heads)
        if found is None:
            found = Heads((secrets.token_hex(8),))
            self._data_dir.save(found)
        return found.heads

    def _refuse_others(self, folder: Path, there: Sequence[stored.Snapshot], heads: Sequence[str]) -> None:
        """ClusterError where a snapshot of this head would push out what is not its own."""
        cure = f"nothing is kept there. Set {FOLDER_VARIABLE} to a folder of this head's own, and start it again"
        if (other := _newest_of_others(there, heads)) is not None:
            raise ClusterError(f"{folder} has the snapshots of another head ({self._words(other)}): {cure}.")
        if self._database is None and any(stored.DATABASE in snapshot.digests for snapshot in there):
            raise ClusterError(f"{folder} has results of a head with a store in SQLite, and this one's is not: {cure}.")

    def _notes_on_others(self, folder: Path) -> list[str]:
        with contextlib.suppress(RaycolabError):  # for a folder that fails there is the error of `keep`
            other = _newest_of_others(stored.described(folder), (self._data_dir.load(Heads) or Heads()).heads)
            if other is not None:
                return [
                    f"This head goes on with what is in {self._data_dir.path}, not with {self._words(other)} in"
                    f" {folder}, which another head wrote. To go on from that one, end this head and start it with"
                    " another data directory."
                ]
        return []

    def _words(self, snapshot: stored.Snapshot) -> str:
        age = duration_text(self._now() - utc_seconds(snapshot.taken_at))
        machine = f" on {snapshot.machine}" if snapshot.machine else ""
        return f"snapshot {snapshot.number}, {age} old, of the head{machine}"

    @contextlib.contextmanager
    def _waiting(self) -> Iterator[None]:
        """The folder is touched within; the status says since when, and what the system refuses is a ClusterError."""
        self._set(waiting_since=self._clock(), up_to_date=False)
        try:
            yield
        except OSError as error:
            reason = f"{os.strerror(error.errno or 0)}: {error.filename or 'the folder'}"
            raise ClusterError(
                f"snapshots cannot be kept or restored ({reason}): mend that, or set {FOLDER_VARIABLE} to another"
                " folder."
            ) from error
        finally:
            self._set(waiting_since=None)

    def _set(self, **fields: Any) -> None:
        changed = msgspec.structs.replace(self.status, **fields)
        if changed != self.status:
            self.status = changed
            self._report(changed)


async def head_answers(text: str) -> bool:
    """Whether the head of this join address, and no other, can be reached from here; False for what is no address.

    It is asked to carry on a link that it never had, and says no without taking us for a joiner.
    """
    try:
        address = JoinAddress.parse(text)
        hello = Hello(
            proof=b"",
            instance=secrets.token_hex(8),
            ports=1,
            namespace="",
            busy=(),
            resume=Resume("none", 0),
            application={},
        )
        await dial(address, hello, DIAL_S)
    except (AddressError, Transient, PinMismatch):
        return False
    except Refused:
        return True
    return True


def _newest_of_others(there: Sequence[stored.Snapshot], heads: Sequence[str]) -> stored.Snapshot | None:
    others = (snapshot for snapshot in there if not set(snapshot.heads[-1:]) <= set(heads))
    return next(others, None)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _signature(path: Path) -> tuple[int, int] | None:
    """What changes when the file is written; None where there is none."""
    with contextlib.suppress(OSError):
        found = path.stat()
        return found.st_mtime_ns, found.st_size
    return None


def _require_parent(folder: Path) -> None:
    """ClusterError where the folder would have to be made together with the one it is in, as on a Drive not mounted."""
    if not folder.parent.is_dir():
        raise ClusterError(
            f"{folder} cannot be used for snapshots, there is no {folder.parent}: mount the Drive it is on, or make it."
        )


def _read_address(folder: Path) -> str:
    """What lies there as a join address; nothing where none can be read."""
    try:
        return read_text(folder / ADDRESS_FILE, LONGEST_ADDRESS_FILE)
    except (OSError, UnicodeDecodeError):
        return ""


def _write_address(folder: Path, address: str) -> None:
    """Replace the join address, whole where the folder can rename over a file. ClusterError."""
    path, text = folder / ADDRESS_FILE, address + "\n"
    if _read_address(folder) == text:
        return
    try:
        try:
            write_private(path, text)
        except OSError:  # not every such folder can rename: a reader sees by the address itself whether it is whole
            path.touch(mode=0o600)
            path.write_text(text)
    except OSError as error:
        raise ClusterError(
            f"the join address cannot be written to {path} ({error.strerror}): mend that, or set {FOLDER_VARIABLE} to"
            " another folder."
        ) from error


def _write_status(path: Path, status: Status) -> None:
    with contextlib.suppress(OSError):  # a full disk: the next status may fit
        write_private(path, msgspec.json.encode(status).decode())


def _lines_of(descriptor: int, wait_s: float) -> Iterator[list[str]]:
    """The lines that have come, which are none after `wait_s` without any; ends with the stream."""
    rest = b""
    while True:
        if not select.select([descriptor], [], [], wait_s)[0]:
            yield []
            continue
        data = os.read(descriptor, 65536)
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        yield [line.decode() for line in lines]


def main(data_dir: str, database: str, status_path: str) -> int:
    """Work until the head says `end` or is gone; the exit code. `database` is empty for a store elsewhere."""
    path = Path(status_path)
    before = msgspec.json.decode(path.read_bytes(), type=Status) if path.exists() else None
    every_s = _every_s(os.environ)
    work = FolderWork(
        DataDir(data_dir),
        Path(database) if database else None,
        lambda: chosen_folder(os.environ),
        lambda status: _write_status(path, status),
        status=before,
        every_s=every_s,
    )
    try:
        for lines in _lines_of(sys.stdin.fileno(), min(LOOK_S, every_s)):
            if not work.step(lines):
                break
    except RaycolabError as error:
        _write_status(path, msgspec.structs.replace(work.status, error=str(error)))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
