"""A diagnosis reads the same as JSON, as text and in a notebook."""

from __future__ import annotations

from raycolab.diagnostics.check import Check, Diagnosis, Verdict

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
