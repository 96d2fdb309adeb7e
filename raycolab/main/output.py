"""What a trial prints, bounded: a text stream that keeps only its last lines.

It stands in for `sys.stdout` and `sys.stderr` while MAIN's code runs, so it has what programs expect of them
(`buffer`, `encoding`, `fileno` of the real stream). Output written to the file descriptors themselves, by C code or by
subprocesses that inherit them, does not come here.
"""

from __future__ import annotations

import io
import re
import sys
import threading
from typing import Any

__all__ = ["KEPT_BYTES", "MAX_OUTPUT_BYTES", "MAX_OUTPUT_LINES", "OutputTail", "last_lines"]

MAX_OUTPUT_LINES = 50
MAX_OUTPUT_BYTES = 8192
KEPT_BYTES = 8 * MAX_OUTPUT_BYTES  # of what was printed; progress bars that overwrite themselves shrink on reading
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


def last_lines(text: str) -> str:
    """The last 50 lines of `text`, 8 kB at most, as a terminal shows them: no colours, no overwritten bars."""
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in _ESCAPES.sub("", text).split("\n")]
    shown = "\n".join(lines[-MAX_OUTPUT_LINES - 1 :] if lines[-1] == "" else lines[-MAX_OUTPUT_LINES:])
    raw = shown.encode("utf-8", "backslashreplace")
    if len(raw) <= MAX_OUTPUT_BYTES:
        return shown
    return raw[-MAX_OUTPUT_BYTES:].decode("utf-8", "ignore")


class _TailBytes(io.BufferedIOBase):
    """The byte side of the stream: the last bytes written, from any thread."""

    name = "<output of MAIN>"

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._lock = threading.Lock()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:  # bytes-like; the type has no name before Python 3.12
        view = memoryview(data).cast("B")
        with self._lock:
            self._bytes += view[-KEPT_BYTES:]
            if len(self._bytes) > 2 * KEPT_BYTES:
                del self._bytes[:-KEPT_BYTES]
        return len(view)

    def fileno(self) -> int:
        """The real standard output, for subprocesses that are handed this stream."""
        stream = sys.__stdout__
        if stream is None:
            raise io.UnsupportedOperation("fileno")
        return stream.fileno()

    def text(self) -> str:
        with self._lock:
            return bytes(self._bytes[-KEPT_BYTES:]).decode("utf-8", "replace")

    def clear(self) -> None:
        with self._lock:
            self._bytes.clear()


class OutputTail(io.TextIOWrapper):
    """A text stream that keeps the last 50 lines, 8 kB at most, of what was written since `clear`."""

    def __init__(self) -> None:
        self._tail = _TailBytes()
        super().__init__(self._tail, encoding="utf-8", errors="backslashreplace", newline="\n", write_through=True)

    def isatty(self) -> bool:
        """Never a terminal: no colours, no cursor movements."""
        return False

    def text(self) -> str:
        """The last lines."""
        return last_lines(self._tail.text())

    def clear(self) -> None:
        """Forget everything written so far."""
        self._tail.clear()
