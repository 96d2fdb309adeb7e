"""What a sweep of 100,000 trials costs, and that each of them costs what one of 1,000 does.

Must show 4 of the engine: wall time, memory of the engine's actor, size of the database, seconds to a DataFrame. Each
size has a Ray, an actor and a database of its own.
"""

from __future__ import annotations

import contextlib
import os
import time

import pytest

from raycolab.results.table import Results
from raycolab.spec.spaces import choice, loguniform
from raycolab.spec.spec import SweepSpec
from raycolab.store import open_store
from tests.bench.measure import report
from tests.bench.sweeps import Stage

TRAINING = "def compute(model, dataset, rate, depth):\n    return {'accuracy': rate * depth, 'loss': 1 / depth}"
SIZES = (1_000, 10_000, 100_000)


def sized(trials: int) -> SweepSpec:
    """A random sweep of five models on four data sets."""
    space = {"rate": loguniform(1e-5, 1.0), "depth": choice([2, 4, 8, 16])}
    return SweepSpec.from_arguments(
        f"of-{trials}",
        models={f"model-{number}": space for number in range(5)},
        datasets=["iris", "wine", "digits", "breast_cancer"],
        method="random",
        jobs_per_pair=trials // 20,
        metric="accuracy",
    )


def peak_mib(status: str) -> float:
    """The most memory a process had, of its /proc/PID/status."""
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def cost(trials: int) -> dict[str, float]:
    """What a sweep of so many trials costs."""
    spec = sized(trials)
    with Stage(cpus=2) as stage:
        engine = stage.worker("ray::Engine")
        idle_mib = engine.memory_info().rss / 2**20
        timed = stage.timed(spec, [TRAINING])
        assert len(timed.durations) == trials
        with open(f"/proc/{engine.pid}/status") as file:
            peak = peak_mib(file.read())
        size = sum(os.path.getsize(stage.database + suffix) for suffix in ("", "-wal"))
        began = time.perf_counter()
        with contextlib.closing(open_store(stage.url)) as store:
            rows = store.trials(store.existing_sweep(spec.name).id)
        table = Results(spec.metric, rows, models=tuple(spec.models), datasets=spec.datasets, name=spec.name).dataframe
        frame_s = time.perf_counter() - began
        assert len(table) == trials
    return {
        "seconds": timed.took_s,
        "start_s": timed.start_s,
        "main_s": timed.main_s,
        "engine_idle_mib": idle_mib,
        "engine_peak_mib": peak,
        "database_mib": size / 2**20,
        "dataframe_s": frame_s,
    }


@pytest.mark.bench
@pytest.mark.ray
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_trials() -> None:
    """1,000, 10,000 and 100,000 trials; a tenfold sweep takes about ten times as long."""
    costs = {trials: cost(trials) for trials in SIZES}
    small, large = costs[SIZES[0]], costs[SIZES[-1]]
    report(
        "a hundred thousand trials",
        **{str(trials): figures for trials, figures in costs.items()},
        seconds_per_trial_growth=(large["seconds"] / SIZES[-1]) / (small["seconds"] / SIZES[0]),
        seconds_per_trial_growth_from_10000=large["seconds"] / costs[10_000]["seconds"] / 10,
    )
