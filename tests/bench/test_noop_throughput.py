"""How many trials that do nothing a sweep runs per second, each one's row durably stored, beside what others do.

Must show 2 of the engine: above raw Ray tasks, which store nothing. All in one run and by turns, on two CPUs.
"""

from __future__ import annotations

import importlib.util

import pytest

from raycolab.spec.spaces import uniform
from raycolab.spec.spec import SweepSpec
from tests.bench.measure import report
from tests.bench.sweeps import NOTHING, Stage, middle

TRIALS = 20_000
TURNS = 3
OPTUNA_TRIALS = 300
TUNE_TRIALS = {"tune": 10, "tune_used_again": 200}


def sweep_per_s(stage: Stage, name: str) -> float:
    """Trials per second of one sweep, durably stored."""
    spec = SweepSpec.from_arguments(
        name, models={"m": {"x": uniform(0, 1)}}, datasets=["d"], method="random", jobs_per_pair=TRIALS
    )
    timed = stage.timed(spec, [NOTHING])
    assert len(timed.durations) == TRIALS
    return TRIALS / timed.took_s


@pytest.mark.bench
@pytest.mark.ray
@pytest.mark.timeout(1800)
def test_trials_that_do_nothing() -> None:
    """Sweeps and raw Ray tasks by turns, then Optuna and, where it is installed, Ray Tune."""
    ours, raw, rivals = [], [], {}
    with Stage(cpus=2) as stage:
        for turn in range(TURNS):
            raw.append(TRIALS / stage.rival("ray", str(TRIALS))["seconds"])
            ours.append(sweep_per_s(stage, f"nothing-{turn}"))
        rivals["optuna_sqlite"] = OPTUNA_TRIALS / stage.rival("optuna", str(OPTUNA_TRIALS))["seconds"]
        if importlib.util.find_spec("tensorboardX") and importlib.util.find_spec("pyarrow"):  # of "ray[tune]"
            for kind, trials in TUNE_TRIALS.items():
                rivals[f"ray_{kind}"] = trials / stage.rival(kind, str(trials))["seconds"]
    report(
        "no-op throughput",
        trials=TRIALS,
        sweep_per_s=middle(ours),
        raw_ray_per_s=middle(raw),
        **{f"{name}_per_s": value for name, value in rivals.items()},
        over_raw_ray=middle([mine / theirs for mine, theirs in zip(ours, raw, strict=True)]),
    )
