"""How close sweeps come to ideal scheduling through a slow tunnel, beside one Ray task per trial.

The clock runs from the first trial's start to the last committed row. *Ideal* is the same trials list-scheduled on the
same slots with no latency. Start-up and MAIN's loading are reported apart.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence

import pytest

from raycolab.utc import utc_seconds
from tests.bench.measure import report
from tests.bench.sweeps import ideal_s
from tests.integration.sessions import Cluster, cluster, write_main, write_sweep

SLEEP = """
import time
def compute(model, dataset, seconds, x):
    time.sleep(seconds)
    return x
"""
RAW = """
import json, sys, time
import raycolab
raycolab.attach(sys.argv[1]).connect_ray()
import ray
@ray.remote(num_cpus=1)
def sleep(seconds):
    begun = time.time()
    time.sleep(seconds)
    return begun
durations = json.loads(sys.argv[2])
ray.get([sleep.remote(0.0) for _ in range(24)])
begun = ray.get([sleep.remote(seconds) for seconds in durations])
print(json.dumps(time.time() - min(begun)))
"""


@contextlib.contextmanager
def slow_mesh(cpus: int) -> Iterator[Cluster]:
    """A head and two joiners behind an edge of 100 ms round trip, so many CPUs each."""
    with cluster() as town:
        town.start_head(num_cpus=cpus)
        for name in ("tab-1", "tab-2"):
            town.start_joiner(name, num_cpus=cpus, edge_delay_s=0.05)
        town.wait_up(3)
        yield town


def run_sweep(town: Cluster, name: str, trials: int, seconds: str) -> tuple[list[float], float, float]:
    """How long each trial sleeps, in order of numbers; seconds of the sweep, and until it began."""
    write_main(town.folder, SLEEP)
    # x makes each configuration another one: the same again would not run twice.
    lines = [
        f"models: {{a: {{seconds: {seconds}, x: {{min: 0.0, max: 1.0}}}}}}",
        "datasets: [one]",
        f"jobs_per_pair: {trials}",
    ]
    lines += ["metric: {name: score, goal: maximize}"]
    asked = time.time()
    done = town.raycolab("submit", str(write_sweep(town.folder, name, lines)), "--json", timeout_s=500)
    ended = time.time()
    assert done.returncode == 0, done.stderr
    with contextlib.closing(sqlite3.connect(town.data_dir / "raycolab.db")) as database:
        rows = database.execute(
            "select config, started_at, ended_at, node from trials join sweeps on sweep_id = sweeps.id "
            "where sweeps.name = ? order by number",
            (name,),
        ).fetchall()
    assert len(rows) == trials
    began = min(utc_seconds(row[1]) for row in rows)
    took = max(utc_seconds(row[2]) for row in rows) - began
    # The last row is committed within the engine's 20 ms of gathering; what `submit` adds to see it is not the sweep's.
    assert ended >= began + took
    return [float(json.loads(row[0])["seconds"]) for row in rows], took, began - asked


def raw_ray_s(town: Cluster, durations: Sequence[float]) -> float:
    """One Ray task per trial, all submitted at once from the head."""
    assert town.head is not None
    words = (sys.executable, "-P", "-c", RAW, str(town.data_dir), json.dumps(list(durations)))
    done = town.head.run(*words, timeout_s=500)
    assert done.returncode == 0, done.stderr
    return float(json.loads(done.stdout.splitlines()[-1]))


WORKLOADS = {
    "120 x 0.5 s": (120, "{value: 0.5}"),
    "600 x 0.05 s": (600, "{value: 0.05}"),
    "300 x 0.05-5 s": (300, "{distribution: log_uniform_values, min: 0.05, max: 5.0}"),
}


@pytest.mark.bench
@pytest.mark.ray
@pytest.mark.timeout(1800)
def test_sweeps_through_a_slow_edge() -> None:
    """Must show 1 of the engine: three workloads on six slots, and the same by one Ray task per trial."""
    figures = {}
    with slow_mesh(cpus=2) as town:
        for number, (workload, (trials, seconds)) in enumerate(WORKLOADS.items()):
            durations, took_s, start_s = run_sweep(town, f"pace-{number}", trials, seconds)
            ideal = ideal_s(durations, 6)
            raw_s = raw_ray_s(town, durations)
            figures[workload] = {
                "of_ideal": ideal / took_s,
                "raw_ray_of_ideal": ideal / raw_s,
                "seconds": took_s,
                "start_s": start_s,
            }
    report("sweep pace", **figures)


def test_a_sweep_is_measured_against_its_ideal() -> None:
    """The list schedule: nothing waits while a slot is free."""
    assert ideal_s([1.0] * 6, 6) == 1.0
    assert ideal_s([3.0, 1.0, 1.0, 1.0], 2) == 3.0
    assert ideal_s([1.0, 1.0, 3.0], 2) == 4.0
