"""MAIN means on a worker what it means in a notebook: on a real head and a joiner in sessions that share nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

import raycolab
from tests.integration.sessions import Cluster, all_slots_cell, cluster, write_main, write_sweep

pytestmark = [pytest.mark.ray, pytest.mark.timeout(280)]

SCORE = "metric: {name: score, goal: maximize}"


@pytest.fixture(scope="module")
def two() -> Iterator[Cluster]:
    """A head and a joiner of one CPU each; sweeps and MAINs of this file have names of their own."""
    with cluster() as made:
        made.start_head()
        made.start_joiner("joiner-1")
        made.wait_up(2)
        yield made


def submit(on: Cluster, name: str, cells: list[str], *lines: str, exit_code: int = 0) -> dict[str, Any]:
    """What `submit --json` says at the end of a sweep of this MAIN, and under "said" all that it printed beside."""
    write_main(on.folder, *cells)
    done = on.raycolab("submit", str(write_sweep(on.folder, name, [SCORE, *lines])), "--json")
    assert done.returncode == exit_code, done.stderr
    return {**json.loads(done.stdout), "said": done.stderr}


def test_a_seed_in_a_cell_held_for_the_first_trial_of_a_slot_only(two: Cluster) -> None:
    """20 trials of random and numpy, once on one slot and once on two nodes: the same numbers, trial by trial."""
    cells = [
        "import random\nimport numpy as np\nrandom.seed(0)\nnp.random.seed(0)",
        all_slots_cell(two.folder, 2),
        "def compute(x, wait):\n"
        "    if wait: wait_for_all_slots()\n"
        "    return {'score': random.random() + np.random.rand(), 'x': x}",
    ]
    space = "parameters: {{x: {{min: 0.0, max: 1.0}}, wait: {}}}"
    submit(two, "one-slot", cells, space.format("false"), "jobs_per_pair: 20", "max_concurrent_trials: 1")
    submit(two, "two-nodes", cells, space.format("true"), "jobs_per_pair: 20")
    alone, together = two.rows("one-slot"), two.rows("two-nodes")
    assert len({row["node"] for row in together}) == 2
    found = [[(row["number"], row["seed"], row["x"], row["score"]) for row in rows] for rows in (alone, together)]
    assert found[0] == found[1]
    assert len({score for _, _, _, score in found[0]}) == 20

    best = max(alone, key=lambda row: row["score"])
    line = raycolab.find("one-slot", data_dir=two.data_dir).speedup([]).splitlines()[-1]
    notebook: dict[str, Any] = {}
    for cell in cells:
        exec(cell, notebook)
    exec(line.replace("compute(", "found = compute("), notebook)
    assert notebook["found"]["score"] == best["score"]
