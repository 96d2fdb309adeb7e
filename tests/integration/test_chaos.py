"""A sweep through a day on which everything is killed that can be: no trial is lost, doubled or run in vain again."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import pytest

from raycolab.engine.book import MAX_LOST_ATTEMPTS
from tests.integration.chaos import JOINERS, Chaos, Kind, plan
from tests.integration.failure_stage import Stage
from tests.integration.outage_stage import Attempt, Sweep
from tests.integration.sessions import Cluster, cluster

pytestmark = pytest.mark.ray

GRACE_S = 3
TRIAL_S = 0.3


@pytest.mark.timeout(300)
def test_a_sweep_through_one_blow_of_each_kind(doomed: Stage) -> None:
    """A slot, a joiner's Ray, a joiner, the engine and the head are killed: every trial ends once."""
    counts = {kind: 1 for kind in Kind if kind is not Kind.STOP}  # the long run below has what takes longest
    run(doomed.nodes, seed=4, trials=36, counts=counts, twos=1)
    doomed.nodes.end()  # nobody needs what is left, and it takes CPU from the others


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_sweep_of_300_trials_through_forty_blows() -> None:
    """The same, long, in an order of its own each time; RAYCOLAB_CHAOS_SEED repeats one."""
    seed = int(os.environ.get("RAYCOLAB_CHAOS_SEED", random.randrange(10**6)))
    counts = {Kind.SLOT: 15, Kind.RAY: 4, Kind.JOINER: 6, Kind.ENGINE: 8, Kind.HEAD: 4, Kind.STOP: 3}
    with cluster({"RAYCOLAB_GRACE_S": str(GRACE_S)}) as made:
        made.start_head()
        for number in range(1, 1 + JOINERS):
            made.start_joiner(f"tab-{number}")
        made.wait_up(1 + JOINERS)
        run(made, seed=seed, trials=300, counts=counts, twos=8)


def run(made: Cluster, *, seed: int, trials: int, counts: Mapping[Kind, int], twos: int) -> None:
    """A sweep under the seed's blows to its end, and what must hold then; prints what was done."""
    sys.stdout.write(f"seed {seed}\n")  # whatever fails
    rng = random.Random(seed)
    begun = time.monotonic()
    sweep = Sweep(made, "chaos", trials=trials, trial_s=TRIAL_S)
    chaos = Chaos(made, sweep, rng)
    for blow in plan(rng, trials, counts, twos):
        chaos.strike(blow)
    code = chaos.until_over()
    seconds = time.monotonic() - begun
    rows = made.rows("chaos")
    attempts = sweep.attempts()
    lost = [each for each in attempts if each.outcome == "LOST"]
    states = Counter(row["state"] for row in rows)
    seen = {
        "seed": seed,
        "trials": trials,
        "blows": chaos.struck(),
        "seconds": round(seconds, 1),
        "states": dict(states),
        "attempts": len(attempts),
        "lost_attempts": len(lost),
        "at_risk": chaos.at_risk,
        "runs_of_compute": len(sweep.runs()),
        "submit_said": dict(Counter(chaos.cut_off)),
    }
    sys.stdout.write(json.dumps(seen) + "\n")
    assert code == (1 if states["LOST"] else 0), chaos.story()
    assert chaos.struck() == {kind.value: count for kind, count in counts.items()}
    assert [row["number"] for row in rows] == list(range(trials))
    assert states.keys() <= {"COMPLETE", "LOST"}
    assert all(row["score"] == row["config/x"] for row in rows if row["state"] == "COMPLETE")
    assert_attempts_tell(rows, attempts)
    assert chaos.kept <= set(attempts), "an attempt that was COMPLETE is another one now"
    assert len(lost) <= chaos.at_risk, chaos.story()
    assert_none_ran_after_its_end(rows, attempts, sweep.runs())


def assert_attempts_tell(rows: list[dict[str, Any]], attempts: list[Attempt]) -> None:
    """A COMPLETE trial has one COMPLETE attempt, the others were lost; LOST is only what was lost three times."""
    outcomes: dict[int, Counter[str]] = defaultdict(Counter)
    for each in attempts:
        outcomes[each.trial][each.outcome] += 1
    for row in rows:
        mine = outcomes[row["number"]]
        assert mine.total() == row["attempts"], row
        assert mine.keys() <= {"COMPLETE", "LOST", "CANCELLED"}, (row, mine)  # CANCELLED: an orderly end charges nobody
        assert mine["COMPLETE"] == (row["state"] == "COMPLETE"), (row, mine)
        assert (mine["LOST"] == MAX_LOST_ATTEMPTS) == (row["state"] == "LOST"), (row, mine)
        assert mine["LOST"] <= MAX_LOST_ATTEMPTS, (row, mine)


def assert_none_ran_after_its_end(
    rows: list[dict[str, Any]], attempts: list[Attempt], runs: list[tuple[float, str, float]]
) -> None:
    """By what `compute` itself wrote, each trial ran, and none began once it was COMPLETE."""
    number_of = {row["config/x"]: row["number"] for row in rows}
    ended_at = {each.trial: each.ended_at for each in attempts if each.outcome == "COMPLETE"}
    ran = {number_of[x] for x, _, _ in runs}
    assert ran >= ended_at.keys()
    again = [(number_of[x], host, begun) for x, host, begun in runs if begun > ended_at.get(number_of[x], begun)]
    assert again == [], "finished trials ran again"
