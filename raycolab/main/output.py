"""What MAIN's code prints: kept in a file, bounded, with what C code and child processes print in a worker.

While MAIN's code runs, `sys.stdout` and `sys.stderr` are streams that write there, and in a worker so do the file
descriptors 1 and 2. Each trial has streams of its own: what one does to them, such as closing them, is over with it,
and a logger that was made with an earlier one still arrives. A file that has a name outlives its process, however that
ends. Of one trial the last KEPT_BYTES are kept, and what travels is `last_lines` of them.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["KEPT_BYTES", "MAX_OUTPUT_BYTES", "MAX_OUTPUT_LINES", "MainOutput", "last_lines", "left_by", "output_path"]

MAX_OUTPUT_LINES = 50
MAX_OUTPUT_BYTES = 8192
KEPT_BYTES = 256 * 1024  # of what was printed; progress bars that overwrite themselves shrink on reading
MOST_BYTES = 4 * KEPT_BYTES  # in the file, before all but the last KEPT_BYTES of it are dropped
# How often the file is looked at: what children print does not pass through this process.
_LOOK_S = 0.25
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


def last_lines(text: str) -> str:
    """The last 50 lines of `text`, 8 kB at most, as a terminal shows them: no colours, no overwritten bars."""
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in _ESCAPES.sub("", text).split("\n")]
    shown = "\n".join(lines[-MAX_OUTPUT_LINES - 1 :] if lines[-1] == "" else lines[-MAX_OUTPUT_LINES:])
    raw = shown.encode("utf-8", "backslashreplace")
    if len(raw) <= MAX_OUTPUT_BYTES:
        return shown
    return raw[-MAX_OUTPUT_BYTES:].decode("utf-8", "ignore")


def output_path(node_dir: Path, process: int) -> Path:
    """Where what MAIN prints in this process is kept."""
    return node_dir / "output" / str(process)


def left_by(path: Path) -> str:
    """The last lines in the file of a process that has died, which is removed."""
    try:
        with path.open("rb") as file:
            file.seek(max(os.fstat(file.fileno()).st_size - KEPT_BYTES, 0))
            text = last_lines(file.read().decode("utf-8", "replace"))
        path.unlink()
    except OSError:  # it had not come to that
        return ""
    return text


class MainOutput:
    """The file, and what writes to it."""

    def __init__(self, path: Path | None = None) -> None:
        """A new file at `path`, or one without a name that goes with this process."""
        if path is None:
            with tempfile.TemporaryFile() as file:
                self._file = os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDWR | os.O_APPEND)
        else:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC, 0o600)
        self._path = path
        self._trimming = threading.Lock()
        self._closed = threading.Event()
        self._watch: threading.Thread | None = None

    @contextlib.contextmanager
    def captured(self, *, descriptors: bool) -> Iterator[None]:
        """Have new streams stand for stdout and stderr, and with `descriptors` also have 1 and 2 lead here."""
        stream = _Stream(self)
        with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream), contextlib.ExitStack() as stack:
            if descriptors:
                stack.enter_context(self._descriptors())
            yield

    def write(self, data: memoryview) -> None:
        """Add bytes; a full disk costs them, and no trial."""
        with contextlib.suppress(OSError):
            left = data
            while left:
                left = left[os.write(self._file, left) :]
        self._trim()

    def text(self) -> str:
        """The last lines of what was written since `clear`."""
        with self._trimming:
            return last_lines(self._tail().decode("utf-8", "replace"))

    def clear(self) -> None:
        """Forget everything written so far."""
        if os.fstat(self._file).st_size:
            os.ftruncate(self._file, 0)

    def close(self) -> None:
        """Nothing is left of the file."""
        self._closed.set()
        if self._watch is not None:
            self._watch.join()
        os.close(self._file)
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _descriptors(self) -> Iterator[None]:
        if self._watch is None:
            self._watch = threading.Thread(target=self._look, name="raycolab-output", daemon=True)
            self._watch.start()
        _flush()
        own = [os.dup(descriptor) for descriptor in _STANDARD]
        for descriptor in _STANDARD:
            os.dup2(self._file, descriptor)
        try:
            yield
        finally:
            _flush()
            for descriptor, was in zip(_STANDARD, own, strict=True):
                os.dup2(was, descriptor)
                os.close(was)

    def _look(self) -> None:
        while not self._closed.wait(_LOOK_S):
            self._trim()

    def _trim(self) -> None:
        """Keep to the bound. What is written meanwhile may be lost, and nothing waits: a fork may have the lock."""
        if os.fstat(self._file).st_size <= MOST_BYTES or not self._trimming.acquire(blocking=False):
            return
        try:
            tail = self._tail()
            os.ftruncate(self._file, 0)
            with contextlib.suppress(OSError):
                os.write(self._file, tail)
        finally:
            self._trimming.release()

    def _tail(self) -> bytes:
        return os.pread(self._file, KEPT_BYTES, max(os.fstat(self._file).st_size - KEPT_BYTES, 0))


_STANDARD = (1, 2)
_libc = ctypes.CDLL(None)


def _flush() -> None:
    """Have written what Python's own streams and those of C hold back."""
    for stream in (sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(OSError, ValueError):  # MAIN may have closed it
            if stream is not None:
                stream.flush()
    _libc.fflush(None)


class _Bytes(io.BufferedIOBase):
    """The byte side of a stream; closing it changes nothing."""

    name = "<output of MAIN>"

    def __init__(self, output: MainOutput) -> None:
        self._output = output

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:  # bytes-like; the type has no name before Python 3.12
        view = memoryview(data).cast("B")
        self._output.write(view)
        return len(view)

    def fileno(self) -> int:
        """The real standard output, for subprocesses that are handed this stream."""
        stream = sys.__stdout__
        if stream is None:
            raise io.UnsupportedOperation("fileno")
        return stream.fileno()

    def close(self) -> None:
        pass


class _Stream(io.TextIOWrapper):
    """What stands for `sys.stdout` and `sys.stderr`, with what programs expect of them; it cannot be closed."""

    def __init__(self, output: MainOutput) -> None:
        super().__init__(
            _Bytes(output),
            encoding="utf-8",
            errors="backslashreplace",
            newline="\n",
            write_through=True,
        )

    def isatty(self) -> bool:
        """Never a terminal: no colours, no cursor movements."""
        return False

    def close(self) -> None:
        """What a kernel's stream survives, this one does too."""
        self.flush()
