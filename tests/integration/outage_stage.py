"""What tests of outages look at: a sweep whose trials leave traces, and Ray's own list of nodes, second by second."""

from __future__ import annotations

import contextlib
import itertools
import json
import sqlite3
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from raycolab.text import utc_seconds
from tests.integration.sessions import RAYCOLAB, Cluster, Tab, all_slots_cell, cluster, until, write_main, write_sweep

__all__ = ["ONE_WAY_S", "SHARED_GRACE_S", "Attempt", "NodeWatch", "Sight", "Sweep", "behind_edges"]

ONE_WAY_S = 0.05
SHARED_GRACE_S = 12  # of the cluster that tests of outages share: the short ones are shorter, the long one is longer
JOINERS = ("tab-1", "tab-2")

_MAIN = """
import pathlib, socket, time
def compute(model, dataset, x):
    begun = time.time()
    wait_for_all_slots()
    time.sleep(SECONDS)
    while pathlib.Path(HELD).exists() and len(pathlib.Path(RUNS).read_text().splitlines()) >= LAST:
        time.sleep(0.05)
    with open(RUNS, "a") as runs:
        runs.write(f"{x!r} {socket.gethostname()} {begun}\\n")
    return {"score": x}
"""
_WATCH = """
import json, sys, time
import raycolab
raycolab.attach(sys.argv[1]).connect_ray()
import ray
while True:
    nodes = [[node["NodeName"], node["NodeID"]] for node in ray.nodes() if node["Alive"]]
    print(json.dumps([time.time(), sorted(nodes)]), flush=True)
    time.sleep(0.5)
"""


@contextlib.contextmanager
def behind_edges(env: Mapping[str, str] | None = None) -> Iterator[Cluster]:
    """A head and two joiners, each joiner behind an edge of its own with 100 ms round trip, all up."""
    with cluster(env) as made:
        made.start_head()
        for number, name in enumerate(JOINERS, start=1):  # one by one: they are numbered in order of joining
            tab = made.start_joiner(name, edge_delay_s=ONE_WAY_S)
            until(lambda number=number: len(made.status()["nodes"]) > number, 60, tab.said)
        made.wait_up(1 + len(JOINERS))
        yield made


@dataclass(frozen=True, slots=True)
class Attempt:
    """One row of the store's attempts."""

    trial: int
    node: str
    outcome: str
    ended_at: float
    reason: str | None


