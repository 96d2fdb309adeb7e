"""Standard streams that do not fail a program: closed ones, full ones, and ones that cannot spell every name."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TextIO

__all__ = ["give_up", "open_closed_streams", "spell_everything", "write_line"]


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
