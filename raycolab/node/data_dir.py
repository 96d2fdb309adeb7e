"""The data directory of a head: its identity, who runs it now, and the lock that lets only one do so.

    identity.json   0600   what makes a restarted head the same one to its joiners: certificate, secret, Ray token, ...
    head.json       0600   the running head: its process, its control socket, its store
    joined.json     0600   the joiner that runs here: its name, and the socket that leads to its head
    lock            0600   held by the running head (flock), with its process id for the sentence a second one gets
    traffic.json    0600   the bytes that went through the tunnel this month
    heads.json      0600   this directory's name, after the names of those whose snapshots it took up (see `snapshots`)
    raycolab.db            the default store

Each file is one record, declared below. A file that holds anything else is damaged, and the person decides.
Sockets and Ray's temporary files are kept in a run directory instead, whose path is short.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import ClassVar, TypeVar

import msgspec

from raycolab.errors import ClusterError, RaycolabError, UsageError
from raycolab.files import typed_path, write_private
from raycolab.node.lifeline import remove_old_run_dirs

__all__ = ["DataDir", "DataLock", "HeadRecord", "Heads", "Identity", "JoinedRecord", "MonthTraffic", "make_run_dir"]

DATA_DIR_VARIABLE = "RAYCOLAB_DATA_DIR"
DATABASE_NAME = "raycolab.db"
CONNECT_TIMEOUT_S = 2.0  # to see whether the control socket of head.json is answered
# sockaddr_un holds 107 bytes, and Ray puts session_<date>_<time>_<pid>/sockets/plasma_store below the run directory.
RUN_DIR_BYTES = 36
_NOT_USABLE = {errno.ENOTDIR, errno.EEXIST, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ELOOP}


class HeadRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The running head."""

    FILE: ClassVar[str] = "head.json"
    pid: int
    control: str  # path of the supervisor's control socket
    started_at: float  # seconds since the epoch
    store: str  # URL of its database; may hold a password


class Identity(msgspec.Struct, frozen=True):
    """What a head takes over from the one before, so that the join address outlives it."""

    FILE: ClassVar[str] = "identity.json"
    hub: str  # the hub's key, certificate and secret, as `tunnel.secure` writes them
    ray_token: str
    provider: dict[str, str] = {}  # what the provider wants to find again, such as its port


class MonthTraffic(msgspec.Struct, frozen=True):
    """What went through the tunnel in one month."""

    FILE: ClassVar[str] = "traffic.json"
    month: str = ""  # as 2026-11
    bytes: int = 0


class Heads(msgspec.Struct, frozen=True):
    """In whose place in a folder of snapshots this directory is, its own name last."""

    FILE: ClassVar[str] = "heads.json"
    heads: tuple[str, ...] = ()


class JoinedRecord(msgspec.Struct, frozen=True):
    """The joiner that runs on this machine."""

    FILE: ClassVar[str] = "joined.json"
    control: str  # path of the socket that leads to its head
    node: str  # its name
    address: str  # 127.77.0.k
    grace_s: float = 0.0  # for how long its link may be interrupted


Record = TypeVar("Record", HeadRecord, Identity, MonthTraffic, Heads, JoinedRecord)


