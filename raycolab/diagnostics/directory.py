"""The data directory: can a head write there, is what lies there whole, and who runs with it now."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import psutil

from raycolab.diagnostics.check import Finding, bad, good, note
from raycolab.diagnostics.machine import room
from raycolab.errors import UsageError
from raycolab.joining import Joiner
from raycolab.node.data_dir import DATA_DIR_VARIABLE, DataDir

__all__ = ["file_system", "nodes_here", "running", "writable"]

NAMED = 5  # processes that a sentence lists
# Where a SQLite database can be damaged: file locks are not what they are on a disk.
_NETWORKS = ("fuse", "nfs", "cifs", "smb", "9p", "ceph", "glusterfs", "lustre")


def writable(data_dir: DataDir) -> Finding:
    """Whether a head can keep its identity and database there; nothing stays behind."""
    place = _existing(data_dir.path)
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise UsageError(
            f"{data_dir.path} cannot be the data directory ({error.strerror}): give --data-dir, or {DATA_DIR_VARIABLE},"
            " a folder you may write to."
        ) from error
    data_dir.load_identity()
    data_dir.load_traffic()
    kind = file_system(place, {part.mountpoint: part.fstype for part in psutil.disk_partitions(all=True)})
    if kind.startswith(_NETWORKS):
        return bad(
            f"{data_dir.path} lies on a network disk ({kind}), where a SQLite database can be damaged: give --data-dir"
            " a folder on a local disk."
        )
    found = room(str(place), "a database that cannot grow stops the sweep")
    return Finding(found.verdict, f"{data_dir.path} can be written to. {found.message}")


def running(data_dir: DataDir) -> Finding:
    """Whether a head runs with this directory, and which other nodes run here."""
    record, joiner = data_dir.read_head(), Joiner.running(data_dir)
    if record is not None:
        return note(
            f"A head runs here with {data_dir.path} (process {record.pid}): raycolab.attach() finds it, `raycolab down`"
            " ends it."
        )
    if joiner is not None:
        return note(
            f"This machine is a joiner already, with {data_dir.path} (process {joiner.record.pid}): raycolab.join()"
            " shows it, raycolab.leave() ends it."
        )
    if others := nodes_here():
        count = f"{len(others)} node{'' if len(others) == 1 else 's'}"
        which = ", ".join(map(str, others[:NAMED])) + ("" if len(others) <= NAMED else ", …")
        return note(
            f"No head runs with {data_dir.path}, but {count} of another directory or cluster (process {which}): each"
            " takes CPUs here."
        )
    return good(f"No head or joiner runs here yet, with {data_dir.path} or another directory.")


def nodes_here() -> list[int]:
    """The processes of this user, in sight of this one, that are a head or a joiner."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.uids().real == os.getuid() and "raycolab.node.supervisor" in process.cmdline()[1:4]:
                found.append(process.pid)
    return found


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def file_system(path: Path, kinds: Mapping[str, str]) -> str:
    """The kind of file system that a path lies on, by those of all mount points; "" where nobody says."""
    for place in (path.resolve(), *path.resolve().parents):
        if str(place) in kinds:
            return kinds[str(place)]
    return ""
