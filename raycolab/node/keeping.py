"""The head's side of its snapshots: restored before it starts, taken while it runs, once more at its end.

What touches the folder is a process of its own (`raycolab.node.kept_folder`), asked one thing at a time. Only at the
start and at the end is it waited for, and not for ever; in between a folder that hangs delays snapshots and nothing
else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec

from raycolab.errors import ClusterError, RaycolabError, UsageError
from raycolab.node.api import Problem
from raycolab.node.data_dir import DataDir
from raycolab.node.kept_folder import FOLDER_VARIABLE, is_wanted
from raycolab.node.lifeline import exec_with_lifeline
from raycolab.store.snapshots import AT_MOST_EVERY_S, is_due
from raycolab.store.sqlite_file import sqlite_path
from raycolab.text import duration_text
from raycolab.trials import AT_REST, SweepState
from tunnel.address import JoinAddress
from tunnel.dial import Transient, dial
from tunnel.errors import AddressError, PinMismatch, Refused
from tunnel.handshake import Hello, Resume

__all__ = ["EVERY_VARIABLE", "Folder", "FolderProcess", "Keeper", "Patience", "head_answers"]

EVERY_VARIABLE = "RAYCOLAB_SNAPSHOT_S"  # at most so often, in seconds
LOOK_S = 1.0  # between two looks at whether the database changed
DIAL_S = 10.0  # a head that lives answers within it
NO_FOLDER = (
    "no Drive is mounted: results end with this tab. Mount it (from google.colab import drive; "
    f"drive.mount('/content/drive')), or set {FOLDER_VARIABLE} to a folder that outlives this machine."
)
_OVER = {*AT_REST, SweepState.PAUSED}

log = logging.getLogger("raycolab.snapshots")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long, in seconds, a folder may take to answer."""

    start_s: float = 60.0  # for each of the two steps of a restoration; a person waits, and nothing else is possible
    end_s: float = 20.0  # for the last snapshot; a person waits
    told_s: float = 60.0  # in between nobody waits, but is told


PATIENCE = Patience()


class Folder(Protocol):
    """What a keeper asks, one thing at a time (see `kept_folder.KeptFolder`)."""

    async def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """The fields of the answer, however long that takes; RaycolabError for a no."""

    async def end(self) -> None:
        """Nothing more will be asked."""


