"""The closing lines: what the cluster was worth, and the line that runs the best configuration again."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

from raycolab.results.speedup import compute_line, most_at_once, worth_line
from raycolab.trials import TrialRow, TrialState


def rows(count: int, seconds: float, state: TrialState = TrialState.COMPLETE, attempts: int = 1) -> list[TrialRow]:
    """Trials that took `seconds` each."""
    return [
        TrialRow(number, "svc", "iris", {}, state, attempts=attempts, started_at=100.0, ended_at=100.0 + seconds)
        for number in range(count)
    ]


def test_the_line_of_the_design() -> None:
    """480 trials of 8.5 s are 68 min on one slot, 34 on the head's two."""
    assert (
        worth_line(rows(480, 8.5), nodes=6, head_slots=2, wall_s=370.0)
        == "480 trials, 6 tabs, 6 min 10 s; this tab alone about 34 min (5.5x)"
    )


def test_one_node_claims_nothing() -> None:
    """There is nothing to compare with."""
    assert worth_line(rows(480, 8.5), nodes=1, head_slots=2, wall_s=2040.0) == "480 trials, 1 tab, 34 min"


def test_a_head_without_slots_claims_nothing() -> None:
    """It could not have run the sweep alone."""
    assert worth_line(rows(2, 8.0), nodes=3, head_slots=0, wall_s=8.0) == "2 trials, 3 tabs, 8.0 s"


def test_a_cluster_that_was_not_worth_it_is_said_to_be() -> None:
    """Short trials can cost more than they gain."""
    line = worth_line(rows(10, 0.5), nodes=3, head_slots=1, wall_s=10.0)
    assert line == "10 trials, 3 tabs, 10 s; this tab alone about 5.0 s (0.5x)"


def test_slots_do_not_divide_one_long_trial() -> None:
    """Alone the head needs at least the longest trial, however many slots it has."""
    assert worth_line(rows(1, 40.0), nodes=2, head_slots=8, wall_s=40.0).endswith("alone about 40 s (1.0x)")


def test_only_what_was_computed_counts() -> None:
    """Repeated configurations, lost and cancelled trials are trials, but would have cost the head nothing."""
    every = [
        *rows(4, 10.0),
        *rows(2, 10.0, attempts=0),
        *rows(1, 500.0, TrialState.LOST),
        *rows(1, 500.0, TrialState.CANCELLED),
        *rows(3, 0.0, TrialState.PENDING),
    ]
    line = worth_line(every, nodes=2, head_slots=1, wall_s=20.0)
    assert line == "8 trials, 2 tabs, 20 s; this tab alone about 40 s (2.0x)"


@pytest.mark.parametrize(("seconds", "text"), [(3_599.0, "1 h"), (40_000.0, "11 h"), (299.0, "4 min 59 s")])
def test_about_is_no_finer_than_the_comparison(seconds: float, text: str) -> None:
    """Minutes from five minutes on, hours from ten hours on."""
    assert f"about {text} (" in worth_line(rows(1, seconds), nodes=2, head_slots=1, wall_s=seconds)


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
