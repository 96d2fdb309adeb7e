"""The closing lines: what the cluster was worth, and the line that runs the best configuration again."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import replace

import pytest

from raycolab.results.speedup import compute_line, most_at_once, speedup_line
from raycolab.trials import TrialRow, TrialState

BEGAN = 1000.0


def rows(count: int, seconds: float, state: TrialState = TrialState.COMPLETE, slots: int = 1) -> list[TrialRow]:
    """Trials that took `seconds` each, one after another from the start on, on so many slots of the head."""
    return [
        TrialRow(
            number,
            "svc",
            "iris",
            {},
            state,
            node="head",
            attempts=1,
            started_at=BEGAN + number // slots * seconds,
            ended_at=BEGAN + (number // slots + 1) * seconds,
        )
        for number in range(count)
    ]


def elsewhere(count: int, seconds: float, ended_s: float) -> list[TrialRow]:
    """Trials that took `seconds` each on a joiner and ended so long after the start."""
    ended_at = BEGAN + ended_s
    return [
        replace(row, node="joiner-1", started_at=ended_at - seconds, ended_at=ended_at) for row in rows(count, seconds)
    ]


@pytest.mark.parametrize(
    ("trials", "nodes", "line"),
    [
        (
            rows(80, 8.5, slots=2) + elsewhere(400, 8.5, 370.0),
            6,
            "480 trials, 6 tabs, 6 min 10 s; this tab alone about 34 min (5.5x)",
        ),
        (rows(480, 8.5, slots=2), 1, "480 trials, 1 tab, 34 min"),
        (elsewhere(2, 8.0, 8.0), 3, "2 trials, 3 tabs, 8.0 s"),
        (rows(10, 0.5) + elsewhere(0, 0.5, 10.0), 3, "10 trials, 3 tabs, 5.0 s; this tab alone about 5.0 s (1.0x)"),
        (rows(1, 3_599.0), 2, "1 trial, 2 tabs, 59 min 59 s; this tab alone about 1 h (1.0x)"),
        (rows(1, 40_000.0), 2, "1 trial, 2 tabs, 11 h 6 min; this tab alone about 11 h (1.0x)"),
        (rows(1, 299.0), 2, "1 trial, 2 tabs, 4 min 59 s; this tab alone about 4 min 59 s (1.0x)"),
    ],
    ids=["as designed", "one node", "nothing ran on the head", "not worth it", "1 h", "11 h", "5 min"],
)
def test_what_the_cluster_was_worth(trials: list[TrialRow], nodes: int, line: str) -> None:
    """Against the head's own slots, no finer than the comparison; nothing is claimed where there is none."""
    assert speedup_line(trials, began=BEGAN, nodes=nodes) == line


def test_the_time_until_the_first_trial_is_the_heads_own_too() -> None:
    """Ray and MAIN have to be loaded on one node as on six."""
    later = [replace(row, started_at=row.started_at + 5, ended_at=row.ended_at + 5) for row in rows(4, 1.0)]  # type: ignore[operator]
    both = [*later, *elsewhere(4, 1.0, 9.0)]
    assert speedup_line(both, began=BEGAN, nodes=2) == "8 trials, 2 tabs, 9.0 s; this tab alone about 13 s (1.4x)"


def test_the_closing_line_counted_copied_rows_as_work() -> None:
    """36 trials of a grid on two nodes, two thirds of them repeats: the head alone takes as long as the others do."""
    half = [*rows(6, 1.6), *elsewhere(6, 1.6, 9.6)]
    repeats = [
        replace(row, number=100 + copy * 12 + number, attempts=0, same_as=number)
        for copy in range(2)
        for number, row in enumerate(half)
    ]
    line = speedup_line([*half, *repeats], began=BEGAN, nodes=2)
    assert line == "36 trials (24 repeats, not run again), 2 tabs, 9.6 s; this tab alone about 19 s (2.0x)"


def test_nodes_on_the_cores_of_one_machine_were_counted_as_machines_of_their_own() -> None:
    """Each trial took longer than alone, nobody knows by how much."""
    line = speedup_line([*rows(4, 2.0), *elsewhere(4, 2.0, 8.0)], began=BEGAN, nodes=2, share_cores=True)
    assert line == (
        "8 trials, 2 tabs, 8.0 s; the tabs share the cores of one machine, so how long one alone would take is not"
        " known"
    )


def test_only_what_was_computed_counts() -> None:
    """Lost and cancelled trials are trials, but would have cost the head nothing."""
    every = [
        *rows(4, 10.0),
        *elsewhere(1, 10.0, 20.0),
        *rows(1, 40.0, TrialState.LOST),
        *rows(1, 40.0, TrialState.CANCELLED),
        *rows(3, 0.0, TrialState.PENDING),
    ]
    line = speedup_line(every, began=BEGAN, nodes=2)
    assert line == "7 trials, 2 tabs, 40 s; this tab alone about 50 s (1.2x)"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"model": "svc", "dataset": "iris", "C": 1.0}, 'compute(model="svc", dataset="iris", C=1.0)'),
        ({"optimizer": {"lr": 0.1, "name": "adam"}}, 'compute(optimizer={"lr": 0.1, "name": "adam"})'),
        ({"depth": None, "flag": True}, "compute(depth=None, flag=True)"),
        ({"lr": math.inf}, 'compute(lr=float("inf"))'),
        ({"max-depth": 3, "n": 1, "lambda": 2}, 'compute(n=1, **{"max-depth": 3, "lambda": 2})'),
        ({"text": 'say "h\u00e9"\n'}, 'compute(text="say \\"h\u00e9\\"\\n")'),
        ({}, "compute()"),
    ],
)
def test_the_best_configuration_as_a_line_to_paste(arguments: Mapping[str, object], line: str) -> None:
    """It is Python, and calls compute with the same values."""
    assert compute_line(arguments) == line
    assert eval(line, {"compute": lambda **given: given}) == arguments


def test_the_line_of_a_trial_with_a_seed_starts_from_it() -> None:
    """What compute draws then is what the trial drew."""
    line = compute_line({"x": 1.0}, 7)
    assert line == "import raycolab; raycolab.set_seed(7); compute(x=1.0)"
    drawn: dict[str, float] = {}
    exec(line, {"compute": lambda x: drawn.update(found=random.random())})
    assert drawn["found"] == random.Random(7).random()


def test_the_slots_of_a_node_are_as_many_as_worked_at_once() -> None:
    """One trial right after another is one slot; other nodes, and repeats that never ran, do not count."""
    times = [(0.0, 2.0), (2.0, 4.0), (1.0, 3.0), (3.0, 4.0)]
    ran = [
        TrialRow(
            number, "svc", "iris", {}, TrialState.COMPLETE, node="head", attempts=1, started_at=start, ended_at=end
        )
        for number, (start, end) in enumerate(times)
    ]
    other = replace(ran[0], number=9, node="joiner-1", started_at=0.0, ended_at=9.0)
    repeated = replace(ran[0], number=10, attempts=0, same_as=0)
    assert most_at_once([*ran, other, repeated], "head") == 2
    assert most_at_once([], "head") == 0
