"""Method bayes finds a known optimum sooner than method random, with six trials at once and after a restart too."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from statistics import mean, median

import pytest

from raycolab.search import enumerate_trials
from raycolab.search.studies import Studies
from raycolab.spec.spec import SweepSpec
from raycolab.trials import TrialRow, TrialState
from tests.bench.measure import report
from tests.raycolab.search.simulated import IN_PARALLEL, SPACE, Simulated, regret

TRIALS = 60


def _spec(method: str, seed: int, jobs: int = TRIALS) -> SweepSpec:
    return SweepSpec.from_arguments(
        "s", parameters=SPACE, method=method, seed=seed, metric="regret", mode="min", jobs_per_pair=jobs
    )


def _best(method: str, seed: int, *, restart_after: int | None = None) -> float:
    sweep = Simulated(_spec(method, seed))
    if restart_after is not None:
        sweep.run(restart_after)
        sweep.restart()
    sweep.run(TRIALS)
    return sweep.best


def test_bayes_beats_random() -> None:
    """By the mean of the best over three seeds, and in each of them."""
    bayes, drawn = ([_best(method, seed) for seed in range(3)] for method in ("bayes", "random"))
    assert mean(bayes) < mean(drawn) / 2
    assert all(found < other for found, other in zip(bayes, drawn, strict=True))


def test_a_sweep_killed_half_way_proposes_from_what_it_had() -> None:
    """What the studies that were made again propose lies near the optimum, not all over the space as at the start."""
    sweep = Simulated(_spec("bayes", seed=1))
    sweep.run(TRIALS // 2)
    sweep.restart()
    assert sweep.studies is not None
    first = [row.config for row in sorted(sweep.rows, key=lambda row: row.number)[:IN_PARALLEL]]
    fresh = [row for row in sweep.rows if row.config is None][: 2 * IN_PARALLEL]
    proposed = [sweep.studies.propose(row) for row in fresh]
    drawn = [row.config for row in enumerate_trials(_spec("random", seed=1)) if row.config is not None]
    assert not [config for config in proposed if config in first]
    assert median(map(regret, proposed)) < median(map(regret, drawn)) / 2


def test_a_restart_does_not_change_what_is_proposed() -> None:
    """With the same rows known, the studies that were made again propose what those that went on would have."""
    sweep = Simulated(_spec("bayes", seed=2))
    sweep.run(20)  # few enough for Optuna to weigh all alike, whatever their order
    went_on = sweep.studies
    assert went_on is not None
    fresh = [row for row in sweep.rows if row.config is None][:IN_PARALLEL]
    again = Studies(sweep.spec, sweep.rows)
    assert [again.propose(row) for row in fresh] == [went_on.propose(row) for row in fresh]


@pytest.mark.bench
def test_bench_bayes_and_random_over_ten_seeds() -> None:
    """Must show 6: the best of 60 trials, six at once, of both methods, and of bayes killed half-way."""
    seeds = range(10)
    bayes = [_best("bayes", seed) for seed in seeds]
    drawn = [_best("random", seed) for seed in seeds]
    resumed = [_best("bayes", seed, restart_after=TRIALS // 2) for seed in seeds]
    report(
        "bayes",
        trials=TRIALS,
        in_parallel=IN_PARALLEL,
        seeds=len(seeds),
        regret_bayes=mean(bayes),
        regret_random=mean(drawn),
        regret_resumed=mean(resumed),
        bayes_wins=sum(found < other for found, other in zip(bayes, drawn, strict=True)),
        resumed_wins=sum(found < other for found, other in zip(resumed, drawn, strict=True)),
    )
    assert mean(bayes) < mean(drawn)
    assert mean(resumed) < mean(drawn)


@pytest.mark.bench
@pytest.mark.parametrize("finished", [100, 1000])
def test_bench_what_a_proposal_costs(finished: int) -> None:
    """The time of one proposal, and of making the studies again, with so many finished rows in the pair."""
    spec = _spec("bayes", 0, finished + 30)
    drawn = enumerate_trials(_spec("random", 0, finished))
    rows: list[TrialRow] = [
        replace(row, state=TrialState.COMPLETE, metrics={"regret": regret(row.config or {})}, ended_at=row.number)
        for row in drawn
    ]
    fresh = enumerate_trials(spec, rows)
    begun = time.perf_counter()
    studies = Studies(spec, rows + fresh)
    replayed = time.perf_counter() - begun
    costs = []
    for row in fresh:
        begun = time.perf_counter()
        studies.propose(row)
        costs.append(time.perf_counter() - begun)
    report(
        "propose",
        finished=finished,
        propose_ms=median(costs) * 1e3,
        propose_max_ms=max(costs) * 1e3,
        replay_ms=replayed * 1e3,
    )
    assert len({json.dumps(studies.propose(row)) for row in fresh}) == len(fresh)
