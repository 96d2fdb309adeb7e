"""A diagnosis reads the same as JSON, as text and in a notebook; checks run side by side, and none is an error."""

from __future__ import annotations

import threading

import pytest

from raycolab.diagnostics.check import Check, Diagnosis, Finding, Look, Verdict, examine, good
from raycolab.errors import UsageError

SICK = Diagnosis(
    (
        Check("python", Verdict.GOOD, "Python 3.13."),
        Check("ngrok token", Verdict.NOTE, "Not set."),
        Check("ports", Verdict.BAD, "None is free: <end> programs."),
    )
)
WELL = Diagnosis(SICK.checks[:2])


def test_a_note_is_no_failure() -> None:
    """What is only worth knowing does not make a machine unfit."""
    assert [check.ok for check in SICK.checks] == [True, True, False]
    assert (SICK.ok, WELL.ok) == (False, True)


def test_json_is_the_contract_s() -> None:
    """`ok` and a list of name, ok, message, and nothing else."""
    assert SICK.to_json() == {
        "ok": False,
        "checks": [
            {"name": "python", "ok": True, "message": "Python 3.13."},
            {"name": "ngrok token", "ok": True, "message": "Not set."},
            {"name": "ports", "ok": False, "message": "None is free: <end> programs."},
        ],
    }


def test_text_has_a_line_for_each_check() -> None:
    """A mark, the name, the sentence; at the end what will fail."""
    assert repr(SICK).splitlines() == [
        "✓ python       Python 3.13.",
        "! ngrok token  Not set.",
        "✗ ports        None is free: <end> programs.",
        "3 checks: these will fail: ports.",
    ]
    assert repr(WELL).endswith("\n2 checks: nothing will fail.")


def test_a_notebook_shows_text_as_text() -> None:
    """What a machine calls its folders is no markup."""
    page = SICK._repr_html_()
    assert "&lt;end&gt;" in page
    assert page.count("<tr>") == 3
    assert "these will fail: ports." in page


def failing(error: Exception) -> Look:
    """A look that raises."""

    def look() -> Finding:
        raise error

    return look


def test_what_was_found_comes_in_the_order_of_the_checks() -> None:
    """Whichever ends first."""
    first_may_end = threading.Event()

    def first() -> Finding:
        first_may_end.wait(30)
        return good("one")

    def last() -> Finding:
        first_may_end.set()
        return good("three")

    found = examine({"first": first, "last": last}, limit_s=30)
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
            "This could not be looked at (ZeroDivisionError: by zero): please report this bug.",
        ),
    ],
)
def test_a_check_that_raises_is_a_failed_check(error: Exception, message: str) -> None:
    """Our own errors are sentences already; the system's and a bug's become one."""
    (check,) = examine({"raises": failing(error)}).checks
    assert (check.ok, check.message) == (False, message)
