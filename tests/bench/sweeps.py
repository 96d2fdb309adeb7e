"""Sweeps under a stopwatch: the engine on local Ray, the ideal of the same trials, and others beside it.

The clock runs from the first trial's start to the moment the database says COMPLETE, which the engine writes right
after the last row is committed. Start-up and MAIN's loading are told apart: MAIN notes for itself how long it takes.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from raycolab.node import api
from raycolab.search import enumerate_trials
from raycolab.spec.spec import SweepSpec
from raycolab.trials import SweepState, TrialRow, TrialState
from tests.integration.engine_stage import Cluster, notebook

__all__ = ["NOTHING", "Stage", "Timed", "ideal_s", "middle"]

NOTHING = "def compute(model, dataset, x):\n    return x"

_POLL_S = 0.005
_BEGIN = "import time as _bench_time\n_bench_begun = _bench_time.time()"
_END = """
import json as _bench_json, os as _bench_os, pathlib as _bench_path
_bench_path.Path({folder!r}, f"{{_bench_os.getpid()}}.load").write_text(
    _bench_json.dumps([_bench_begun, _bench_time.time()])
)
"""


@dataclass(frozen=True, slots=True)
class Timed:
    """One sweep that ran to its end."""

    rows: list[TrialRow]
    took_s: float  # from the first trial's start to the last committed row
    start_s: float  # from the order to the first trial's start: processes, MAIN, the smoke trials' way
    main_s: float  # the slowest slot's loading of MAIN, within start_s

    @property
    def durations(self) -> list[float]:
        """What each trial took in its slot, in the order of their starts."""
        ran = (row for row in self.rows if row.attempts)  # a repeated configuration has its first one's times
        rows = sorted(ran, key=lambda row: row.started_at or 0.0)
        return [row.duration_s for row in rows if row.duration_s is not None]


class Stage(Cluster):
    """Ray, the engine and a stopwatch."""

    def __init__(self, cpus: int) -> None:
        super().__init__(cpus)
        self.cpus = cpus
        self.start_engine()

    def timed(self, spec: SweepSpec, cells: Sequence[str], timeout_s: float = 900.0) -> Timed:
        """Declare and run a sweep; the trials begin once all slots have loaded MAIN, every one ends COMPLETE."""
        name = spec.name
        loads = self.folder / name
        loads.mkdir()
        book = notebook(_BEGIN, *cells, _END.format(folder=str(loads)))
        stored = self.store.create_sweep(
            name, spec.to_json(), book.to_json(), spec.fingerprint(), None, {}, enumerate_trials(spec, []), time.time()
        )
        asked = time.time()
        self.supervisor.ask(api.Start(name, expect_slots=self.cpus))
        ended = self._wait_complete(stored.id, timeout_s)
        rows = self.store.trials(stored.id)
        assert {row.state for row in rows} == {TrialState.COMPLETE}
        began = min(row.started_at for row in rows if row.started_at is not None)
        main_s = max(ended_at - begun for begun, ended_at in map(_loaded, loads.iterdir()))
        return Timed(rows, ended - began, began - asked, main_s)

    def _wait_complete(self, sweep_id: int, timeout_s: float) -> float:
        """When the database said that the sweep is COMPLETE."""
        deadline = time.monotonic() + timeout_s
        with contextlib.closing(sqlite3.connect(self.database)) as database:
            while time.monotonic() < deadline:
                state = database.execute("select state from sweeps where id = ?", (sweep_id,)).fetchone()[0]
                if state == SweepState.COMPLETE:
                    return time.time()
                assert state in (SweepState.DECLARED, SweepState.QUEUED, SweepState.RUNNING), state
                time.sleep(_POLL_S)
        raise TimeoutError(f"the sweep did not end: {self.supervisor.progress}")

    @property
    def database(self) -> str:
        """The store's file."""
        return str(self.folder / "raycolab.db")

    def rival(self, kind: str, *words: str, timeout_s: float = 600.0) -> dict[str, Any]:
        """Run one of `tests.bench.rivals` on this Ray, which is idle; what it says."""
        argv = [sys.executable, "-P", "-m", "tests.bench.rivals", kind, self._address, str(self.folder), *words]
        done = subprocess.run(argv, env=self.environment, capture_output=True, text=True, timeout=timeout_s)
        assert done.returncode == 0, done.stderr
        said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return said


def _loaded(note: os.PathLike[str]) -> tuple[float, float]:
    with open(note) as file:
        begun, ended = json.load(file)
    return begun, ended


def ideal_s(durations: Iterable[float], slots: int) -> float:
    """The list schedule: each slot takes the next trial as soon as it is free."""
    free = [0.0] * slots
    for seconds in durations:
        heapq.heappush(free, heapq.heappop(free) + seconds)
    return max(free)


def middle(values: Sequence[float]) -> dict[str, float]:
    """The least, the median and the greatest of repeated measurements."""
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}
