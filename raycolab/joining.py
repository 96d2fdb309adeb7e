"""The joiner that runs on this machine, as processes that come later find it: what it has said, and how it is ended.

Its record is `joiner.json` in the data directory.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from raycolab.errors import ClusterError, JoinError, UsageError
from raycolab.node.api import JoinerFacts, JoinerState, Problem
from raycolab.node.data_dir import DataDir
from raycolab.node.launch import ADDRESS_VARIABLE, Task, start_detached
from raycolab.node.rpc import Client, Place
from tunnel.address import JoinAddress

if TYPE_CHECKING:
    from raycolab.view.live import JoinerSurface

__all__ = ["Joiner", "JoinerRecord"]

ASK_S = 2.0  # for the joiner's process on this machine
POLL_S = 0.3
EXEC_S = 0.5  # a process that has no command line for longer than this has ended
LEAVE_S = 30.0
DETACHED = "Detached: this machine is still part of the cluster. Running this again shows it; raycolab.leave() leaves."

_RECORD = "joiner.json"


class JoinerRecord(msgspec.Struct, frozen=True):
    """What later calls must know of a joiner."""

    pid: int  # of its guard
    run_dir: str
    events: str = ""  # the file of what it says
    log: str = ""
    head: str = ""  # where its head is
    notebook: dict[str, Any] | None = None  # that it was started from
    release_runtime: bool = False  # Colab gets its VM back once it has ended


class Joiner:
    """One joiner of this machine, running or not."""

    def __init__(self, data_dir: DataDir, record: JoinerRecord) -> None:
        self.record = record
        self._path = data_dir.path / _RECORD
        self._client = Client(lambda: Place(f"{record.run_dir}/control", "The joiner ended before it answered."))

    @classmethod
    def start(
        cls, data_dir: DataDir, options: Mapping[str, Any], address: JoinAddress, environ: Mapping[str, str]
    ) -> Joiner:
        """Start one whose events go to a file."""
        data_dir.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        events, log = data_dir.path / "joiner.events", data_dir.path / "joiner.log"
        events.unlink(missing_ok=True)
        events.touch(mode=0o600)
        task = Task("joiner", str(data_dir.path), options, "json", str(log))
        with events.open("ab") as output:
            pid, run_dir = start_detached(task, {**environ, ADDRESS_VARIABLE: address.text}, output.fileno())
        return cls(data_dir, JoinerRecord(pid, str(run_dir), str(events), str(log), head=address.url))

    @classmethod
    def last(cls, data_dir: DataDir) -> Joiner | None:
        """The one that ran last with this data directory, or runs; None when there was none."""
        try:
            return cls(data_dir, msgspec.json.decode((data_dir.path / _RECORD).read_bytes(), type=JoinerRecord))
        except (OSError, msgspec.DecodeError):
            return None

    @classmethod
    def running(cls, data_dir: DataDir) -> Joiner | None:
        """The one that runs with this data directory; None when there is none."""
        last = cls.last(data_dir)
        return last if last is not None and last.is_alive() else None

    def save(self, **changes: Any) -> None:
        """Let later calls find it, with these changes of its record."""
        self.record = msgspec.structs.replace(self.record, **changes)
        self._path.write_bytes(msgspec.json.encode(self.record))

    def is_alive(self) -> bool:
        """Whether its guard still runs; its run directory's name tells that from a later process of the same id."""
        deadline = time.monotonic() + EXEC_S
        while True:
            try:
                words = Path(f"/proc/{self.record.pid}/cmdline").read_text()
            except OSError:
                return False
            # A process that is just executing has none yet; one that ended and was not reaped has none any more.
            if words or time.monotonic() > deadline:
                return self.record.run_dir in words
            time.sleep(0.02)

    def was_up(self) -> bool:
        """Whether it was ever part of a cluster."""
        return any(event["event"] == "up" for event in self._past_events())

    def watch(self, notes: Sequence[str], *, until_up: bool) -> bool:
        """Show it until it ends, and with `until_up` until it is up; raises what it failed with.

        Whether it goes on: somebody stopped watching, or it is up.
        """
        from raycolab.view.live import joiner_surface

        surface = joiner_surface(self.record.head, self._facts, self.record.run_dir)
        with contextlib.closing(surface):
            if not notes and not until_up:
                surface.greet("Joining. Stop (Ctrl-C) only detaches this cell; raycolab.leave() leaves the cluster.")
            for text in notes:
                surface.say(text)
            try:
                return self._show(surface, until_up)
            except KeyboardInterrupt:
                surface.detach(DETACHED)
                return True

    def end(self) -> None:
        """End its process if it runs, and let every panel of it say so; ClusterError when it does not end."""
        from raycolab.view.live import show_ended

        record, name = self.record, self._facts().get("name")
        if self.is_alive():
            os.kill(record.pid, signal.SIGTERM)
        deadline = time.monotonic() + LEAVE_S
        while self.is_alive():
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"The joiner has not ended within {LEAVE_S:g} s: `kill -9 -{record.pid}` ends it, and all that it"
                    f" started; {record.log} says how far it came."
                )
            time.sleep(POLL_S)
        show_ended(record.head, name, self._past_events(), record.run_dir)

    def _facts(self) -> Mapping[str, Any]:
        """Name, state and trial, as its process says; {} when it does not."""
        try:
            facts: JoinerFacts = self._client.ask(JoinerState(), timeout_s=ASK_S)
        except ClusterError:
            return {}
        return msgspec.structs.asdict(facts)

    def _show(self, surface: JoinerSurface, until_up: bool) -> bool:
        last: Mapping[str, Any] = {"event": "starting"}
        for event in self._events():
            if event is None:
                surface.look()
                time.sleep(POLL_S)
                continue
            last = event
            surface.happened(event)
            if until_up and event["event"] == "up" and self.is_alive():
                return True
        if last["event"] == "failed":
            error = msgspec.convert(last, Problem).as_error()
            raise error if isinstance(error, (ClusterError, UsageError)) else JoinError(str(error))
        if last["event"] != "ended":
            raise ClusterError(f"The joiner ended without a word: {self.record.log} says how far it came. Join again.")
        return False

    def _events(self) -> Iterator[Mapping[str, Any] | None]:
        """What it says, from the first word to the last; None while it says nothing."""
        text = ""
        with open(self.record.events) as events:
            alive = True
            while alive:
                alive = self.is_alive()
                *lines, text = (text + events.read()).split("\n")
                yield from map(json.loads, lines)
                if alive:
                    yield None

    def _past_events(self) -> list[dict[str, Any]]:
        try:
            with open(self.record.events) as events:
                return [json.loads(line) for line in events if line.endswith("\n")]
        except OSError:
            return []
