"""Whole copies of a SQLite store in a folder that is slow and not to be trusted, such as a mounted Drive.

There a rename may not be atomic, a file may be seen half written by another machine, and any write may fail. So a
snapshot is made on a local disk, then written under a number never used before:

    raycolab-000012.db               the database, whole
    raycolab-000012.identity.json    each extra file, under its own name
    raycolab-000012.manifest.json    name, size and SHA-256 of the others, and the heads it comes from; written last

It counts once its manifest and all that the manifest names are there to the last byte. What does not is skipped when
reading and removed when a later snapshot stands. Nothing here starts by itself: the caller has the thread and the
clock. Extra files may hold secrets; whoever reads the folder has them. A head whose store is elsewhere takes
snapshots without a database.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeVar

from raycolab.errors import RaycolabError, UsageError
from raycolab.store.failures import StoreOutageError
from raycolab.text import utc_seconds, utc_text

__all__ = ["AT_MOST_EVERY_S", "DATABASE", "KEPT", "Snapshot", "described", "is_due", "newest", "restore", "take"]

KEPT = 3
AT_MOST_EVERY_S = 30.0
DATABASE = "db"  # the database's name in a snapshot

_NAME = re.compile(r"raycolab-(\d{6,})\.(.+)")
_MANIFEST = "manifest.json"
_BLOCK = 1 << 20  # bytes copied at a time
_LONGEST_MANIFEST = 1 << 20  # bytes

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _File:
    name: str  # DATABASE, or an extra file's own name
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One whole snapshot in a folder."""

    folder: Path
    number: int
    taken_at: str  # UTC ISO 8601
    files: tuple[_File, ...]
    heads: tuple[str, ...] = ()  # who took it, last, and before it those whose snapshots that one had taken up
    machine: str = field(default="", compare=False)  # where that was, for people

    @property
    def path(self) -> Path:
        """Where its manifest lies."""
        return self.folder / _numbered(self.number, _MANIFEST)

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

    All are of one clock that does not go back, None for never; `taken_at` is when the last one that succeeded was begun
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
    """Copies the database as it is at this moment, and the extra files, into the folder; the last KEPT stay there.

    Whoever writes to the database goes on meanwhile. The folder is made, its parents are not: a Drive that is not
    mounted must not become a folder of this machine. `now` is seconds since the epoch. Raises StoreOutageError where
    nothing was added and the same call may succeed later, and RaycolabError for a database that is damaged: no
    snapshot is taken of it, or the good ones would be pushed out.
    """
    target = Path(folder)
    originals = {Path(extra).name: Path(extra) for extra in extras}
    with tempfile.TemporaryDirectory(prefix="raycolab-snapshot-") as scratch:
        if database is not None:
            source, copy = Path(database), Path(scratch) / DATABASE
            _told(lambda: _copy_database(source, copy), f"the database {source} cannot be copied to {scratch}")
            originals = {DATABASE: copy} | originals
        return _told(
            lambda: _add(target, originals, (utc_text(now), tuple(heads), machine)),
            f"no snapshot can be written to {target}",
            ": nothing is lost as long as this machine keeps its own disk",
        )


