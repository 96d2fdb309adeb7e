"""Shell commands of MAIN: run to their end, and once on a node, however many worker processes there load MAIN.

The first process that gets to a command runs it under a file lock and leaves a marker with its exit status and last
lines; processes that waited, or come later, read the marker. The folder belongs to one life of the node: where the
node's disk or its Python is new, so must be the folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from raycolab.files import write_private
from raycolab.main.output import KEPT_BYTES, last_lines

__all__ = ["CommandResult", "NodeOnce", "run_command"]

LOCK_WAIT_S = 1800.0  # an installation on a slow line takes no longer
# Workers of one node fail together with the first of them; a later attempt runs the command again.
FAILURE_HOLDS_S = 60.0
_POLL_S = 0.05


class CommandResult(msgspec.Struct, frozen=True):
    """How a command ended: its exit status and the last lines it printed."""

    status: int
    output: str = ""


class _Marker(msgspec.Struct, frozen=True):
    """What a command leaves for the node's other processes."""

    result: CommandResult
    at: float  # seconds since the epoch


def run_command(arguments: list[str], text: str | None = None) -> CommandResult:
    """Run a command to its end, with `text` as its input and this Python's folder first on its PATH.

    Its output goes to a file and not a pipe, which a server left running by the command would hold open.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as script:
        script.write((text or "").encode())
        script.seek(0)
        ended = subprocess.run(
            arguments,
            stdin=script,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PATH": path},
            check=False,
        )
        size = output.seek(0, os.SEEK_END)
        output.seek(max(0, size - KEPT_BYTES))
        return CommandResult(ended.returncode, last_lines(output.read().decode("utf-8", "replace")))


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

        `key` distinguishes the commands of one MAIN. What succeeded is never run again. A failure is remembered for a
        minute, and only for the same `attempt`. Raises TimeoutError when another process holds the lock longer than
        any installation takes.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        digest = hashlib.sha256(f"{self._fingerprint}\n{key}".encode()).hexdigest()[:32]
        succeeded = self._folder / f"{digest}.json"
        failed = self._folder / f"{digest}.failed-{attempt}.json"
        with self._lock():
            for marker in (succeeded, failed):
                with contextlib.suppress(FileNotFoundError):
                    known = msgspec.json.decode(marker.read_bytes(), type=_Marker)
                    if known.result.status == 0 or self._clock() - known.at <= FAILURE_HOLDS_S:
                        return known.result
            result = command()
            marker = succeeded if result.status == 0 else failed
            write_private(marker, msgspec.json.encode(_Marker(result, self._clock())).decode())
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
                            f"another worker on this node has been running MAIN's shell cells for "
                            f"{self._lock_wait_s:.0f} s, so a command in them does not end: correct it, or mark its "
                            "cell `# raycolab: head-only`"
                        ) from None
                    time.sleep(_POLL_S)
            yield
        finally:
            os.close(descriptor)
