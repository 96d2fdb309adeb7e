"""Commands that run once on a node, however many worker processes there load MAIN.

The first process to come runs the command under a file lock and leaves a marker with its exit status and last lines;
those that waited, or come later, read the marker. The folder belongs to one life of the node: where the node's disk
or its Python is new, so must be the folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["CommandResult", "NodeOnce"]

LOCK_WAIT_S = 1800.0  # as long as an installation on a slow line takes
FAILURE_HOLDS_S = 60.0  # workers of one node fail together with the first; a later attempt tries the command again
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended: its exit status and the last lines it printed."""

    status: int
    output: str = ""


class NodeOnce:
    """One node's record of the commands of one MAIN, shared by its worker processes through a folder."""

    def __init__(
        self,
        folder: Path,
        code_fingerprint: str,
        clock: Callable[[], float] = time.time,
        lock_wait_s: float = LOCK_WAIT_S,
    ) -> None:
        self._folder = folder  # made when first needed
        self._fingerprint = code_fingerprint
        self._clock = clock
        self._lock_wait_s = lock_wait_s

    def run(self, key: str, command: Callable[[], CommandResult], attempt: str = "") -> CommandResult:
        """The command's result, from this process if it is the first here, else from the marker of the first.

        `key` tells the commands of one MAIN apart. What succeeded is never run again. A failure is remembered for a
        minute, and only for the same `attempt`. Raises TimeoutError when another process holds the lock longer than
        any installation takes.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        digest = hashlib.sha256(f"{self._fingerprint}\n{key}".encode()).hexdigest()[:32]
        succeeded = self._folder / f"{digest}.json"
        failed = self._folder / f"{digest}.failed-{attempt}.json"
        with self._lock():
            for marker in (succeeded, failed):
                if (known := self._read(marker)) is not None:
                    return known
            result = command()
            self._write(succeeded if result.status == 0 else failed, result)
            return result

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """The node's lock for this MAIN; the system releases it when its holder dies."""
        path = self._folder / f"{self._fingerprint[:32]}.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + self._lock_wait_s
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise TimeoutError(
                            f"another worker on this node has run MAIN's shell cells for {self._lock_wait_s:.0f} s; "
                            "a command there does not end: correct it, or mark its cell `# raycolab: head-only`"
                        ) from None
                    time.sleep(_POLL_S)
            yield
        finally:
            os.close(descriptor)

    def _read(self, marker: Path) -> CommandResult | None:
        try:
            content = json.loads(marker.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        result = CommandResult(content["status"], content["output"])
        stale = result.status != 0 and self._clock() - content["at"] > FAILURE_HOLDS_S
        return None if stale else result

    def _write(self, marker: Path, result: CommandResult) -> None:
        """Beside and renamed: a worker killed while writing leaves no half marker."""
        beside = marker.with_suffix(".new")
        beside.write_text(json.dumps(asdict(result) | {"at": self._clock()}), encoding="utf-8")
        beside.replace(marker)
