"""Files and standard streams, where whatever a person typed or a disk refuses ends in a file or a sentence.

Paths that a person typed may be a folder, a device without an end, somebody else's file, or no text at all. A private
file is written whole or not at all. The streams may be closed, full, or in an encoding that lacks a character.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import TextIO

from raycolab.errors import UsageError
from raycolab.text import visible

__all__ = [
    "check_writable",
    "crash_report",
    "discard",
    "escape_unencodable",
    "open_closed_streams",
    "read_text",
    "typed_path",
    "write_line",
    "write_private",
]


def typed_path(text: str | os.PathLike[str], what: str) -> Path:
    """The path, with `~` replaced; UsageError, which calls it `what`, for one that cannot be a path here."""
    try:
        os.fspath(text).encode()  # what is not UTF-8 would fail later: in a URL, in JSON, in a sentence
        return Path(text).expanduser()
    except UnicodeEncodeError as error:
        raise UsageError(f"{what} {os.fspath(text)!r} is not text in UTF-8: give another path.") from error
    except RuntimeError as error:  # pathlib's, for ~nobody
        raise UsageError(f"{what} {text}: there is no such user on this machine. Write the path out.") from error


def read_text(path: Path, limit: int) -> str:
    """The text of a file of at most `limit` bytes. Raises OSError, EFBIG for more, and UnicodeDecodeError."""
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return content.decode("utf-8")


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600 whole or not at all: a reader finds the old file or the new one. Raises OSError."""
    descriptor, beside = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # mode 0600
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        os.replace(beside, path)
    except BaseException:  # whatever it is, half a file must not stay
        os.unlink(beside)
        raise


def check_writable(path: Path, what: str) -> None:
    """Raise UsageError when a file could not be written at this path, by writing one beside it for a moment."""
    try:
        if path.is_dir():
            raise UsageError(f"{what} {path} is a folder: name a file.")
        if not path.parent.exists():
            raise UsageError(f"{what} {path}: there is no folder {path.parent}; make it, or name another file.")
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-"):
            pass
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise UsageError(f"{what} {path} cannot be written ({reason}): name a file that you may write.") from error


def escape_unencodable() -> None:
    """Have stdout and stderr write what their encoding lacks as backslash escapes, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def open_closed_streams() -> None:
    """Open the descriptors 0, 1 and 2 where they are closed; otherwise the next file opened would serve as stdout."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # which takes the lowest free number, this one
            os.set_inheritable(opened, True)


def write_line(stream: TextIO | None, text: str) -> None:
    """Write a line at once, its control characters visible; a reader who went away and a full disk are no failure."""
    if stream is None:  # what Python makes of a stream that was closed before it started
        return
    try:
        stream.write(visible(text) + "\n")
        stream.flush()
    except OSError:
        discard(stream)


def discard(stream: TextIO | None) -> None:
    """Drop what a stream could not write: Python would try again, and complain, at exit."""
    if stream is None:
        return
    with contextlib.suppress(OSError, ValueError):  # it has no descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def crash_report(error: BaseException) -> str:
    """Keep the traceback of a bug in a private file; the sentence says where it is and what to do with it."""
    said = f"This is a bug in raycolab ({type(error).__name__}), not your doing."
    try:
        descriptor, path = tempfile.mkstemp(prefix="raycolab-bug-", suffix=".txt")  # mode 0600
        with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            traceback.print_exception(error, file=file)
    except OSError as refused:
        folder = tempfile.gettempdir()
        return (
            f"{said} Its traceback could not be kept ({refused.strerror}): free some space in {folder} and try again."
        )
    return f"{said} Its traceback is in {path}: please report it with what you typed, without the join address."
