"""The files that travel with MAIN: found by patterns in its folder, packed into one archive, unpacked where it runs.

Patterns are relative to MAIN's folder, a folder means all that is in it. Hidden files and `__pycache__` travel only
where a pattern names them, so that a `.env` stays at home and what Python leaves behind is no change; MAIN itself is
not one of its files. The archive is a tar under zstd; its digest is made from names, modes and contents alone. Where
archives are kept is `raycolab.store.archives`.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import msgspec

from raycolab.errors import RaycolabError, UsageError
from raycolab.text import bytes_text, counted, did_you_mean

__all__ = [
    "MOST_BYTES",
    "DamagedArchiveError",
    "FrozenFiles",
    "cure_for_missing",
    "freeze",
    "listing",
    "unpack",
    "verify",
]

MOST_BYTES = 256 * 2**20
"""Of all files of a MAIN together; more belongs where nodes can fetch it themselves."""

MOST_FILES = 10_000
_MOST_BESIDE = 500  # names of a folder that are remembered
_CACHES = frozenset({"__pycache__"})
_TIME = 1_577_836_800  # of all files, the first second of 2020: zip has no earlier than 1980
_OTHERWISE = (
    "put large data on a Drive that every tab mounts, or fetch it in a cell of MAIN (`!wget -nc URL`), which runs once "
    "on each node"
)


class DamagedArchiveError(RaycolabError):
    """The archive is not the one that was frozen."""


class FrozenFiles(msgspec.Struct, frozen=True):
    """The files of a MAIN as they were when the sweep was declared."""

    digest: str  # SHA-256, hex, of what the archive holds
    count: int
    size: int  # bytes, unpacked
    packed_size: int  # bytes, of the archive

    def __str__(self) -> str:
        """`4 files, 1.2 MB`."""
        return f"{counted(self.count, 'file')}, {bytes_text(self.size)}"


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str  # relative, with slashes
    content: bytes
    is_executable: bool

    def update(self, digest: hashlib._Hash) -> None:
        digest.update(f"{self.name}\0{int(self.is_executable)} {len(self.content)}\n".encode())
        digest.update(self.content)


def freeze(folder: Path, patterns: Sequence[str], main: Path | None) -> tuple[FrozenFiles, bytes]:
    """The files that these patterns mean in MAIN's folder, and the archive of them; UsageError for what cannot travel.

    `main` is MAIN's own file, if it has one.
    """
    found = _found(folder.resolve(), patterns, None if main is None else main.resolve())
    size = sum(path.stat().st_size for path in found.values())
    if size > MOST_BYTES or len(found) > MOST_FILES:
        raise UsageError(
            f"files: {len(found):,} files of {bytes_text(size)} are too much to travel with MAIN, at most "
            f"{MOST_FILES:,} of {bytes_text(MOST_BYTES)} can: {_OTHERWISE}."
        )
    import zstandard  # which most sweeps do not need

    digest = hashlib.sha256()
    packed = io.BytesIO()
    compressor = zstandard.ZstdCompressor().stream_writer(packed, closefd=False)
    size = 0
    with compressor, tarfile.open(fileobj=compressor, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(found):
            entry = _Entry(name, *_read(found[name], name))
            entry.update(digest)
            size += len(entry.content)
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.mode = len(entry.content), _TIME, 0o755 if entry.is_executable else 0o644
            archive.addfile(info, io.BytesIO(entry.content))
    content = packed.getvalue()
    return FrozenFiles(digest.hexdigest(), len(found), size, len(content)), content


def unpack(archive: BinaryIO, digest: str, folder: Path) -> None:
    """Put the files of the archive into the folder; DamagedArchiveError when it is not the one of this digest."""
    for entry in _entries(archive, digest):
        path = folder / entry.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(entry.content)
        if entry.is_executable:
            path.chmod(path.stat().st_mode | 0o111)


def verify(archive: BinaryIO, digest: str) -> None:
    """DamagedArchiveError when the archive is not the one of this digest."""
    for _ in _entries(archive, digest):
        pass


def listing(folder: Path) -> tuple[str, ...]:
    """What lies in MAIN's folder, folders ending in a slash: by it a worker knows what it was not given."""
    try:
        found = sorted(item.name + "/" * item.is_dir() for item in folder.iterdir() if _may_travel(item.name))
    except OSError:
        return ()
    return tuple(name for name in found if name.isprintable())[:_MOST_BESIDE]


