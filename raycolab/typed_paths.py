"""Paths that a person typed: read within bounds, and found out to be writable before the work whose result they get.

What was typed may be a folder, a device without an end, somebody else's file, or no text at all.
"""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from raycolab.errors import UsageError

__all__ = ["check_writable", "read_text", "typed_path"]


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
