"""The sweep's panel: well formed, escaped, complete in itself, and with everything in it that people look for."""

from __future__ import annotations

import re

import pytest

from raycolab.summary import PairTally
from raycolab.trials import SweepState
from raycolab.view.panels import PairsMap, head_panel, sweep_panel
from tests.raycolab.view import cluster_of_six as six
from tests.raycolab.view.pages import Page

NASTY = "<script>alert(1)</script> & \"'"


def page(**changes: object) -> Page:
    """The panel of the sweep of 720 trials with these keys of its object replaced."""
    return Page(sweep_panel({**six.sweep(), **changes}, six.nodes(), 503.0))


def test_it_says_how_far_the_sweep_is() -> None:
    """n / N, a count for each state, time left, nodes and the best with its pair."""
    text = page().text
    for word in ("sample_experiment", "running", "412 / 720", "ok 403", "failed 9", "running 6", "pending 302"):
        assert word in text
    for word in ("about 6 min 11 s", "8 min 23 s", "best accuracy", "1 (svc on wine, trial 13)"):
        assert word in text


def test_it_says_what_a_trial_takes() -> None:
    """The slots of the nodes, the most frequent first."""
    slots = {"head": "2 x 1 CPU", "joiner-1": "1 x 1 CPU, 1 GPU", "joiner-2": "1 x 1 CPU + 1 x 2 CPUs"}
    assert "slots: 3 x 1 CPU on 2 nodes; 1 x 1 CPU, 1 GPU on 1 node; 1 x 2 CPUs on 1 node" in page(slots=slots).text
    assert "slots:" not in page(slots={}).text


def test_every_pair_has_its_place_and_its_progress() -> None:
    """Models down, datasets across; what is done, what failed, and the best of a dataset stands out."""
    seen = page()
    cells = [
        attributes for tag, attributes in seen.tags if tag == "td" and " of 60 done" in str(attributes.get("title"))
    ]
    assert len(cells) == len(six.MODELS) * len(six.DATASETS)
    assert cells[0]["title"] == "svc on iris: 35 of 60 done, best 0.9953, 1 failed"
    assert [cell["title"].split()[0] for cell in cells if cell.get("class") == "top"] == ["svc"] * 3  # type: ignore[union-attr]
    assert all(name in seen.texts for name in (*six.MODELS, *six.DATASETS))


def test_every_node_has_a_lane() -> None:
    """What it runs and how many trials ended there; a node that is gone keeps what it did."""
    nodes = six.nodes()
    seen = Page(sweep_panel(six.sweep(), nodes[:-1], 1.0))
    assert [text for text in seen.texts if text.endswith(" done")][:2] == ["74 done", "85 done"]
    assert "#403 forest x wine" in seen.texts
    assert seen.texts[seen.texts.index("joiner-5") + 1 :][:2] == ["35 done", "gone"]


def test_a_long_name_stays_on_one_line_and_can_be_read_whole() -> None:
    """It is cut where there is no room; the page shows all of it to who points at it. The head's nodes the same."""
    trial = "#12 svc x breast_cancer_wisconsin_diagnostic"
    node = {**six.nodes()[1], "trial": trial}
    for markup in (sweep_panel(six.sweep(), [node]), head_panel(six.head_status(nodes=[node]), six.ADDRESS)):
        assert "text-overflow: ellipsis" in markup
        wide = [
            attributes for tag, attributes in Page(markup).tags if (attributes.get("class") or "").startswith("wide")
        ]
        assert [attributes["title"] for attributes in wide if "title" in attributes] == [trial]


def test_a_node_that_is_not_up_says_so() -> None:
    """With its state before what it runs, and its warning where it is read."""
    text = Page(sweep_panel(six.sweep(), six.nodes(stalled=True), 1.0)).text
    assert "6, 2 not up" in text
    assert "away" in text
    assert "joiner-5: head cannot reach its object manager (127.77.0.6:20201)." in text


def test_failures_are_grouped_by_cause() -> None:
    """The most frequent first, each with its count, and how many more causes there are."""
    seen = Page(sweep_panel(six.sweep(six.rows(500, failing=300, running=0)), six.nodes(), 1.0))
    assert "200" in seen.texts
    assert "ValueError at cell 7 line 12: C must be positive, got <-1.0>" in seen.texts
    assert seen.texts.index("200") < seen.texts.index("100")
    assert "and 3 more causes" in page(causes_left_out=3).text


@pytest.mark.parametrize("state", [SweepState.PAUSED, SweepState.HELD, SweepState.QUEUED])
def test_a_sweep_that_rests_says_so_and_why(state: SweepState) -> None:
    """Its state, its sentence, and no time left."""
    seen = Page(sweep_panel(six.sweep(state=state, sentence="it waits for somebody"), [], 1.0))
    assert state.value.lower() in seen.texts
    assert "it waits for somebody" in seen.texts
    assert "time left" not in seen.text


def test_a_sweep_that_a_person_stopped_says_how_to_go_on() -> None:
    """The engine has no sentence for what somebody asked for."""
    for state, verb in ((SweepState.PAUSED, "resume"), (SweepState.STOPPED, "retry")):
        assert f"raycolab {verb} sample_experiment" in Page(sweep_panel(six.sweep(state=state))).text


def test_before_the_first_trial_has_ended_nothing_is_claimed() -> None:
    """No best, no failures; the time left is being measured."""
    text = Page(sweep_panel(six.sweep(six.rows(0, running=2), eta_s=None), six.nodes()[:1], 1.4)).text
    assert "measuring" in text
    assert "best accuracy (" in text
    assert "Failures" not in text


