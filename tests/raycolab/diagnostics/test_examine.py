"""Checks run side by side, in their order, and nothing they do is an error."""

from __future__ import annotations

import threading

import pytest

from raycolab.diagnostics.check import Finding, good
from raycolab.diagnostics.examine import Looking, examine
from raycolab.errors import UsageError


def failing(error: Exception) -> Looking:
    """A look that raises."""

    def look() -> Finding:
        raise error

    return look


def test_what_was_found_comes_in_the_order_of_the_checks() -> None:
    """Whoever ends first; a check with nothing to look at is left out."""
    first_may_end = threading.Event()

    def first() -> Finding:
        first_may_end.wait(30)
        return good("one")

    def last() -> Finding:
        first_may_end.set()
        return good("three")

    found = examine({"first": first, "second": lambda: None, "last": last}, limit_s=30)
    assert [(check.name, check.message) for check in found.checks] == [("first", "one"), ("last", "three")]


def test_a_check_that_hangs_costs_its_time_alone() -> None:
    """It has failed, in a sentence; the others are as they are."""
    never = threading.Event()

    def hang() -> Finding:
        never.wait()
        return good("at last")

    found = examine({"hangs": hang, "fine": lambda: good("well")}, limit_s=0.2)
    assert [(check.name, check.ok) for check in found.checks] == [("hangs", False), ("fine", True)]
    assert found.checks[0].message.startswith("There was no answer within 0.2 s")
    never.set()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (UsageError("Name another folder."), "Name another folder."),
        (
            PermissionError(13, "Permission denied", "/proc/1/ns"),
            "This could not be looked at (/proc/1/ns: Permission denied): mend that, then try again.",
        ),
        (OSError("odd"), "This could not be looked at (odd): mend that, then try again."),
        (TimeoutError("slow"), "This could not be looked at (slow): mend that, then try again."),
        (
            ZeroDivisionError("by zero"),
            "This could not be looked at (ZeroDivisionError: by zero): a bug of the doctor's, to report.",
        ),
    ],
)
def test_a_check_that_raises_is_a_failed_check(error: Exception, message: str) -> None:
    """Our own errors are sentences already; the system's and a bug's become one."""
    (check,) = examine({"raises": failing(error)}).checks
    assert (check.ok, check.message) == (False, message)
