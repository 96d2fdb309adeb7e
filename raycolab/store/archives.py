"""The files of sweeps, kept in the head's data directory beside the database: archives by the digest of what they hold.

    files/<digest>.tar.zst     0600   what `raycolab.main.files` packed, whole
    files/<digest>.part        0600   one that is still coming

The same files of two sweeps, or of a sweep declared again, are there once. They are not in the database, of which each
snapshot is a new copy: a folder of snapshots gets each archive once.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from raycolab.errors import ClusterError, UsageError
from raycolab.main.files import DamagedArchiveError, verify
from raycolab.node.api import PIECE_BYTES

__all__ = ["Archives"]

_DIGEST = re.compile("[0-9a-f]{64}")
_WHOLE = ".tar.zst"
_KEPT_S = 3600.0  # one that no sweep has yet may be on its way to a declaration


class Archives:
    """The archives in one folder; used by several threads of one process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._adding = threading.Lock()

    @classmethod
    def of(cls, data_dir: str | os.PathLike[str]) -> Archives:
        """Those of this data directory."""
        return cls(Path(data_dir) / "files")

    def path(self, digest: str) -> Path | None:
        """Where the archive lies; None when it is not here."""
        path = self._place(digest)
        return path if path.exists() else None

    def add(self, digest: str, size: int, offset: int, piece: bytes) -> int:
        """Take the piece of an archive of `size` bytes that begins at `offset`; how many bytes are here now.

        A piece that does not begin where the last one ended is dropped. The whole is verified: ClusterError.
        """
        place = self._place(digest)
        part = place.with_name(f"{digest}.part")
        with self._adding, self._own_errors():
            if place.exists():
                os.utime(place)  # a declaration with it is under way
                return size
            self.folder.mkdir(mode=0o700, exist_ok=True)
            part.touch(mode=0o600)
            if part.stat().st_size > size:
                os.truncate(part, 0)
            if part.stat().st_size == offset:
                with part.open("ab") as file:
                    file.write(piece[: size - offset])
                    file.flush()
                    os.fsync(file.fileno())
            there = part.stat().st_size
            if there == size:
                self._accept(part, digest)
            return there

    def read(self, digest: str, offset: int) -> bytes:
        """The next piece of an archive, empty at its end; ClusterError when it is not here."""
        path = self.path(digest)
        if path is None:
            raise ClusterError(self.lost())
        with self._own_errors(), path.open("rb") as file:
            file.seek(offset)
            return file.read(PIECE_BYTES)

    def lost(self) -> str:
        """The sentence for an archive that should be here."""
        return (
            f"the files that travel with its MAIN are not in {self.folder}, as if another machine's head had taken "
            "them: declare it again from the folder of MAIN, which brings them"
        )

    def keep_only(self, digests: Collection[str], now: float | None = None) -> None:
        """Remove the archives of no sweep, but for those that came within the last hour."""
        before = (time.time() if now is None else now) - _KEPT_S
        for path in self.folder.glob("*"):
            with contextlib.suppress(OSError):
                if path.name.partition(".")[0] not in digests and path.stat().st_mtime < before:
                    path.unlink()

    def copy_missing(self, other: Path) -> None:
        """Copy to the folder `other` what it lacks, and remove what is not here. Raises OSError."""
        here = {path.name: path for path in self.folder.glob(f"*{_WHOLE}")}
        if not here and not other.exists():
            return
        other.mkdir(parents=True, exist_ok=True)
        for name, path in here.items():
            target = other / name
            if not target.exists() or target.stat().st_size != path.stat().st_size:
                part = other / f"{name}.part"
                shutil.copyfile(path, part)
                part.replace(target)
        for path in other.iterdir():
            if path.name not in here:
                path.unlink()

    def take_back(self, other: Path) -> None:
        """Copy what the folder `other` has and this one lacks; what is damaged there is left. Raises OSError."""
        for path in other.glob(f"*{_WHOLE}"):
            digest = path.name.removesuffix(_WHOLE)
            if _DIGEST.fullmatch(digest) and self.path(digest) is None:
                self.folder.mkdir(mode=0o700, exist_ok=True)
                part = self.folder / f"{digest}.part"
                shutil.copyfile(path, part)
                with contextlib.suppress(ClusterError):
                    self._accept(part, digest)

    def _accept(self, part: Path, digest: str) -> None:
        try:
            with part.open("rb") as file:
                verify(file, digest)
        except DamagedArchiveError as error:
            part.unlink()
            raise ClusterError(f"{error}: declare the sweep again.") from error
        part.chmod(0o600)
        part.replace(self._place(digest))

    def _place(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise UsageError(f"{digest!r} is not the digest of an archive.")
        return self.folder / f"{digest}{_WHOLE}"

    @contextlib.contextmanager
    def _own_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ClusterError(
                f"The files of a sweep cannot be kept in {self.folder} ({error.strerror}): mend that and try again."
            ) from error
