"""The one thread that writes to the store: what comes within a moment goes into one transaction.

Writes are kept in order. While the database cannot be used (a full disk, a server that is away) they wait and are
tried again: an outage delays, it loses nothing.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from raycolab.engine.messages import Write
from raycolab.store import Store, StoreOutageError
from raycolab.trials import AttemptRow, ReportRow, TrialRow, TrialState

__all__ = ["Committer", "Done"]

_log = logging.getLogger(__name__)

Done = Callable[[int, Exception | None], None]
"""Told, from the committer's thread, the write_id up to which all is committed, or why it never will be."""

# A transaction costs an fsync: wait this long for others to share it.
_GATHER_S = 0.02
_RETRY_S = 2.0


@dataclass(frozen=True, slots=True)
class _RowsJob:
    sweep_id: int
    write: Write
    done: Done


@dataclass(frozen=True, slots=True)
class _CallJob:
    call: Callable[[Store], Any]
    future: Future[Any]
    waits: bool


class Committer:
    """Writes rows in groups and runs other calls on the store, all in one thread, in the order they came."""

    def __init__(self, store: Store, trouble: Callable[[str | None], None]) -> None:
        """`trouble` is told, from the thread, the sentence of an outage and None when it is over."""
        self._store = store
        self._trouble = trouble
        self._outage: str | None = None
        self._jobs: queue.SimpleQueue[_RowsJob | _CallJob] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="raycolab-commit", daemon=True)
        self._thread.start()

    def write(self, sweep_id: int, write: Write, done: Done) -> None:
        """Commit these rows, soon."""
        self._jobs.put(_RowsJob(sweep_id, write, done))

    def call(self, call: Callable[[Store], Any], *, waits: bool = True) -> Future[Any]:
        """Run this with the store, after all that was given before.

        Without `waits` a StoreOutageError is the answer at once, also where others wait for the end of the outage.
        """
        future: Future[Any] = Future()
        if not waits and self._outage is not None:
            future.set_exception(StoreOutageError(self._outage))
        else:
            self._jobs.put(_CallJob(call, future, waits))
        return future

    def _work(self) -> None:
        waiting: _RowsJob | _CallJob | None = None
        while True:
            job = waiting or self._jobs.get()
            waiting = None
            try:
                if isinstance(job, _CallJob):
                    self._answer(job)
                else:
                    group, waiting = self._gather(job)
                    self._commit(group)
            except Exception:  # of whoever was told: this thread has others to serve
                _log.exception("what was stored could not be told")

    def _gather(self, first: _RowsJob) -> tuple[list[_RowsJob], _RowsJob | _CallJob | None]:
        """The jobs that share a transaction with `first`, and the one after them that does not."""
        group = [first]
        until = time.monotonic() + _GATHER_S
        while True:
            try:
                job = self._jobs.get(timeout=max(until - time.monotonic(), 0.0))
            except queue.Empty:
                return group, None
            if isinstance(job, _CallJob) or job.sweep_id != first.sweep_id:
                return group, job
            group.append(job)

    def _commit(self, group: list[_RowsJob]) -> None:
        trials: dict[int, TrialRow] = {}
        attempts: dict[tuple[int, int], AttemptRow] = {}
        reports: dict[tuple[int, int], ReportRow] = {}
        for job in group:
            again = {row.number for row in job.write.trials if row.state is TrialState.PENDING}
            reports = {key: row for key, row in reports.items() if key[0] not in again} if again else reports
            trials.update((row.number, row) for row in job.write.trials)
            attempts.update(((row.trial, row.number), row) for row in job.write.attempts)
            reports.update(((row.trial, row.step), row) for row in job.write.reports)
        rows = list(trials.values()), list(attempts.values()), list(reports.values())
        error: Exception | None = None
        try:
            self._until_it_works(lambda store: store.write(group[0].sweep_id, *rows, now=time.time()))
        # Whatever it is, it is of that sweep's rows, and this thread has other sweeps to serve.
        except Exception as refused:
            error = refused
        group[-1].done(group[-1].write.write_id, error)

    def _answer(self, job: _CallJob) -> None:
        if not job.future.set_running_or_notify_cancel():  # who asked has left
            return
        try:
            job.future.set_result(self._until_it_works(job.call) if job.waits else job.call(self._store))
        # Whatever it is, it is the caller's, and this thread has others to serve.
        except Exception as error:
            job.future.set_exception(error)

    def _until_it_works(self, call: Callable[[Store], Any]) -> Any:
        troubled = False
        while True:
            try:
                result = call(self._store)
            except StoreOutageError as error:
                troubled = True
                self._outage = str(error)
                self._trouble(self._outage)
                time.sleep(_RETRY_S)
            else:
                if troubled:
                    self._outage = None
                    self._trouble(None)
                return result