def described(folder: str | os.PathLike[str]) -> list[Snapshot]:
    """What the manifests say that can be read, whole or not, in the order in which to restore them.

    That is the newest first; but those of a head that another one has taken over from come last, whatever it wrote
    since. Raises StoreOutageError when the folder cannot be listed.
    """
    target = Path(folder)
    names = _told(lambda: _listed(target), f"the snapshots in {target} cannot be looked for")
    found = []
    for number in sorted({number for number, kind in names if kind == _MANIFEST}, reverse=True):
        with contextlib.suppress(OSError):  # a file that cannot be read is one that does not verify
            snapshot = _described(target, number)
            found += [snapshot] if snapshot is not None else []
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
    """Copies those files of a snapshot that have a place, by name, there, for this user alone; returns the paths.

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
    what = f"the snapshot of {snapshot.path} cannot be restored"
    written = _told(lambda: _copied_back(snapshot, targets), what)
    if not written:
        raise StoreOutageError(f"{what}: it is not whole any more; start the head again, an older one may be.")
    return written


def _copy_database(source: Path, copy: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as live,
        contextlib.closing(sqlite3.connect(copy)) as still,
    ):
        live.backup(still)  # in one step: a copy in several begins anew whenever another process writes
        fault = still.execute("PRAGMA quick_check(1)").fetchone()[0].splitlines()[-1]  # below a heading of its own
    if fault != "ok":
        raise RaycolabError(
            f"the database {source} is damaged ({fault}), so no snapshot is taken of it: go on from an earlier one."
        )


def _add(folder: Path, originals: dict[str, Path], origin: tuple[str, tuple[str, ...], str]) -> Snapshot:
    folder.mkdir(exist_ok=True)
    number = max((number for number, _ in _listed(folder)), default=0) + 1
    written: list[Path] = []
    try:
        files = []
        for name, original in originals.items():
            path = folder / _numbered(number, name)
            with original.open("rb") as source, path.open("xb") as target:
                written.append(path)
                files.append(_copied(name, source, target))
        taken_at, heads, machine = origin
        snapshot = Snapshot(folder, number, taken_at, tuple(files), heads, machine)
        path = folder / _numbered(number, _MANIFEST)
        with path.open("x", encoding="utf-8") as manifest:
            written.append(path)
            manifest.write(_manifest(snapshot))
            manifest.flush()
            os.fsync(manifest.fileno())
    except BaseException:
        for path in reversed(written):
            _remove(path)
        raise
    _prune(folder, number)
    return snapshot


def _prune(folder: Path, number: int) -> None:
    """Removes what is older than the last KEPT, and pieces of snapshots that were never finished."""
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
    for block in _blocks(source):
        target.write(block)
        digest.update(block)
        size += len(block)
    target.flush()
    os.fsync(target.fileno())
    return _File(name, size, digest.hexdigest())


def _copied_back(snapshot: Snapshot, targets: dict[_File, Path]) -> list[Path]:
    """The files written, none when one of them was not what the manifest says; all or nothing of them is there."""
    beside = {file: path.with_name(f".{path.name}.{os.getpid()}.part") for file, path in targets.items()}
    placed: list[Path] = []
    try:
        for file, part in beside.items():
            part.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with os.fdopen(descriptor, "wb") as target, _place(snapshot, file).open("rb") as source:
                if _copied(file.name, source, target) != file:
                    return []
        # The database last: with it there, the restoration is done.
        for file in sorted(beside, key=lambda file: file.name == DATABASE):
            beside[file].rename(targets[file])
            placed.append(targets[file])
    except BaseException:
        for path in placed:
            _remove(path)
        raise
    finally:
        for part in beside.values():
            _remove(part)
    return list(targets.values())


def _described(folder: Path, number: int) -> Snapshot | None:
    """What a manifest says, None when it is cut or not of this number."""
    with (folder / _numbered(number, _MANIFEST)).open("rb") as file:
        text = file.read(_LONGEST_MANIFEST)
    try:
        found = json.loads(text)
        files = tuple(_File(str(item["name"]), int(item["size"]), str(item["sha256"])) for item in found["files"])
        taken_at, heads = str(found["taken_at"]), tuple(map(str, found["heads"]))
        utc_seconds(taken_at)
    except (ValueError, KeyError, TypeError):
        return None
    is_ours = found["number"] == number and all(Path(file.name).name == file.name for file in files)
    snapshot = Snapshot(folder, number, taken_at, files, heads, str(found.get("machine", "")))
    return snapshot if files and is_ours else None


def _manifest(snapshot: Snapshot) -> str:
    files = [{"name": file.name, "size": file.size, "sha256": file.sha256} for file in snapshot.files]
    origin = {"taken_at": snapshot.taken_at, "heads": snapshot.heads, "machine": snapshot.machine}
    return json.dumps({"number": snapshot.number, **origin, "files": files}, indent=1) + "\n"


def _is_whole(snapshot: Snapshot, file: _File) -> bool:
    path = _place(snapshot, file)
    if path.stat().st_size != file.size:
        return False
    digest = hashlib.sha256()
    with path.open("rb") as source:
        for block in _blocks(source):
            digest.update(block)
    return digest.hexdigest() == file.sha256


def _blocks(source: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: source.read(_BLOCK), b"")


def _place(snapshot: Snapshot, file: _File) -> Path:
    return snapshot.folder / _numbered(snapshot.number, file.name)


def _numbered(number: int, kind: str) -> str:
    return f"raycolab-{number:06d}.{kind}"


def _listed(folder: Path) -> list[tuple[int, str]]:
    """Number and kind of every file of a snapshot, whole or not; none where there is no such folder."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return [(int(match[1]), match[2]) for name in names if (match := _NAME.fullmatch(name))]


def _told(call: Callable[[], T], what: str, comfort: str = "") -> T:
    """What the call gives; a failing disk or database as StoreOutageError."""
    try:
        return call()
    except (OSError, sqlite3.Error) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise StoreOutageError(f"{what} ({reason}){comfort}.") from error