def test_what_a_head_does_not_tell_is_left_out() -> None:
    """The contract's keys are enough."""
    bare = {"name": "s", "state": "RUNNING", "total": 3, "running": 1, "complete": 1, "failed": 0, "best": None}
    texts = Page(sweep_panel(bare)).texts
    assert "1 / 3" in texts
    assert "Models by datasets" not in texts


def test_pairs_that_are_left_out_are_counted() -> None:
    """Nobody must take 400 pairs for all."""
    assert "12 of 10000 pairs shown" in page(pairs_left_out=9988).text


def test_it_reaches_for_nothing_and_everything_is_escaped() -> None:
    """Whatever people call their sweeps, models, nodes, metrics and errors."""
    row = {"model": NASTY, "dataset": NASTY, "total": 2, "done": 1, "failed": 1, "best": 0.5}
    best = {"metric": NASTY, "value": 0.5, "model": NASTY, "dataset": NASTY, "number": 0}
    told = {
        "name": NASTY,
        "state": "RUNNING",
        "total": 2,
        "complete": 1,
        "sentence": NASTY,
        "metric": {"name": NASTY, "mode": "max"},
        "best": best,
        "pairs": [row],
        "causes": [{"text": NASTY, "count": 1}],
        "done_on": {NASTY: 1},
    }
    node = {"name": NASTY, "state": NASTY, "trial": NASTY, "warning": NASTY}
    seen = Page(sweep_panel(told, [node], 1.0, [NASTY]))
    seen.assert_self_contained()
    assert seen.text.count(NASTY) >= 10


def test_its_style_touches_nothing_else_on_the_page() -> None:
    """Every rule is for a panel, or nested in a rule that is."""
    selectors, depth = [""], 0
    for letter in page().style:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if depth == 0:
            selectors[-1] += letter
        elif letter == "{" and depth == 1:
            selectors.append("")
    found = [each.strip("} ") for each in selectors if each.strip("} ")]
    assert len(found) >= 5
    assert [each for each in found if ".raycolab" not in each] == []


def done(best: dict[str, float | None]) -> list[PairTally]:
    """Pairs on iris that are done, with these bests."""
    return [PairTally(model, "iris", 3, 3, 0, value) for model, value in best.items()]


@pytest.mark.parametrize(("mode", "best", "shares"), [("max", "svc", [1.0, 0.5, 0.0]), ("min", "knn", [0.0, 0.5, 1.0])])
def test_the_best_on_a_dataset_is_deepest_and_stands_out(mode: str, best: str, shares: list[float]) -> None:
    """By the metric's mode; equals are all best."""
    pairs = done({"svc": 1.0, "forest": 0.5, "knn": 0.0})
    cells = [row[0] for _, row in PairsMap.of(pairs, mode).rows]
    assert [cell and cell.share for cell in cells] == shares
    seen = Page(sweep_panel({"name": "s", "state": "RUNNING", "pairs": pairs, "metric": {"name": "m", "mode": mode}}))
    top = [attributes for _, attributes in seen.tags if attributes.get("class") == "top"]
    assert [(each["style"], str(each["title"]).split()[0]) for each in top] == [("--heat:0.42", best)]
    equals = [row[0] for _, row in PairsMap.of(done({"svc": 0.5, "forest": 0.5}), mode).rows]
    assert [cell and cell.share for cell in equals] == [1.0, 1.0]


def test_a_pair_without_a_result_has_no_colour() -> None:
    """And one that is not there has an empty cell."""
    pairs = done({"svc": None, "forest": 0.5})
    text = sweep_panel({"name": "s", "state": "RUNNING", "pairs": [*pairs, PairTally("svc", "wine", 3)]})
    cells = [attributes for tag, attributes in Page(text).tags if tag == "td"]
    assert [cell.get("style") for cell in cells] == [None, None, "--heat:0.42", None]
    assert text.count("<td></td>") == 1


def test_a_pair_says_how_far_it_is_while_it_is_not_done() -> None:
    """By a bar and n/N; failures always. A wide map has numbers alone, and all in the cell's title still."""
    pairs = [PairTally("svc", "iris", 4, 1, 1), PairTally("forest", "iris", 4, 4, 2, 0.5)]
    seen = Page(sweep_panel({"name": "s", "state": "RUNNING", "pairs": pairs}))
    assert ("i", {"style": "width:25%"}) in seen.tags
    at = seen.texts.index("svc")
    assert seen.texts[at:] == ["svc", "-", "1/4", "1 failed", "forest", "0.5", "2 failed"]
    wide = [PairTally("svc", f"data-{at}", 4, 1, 1, 0.5) for at in range(12)]
    seen = Page(sweep_panel({"name": "s", "state": "RUNNING", "pairs": wide}))
    assert "1/4" not in seen.texts
    assert ("table", {"class": "map dense"}) in seen.tags
    assert sum("1 of 4 done" in (attributes.get("title") or "") for _, attributes in seen.tags) == 12


def test_learning_curves_are_live() -> None:
    """Of the trials that reported last; a single step is no curve."""
    curves = [
        {"number": 4, "state": "RUNNING", "steps": [1, 2], "values": [0.5, 0.6]},
        {"number": 5, "state": "PRUNED", "steps": [1], "values": [0.4]},
    ]
    shown = sweep_panel(six.sweep() | {"curves": curves})
    assert "Learning curves" in Page(shown).text
    assert {'class="running"', 'class="pruned"', 'class="cut"'} <= set(re.findall(r'class="[a-z]+"', shown))
    assert "Learning curves" not in Page(sweep_panel(six.sweep() | {"curves": curves[1:]})).text
