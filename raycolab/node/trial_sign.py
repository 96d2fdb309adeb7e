"""What each slot of this machine runs, where the joiner's own panel can read it: not a byte of it travels.

A slot's process has a small file of its own in a folder of the joiner, mapped into memory: a trial of a microsecond
must not pay for being shown. The file is named after the process, which tells a sign from one that was left behind.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import time
from collections.abc import Mapping
from pathlib import Path

__all__ = ["SIGNS_VARIABLE", "TrialSign", "newest_sign"]

SIGNS_VARIABLE = "RAYCOLAB_SIGNS"
"""The folder, in the environment of Ray's processes; a machine without a panel has none."""

_BEGUN = struct.Struct("d")  # the machine's monotonic clock; 0.0: nothing runs
_SIZE = 256  # bytes; a longer text is cut


class TrialSign:
    """This process's sign."""

    def __init__(self, folder: str | None) -> None:
        """Without a folder, or where it cannot be written, nothing is shown."""
        self._map: mmap.mmap | None = None
        if folder is not None:
            with contextlib.suppress(OSError), open(Path(folder, str(os.getpid())), "w+b") as file:
                file.truncate(_SIZE)
                self._map = mmap.mmap(file.fileno(), _SIZE)

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> TrialSign:
        """The sign of a process with this environment."""
        return cls(environ.get(SIGNS_VARIABLE))

    def show(self, text: str) -> None:
        """This runs from now on."""
        if self._map is not None:
            data = text.encode(errors="replace")[: _SIZE - _BEGUN.size]
            self._map[:] = _BEGUN.pack(time.monotonic()) + data.ljust(_SIZE - _BEGUN.size, b"\0")

    def clear(self) -> None:
        """Nothing runs."""
        if self._map is not None:
            self._map[: _BEGUN.size] = _BEGUN.pack(0.0)


def newest_sign(folder: Path) -> str | None:
    """What began last of all that runs on this machine, None where nothing does; removes what ended processes left."""
    found = (0.0, "")
    for path in folder.glob("[0-9]*"):
        if not Path("/proc", path.name).exists():
            path.unlink(missing_ok=True)
            continue
        with contextlib.suppress(OSError, struct.error):
            data = path.read_bytes()
            (begun,) = _BEGUN.unpack_from(data)
            if begun > found[0]:
                found = begun, data[_BEGUN.size :].rstrip(b"\0").decode(errors="replace")
    return found[1] or None