class FolderProcess:
    """The process that works in the folder: one request at a time, started when there is one."""

    def __init__(self, command: list[str], environment: Mapping[str, str], log_path: Path) -> None:
        self._command = command
        self._environment = dict(environment)
        self._log_path = log_path
        self._process: asyncio.subprocess.Process | None = None

    async def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """The fields of its answer, however long that takes; raises the error it answers with, ClusterError."""
        if self._process is None:
            self._process = await self._started()
        assert self._process.stdin is not None  # pipes, as asked for
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(msgspec.json.encode({"op": op, **fields}) + b"\n")
            await self._process.stdin.drain()
            answer: dict[str, Any] = msgspec.json.decode(await self._process.stdout.readline())
        except (OSError, msgspec.DecodeError) as error:
            await self.end()
            said = self._last_words()
            raise ClusterError(f"the process that takes snapshots ended, and is started again: {said}.") from error
        except asyncio.CancelledError:  # its answer would be taken for the next one's
            await self.end()
            raise
        if answer.pop("ok") is not True:
            raise msgspec.convert(answer, Problem).as_error()
        return answer

    async def end(self) -> None:
        """Kill it. What waits in a folder that hangs may not die before the folder answers; nobody waits for it."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), 1.0)

    async def _started(self) -> asyncio.subprocess.Process:
        self._log_path.touch(mode=0o600)
        with self._log_path.open("ab") as errors:
            return await asyncio.create_subprocess_exec(
                *exec_with_lifeline(self._command),
                env=self._environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # a terminal's Ctrl-C is for the head, which then wants its last snapshot
            )

    def _last_words(self) -> str:
        lines = self._log_path.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


class Keeper:
    """Keeps one head's snapshots, where there is a folder for them."""

    def __init__(
        self,
        folder: Folder,
        data_dir: DataDir,
        database: Path | None,
        every_s: float = AT_MOST_EVERY_S,
        patience: Patience = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`database` is the SQLite file of the store, None for a store elsewhere; the clock must not go back."""
        self._folder = folder
        self._patience = patience
        self._clock = clock
        self._every_s = every_s
        identity = data_dir.path / "identity.json"
        self._watched = (identity,) if database is None else (database, Path(f"{database}-wal"), identity)
        self._address = ""
        self._signature: object = None  # of the files, when last looked at
        self._changed_at: float | None = None  # by the clock, as all below
        self._kept_at: float | None = None  # when the last request that succeeded was begun
        self._tried_at: float | None = None
        self._asked_at: float | None = None  # of the request under way
        self._hurry = asyncio.Event()
        self._over: frozenset[tuple[str, str]] = frozenset()  # sweeps that are at rest, with their states
        self._where: str | None = None
        self._number: int | None = None
        self._number_at: float | None = None
        self._error: str | None = None
        self._running: asyncio.Task[None] | None = None
        self._closing = False

    @classmethod
    def chosen(
        cls, data_dir: DataDir, store_url: str | None, run_dir: Path, environ: Mapping[str, str]
    ) -> Keeper | None:
        """The keeper for a head of this environment, None where nothing is to be kept. UsageError."""
        if not is_wanted(environ):
            return None
        database = data_dir.database_path if store_url is None else sqlite_path(store_url)
        command = [sys.executable, "-P", "-m", "raycolab.node.kept_folder", str(data_dir.path), str(database or "")]
        # Copies are made in the run directory: whatever ends the process, they go with it.
        folder = FolderProcess(command, {**environ, "TMPDIR": str(run_dir)}, run_dir / "snapshots.log")
        return cls(folder, data_dir, database, every_s=_every_s(environ))

    # Before the head.

    async def restore(self) -> list[str]:
        """Restore store and identity where this machine has none of its own; returns what a person is to know.

        Raises ClusterError where the folder does not answer, has nothing whole, or is that of a head that lives.
        """
        try:
            async with asyncio.timeout(self._patience.start_s):
                seen = await self._folder.ask("look")
            found = seen.get("found")
            if found is None:
                return [seen["note"]] if seen.get("note") else []
            if await head_answers(seen["address"]):
                raise ClusterError(
                    f"The head whose snapshots are in {seen['folder']} is running ({found['words']}): go on there, or"
                    f" end it first. For a cluster beside it, set {FOLDER_VARIABLE} to another folder."
                )
            async with asyncio.timeout(self._patience.start_s):
                await self._folder.ask("restore")
        except TimeoutError as error:
            raise ClusterError(
                f"The folder of the snapshots has not answered for {duration_text(self._patience.start_s)}: mount it"
                f" again, or set {FOLDER_VARIABLE} to another folder, and start the head again."
            ) from error
        self._where, self._number = seen["folder"], found["number"]
        self._number_at = self._clock() - max(found["age_s"], 0.0)
        cut = f" The newest there, snapshot {seen['newest']}, is not whole." if seen["newest"] > found["number"] else ""
        return [f"Restored from {self._where}: {found['words']}.{cut}"]

    # While it runs.

    def start(self) -> None:
        """Begin to keep snapshots."""
        self._running = asyncio.create_task(self._run())

    def tell_address(self, address: str) -> None:
        """Joiners reach the head there now."""
        self._address = address
        self._hurry.set()

    def see(self, progress: Mapping[str, Any]) -> None:
        """The engine told this: what has just come to rest is kept at once."""
        over = frozenset((sweep["name"], sweep["state"]) for sweep in progress["sweeps"] if sweep["state"] in _OVER)
        if not over <= self._over:
            self._hurry.set()
        self._over = over

    def status(self) -> dict[str, Any]:
        """The object of `status --json`."""
        now = self._clock()
        error = self._error
        if self._asked_at is not None and now - self._asked_at > self._patience.told_s:
            error = f"{self._where or 'the folder'} has not answered for {duration_text(now - self._asked_at)}."
        return {
            "folder": self._where,
            "number": self._number,
            "age_s": None if self._number_at is None else round(now - self._number_at, 1),
            "up_to_date": self._kept_at is not None and (self._changed_at is None or self._changed_at < self._kept_at),
            "error": error,
        }

    async def close(self) -> None:
        """Keep once more what is worth it, if the folder is quick enough."""
        self._closing = True
        self._hurry.set()
        try:
            async with asyncio.timeout(self._patience.end_s):
                if self._running is not None:
                    await self._running
        except TimeoutError:
            log.warning("the last snapshot was not taken: %s does not answer", self._where or "the folder")
        finally:
            await self._folder.end()

    async def _run(self) -> None:
        while not self._closing:
            self._look_at_files()
            hurried = self._hurry.is_set()
            self._hurry.clear()
            now = self._clock()
            times = {"changed_at": self._changed_at, "taken_at": self._kept_at, "tried_at": self._tried_at}
            if hurried or is_due(now, **times, every_s=self._every_s):
                await self._keep()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), min(LOOK_S, self._every_s))
        await self._keep()

    def _look_at_files(self) -> None:
        signature = [_signature(path) for path in self._watched]
        if signature != self._signature:
            self._signature, self._changed_at = signature, self._clock()

    async def _keep(self) -> None:
        begun = self._asked_at = self._tried_at = self._clock()
        try:
            answer = await self._folder.ask("keep", address=self._address)
        except RaycolabError as error:
            if str(error) != self._error:
                log.warning("%s", error)
            self._error = str(error)
            return
        finally:
            self._asked_at = None
        self._where = answer["folder"]
        if self._where is None:
            self._error = NO_FOLDER
            self._changed_at = begun  # so that a Drive mounted later is found
            return
        if self._error is not None or self._kept_at is None:
            log.info("snapshots are kept in %s", self._where)
        self._error, self._kept_at = None, begun
        if answer["number"] is not None:
            self._number, self._number_at = answer["number"], begun


async def head_answers(text: str) -> bool:
    """Whether the head of this join address, and no other, can be reached from here; False for what is no address.

    It is asked to carry on a link that it never had, and says no without taking us for a joiner.
    """
    try:
        address = JoinAddress.parse(text)
        hello = Hello(b"", secrets.token_hex(8), None, 1, "", resume=Resume("none", 0))
        await dial(address, hello, DIAL_S)
    except (AddressError, Transient, PinMismatch):
        return False
    except Refused:
        return True
    return True


def _every_s(environ: Mapping[str, str]) -> float:
    text = environ.get(EVERY_VARIABLE, "")
    try:
        every_s = float(text or AT_MOST_EVERY_S)
    except ValueError:
        every_s = 0.0
    if not every_s > 0:
        raise UsageError(f"{EVERY_VARIABLE} is {text!r}: give a number of seconds above 0.")
    return every_s


def _signature(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
