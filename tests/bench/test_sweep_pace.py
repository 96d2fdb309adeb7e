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
from dataclasses import dataclass

import pytest

import raycolab
from raycolab.text import utc_seconds
from tests.bench.measure import report
from tests.bench.sweeps import ideal_s
from tests.integration.sessions import Cluster, cluster, write_main

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


@dataclass(frozen=True, slots=True)
class Ran:
    """How a sweep went."""

    durations: list[float]  # of its trials, seconds, in order of numbers
    took_s: float
    start_s: float  # from `start` until all slots had loaded MAIN


@contextlib.contextmanager
def slow_mesh(cpus: int) -> Iterator[Cluster]:
    """A head and two joiners behind an edge of 100 ms round trip, so many CPUs each."""
    with cluster() as town:
        town.start_head(num_cpus=cpus)
        for name in ("tab-1", "tab-2"):
            town.start_joiner(name, num_cpus=cpus, edge_delay_s=0.05)
        town.wait_up(3)
        yield town


def run_sweep(
    town: Cluster, name: str, trials: int, seconds: object, *, models: int = 1, is_proven: bool = False
) -> Ran:
    """A sweep of so many trials once all slots have loaded MAIN; the model `is_proven` by one more trial before.

    While a model is not proven its first trial runs alone: with one model that is a trial's time on every slot.
    """
    before = int(is_proven)
    if is_proven:
        declare(town, name, 1, seconds, 1).start().wait_status(progress=lambda _status, _nodes: None)
    asked = time.time()
    sweep = declare(town, name, before + trials // models, seconds, models).start(expect_slots=SLOTS)
    sweep.wait_status(progress=lambda _status, _nodes: None)
    ended = time.time()
    with contextlib.closing(sqlite3.connect(town.data_dir / "raycolab.db")) as database:
        rows = database.execute(
            "select config, started_at, ended_at from trials join sweeps on sweep_id = sweeps.id "
            "where sweeps.name = ? and number >= ? order by number",
            (name, before),
        ).fetchall()
    assert len(rows) == trials
    began = min(utc_seconds(row[1]) for row in rows)
    took = max(utc_seconds(row[2]) for row in rows) - began
    # The last row is committed within the engine's 20 ms of gathering; what waiting adds to see it is not the sweep's.
    assert ended >= began + took
    return Ran([float(json.loads(row[0])["seconds"]) for row in rows], took, began - asked)


def declare(town: Cluster, name: str, jobs: int, seconds: object, models: int) -> raycolab.Sweep:
    """The sweep, of so many trials of each model; x makes each another one, for the same would not run twice."""
    return raycolab.declare(
        name,
        main=write_main(town.folder, SLEEP),
        data_dir=town.data_dir,
        announce=lambda _: None,
        models={model: {"seconds": seconds, "x": raycolab.uniform(0.0, 1.0)} for model in "abcd"[:models]},
        datasets=["one"],
        jobs_per_pair=jobs,
        metric="score",
    )


def of_ideal(ran: Ran) -> float:
    """The ideal time over the sweep's."""
    return ideal_s(ran.durations, SLOTS) / ran.took_s


def raw_ray_s(town: Cluster, durations: Sequence[float]) -> float:
    """One Ray task per trial, all submitted at once from the head."""
    assert town.head is not None
    words = (sys.executable, "-P", "-c", RAW, str(town.data_dir), json.dumps(list(durations)))
    done = town.head.run(*words, timeout_s=500)
    assert done.returncode == 0, done.stderr
    return float(json.loads(done.stdout.splitlines()[-1]))


SLOTS = 6
WORKLOADS = {
    "120 x 0.5 s": (120, 0.5),
    "600 x 0.05 s": (600, 0.05),
    "300 x 0.05-5 s": (300, raycolab.loguniform(0.05, 5.0)),
}


@pytest.mark.bench
@pytest.mark.ray
@pytest.mark.timeout(1800)
def test_sweeps_through_a_slow_edge() -> None:
    """Must show 1 of the engine: three workloads on six slots, and the same by one Ray task per trial."""
    figures = {}
    with slow_mesh(cpus=2) as town:
        for number, (workload, (trials, seconds)) in enumerate(WORKLOADS.items()):
            ran = run_sweep(town, f"pace-{number}", trials, seconds, is_proven=True)
            raw_s = raw_ray_s(town, ran.durations)
            four = run_sweep(town, f"four-{number}", trials, seconds, models=4)
            one = run_sweep(town, f"one-{number}", trials, seconds)
            figures[workload] = {
                "of_ideal": of_ideal(ran),
                "raw_ray_of_ideal": ideal_s(ran.durations, SLOTS) / raw_s,
                "of_ideal_with_smoke_trials_of_four_models": of_ideal(four),
                "of_ideal_with_smoke_trial_of_one_model": of_ideal(one),
                "seconds": ran.took_s,
                "start_s": ran.start_s,
            }
    report("sweep pace", **figures)


def test_a_sweep_is_measured_against_its_ideal() -> None:
    """The list schedule: nothing waits while a slot is free."""
    assert ideal_s([1.0] * 6, 6) == 1.0
    assert ideal_s([3.0, 1.0, 1.0, 1.0], 2) == 3.0
    assert ideal_s([1.0, 1.0, 3.0], 2) == 4.0
