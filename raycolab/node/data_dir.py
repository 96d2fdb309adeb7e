"""The data directory of a head: its identity, who runs it now, and the lock that lets only one do so.

    identity.json   0600   what makes a restarted head the same one to its joiners: certificate, secret, Ray token, ...
    head.json       0600   the running head: its process, its control socket, its store
    joined.json     0600   the joiner that runs here: its name, and the socket that leads to its head
    lock            0600   held by the running head (flock), with its process id for the sentence a second one gets
    traffic.json    0600   the bytes that went through the tunnel this month
    heads.json      0600   this directory's name, after those whose snapshots it took up (see `kept_folder`)
    raycolab.db            the default store

Files are written whole: beside, then renamed. What is in the identity is the head's business; nothing here reads it.
Sockets and Ray's temporary files are not kept here but in a run directory, whose path is short.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import stat
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from raycolab.errors import ClusterError, RaycolabError, UsageError
from raycolab.files import typed_path

__all__ = ["DataDir", "DataLock", "HeadRecord", "JoinedRecord", "make_run_dir"]

DATA_DIR_VARIABLE = "RAYCOLAB_DATA_DIR"
DATABASE_NAME = "raycolab.db"
CONNECT_TIMEOUT_S = 2.0  # to see whether the control socket of head.json is answered
# sockaddr_un holds 107 bytes, and Ray puts session_<date>_<time>_<pid>/sockets/plasma_store below the run directory.
RUN_DIR_BYTES = 36
_NOT_USABLE = {errno.ENOTDIR, errno.EEXIST, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ELOOP}


@dataclass(frozen=True, slots=True)
class HeadRecord:
    """What `head.json` says about the running head."""

    pid: int
    control: str  # path of the supervisor's control socket
    started_at: float  # seconds since the epoch
    store: str  # URL of its database; may hold a password


@dataclass(frozen=True, slots=True)
class JoinedRecord:
    """What `joined.json` says about the joiner that runs on this machine."""

    control: str  # path of the socket that leads to its head
    node: str  # its name
    address: str  # 127.77.0.k


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

    A directory that cannot be used raises UsageError (the path was typed) or ClusterError (a full disk, damage).
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

    def load_identity(self) -> dict[str, Any] | None:
        """What `save_identity` saved, or None. Raises ClusterError for a damaged file."""
        return self._read("identity.json")

    def save_identity(self, identity: Mapping[str, Any]) -> None:
        """Replace the identity; on return it is on the disk."""
        self._write("identity.json", identity)

    def load_traffic(self) -> dict[str, Any] | None:
        """What `save_traffic` saved, or None. Raises ClusterError for a damaged file."""
        return self._read("traffic.json")

    def save_traffic(self, traffic: Mapping[str, Any]) -> None:
        """Replace the count of the month's bytes."""
        self._write("traffic.json", traffic)

    def load_heads(self) -> list[str]:
        """What `save_heads` saved, or nothing. Raises ClusterError for a damaged file."""
        heads = (self._read("heads.json") or {"heads": []}).get("heads")
        if not isinstance(heads, list) or not all(isinstance(name, str) for name in heads):
            raise self._damaged("heads.json")
        return heads

    def save_heads(self, heads: Sequence[str]) -> None:
        """Replace the names in whose place in a folder of snapshots this directory is, its own last."""
        self._write("heads.json", {"heads": list(heads)})

    def write_head(self, record: HeadRecord) -> None:
        """Say where the running head can be reached."""
        self._write("head.json", asdict(record))

    def read_head(self) -> HeadRecord | None:
        """The running head, or None when there is none or the one that wrote the record does not listen any more."""
        found = self._read("head.json")
        if found is None:
            return None
        try:
            record = HeadRecord(**found)
        except TypeError as error:
            raise self._damaged("head.json") from error
        return record if _answers(record.control) else None

    def clear_head(self) -> None:
        """Forget the running head."""
        with contextlib.suppress(OSError):
            (self.path / "head.json").unlink(missing_ok=True)

    def write_joined(self, record: JoinedRecord) -> None:
        """Say how the head is reached from this machine, which is a node of its cluster."""
        self._write("joined.json", asdict(record))

    def read_joined(self) -> JoinedRecord | None:
        """The joiner that runs here, or None when there is none."""
        found = self._read("joined.json")
        if found is None:
            return None
        try:
            record = JoinedRecord(**found)
        except TypeError as error:
            raise self._damaged("joined.json") from error
        return record if _answers(record.control) else None

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

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            text = (self.path / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(error) from error
        except UnicodeDecodeError as error:
            raise self._damaged(name) from error
        try:
            value = json.loads(text)
        except ValueError as error:
            raise self._damaged(name) from error
        if not isinstance(value, dict):
            raise self._damaged(name)
        return value

    def _write(self, name: str, value: Mapping[str, Any]) -> None:
        """Beside, then renamed: a reader finds the old file or the new one, whatever stops us."""
        self._make()
        try:
            descriptor, beside = tempfile.mkstemp(prefix=f".{name}-", dir=self.path)  # mode 0600
            try:
                with open(descriptor, "w", encoding="utf-8") as file:
                    json.dump(value, file, indent=1)
                    file.flush()
                    os.fsync(descriptor)
                os.replace(beside, self.path / name)
            except BaseException:  # whatever it is, half a file must not stay
                os.unlink(beside)
                raise
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

    def _damaged(self, name: str) -> ClusterError:
        return ClusterError(
            f"{self.path / name} is damaged: delete it and start the head again."
            + (" Joiners then need the new join address." if name == "identity.json" else "")
        )


def make_run_dir() -> Path:
    """Make a private directory of a short path (`/tmp/rc-...`) for sockets and Ray's files; the caller removes it."""
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


def _answers(path: str) -> bool:
    """Whether somebody listens at a unix socket."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(CONNECT_TIMEOUT_S)
            probe.connect(path)
    except TimeoutError:
        return True  # its queue is full: alive
    except OSError:
        return False
    return True