def cure_for_missing(error: BaseException, folder: str, beside: Sequence[str], work_folder: Path) -> str | None:
    """The sentence for a file or module that MAIN misses and that lies beside it, in `folder`.

    None for any other, and for what is in the work folder.
    """
    while error.__cause__ is not None and not isinstance(error, (FileNotFoundError, ModuleNotFoundError)):
        error = error.__cause__
    if isinstance(error, ModuleNotFoundError) and error.name:
        top = error.name.split(".")[0]
        wanted: tuple[str, ...] = (f"{top}.py", f"{top}/")
    elif isinstance(error, FileNotFoundError) and error.filename is not None:
        path = PurePosixPath(os.fsdecode(error.filename))
        for here in (folder, work_folder):
            path = path.relative_to(here) if path.is_relative_to(here) else path
        wanted = (path.parts[0], f"{path.parts[0]}/") if path.parts else ()
    elif isinstance(error, FileNotFoundError):  # as numpy raises it: with the name in its text alone
        words = set(re.split(r"[\s'\"/]", str(error)))
        wanted = tuple(name for name in beside if name.rstrip("/") in words)
    else:
        return None
    found = next((name for name in wanted if name in beside), None)
    if found is None or (work_folder / found).exists():
        return None
    name = found.rstrip("/")
    return f"`{found}` lies beside MAIN and did not travel with it: declare the sweep with files: [{name}]."


# --- inside ----------------------------------------------------------------------------------------------------------


def _found(root: Path, patterns: Sequence[str], main: Path | None) -> dict[str, Path]:
    """The files that travel, by their names in the archive."""
    found: dict[str, Path] = {}
    for pattern in patterns:
        parts = PurePosixPath(pattern).parts
        is_hidden_wanted = any(part.startswith(".") for part in parts)
        matches = sorted(root.glob(pattern)) if parts else [root]
        if not is_hidden_wanted:
            matches = [path for path in matches if all(map(_may_travel, path.relative_to(root).parts))]
        if not matches:
            hint = did_you_mean(pattern, [name.rstrip("/") for name in listing(root)])
            raise UsageError(f"files: nothing in MAIN's folder {root} is called {pattern!r}{hint}.")
        for path in matches:
            found |= {str(file.relative_to(root)): file for file in _files(path, root, frozenset())}
    if main is not None:
        found = {name: path for name, path in found.items() if path.resolve() != main}
    for name in found:
        if not name.isprintable():
            raise UsageError(f"files: {name!r} has a name that cannot be printed: rename it.")
    return found


def _files(path: Path, root: Path, above: frozenset[Path]) -> Iterator[Path]:
    """The file, or the files in the folder."""
    real = path.resolve()
    if not real.is_relative_to(root):
        raise UsageError(
            f"files: {path.relative_to(root)} is a link that leads out of MAIN's folder, to {real}: put a copy in its "
            "place, or leave it out."
        )
    if real.is_dir():
        if real not in above:  # a link to a folder that it is in has no end
            for item in sorted(path.iterdir()):
                if _may_travel(item.name):
                    yield from _files(item, root, above | {real})
    elif real.is_file():
        yield path
    else:
        raise UsageError(f"files: {path.relative_to(root)} is neither a file nor a folder: leave it out.")


def _may_travel(name: str) -> bool:
    """Whether a file of this name travels where only its folder, or a wildcard, was named."""
    return not name.startswith(".") and name not in _CACHES


def _read(path: Path, name: str) -> tuple[bytes, bool]:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        return content, bool(path.stat().st_mode & 0o100)
    except OSError as error:
        raise UsageError(f"files: {name} cannot be read ({error.strerror}): mend that, or leave it out.") from error


def _entries(archive: BinaryIO, digest: str) -> Iterator[_Entry]:
    """The entries of an archive; DamagedArchiveError at the latest after the last one."""
    import zstandard  # which most sweeps do not need

    found = hashlib.sha256()
    size = 0
    try:
        reader = zstandard.ZstdDecompressor().stream_reader(archive, read_across_frames=True, closefd=False)
        with reader, tarfile.open(fileobj=reader, mode="r|") as members:
            for info in members:
                path, size = PurePosixPath(info.name), size + info.size
                if not info.isfile() or path.is_absolute() or ".." in path.parts or size > MOST_BYTES:
                    raise DamagedArchiveError(f"the files of MAIN hold {info.name!r}, which was never packed")
                content = members.extractfile(info)
                entry = _Entry(info.name, b"" if content is None else content.read(), bool(info.mode & 0o100))
                entry.update(found)
                yield entry
    except (tarfile.TarError, zstandard.ZstdError, EOFError) as error:
        raise DamagedArchiveError(f"the files of MAIN cannot be unpacked ({error})") from error
    if found.hexdigest() != digest:
        raise DamagedArchiveError("the files of MAIN are not those that were frozen")