class DataLock:
    """The lock of a data directory, held until `release` or the end of this process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Let another head have the directory."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> DataLock:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()


class DataDir:
    """One data directory. Reading never makes it; writing and locking do, for this user alone.

    Each method raises UsageError for a directory that cannot be used, since the path was typed, and ClusterError for
    a disk that is full or fails.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = typed_path(path, "The data directory").absolute()

    @classmethod
    def chosen(cls, given: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> DataDir:
        """The directory that was asked for: `given`, else RAYCOLAB_DATA_DIR, else `~/.raycolab`."""
        return cls(given or environ.get(DATA_DIR_VARIABLE) or "~/.raycolab")

    @property
    def database_path(self) -> Path:
        """Where the default store lies."""
        return self.path / DATABASE_NAME

    def load(self, kind: type[Record]) -> Record | None:
        """The record of this kind that was saved last, or None. Raises ClusterError for a damaged file."""
        try:
            return msgspec.json.decode((self.path / kind.FILE).read_bytes(), type=kind)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(error) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self.damaged(kind.FILE) from error

    def save(self, record: HeadRecord | Identity | MonthTraffic | Heads | JoinedRecord) -> None:
        """Replace the record of this kind; on return it is on the disk, whole."""
        self._make()
        try:
            write_private(self.path / record.FILE, msgspec.json.format(msgspec.json.encode(record), indent=1).decode())
        except OSError as error:
            raise self._unusable(error) from error

    def read_head(self) -> HeadRecord | None:
        """The running head, or None when there is none or the one that wrote the record does not listen any more."""
        record = self.load(HeadRecord)
        return record if record is not None and _is_listening(record.control) else None

    def read_joined(self) -> JoinedRecord | None:
        """The joiner that runs here, or None when there is none or nobody listens any more."""
        record = self.load(JoinedRecord)
        return record if record is not None and _is_listening(record.control) else None

    def clear_head(self) -> None:
        """Forget the running head."""
        with contextlib.suppress(OSError):
            (self.path / HeadRecord.FILE).unlink(missing_ok=True)

    def lock(self) -> DataLock:
        """Take the directory for this process. Raises ClusterError when another head has it."""
        self._make()
        try:
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.write(descriptor, str(os.getpid()).encode())
        except OSError as error:
            holder = os.read(descriptor, 20).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise self._refused(error, holder) from error
        return DataLock(descriptor)

    def _refused(self, error: OSError, holder: str) -> RaycolabError:
        if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
            return ClusterError(
                f"A head already runs with the data directory {self.path} (process {holder or 'unknown'}):"
                f" attach to it, end it with `raycolab down --data-dir {self.path}`, or give this one another"
                " --data-dir."
            )
        return UsageError(
            f"The data directory {self.path} cannot be locked ({os.strerror(error.errno or 0)}): give --data-dir a"
            " folder on a local disk, with room."
        )

    def _make(self) -> None:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> RaycolabError:
        reason = os.strerror(error.errno or 0)
        if self.path.exists() and not self.path.is_dir():
            reason = "it is a file"
        if error.errno in _NOT_USABLE:
            return UsageError(
                f"{self.path} cannot be the data directory ({reason}): give --data-dir, or {DATA_DIR_VARIABLE},"
                " a folder you may write to."
            )
        return ClusterError(
            f"The data directory {self.path} could not be read or written ({reason}): mend that, or give --data-dir"
            " another folder."
        )

    def damaged(self, name: str) -> ClusterError:
        """The error for a file of this directory that does not hold what was written to it."""
        cure = "delete it and start the head again"
        if name == Identity.FILE:
            cure = (
                "start the head with --new-address (in a notebook new_address=True), and give joiners the new address"
            )
        return ClusterError(f"{self.path / name} is damaged: {cure}.")


def make_run_dir() -> Path:
    """Make a private directory of a short path (`/tmp/rc-...`) for sockets and Ray's files; the caller removes it.

    Those of nodes that were killed with their guard are removed first.
    """
    remove_old_run_dirs("rc-*")
    base = tempfile.gettempdir()
    if len(os.fsencode(base)) + len("/rc-12345678") > RUN_DIR_BYTES:
        raise ClusterError(
            f"The folder for temporary files, {base}, has too long a path for the sockets of Ray:"
            " set TMPDIR to a short one, such as /tmp, and start again."
        )
    try:
        return Path(tempfile.mkdtemp(prefix="rc-"))
    except OSError as error:
        raise ClusterError(
            f"No folder can be made in {base}, the one for temporary files ({error.strerror}): mend that, or set TMPDIR"
            " to another one of a short path."
        ) from error


def _is_listening(path: str) -> bool:
    """Whether somebody listens at a unix socket."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(CONNECT_TIMEOUT_S)
            probe.connect(path)
    except TimeoutError:
        return True  # its queue is full: alive
    except (OSError, ValueError):  # or what is no path
        return False
    return True
