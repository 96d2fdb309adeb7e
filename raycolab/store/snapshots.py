"""Whole copies of a SQLite store in a folder that is slow and not to be trusted, such as a mounted Drive.

There a rename may not be atomic, a file may be seen half written by another machine, and any write may fail. So a
snapshot is made on a local disk, then written under a number never used before:

    raycolab-000012.db               the database, whole
    raycolab-000012.identity.json    each extra file, under its own name
    raycolab-000012.manifest.json    name, size and SHA-256 of the others, and the heads it comes from; written last

It counts once its manifest and all that the manifest names are there to the last byte. What does not is skipped when
reading and removed when a later snapshot stands. Nothing here starts by itself: the caller has the thread and the
clock. Extra files may hold secrets; whoever reads the folder has them. A head whose store is elsewhere takes
snapshots without a database. The database's file is read and written past SQLAlchemy, in a process that has no store
open.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from raycolab.errors import RaycolabError, UsageError
from raycolab.store.failures import StoreOutageError
from raycolab.store.opening import parsed_url
from raycolab.text import utc_seconds, utc_text

__all__ = [
    "AT_MOST_EVERY_S",
    "DATABASE",
    "KEPT",
    "Snapshot",
    "described",
    "drop_claims",
    "is_due",
    "newest",
    "restore",
    "sqlite_path",
    "take",
    "worth_keeping",
]

KEPT = 3
AT_MOST_EVERY_S = 30.0
DATABASE = "db"  # the database's name in a snapshot

_NAME = re.compile(r"raycolab-(\d{6,})\.(.+)")
_MANIFEST = "manifest.json"
_BLOCK = 1 << 20  # bytes copied at a time
_LONGEST_MANIFEST = 1 << 20  # bytes
_LOCK_WAIT_S = 5.0

# What a snapshot is taken for: sweeps, trials that changed their state for good, attempts that ended. RUNNING counts as
# PENDING, and neither a claim's renewal nor a report is in it: they change all the time and cost nobody a result.
_LOOKS = (
    "select id, name, state, spec_fingerprint, code_fingerprint from sweeps order by id",
    "select sweep_id, case state when 'RUNNING' then 'PENDING' else state end as settled, count(*) from trials "
    "group by sweep_id, settled order by sweep_id, settled",
    "select count(*) from attempts where ended_at is not null",
)


class _File(msgspec.Struct, frozen=True):
    name: str  # DATABASE, or an extra file's own name
    size: int
    sha256: str


class Snapshot(msgspec.Struct, frozen=True, omit_defaults=True):
    """One snapshot: what its manifest says of it, and the folder in which it lies, which the manifest leaves out."""

    number: int
    taken_at: str  # UTC ISO 8601
    heads: tuple[str, ...]  # who took it, last, and before it those whose snapshots that one had taken up
    files: tuple[_File, ...]
    machine: str = ""  # where it was taken, for people
    folder: str = ""

    def place(self, name: str) -> Path:
        """Where its file of this name lies."""
        return Path(self.folder) / _numbered(self.number, name)

    @property
    def digests(self) -> dict[str, str]:
        """The SHA-256 of each of its files, by name."""
        return {file.name: file.sha256 for file in self.files}


def is_due(
    now: float,
    *,
    changed_at: float | None,
    taken_at: float | None,
    tried_at: float | None,
    every_s: float = AT_MOST_EVERY_S,
) -> bool:
    """Whether to take a snapshot: something changed that the last one may lack, and none was tried for `every_s`.

    All times are of one monotonic clock, None for never. `taken_at` is when the last snapshot that succeeded was begun
    (what is written while it is made may not be in it), `tried_at` when the last one was begun, failed ones included.
    """
    has_changed = changed_at is not None and (taken_at is None or changed_at >= taken_at)
    return has_changed and (tried_at is None or now - tried_at >= every_s)


def take(
    database: str | os.PathLike[str] | None,
    folder: str | os.PathLike[str],
    now: float,
    *,
    extras: Sequence[str | os.PathLike[str]] = (),
    heads: Sequence[str] = (),
    machine: str = "",
) -> Snapshot:
    """Copy the database as it is at this moment, and the extra files, into the folder; the last KEPT stay there.

    Whoever writes to the database goes on meanwhile. The folder is made, its parents are not: a Drive that is not
    mounted must not become a folder of this machine. `now` is seconds since the epoch. Raises StoreOutageError where
    nothing was added and the same call may succeed later, and RaycolabError for a database that is damaged: no
    snapshot is taken of it, or the good ones would be pushed out.
    """
    target = Path(folder)
    originals = {Path(extra).name: Path(extra) for extra in extras}
    with tempfile.TemporaryDirectory(prefix="raycolab-snapshot-") as scratch:
        if database is not None:
            copy = Path(scratch) / DATABASE
            with _outages(f"the database {database} cannot be copied to {scratch}"):
                _copy_database(Path(database), copy)
            originals = {DATABASE: copy} | originals
        with _outages(
            f"no snapshot can be written to {target}", ": nothing is lost as long as this machine keeps its own disk"
        ):
            return _add(originals, Snapshot(0, utc_text(now), tuple(heads), (), machine, str(target)))


def described(folder: str | os.PathLike[str]) -> list[Snapshot]:
    """The snapshots whose manifests can be read, whole or not, in the order in which to restore them.

    That is the newest first, but snapshots of a head that another head has taken over from come last, whatever it wrote
    since. Raises StoreOutageError when the folder cannot be listed.
    """
    target = Path(folder)
    with _outages(f"the snapshots in {target} cannot be looked for"):
        names = _listed(target)
    found: list[Snapshot] = []
    for number in sorted({number for number, kind in names if kind == _MANIFEST}, reverse=True):
        # What cannot be read does not verify, nor what is cut or no manifest: msgspec's errors are ValueErrors.
        with contextlib.suppress(OSError, ValueError):
            with (target / _numbered(number, _MANIFEST)).open("rb") as file:
                snapshot = msgspec.json.decode(file.read(_LONGEST_MANIFEST), type=Snapshot)
            utc_seconds(snapshot.taken_at)
            is_ours = snapshot.number == number and all(Path(file.name).name == file.name for file in snapshot.files)
            if snapshot.files and is_ours:
                found.append(msgspec.structs.replace(snapshot, folder=str(target)))
    followed = {head for snapshot in found for head in snapshot.heads[:-1]}
    return sorted(found, key=lambda snapshot: not followed.isdisjoint(snapshot.heads[-1:]))


def newest(folder: str | os.PathLike[str]) -> Snapshot | None:
    """The first of the `described` that is whole to the last byte, None where there is none; reads all of it to know.

    Raises StoreOutageError when the folder cannot be listed.
    """
    for snapshot in described(folder):
        with contextlib.suppress(OSError):
            if all(_is_whole(snapshot, file) for file in snapshot.files):
                return snapshot
    return None


def restore(snapshot: Snapshot, places: Mapping[str, str | os.PathLike[str]]) -> list[Path]:
    """Copy each file of a snapshot to the place named for it, if any, for this user alone; returns the paths.

    What is there is never written over: UsageError names it, before anything is written. StoreOutageError, with
    nothing left behind, when the snapshot is not whole any more or the disk fails.
    """
    targets = {file: Path(places[file.name]).absolute() for file in snapshot.files if file.name in places}
    # A write-ahead log without its database would be played into the restored one.
    base = next((path for file, path in targets.items() if file.name == DATABASE), None)
    logs = [base.with_name(base.name + end) for end in ("-wal", "-shm", "-journal")] if base else []
    for there in (*targets.values(), *logs):
        if there.exists():
            raise UsageError(f"a snapshot is not restored over {there}: move that file away, or name another path.")
    what = f"the snapshot of {snapshot.place(_MANIFEST)} cannot be restored"
    beside = {file: path.with_name(f".{path.name}.{os.getpid()}.part") for file, path in targets.items()}
    placed: list[Path] = []
    try:
        with _outages(what):
            for file, part in beside.items():
                part.parent.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
                with os.fdopen(descriptor, "wb") as target, snapshot.place(file.name).open("rb") as source:
                    if _copied(file.name, source, target) != file:
                        raise StoreOutageError(
                            f"{what}: it is not whole any more; start the head again, an older one may be."
                        )
            # The database last: with it there, the restoration is done.
            for file in sorted(beside, key=lambda file: file.name == DATABASE):
                beside[file].rename(targets[file])
                placed.append(targets[file])
    except BaseException:  # whatever it is, a part of a snapshot must not stay
        for path in placed:
            _remove(path)
        raise
    finally:
        for part in beside.values():
            _remove(part)
    return list(targets.values())


def sqlite_path(url: str) -> Path | None:
    """Where the database of a store's URL lies; None when it is no SQLite file. UsageError for what is no URL."""
    parsed = parsed_url(url)
    return Path(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None


def worth_keeping(database: Path) -> str:
    """A text that differs when the database has something that a former snapshot of it lacks. StoreOutageError."""
    cure = ": put it back, or go on from a copy of it"
    with _outages(f"the database {database} cannot be looked at", cure), _opened(database, "ro") as base:
        found = [base.execute(look).fetchall() for look in _LOOKS]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def drop_claims(database: Path) -> None:
    """Forget which heads ran the sweeps of a copy: they ran them in the database it was copied from."""
    cure = ": mend that, then start the head again"
    with _outages(f"the database {database} cannot be written", cure), _opened(database, "rw") as base, base:
        if base.execute("select 1 from sqlite_master where type = 'table' and name = 'heads'").fetchone():
            base.execute("delete from heads")


def _copy_database(source: Path, copy: Path) -> None:
    with _opened(source, "ro") as live, contextlib.closing(sqlite3.connect(copy)) as still:
        live.backup(still)  # in one step: a copy in several begins anew whenever another process writes
        fault = still.execute("PRAGMA quick_check(1)").fetchone()[0].splitlines()[-1]  # below a heading of its own
    if fault != "ok":
        raise RaycolabError(
            f"the database {source} is damaged ({fault}), so no snapshot is taken of it: go on from an earlier one."
        )


def _opened(database: Path, mode: str) -> contextlib.closing[sqlite3.Connection]:
    uri = f"{database.absolute().as_uri()}?mode={mode}"
    return contextlib.closing(sqlite3.connect(uri, uri=True, timeout=_LOCK_WAIT_S))


def _add(originals: Mapping[str, Path], snapshot: Snapshot) -> Snapshot:
    """Write these files as the snapshot that its number and its files are still missing from; all of it or nothing."""
    folder = Path(snapshot.folder)
    folder.mkdir(exist_ok=True)
    number = max((number for number, _ in _listed(folder)), default=0) + 1
    snapshot = msgspec.structs.replace(snapshot, number=number)
    written: list[Path] = []
    try:
        files = []
        for name, original in originals.items():
            with original.open("rb") as source, snapshot.place(name).open("xb") as target:
                written.append(snapshot.place(name))
                files.append(_copied(name, source, target))
        snapshot = msgspec.structs.replace(snapshot, files=tuple(files))
        manifest = msgspec.json.encode(msgspec.structs.replace(snapshot, folder=""))
        with snapshot.place(_MANIFEST).open("xb") as target:
            written.append(snapshot.place(_MANIFEST))
            _copied(_MANIFEST, io.BytesIO(msgspec.json.format(manifest, indent=1) + b"\n"), target)
    except BaseException:
        for path in reversed(written):
            _remove(path)
        raise
    _prune(folder, number)
    return snapshot


def _prune(folder: Path, number: int) -> None:
    """Remove what is older than the last KEPT, and pieces of snapshots that were never finished."""
    names = [found for found in _listed(folder) if found[0] < number]
    kept = set(sorted({old for old, kind in names if kind == _MANIFEST}, reverse=True)[: KEPT - 1])
    for old, kind in sorted(names, key=lambda found: found[1] != _MANIFEST):  # manifests first
        if old not in kept:
            _remove(folder / _numbered(old, kind))


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # the next snapshot tries again
        path.unlink(missing_ok=True)


def _copied(name: str, source: BinaryIO, target: BinaryIO) -> _File:
    digest, size = hashlib.sha256(), 0
    while block := source.read(_BLOCK):
        target.write(block)
        digest.update(block)
        size += len(block)
    target.flush()
    os.fsync(target.fileno())
    return _File(name, size, digest.hexdigest())


def _is_whole(snapshot: Snapshot, file: _File) -> bool:
    path = snapshot.place(file.name)
    if path.stat().st_size != file.size:
        return False
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest() == file.sha256


def _numbered(number: int, kind: str) -> str:
    return f"raycolab-{number:06d}.{kind}"


def _listed(folder: Path) -> list[tuple[int, str]]:
    """Number and kind of every file of a snapshot, whole or not; none where there is no such folder."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return [(int(match[1]), match[2]) for name in names if (match := _NAME.fullmatch(name))]


@contextlib.contextmanager
def _outages(what: str, comfort: str = "") -> Iterator[None]:
    """Raise the failure of a disk or a database in the block as StoreOutageError."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise StoreOutageError(f"{what} ({reason}){comfort}.") from error