class Sweep:
    """A sweep of sleeping trials on a cluster, started in the background.

    Each of `slots` slots runs one of them at least. The last `held` trials do not end before `release`, so the sweep is
    at work until then.
    """

    def __init__(self, on: Cluster, name: str, *, trials: int, trial_s: float, slots: int = 1, held: int = 0) -> None:
        self.name = name
        self.trials = trials
        self._cluster = on
        self._runs = on.folder / f"{name}.runs"
        self._runs.touch()
        self._held = on.folder / f"{name}.held"
        if held:
            self._held.touch()
        values = {"SECONDS": trial_s, "RUNS": str(self._runs), "HELD": str(self._held), "LAST": trials - held}
        main = _MAIN
        for word, value in values.items():
            main = main.replace(word, repr(value))
        (on.folder / f"{name}.marks").mkdir()
        write_main(on.folder, all_slots_cell(on.folder / f"{name}.marks", slots), main)
        lines = [
            "models: {a: {x: {min: 0.0, max: 1.0}}}",
            "datasets: [one]",
            f"jobs_per_pair: {trials}",
            "metric: {name: score, goal: maximize}",
        ]
        self._file = write_sweep(on.folder, name, lines)
        self.submit()

    def submit(self) -> None:
        """`raycolab submit`, beside the head."""
        self.process = subprocess.Popen(
            [*RAYCOLAB, "submit", str(self._file), "--json", "--data-dir", str(self._cluster.data_dir)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def release(self) -> None:
        """Let the last trials of a held sweep end."""
        self._held.unlink()

    def wait(self, timeout_s: float) -> None:
        """Wait for its end; it must end with 0."""
        _, err = self.process.communicate(timeout=timeout_s)
        assert self.process.returncode == 0, err

    def wait_complete(self, count: int, timeout_s: float = 60.0) -> None:
        """Wait until this many of its trials are COMPLETE in the store."""
        until(lambda: self.complete >= count, timeout_s, lambda: f"{self.complete} of {count}: {self.attempts()}")

    @property
    def complete(self) -> int:
        """Committed COMPLETE rows."""
        return int(self._select("count(*)", "trials", "trials.state = 'COMPLETE'")[0][0])

    def attempts(self) -> list[Attempt]:
        """Every attempt in the store, in the order they ended."""
        columns = (
            "trials.number, attempts.node, outcome, coalesce(attempts.ended_at, '9999-01-01T00:00:00.000000Z'), reason"
        )
        found = self._select(columns, "attempts join trials on trial_id = trials.id", "true order by attempts.ended_at")
        return [Attempt(trial, node, outcome, utc_seconds(ended), why) for trial, node, outcome, ended, why in found]

    def runs(self) -> list[tuple[float, str, float]]:
        """What `compute` wrote as it ended: its x, the host it ran on, when it began. Not from the store."""
        words = (line.split() for line in self._runs.read_text().splitlines())
        return [(float(x), host, float(begun)) for x, host, begun in words]

    def longest_pause_s(self, tab: Tab) -> float:
        """The longest time between the beginnings of two trials in a session."""
        begun = sorted(at for _, host, at in self.runs() if host == tab.session.hostname)
        return max((after - before for before, after in itertools.pairwise(begun)), default=0.0)

    def assert_each_ran_once(self) -> None:
        """Every trial is COMPLETE with its own value, in one attempt, and `compute` ran once for it."""
        rows = self._cluster.rows(self.name)
        assert [row["number"] for row in rows] == list(range(self.trials))
        assert {row["state"] for row in rows} == {"COMPLETE"}
        assert all(row["score"] == row["config/x"] for row in rows)
        attempts = self.attempts()
        assert [each for each in attempts if each.outcome != "COMPLETE"] == []
        assert Counter(each.trial for each in attempts) == Counter(range(self.trials))
        assert {row["attempts"] for row in rows} == {1}
        assert Counter(x for x, _, _ in self.runs()) == Counter(row["config/x"] for row in rows)

    def _select(self, columns: str, tables: str, where: str) -> list[Any]:
        query = f"select {columns} from {tables} join sweeps on sweep_id = sweeps.id where sweeps.name = ? and {where}"
        with contextlib.closing(sqlite3.connect(self._cluster.data_dir / "raycolab.db")) as database:
            return database.execute(query, (self.name,)).fetchall()


@dataclass(frozen=True, slots=True)
class Sight:
    """Ray's living nodes at a time: id by name."""

    at: float
    alive: Mapping[str, str]
    ids: frozenset[str]


class NodeWatch:
    """Asks Ray for its living nodes twice a second, in the head's session, for as long as the block."""

    def __init__(self, on: Cluster) -> None:
        assert on.head is not None
        self._log = on.folder / f"{on.head.name}.nodes"
        with self._log.open("wb") as output:
            self.process = subprocess.Popen(
                on.head.command(sys.executable, "-P", "-c", _WATCH, str(on.data_dir)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.DEVNULL,
            )
        until(lambda: self.sights(), 60, lambda: "Ray does not answer")

    def sights(self) -> list[Sight]:
        """Everything it saw."""
        lines = self._log.read_text().split("\n")[:-1]
        seen = [json.loads(line) for line in lines if line.startswith("[")]
        return [Sight(at, dict(nodes), frozenset(node_id for _, node_id in nodes)) for at, nodes in seen]

    def latest(self) -> Sight:
        """What Ray says from now on."""
        now = time.time()
        until(lambda: self.sights()[-1].at > now, 60, lambda: f"Ray has not answered since {self.sights()[-1]}")
        return self.sights()[-1]

    def when_dead(self, node_id: str, timeout_s: float) -> float:
        """Wait until Ray calls the node dead; returns when it first did."""
        until(lambda: node_id not in self.latest().ids, timeout_s, lambda: f"{node_id} lives: {self.sights()[-1]}")
        return next(
            after.at for before, after in itertools.pairwise(self.sights()) if node_id in before.ids - after.ids
        )

    def ids_of(self) -> Mapping[str, set[str]]:
        """Every Ray id that each name had."""
        found: dict[str, set[str]] = defaultdict(set)
        for sight in self.sights():
            for name, node_id in sight.alive.items():
                found[name].add(node_id)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(30)
