"""The page about a sweep: complete in itself, well formed, and with everything in it that people look for."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

import raycolab
from raycolab.errors import UsageError
from raycolab.results.table import Results
from raycolab.trials import AttemptRow, Metric, TrialRow, TrialState
from tests.raycolab.results.sweeps import NOW, declared, finished_sweep, sweep_row
from tests.raycolab.view.pages import Page

ALL_SECTIONS = [
    *("Best per pair", "Models by datasets", "Parameter importances", "History", "Learning curves"),
    *("Parallel coordinates", "Timeline", "Failures by cause", "Code and versions"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The page of a finished sweep."""
    path = finished_sweep().report(tmp_path_factory.mktemp("report") / "out.html")
    return Page(path.read_text(encoding="utf-8"))


def sections(page: Page) -> list[str]:
    """The titles of its parts, in order."""
    return [text for text in page.texts if text in ALL_SECTIONS]


def test_every_part_is_there_in_order(page: Page) -> None:
    """From what was found to what ran."""
    assert sections(page) == ALL_SECTIONS


def test_it_reaches_for_nothing_outside_itself(page: Page) -> None:
    """No script, no link, no address of anything; and the browser is told to allow none."""
    page.assert_self_contained()
    policy = [attributes["content"] for _, attributes in page.tags if "http-equiv" in attributes]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_it_names_best_failures_code_and_versions(page: Page) -> None:
    """As text, escaped."""
    best = finished_sweep().best_trial
    assert best is not None
    assert f"{best.model} on {best.dataset}, trial {best.number}" in page.text
    assert "8 trials, one cause: ValueError at cell 7 line 12: <bad> & worse" in page.text
    assert "epoch <1>" in page.text
    assert "def compute(" in page.text
    assert "2.60.0" in page.texts
    timeline = page.texts[page.texts.index("Timeline") :]
    assert [text for text in timeline if text.startswith("joiner-")][:2] == ["joiner-1", "joiner-2"]


def test_every_picture_says_what_it_is(page: Page) -> None:
    """For those who do not see it."""
    pictures = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(pictures) == 4 + 4 + 4 + 2  # histories, learning curves, parallel coordinates, nodes
    assert all(picture["role"] == "img" and picture["aria-label"] for picture in pictures)


def curves_of(tmp_path: Path, reports: dict[int, dict[int, float]]) -> tuple[Page, TrialRow]:
    """The page and the best of 90 trials of one pair, the odd ones of which were pruned, that reported this."""
    spec = declared(models={"net": {"lr": raycolab.uniform(0, 1)}}, datasets=["iris"], jobs_per_pair=90)
    found = finished_sweep(spec, failures=0)
    kinds = (TrialState.COMPLETE, TrialState.PRUNED)
    rows = [dataclasses.replace(row, state=kinds[row.number % 2]) for row in found.rows]
    results = Results(spec.metric, rows, models=["net"], datasets=["iris"], name="s", reports=reports)
    assert results.best_trial is not None
    return Page(results.report(tmp_path / "r.html").read_text()), results.best_trial


def test_learning_curves_say_the_best_the_pruned_and_what_is_left_out(tmp_path: Path) -> None:
    """The best by its metric is the one that stands out; of many trials and steps some are drawn."""
    lengths = {number: 70 if number % 2 == 0 else number // 2 + 1 for number in range(90)}
    reports = {number: dict.fromkeys(range(length), 0.5) for number, length in lengths.items()}
    page, best = curves_of(tmp_path, reports)
    some = "45 pruned, half of them by step 22. About 60 of 90 drawn. 60 of up to 70 steps drawn."
    assert f"Best: trial {best.number}. {some}" in page.texts
    legend = [text for text in page.texts if text in ("complete", "pruned", "best")]
    assert legend == ["complete", "pruned", "best"]


def test_there_are_no_learning_curves_of_nothing(tmp_path: Path) -> None:
    """Without reports, with one step alone, or with nothing finite."""
    for reports in ({}, {0: {1: 0.5}, 1: {1: 0.25}}, {0: {1: math.nan, 2: math.inf}}):
        assert "Learning curves" not in curves_of(tmp_path, reports)[0].texts


def test_a_sweep_without_anything_has_a_page(tmp_path: Path) -> None:
    """Before the first trial, and of results that know no declaration."""
    waiting = TrialRow(0, "svc", "iris", None)
    for rows in ([], [waiting]):
        bare = Results(Metric("accuracy"), rows, models=["svc"], datasets=["iris"], name="s")
        assert sections(Page(bare.report(tmp_path / "r.html").read_text())) == []


def test_names_are_text_everywhere(tmp_path: Path) -> None:
    """A model, dataset, metric, parameter or value with markup in it changes nothing of the page's build."""
    bad = "</style><b>\"'&"
    spec = declared(
        models={bad: {bad[:-1]: [bad, "x", "y", 1]}}, datasets=[bad], metric=bad, jobs_per_pair=None, method="grid"
    )
    found = finished_sweep(spec, failures=3)
    rows = [
        dataclasses.replace(row, metrics={bad: row.number / 7}, node=bad, error=row.error and bad, traceback=bad)
        for row in found.rows
    ]
    tries = [AttemptRow(row.number, 1, bad, row.state.value, NOW, NOW + 1) for row in rows]
    source = dataclasses.replace(sweep_row(spec), versions={bad: bad})
    results = Results(spec.metric, rows, tries, models=[bad], datasets=[bad], name=bad, declared=source)
    page = Page(results.report(tmp_path / "r.html").read_text())
    assert sum(tag == "style" for tag, _ in page.tags) == 1
    bars = sum(attributes.get("class") == "share" for _, attributes in page.tags)
    assert sum(tag == "b" for tag, _ in page.tags) == bars + 1


def test_a_sweep_over_many_pairs_stays_readable(tmp_path: Path) -> None:
    """Pictures of the pairs with the most trials; the tables have all."""
    models = {f"m{number}": {"x": raycolab.uniform(0, 1)} for number in range(40)}
    spec = declared(models=models, jobs_per_pair=4)
    page = Page(finished_sweep(spec, failures=0).report(tmp_path / "r.html").read_text())
    assert sum(tag == "svg" for tag, _ in page.tags) <= 24 * 3 + 2
    assert page.texts.count("m39") >= 2


def test_another_ending_is_refused_and_a_missing_folder_said(tmp_path: Path) -> None:
    """Before the page is made; an old page is never half replaced."""
    results = finished_sweep()
    with pytest.raises(UsageError, match=r"cannot be saved as 'r\.pdf': end the name in \.html"):
        results.report(tmp_path / "r.pdf")
    with pytest.raises(UsageError, match=r"cannot save the report to .*choose a folder"):
        results.report(tmp_path / "nowhere" / "r.html")
    assert list(tmp_path.iterdir()) == []
