"""The closing lines: what the cluster was worth, and the line that runs the best configuration again."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

from raycolab.results.speedup import compute_line, most_at_once, speedup_line
from raycolab.trials import TrialRow, TrialState


def rows(count: int, seconds: float, state: TrialState = TrialState.COMPLETE, attempts: int = 1) -> list[TrialRow]:
    """Trials that took `seconds` each."""
    return [
        TrialRow(number, "svc", "iris", {}, state, attempts=attempts, started_at=100.0, ended_at=100.0 + seconds)
        for number in range(count)
    ]


@pytest.mark.parametrize(
    ("trials", "seconds", "nodes", "head_slots", "wall_s", "line"),
    [
        (480, 8.5, 6, 2, 370.0, "480 trials, 6 tabs, 6 min 10 s; this tab alone about 34 min (5.5x)"),
        (480, 8.5, 1, 2, 2040.0, "480 trials, 1 tab, 34 min"),
        (2, 8.0, 3, 0, 8.0, "2 trials, 3 tabs, 8.0 s"),
        (10, 0.5, 3, 1, 10.0, "10 trials, 3 tabs, 10 s; this tab alone about 5.0 s (0.5x)"),
        (1, 40.0, 2, 8, 40.0, "1 trial, 2 tabs, 40 s; this tab alone about 40 s (1.0x)"),
        (1, 3_599.0, 2, 1, 3_599.0, "1 trial, 2 tabs, 59 min 59 s; this tab alone about 1 h (1.0x)"),
        (1, 40_000.0, 2, 1, 40_000.0, "1 trial, 2 tabs, 11 h 6 min; this tab alone about 11 h (1.0x)"),
        (1, 299.0, 2, 1, 299.0, "1 trial, 2 tabs, 4 min 59 s; this tab alone about 4 min 59 s (1.0x)"),
    ],
    ids=["as designed", "one node", "a head without slots", "not worth it", "one long trial", "1 h", "11 h", "5 min"],
)
def test_what_the_cluster_was_worth(
    trials: int, seconds: float, nodes: int, head_slots: int, wall_s: float, line: str
) -> None:
    """Against the head's own slots, no finer than the comparison; nothing is claimed where there is none."""
    assert speedup_line(rows(trials, seconds), nodes=nodes, head_slots=head_slots, wall_s=wall_s) == line


def test_only_what_was_computed_counts() -> None:
    """Repeated configurations, lost and cancelled trials are trials, but would have cost the head nothing."""
    every = [
        *rows(4, 10.0),
        *rows(2, 10.0, attempts=0),
        *rows(1, 500.0, TrialState.LOST),
        *rows(1, 500.0, TrialState.CANCELLED),
        *rows(3, 0.0, TrialState.PENDING),
    ]
    line = speedup_line(every, nodes=2, head_slots=1, wall_s=20.0)
    assert line == "8 trials, 2 tabs, 20 s; this tab alone about 40 s (2.0x)"


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


def test_the_slots_of_a_node_are_as_many_as_worked_at_once() -> None:
    """One trial right after another is one slot; other nodes, and repeats that never ran, do not count."""
    times = [(0.0, 2.0), (2.0, 4.0), (1.0, 3.0), (3.0, 4.0)]
    ran = [
        TrialRow(
            number, "svc", "iris", {}, TrialState.COMPLETE, node="head", attempts=1, started_at=start, ended_at=end
        )
        for number, (start, end) in enumerate(times)
    ]
    elsewhere = TrialRow(9, "svc", "iris", {}, node="joiner-1", started_at=0.0, ended_at=9.0)
    repeated = TrialRow(10, "svc", "iris", {}, TrialState.COMPLETE, node="head")
    assert most_at_once([*ran, elsewhere, repeated], "head") == 2
    assert most_at_once([], "head") == 0
