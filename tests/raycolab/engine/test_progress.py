"""What is told of a sweep: the contract's keys, and what a panel shows, within bounds."""

from __future__ import annotations

import json
from collections import Counter

from raycolab.summary import MOST_PAIRS, SweepNews, Tally, sweeps_json
from raycolab.trials import ErrorKind, Metric, SweepState, TrialRow, TrialState
from tests.raycolab.view import cluster_of_six as six

CONTROL_LINE_BYTES = 2**20  # what the engine's line takes


def news(models: int, datasets: int, name: str = "model") -> SweepNews:
    """A sweep of so many pairs, one trial each, every one FAILED of a cause of its own."""
    tally = Tally(Metric("accuracy"))
    for number in range(models * datasets):
        at = f"{name}-{number // datasets}", f"{name}-data-{number % datasets}"
        error, kind = f"Error{number}: " + name * 100, ErrorKind.EXCEPTION
        row = TrialRow(number, *at, {}, TrialState.FAILED, node=f"joiner-{number}", attempts=1, error_kind=kind)
        tally.moved(None, TrialRow(number, *at, {}, TrialState.FAILED, node=row.node, attempts=1, error=error))
    counts = Counter({TrialState.FAILED: models * datasets})
    return SweepNews("sweep", SweepState.RUNNING, counts, Metric("accuracy"), tally=tally)


def test_the_contract_is_kept() -> None:
    """The first keys are those of `status --json`; the rest is for panels."""
    told = six.sweep()
    contract = "name state total pending running complete pruned failed lost cancelled eta_s best"
    assert list(told)[:12] == contract.split()
    assert list(told)[12:] == [
        *("sentence", "slots", "metric", "pairs", "pairs_left_out", "causes", "causes_left_out", "done_on"),
    ]
    assert json.loads(json.dumps(told)) == told


def test_every_pair_cause_and_node_is_told() -> None:
    """Of a sweep that fits."""
    told = six.sweep()
    assert told["metric"] == {"name": "accuracy", "mode": "max"}
    assert told["pairs"][0] == {
        "model": "svc",
        "dataset": "iris",
        "total": 60,
        "done": 35,
        "failed": 1,
        "best": max(pair["best"] for pair in told["pairs"] if pair["dataset"] == "iris"),
    }
    assert sum(pair["done"] for pair in told["pairs"]) == sum(told["done_on"].values()) == 412
    assert [cause["count"] for cause in told["causes"]] == [6, 3]
    assert (told["pairs_left_out"], told["causes_left_out"]) == (0, 0)


def test_ten_thousand_pairs_fit_the_control_line() -> None:
    """As a whole map of the first models and datasets, and how many are left out; names are cut."""
    told = news(100, 100, "ü" * 80).to_json()
    assert len(json.dumps(told)) < CONTROL_LINE_BYTES
    pairs = told["pairs"]
    assert isinstance(pairs, list)
    assert len(pairs) == MOST_PAIRS
    assert told["pairs_left_out"] == 10_000 - MOST_PAIRS


def test_few_models_keep_more_datasets() -> None:
    """Two models with a thousand datasets, and the other way round."""
    for shape, models, datasets in (((2, 1000), 2, 200), ((1000, 2), 200, 2)):
        pairs = news(*shape).to_json()["pairs"]
        assert isinstance(pairs, list)
        assert len({pair["model"] for pair in pairs}) == models
        assert len({pair["dataset"] for pair in pairs}) == datasets


def test_many_sweeps_share_one_bound() -> None:
    """The latest has its pairs first; those before them go without."""
    told = sweeps_json([news(20, 20) for _ in range(50)])
    assert len(json.dumps({"progress": {"sweeps": told, "trials": {}}})) < CONTROL_LINE_BYTES
    sizes = [len(each["pairs"]) for each in told]  # type: ignore[arg-type]
    assert sizes[-1] == MOST_PAIRS
    assert sizes[0] == 0
    assert sum(sizes) <= 1000
