"""Models x datasets as a table with colours."""

from __future__ import annotations

import pytest

from raycolab.summary import PairTally
from raycolab.view.panels import pairs_map
from tests.raycolab.results.pages import Page

MODELS, DATASETS = ("svc", "forest"), ("iris", "wine")


def cells(**best: float | None) -> dict[tuple[str, str], PairTally]:
    """Pairs on iris that are done, with these bests."""
    return {(model, "iris"): PairTally(3, 3, 0, value) for model, value in best.items()}


def styles(text: str) -> list[str | None]:
    """The colours of the cells that have a best."""
    return [attributes.get("style") for tag, attributes in Page(text).tags if tag == "td" and "title" in attributes]


@pytest.mark.parametrize(("mode", "best"), [("max", "svc"), ("min", "forest")])
def test_the_best_on_a_dataset_is_deepest_and_stands_out(mode: str, best: str) -> None:
    """By the metric's mode; equals are all best."""
    text = pairs_map(MODELS, DATASETS, cells(svc=0.9, forest=0.1), mode)
    deep, pale = "--heat:0.42", "--heat:0.07"
    assert styles(text) == ([deep, pale] if best == "svc" else [pale, deep])
    top = [attributes["title"] for _, attributes in Page(text).tags if attributes.get("class") == "top"]
    assert top == [f"{best} on iris: 3 of 3 done, best {0.9 if best == 'svc' else 0.1}"]
    assert styles(pairs_map(MODELS, DATASETS, cells(svc=0.5, forest=0.5), mode)) == [deep, deep]


def test_a_pair_without_a_result_has_no_colour() -> None:
    """And one that is not there has an empty cell."""
    text = pairs_map(MODELS, DATASETS, cells(svc=None, forest=0.5), "max")
    assert styles(text) == [None, "--heat:0.42"]
    assert text.count("<td></td>") == 2


def test_a_pair_says_how_far_it_is_while_it_is_not_done() -> None:
    """By a bar and n/N; failures always."""
    some = {("svc", "iris"): PairTally(4, 1, 1, None), ("forest", "iris"): PairTally(4, 4, 2, 0.5)}
    seen = Page(pairs_map(MODELS, ["iris"], some, "max"))
    assert ("i", {"style": "width:25%"}) in seen.tags
    assert [text for text in seen.texts if text.strip() and text not in (*MODELS, "iris")] == [
        *("-", "1/4", "1 failed"),
        *("0.5", "2 failed"),
    ]


def test_a_wide_map_has_numbers_alone() -> None:
    """What is below them is in the cell's title still."""
    names = [f"data-{at}" for at in range(12)]
    seen = Page(pairs_map(["svc"], names, {("svc", name): PairTally(4, 1, 1, 0.5) for name in names}, "max"))
    assert "1/4" not in seen.texts
    assert ("table", {"class": "map dense"}) in seen.tags
    assert sum("1 of 4 done" in (attributes.get("title") or "") for _, attributes in seen.tags) == 12


def test_names_are_not_markup() -> None:
    """A model may be called <svc>."""
    seen = Page(pairs_map(["<svc>"], ["a&b"], {("<svc>", "a&b"): PairTally(1, 1, 0, 1.0)}, "max"))
    assert {"<svc>", "a&b"} <= set(seen.texts)
