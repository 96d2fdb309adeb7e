"""Failures grouped by cause, from the tracebacks that MAIN's failures really have."""

from __future__ import annotations

from raycolab.main.traceback import cell_code_name, traceback_text
from raycolab.summary import Causes, causes
from raycolab.trials import ErrorKind, Failure, TrialRow, TrialState

CELL = """
def check(value):
    raise ValueError(f"{value} is too large, see cell 3, line 4")


def compute(value):
    return check(value)
"""


def failed(number: int, value: float) -> TrialRow:
    """A trial whose compute raised in cell 7."""
    names: dict[str, object] = {}
    exec(compile(CELL, cell_code_name(7), "exec"), names)
    try:
        names["compute"](value)  # type: ignore[operator]
    except ValueError as error:
        failure = Failure(ErrorKind.EXCEPTION, "ValueError", str(error), traceback_text(error), 7)
    return TrialRow(
        number,
        "svc",
        "iris",
        {},
        TrialState.FAILED,
        error_kind=failure.kind,
        error=failure.summary,
        traceback=failure.traceback,
        cell_index=failure.cell_index,
    )


def bare(number: int, kind: ErrorKind, error: str) -> TrialRow:
    """A trial that ended without an exception of MAIN."""
    state = TrialState.LOST if kind is ErrorKind.LOST else TrialState.FAILED
    return TrialRow(number, "svc", "iris", {}, state, error_kind=kind, error=error)


def test_one_line_of_one_cell_is_one_cause() -> None:
    """Whatever the message quotes, places that look like frames included."""
    found = causes([failed(4, 0.5), failed(2, 0.25), failed(3, 0.125)])
    assert [cause.headline for cause in found] == [
        "3 trials, one cause: ValueError at cell 7 line 3: 0.5 is too large, see cell 3, line 4"
    ]
    assert found[0].example.number == 4


def test_a_cause_without_an_exception_is_its_kind() -> None:
    """A sentence of ours is no exception's name."""
    found = causes(
        [bare(0, ErrorKind.TIMEOUT, "ran longer than 5 s and was ended"), bare(1, ErrorKind.LOST, "lost three times")]
    )
    assert [cause.headline for cause in found] == [
        "1 trial: timeout: ran longer than 5 s and was ended",
        "1 trial: lost: lost three times",
    ]


def test_a_cause_that_says_nothing_is_its_name() -> None:
    """`raise KeyError` has no message, and one that never ends is shortened."""
    found = causes([bare(0, ErrorKind.OOM, "OutOfMemory"), bare(1, ErrorKind.EXCEPTION, f"KeyError: {'x' * 1000}")])
    assert [cause.headline for cause in found] == ["1 trial: OutOfMemory", f"1 trial: KeyError: {'x' * 158} …"]


def test_the_most_frequent_cause_comes_first() -> None:
    """Then the one that was met first."""
    rows = [bare(0, ErrorKind.OOM, "OutOfMemory"), *(failed(number, 0.5) for number in (1, 2))]
    assert [(cause.count, cause.text) for cause in causes(rows)] == [
        (2, "ValueError at cell 7 line 3"),
        (1, "OutOfMemory"),
    ]


def test_what_did_not_fail_has_no_cause() -> None:
    """A NaN is no failure, nor is a trial that somebody cancelled."""
    kinds = {TrialState.FAILED: ErrorKind.OOM, TrialState.LOST: ErrorKind.LOST}
    rows = [
        TrialRow(number, "svc", "iris", {}, state, error_kind=kinds.get(state))
        for number, state in enumerate(TrialState)
    ]
    assert {cause.example.state for cause in causes(rows)} == {TrialState.FAILED, TrialState.LOST}


def test_a_trial_that_is_tried_again_no_longer_counts() -> None:
    """Its cause keeps its example while others have it, and is gone with the last."""
    kept = Causes()
    first, second = failed(1, 1.0), failed(2, 2.0)
    kept.add(first)
    kept.add(second)
    kept.remove(first)
    assert [(cause.count, cause.example.number) for cause in kept.found()] == [(1, 1)]
    kept.remove(second)
    assert kept.found() == []
