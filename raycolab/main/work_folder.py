"""Where MAIN runs on a node: a folder for each sweep and each version of its code, with the sweep's own files in it.

    <node's folder>/                        the supervisor's run directory, removed when the node ends
        work/                               0700
            <sweep>-<random>/               0700, a work folder; a setup that starts from nothing makes a new one
            <sweep>-<random>.lock           held by each process that works there

A work folder is the current directory and first on `sys.path` for MAIN's cells and for each trial. Nobody else's files
are in it: not the head's own directory, and not those of another sweep. Unused ones go when a new one is made.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["NODE_DIR_VARIABLE", "Fill", "Place", "WorkFolder", "node_dir"]

NODE_DIR_VARIABLE = "RAYCOLAB_NODE_DIR"
"""Names the node's folder in the environment of every process that Ray starts there."""

Fill = Callable[[Path], None]
"""Puts the sweep's files into a new work folder, which is empty."""

KEPT_FOLDERS = 8  # work folders of one node that nobody uses any more, the latest
_LONGEST_NAME = 40  # characters of the sweep's name in its folder's


def node_dir(environ: Mapping[str, str]) -> Path:
    """The folder of the node that this process runs on."""
    return Path(environ[NODE_DIR_VARIABLE])


class WorkFolder:
    """A work folder and this process's hold on it, until `release` or the end of the process."""

    def __init__(self, path: Path) -> None:
        """Take hold of a folder that is there; FileNotFoundError when it is not, or is being removed."""
        self.path = path
        self._descriptor: int | None = os.open(_lock_of(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)
        if not path.is_dir():
            self.release()
            raise FileNotFoundError(path)

    @classmethod
    def make(cls, work: Path, sweep: str, fill: Fill | None = None) -> WorkFolder:
        """A new folder for this sweep below `work`, with what `fill` puts into it; old ones that nobody uses go."""
        work.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_unused(work)
        prefix = re.sub(r"[^\w.-]+", "_", sweep, flags=re.ASCII).lstrip(".")[:_LONGEST_NAME] or "sweep"
        made = cls(Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir=work)))
        if fill is not None:
            fill(made.path)
        return made

    def release(self) -> None:
        """Let it be removed once nobody else uses it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where code runs: the current directory and what Python imports from."""

    directory: str
    path: tuple[str, ...]

    @classmethod
    def now(cls, otherwise: str) -> Place:
        """Where this process is; the directory is `otherwise` when somebody has removed it."""
        try:
            return cls(os.getcwd(), tuple(sys.path))
        except FileNotFoundError:
            return cls(otherwise, tuple(sys.path))

    @classmethod
    def of(cls, folder: Path) -> Place:
        """A work folder. As in a notebook `%cd` changes what modules are found first; those of the folder still are."""
        rest = [each for each in sys.path if each not in ("", str(folder))]
        return cls(str(folder), ("", str(folder), *rest))

    def enter(self) -> None:
        """Be there from now on; a directory that somebody has removed is made anew."""
        try:
            os.chdir(self.directory)
        except OSError:
            with contextlib.suppress(OSError):
                os.makedirs(self.directory, exist_ok=True)
                os.chdir(self.directory)
        sys.path[:] = self.path


def _remove_unused(work: Path) -> None:
    """Remove all but the latest of the folders that no process holds."""
    folders = [path for path in work.iterdir() if path.is_dir() and not path.is_symlink()]
    for path in sorted(folders, key=lambda each: each.stat().st_mtime)[:-KEPT_FOLDERS]:
        descriptor = os.open(_lock_of(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        else:
            shutil.rmtree(path, ignore_errors=True)
            _lock_of(path).unlink(missing_ok=True)
        finally:
            os.close(descriptor)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")
