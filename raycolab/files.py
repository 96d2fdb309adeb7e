"""Paths that a person typed: read within bounds, and found out to be writable before the work whose result they get.

What was typed may be a folder, a device without an end, somebody else's file, or no text at all.
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

__all__ = [
    "bug_sentence",
    "check_writable",
    "give_up",
    "open_closed_streams",
    "read_text",
    "spell_everything",
    "typed_path",
    "write_line",
]


def typed_path(text: str | os.PathLike[str], what: str) -> Path:
    """The path, `~` replaced; UsageError, which calls it `what`, for one that cannot be a path here."""
    try:
        os.fspath(text).encode()  # what is no UTF-8 would fail later: in a URL, in JSON, in a sentence
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


def spell_everything() -> None:
    """Have stdout and stderr write what their encoding lacks as backslash escapes, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def open_closed_streams() -> None:
    """Open the descriptors 0, 1 and 2 where they are closed, or the next file opened would be written to as stdout."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # which takes the lowest free number, this one
            os.set_inheritable(opened, True)


def write_line(stream: TextIO | None, text: str) -> None:
    """Write a line at once; a reader who went away and a full disk are no reason to fail."""
    if stream is None:  # Python's word for one that was closed before it started
        return
    try:
        stream.write(text + "\n")
        stream.flush()
    except OSError:
        give_up(stream)


def give_up(stream: TextIO | None) -> None:
    """Drop what a stream could not write: Python would try again, and complain, at exit."""
    if stream is None:
        return
    with contextlib.suppress(OSError, ValueError):  # it has no descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def bug_sentence(error: BaseException) -> str:
    """Keep the traceback in a file for its owner alone, and say where it is and what to do with it."""
    said = f"This is a bug in raycolab ({type(error).__name__}), not your doing."
    try:
        descriptor, path = tempfile.mkstemp(prefix="raycolab-bug-", suffix=".txt")  # mode 0600
        with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            traceback.print_exception(error, file=file)
    except OSError as refused:
        where = tempfile.gettempdir()
        return f"{said} Its traceback could not be kept ({refused.strerror}): make room in {where}, and again."
    return f"{said} Its traceback is in {path}: please report it with what you typed, without the join address."
