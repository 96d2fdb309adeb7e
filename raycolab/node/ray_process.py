"""Ray on this node: start it, know when it is up, know why it ended, and leave nothing of it behind.

Ray runs in the foreground (`ray start --block`) under a guard (see `lifeline`), in a session of its own, so no
terminal's Ctrl-C reaches it: its parent, the supervisor, decides. When the supervisor dies Ray ends too. `ray stop` is
never used: it matches processes machine-wide, other people's among them. Ray itself is not imported here.

    run_dir/                 0700, the supervisor's
        <temp_dir>/          Ray's --temp-dir, made here, removed at the end; Ray opens it to everybody
        <temp_dir>.log       0600, what `ray start` printed
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import shutil
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from raycolab.errors import ClusterError, PortTakenError
from raycolab.main.work_folder import NODE_DIR_VARIABLE
from raycolab.node.lifeline import exec_with_lifeline, guard_command
from raycolab.node.ray_command import RayPorts

__all__ = ["RayProcess", "check_ports_free", "decisive_line"]

_log = logging.getLogger(__name__)

_ADDRESS_FILE = "ray_current_cluster"  # Ray writes it into its temp dir once its node is registered with the head
# Ray itself gives up after 30 to 45 s, and then says this.
_START_S = 90.0
_GAVE_UP = "timed out during startup"
_TRIES = 3
_STOP_S = 15.0
_POLL_S = 0.05
_LONGEST_LINE = 600  # characters
_LOG_TAIL = 64 * 1024  # bytes


class RayProcess:
    """The Ray processes of one node, as one thing that starts, ends and can be waited for; used once."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], *, ports: RayPorts, temp_dir: Path
    ) -> None:
        self._command = command
        self._environment = {**environment, NODE_DIR_VARIABLE: str(temp_dir.parent)}
        self._ports = ports
        self._temp_dir = temp_dir
        self._process: asyncio.subprocess.Process | None = None  # the guard, whose exit code is Ray's

    @property
    def log(self) -> Path:
        """The file with what `ray start` printed."""
        return self._temp_dir.with_name(f"{self._temp_dir.name}.log")

    async def start(self, timeout_s: float = _START_S) -> None:
        """Start Ray and return when its node is part of the cluster; call it from a thread that lives on.

        Raises PortTakenError before anything is started, and ClusterError with the decisive line of Ray's own log when
        Ray ends or takes longer than `timeout_s`; nothing is left running then. Where Ray itself gives up, as after 30
        s on a machine that is too busy, it is started again.
        """
        check_ports_free(self._ports)
        os.close(os.open(self.log, os.O_CREAT | os.O_EXCL, 0o600))
        for tries_left in reversed(range(_TRIES)):
            try:
                await self._start_once(timeout_s)
            except ClusterError:
                check_ports_free(self._ports)  # if a program took one in the meantime, that error says more
                if not tries_left or _GAVE_UP not in self.last_words():
                    raise
                _log.warning("Ray gave up, as it does on a busy machine: it is started again")
            else:
                return

    async def _start_once(self, timeout_s: float) -> None:
        self._temp_dir.mkdir(mode=0o700)
        log = os.open(self.log, os.O_WRONLY | os.O_APPEND)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *exec_with_lifeline(guard_command(self._command)),
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        finally:
            os.close(log)
        await self._come_up(self._process, timeout_s)

    async def _come_up(self, process: asyncio.subprocess.Process, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                while not self._is_registered():
                    if process.returncode is not None:
                        raise ClusterError(self._failure("did not start"))
                    await asyncio.sleep(_POLL_S)
        except TimeoutError as error:
            raise ClusterError(self._failure(f"was not up after {timeout_s:.0f} s")) from error
        finally:
            if not self._is_registered():
                await self.stop()

    async def wait(self) -> int:
        """Wait until Ray has ended, for whatever reason; returns its exit code (128 + n for signal n)."""
        if self._process is None:
            raise RuntimeError("RayProcess.start was not called")
        return await self._process.wait()

    async def stop(self, grace_s: float = _STOP_S) -> None:
        """End Ray and every process it or a task started; fine when it has ended already, or never began."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), grace_s)
            except TimeoutError:
                _kill_below(process.pid)  # the guard, which is spared, cleans up after them and ends
                await process.wait()
        await asyncio.to_thread(shutil.rmtree, self._temp_dir, ignore_errors=True)

    def last_words(self) -> str:
        """The decisive line of what Ray printed."""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _LOG_TAIL))
            return decisive_line(file.read().decode(errors="replace"))

    def _is_registered(self) -> bool:
        address = self._temp_dir / _ADDRESS_FILE
        return address.exists() and address.stat().st_size > 0

    def _failure(self, what: str) -> str:
        return f"Ray {what} on this node: {self.last_words() or 'it printed nothing'}. Start the node again."


def check_ports_free(ports: RayPorts) -> None:
    """Raise PortTakenError when another program listens at a port that Ray must have.

    Ray binds them to every address, takes up to 40 s to notice, and does not say which one it was. Of the ports for
    workers it uses those that are free.
    """
    for port in range(ports.gcs, ports.min_worker):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("0.0.0.0", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                raise PortTakenError(
                    f"Port {port} is in use by another program on this machine, and Ray needs it here. "
                    f"End that program (`ss -ltnp 'sport = :{port}'` names it), then start again."
                ) from error


def decisive_line(log: str) -> str:
    """Pick what says most from the output of `ray start`: its last exception, else its errors, else its last line."""
    lines = [line.rstrip() for line in log.splitlines() if line.strip()]
    chosen = lines[-1:]
    if errors := [line.split(" -- ", 1)[-1] for line in lines if "\tERR " in line]:
        chosen = errors
    tracebacks = [index for index, line in enumerate(lines) if "Traceback (most recent" in line]
    if tracebacks:
        after = [index for index in range(tracebacks[-1] + 1, len(lines)) if not lines[index].startswith(" ")]
        chosen = lines[after[0] :] if after else chosen
    text = " ".join(" ".join(chosen).split()).rstrip(".")
    return text if len(text) <= _LONGEST_LINE else f"{text[:_LONGEST_LINE]} …"


def _kill_below(pid: int) -> None:
    """Kill every descendant of the process, but not the process."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
