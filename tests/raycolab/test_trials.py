"""The values a sweep is made of, where they say something."""

from __future__ import annotations

import pytest

from raycolab.trials import ErrorKind, Failure, TrialRow


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
