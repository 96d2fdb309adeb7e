"""The example's real sweep, how close to ideal scheduling it comes, beside one Ray task per trial.

Must show 3 of the engine: within 10 % of the ideal. The same trials in both, by turns, on the same two CPUs, which the
engine and Ray need as well: each one's ideal is the list schedule of the durations its own trials had. `over_raw_ray`
compares the two clocks.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec import structs

from raycolab.main.notebook import MainNotebook
from raycolab.main.roles import CellRole
from raycolab.search import enumerate_trials
from raycolab.spec.file import load_sweep_file
from tests.bench.measure import report
from tests.bench.sweeps import Stage, ideal_s, middle

SWEEP = Path(__file__).parents[2] / "examples" / "sweep.yaml"
CPUS = 2
JOBS_PER_PAIR = 60
TURNS = 1


@pytest.mark.bench
@pytest.mark.ray
@pytest.mark.timeout(3600)
def test_the_examples_sweep() -> None:
    """The whole sweep by the engine and by raw Ray tasks, in the order of their numbers."""
    pytest.importorskip("sklearn")
    file = load_sweep_file(SWEEP, [f"jobs_per_pair={JOBS_PER_PAIR}"])
    cells = [cell.source for cell in MainNotebook.load(file.main_path).cells if cell.role is not CellRole.SKIP]
    trials = [(row.model, row.dataset, row.config) for row in enumerate_trials(file.spec, []) if row.same_as is None]
    sweeps, raw, clocks, starts, loads, works = [], [], [], [], [], []
    with Stage(cpus=CPUS) as stage:
        plan = stage.folder / "plan.json"
        plan.write_text(json.dumps({"cells": cells, "trials": trials}))
        for turn in range(TURNS):
            theirs = stage.rival("ray_main", str(plan), timeout_s=1200)
            raw.append(theirs["seconds"] / ideal_s(theirs["durations"], CPUS))
            ours = stage.timed(structs.replace(file.spec, name=f"example-{turn}"), cells, timeout_s=1200)
            sweeps.append(ours.took_s / ideal_s(ours.durations, CPUS))
            clocks.append(ours.took_s / theirs["seconds"])
            works.append(sum(ours.durations) / sum(theirs["durations"]))
            starts.append(ours.start_s)
            loads.append(ours.main_s)
    report(
        "example sweep",
        trials=len(trials),
        sweep_over_ideal=middle(sweeps),
        raw_ray_over_ideal=middle(raw),
        over_raw_ray=middle(clocks),
        trial_seconds_over_raw_ray=middle(works),
        seconds=ours.took_s,
        start_s=middle(starts),
        main_s=middle(loads),
    )
