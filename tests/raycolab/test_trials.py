"""The values a sweep is made of, where they say something."""

from __future__ import annotations

import math

import pytest

from raycolab.trials import ErrorKind, Failure, Metric, TrialRow, TrialState, trial_seed


@pytest.mark.parametrize(
    ("ename", "evalue", "cell", "summary"),
    [
        ("ValueError", "bad", 7, "ValueError: bad (cell 7)"),
        ("KeyError", "", None, "KeyError"),
        (
            "BadReturn",
            "compute returned None; return a number.",
            None,
            "BadReturn: compute returned None; return a number",
        ),
        (
            "ShellCommandError",
            "it failed. Its last lines:\nno such file",
            0,
            "ShellCommandError: it failed. Its last lines: (cell 0)",
        ),
    ],
)
def test_a_failure_is_one_line_without_a_full_stop(ename: str, evalue: str, cell: int | None, summary: str) -> None:
    """It stands in sentences of ours."""
    assert Failure(ErrorKind.EXCEPTION, ename, evalue, cell_index=cell).summary == summary


def test_a_duration_needs_both_ends() -> None:
    """Seconds, or nothing yet."""
    assert TrialRow(0, "a", "b", {}, started_at=1.0, ended_at=3.5).duration_s == 2.5
    assert TrialRow(0, "a", "b", {}, started_at=1.0).duration_s is None
    assert TrialRow(0, "a", "b", {}).duration_s is None


@pytest.mark.parametrize(
    ("metric", "value", "objective"),
    [
        (0.5, 0.5, 0.5),
        (True, 1.0, 1.0),
        (10**400, math.inf, None),
        (-(10**400), -math.inf, None),
        (math.inf, math.inf, None),
        (math.nan, math.nan, None),
        ("high", math.nan, None),
        (None, math.nan, None),
    ],
)
def test_what_may_be_best_is_finite(metric: float | str | None, value: float, objective: float | None) -> None:
    """A number that no float can hold is infinite, and no error of whoever compares trials."""
    row = TrialRow(0, "svc", "iris", {}, TrialState.COMPLETE, metrics={"accuracy": metric})
    assert Metric("accuracy").value_of(row) == value or math.isnan(value)
    assert Metric("accuracy").objective(row) == objective


def test_what_is_not_complete_is_never_best() -> None:
    """A pruned trial has a metric too."""
    row = TrialRow(0, "svc", "iris", {}, TrialState.PRUNED, metrics={"accuracy": 0.9})
    assert Metric("accuracy").objective(row) is None


def _bad_return(message: str) -> Failure:
    return Failure(ErrorKind.BAD_RETURN, "BadReturn", message)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("C = 210.0 is bad", "C = 3e-7 is bad", True),
        ("compute returned {'a': 1}", "compute returned {'b': 22}", True),
        ("<Net at 0x7f31a0> has no weights", "<Net at 0x55ffe0> has no weights", True),
        ("compute returned a dict without 'score'", "compute returned a list, which is no metric", False),
        ("can't open it", "can't read it", False),
    ],
)
def test_two_errors_are_the_same_but_for_their_particulars(first: str, second: str, same: bool) -> None:
    """Numbers, addresses and quoted values do not tell errors apart; anything else does."""
    assert (_bad_return(first).identity == _bad_return(second).identity) is same


def test_a_row_and_its_failure_are_the_same_error() -> None:
    """The guards judge failures and people look at rows: both have one identity."""
    failure = Failure(
        ErrorKind.EXCEPTION, "ValueError", "C is 3", "cell 7, line 2, in compute\n    raise", cell_index=7
    )
    row = TrialRow(
        0,
        "svc",
        "iris",
        {},
        TrialState.FAILED,
        error_kind=failure.kind,
        error=failure.summary,
        traceback=failure.traceback,
        cell_index=7,
    )
    assert row.error_identity == failure.identity
    assert failure.identity.line == 2


def test_a_trials_seed_is_its_own_and_the_same_everywhere() -> None:
    """Made from the sweep's seed and the trial's number alone; numpy takes it as it is."""
    assert trial_seed(0, 12) == 2313898717
    seeds = {trial_seed(sweep, number) for sweep in range(3) for number in range(100)}
    assert len(seeds) == 300
    assert all(0 <= seed < 2**32 for seed in seeds)
