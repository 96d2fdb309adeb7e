"""Results and errors as a notebook shows them."""

from __future__ import annotations

import pytest

from raycolab.errors import NoHeadError
from raycolab.results.table import Results
from raycolab.sweep import find
from raycolab.trials import Metric
from tests.raycolab.results.sweeps import declared, finished_sweep
from tests.raycolab.view.pages import Page


def test_results_show_counts_pairs_best_and_causes() -> None:
    """And the calls that lead on from there."""
    results = finished_sweep()
    seen = Page(results._repr_html_())
    seen.assert_self_contained()
    assert "80 / 80" in seen.texts
    best = results.best_trial
    assert best is not None
    assert f"{best.model} on {best.dataset}, trial {best.number}" in seen.texts
    assert "ValueError at cell 7 line 12: <bad> & worse" in seen.texts
    assert '.report("out.html")' in seen.texts
    assert sum("title" in attributes for _, attributes in seen.tags) == 4


def test_results_of_nothing_claim_nothing() -> None:
    """A sweep without a trial yet."""
    spec = declared()
    nothing = Results(Metric("accuracy"), [], models=tuple(spec.models), datasets=spec.datasets)
    seen = Page(nothing._repr_html_())
    assert "0 / 0" in seen.texts
    assert not any("best" in text for text in seen.texts if text != seen.style)


@pytest.mark.usefixtures("finished")
def test_a_sweep_is_shown_without_a_head() -> None:
    """By its database: its state, its pairs, what failed and where trials ran."""
    seen = Page(find("sample")._repr_html_())
    for word in ("sample", "declared", "3 / 3", "0.75", "1 failed", "ValueError at cell 0: too bad"):
        assert word in seen.texts


def test_an_error_is_its_name_and_its_sentence() -> None:
    """As a value; raised, it is one line without the way it took through our code."""
    error = NoHeadError("No head <runs> here.")
    seen = Page(error._repr_html_())
    seen.assert_self_contained()
    assert "NoHeadError" in seen.texts
    assert "No head <runs> here." in seen.texts
    assert error._render_traceback_() == ["\x1b[31mNoHeadError\x1b[0m: No head <runs> here."]
