"""What a person on Colab should know before the first tunnel."""

from __future__ import annotations

from pathlib import Path

from raycolab.diagnostics.check import Verdict
from raycolab.diagnostics.colab_tab import drive, rules


def test_without_drive_results_end_with_the_tab() -> None:
    """It is said, with the two lines that mend it; a mounted one is named."""
    found = drive(None)
    assert found.verdict is Verdict.NOTE
    assert "results end with this tab: run `from google.colab import drive; drive.mount(" in found.message
    folder = Path("/content/drive/MyDrive/raycolab")
    assert (drive(folder).verdict, str(folder) in drive(folder).message) == (Verdict.GOOD, True)


def test_the_rules_are_said_and_nothing_fails_by_them() -> None:
    """With the page to read."""
    found = rules()
    assert found.verdict is Verdict.NOTE
    assert "distributed computing workers" in found.message
    assert "https://research.google.com/colaboratory/faq.html" in found.message
