"""The rows of a sweep: numbered from 0, index by index over the pairs, extended without touching what is there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from raycolab.search import enumerate_trials
from raycolab.search.enumeration import grid_configurations, random_search, remaining_points
from raycolab.spec.spaces import as_space, choice, integer, loguniform, randn, uniform
from raycolab.spec.spec import SweepSpec
from raycolab.trials import TrialRow, TrialState, Value

_GOLDEN = Path(__file__).parents[1] / "spec" / "golden_sweeps.json"


@pytest.mark.parametrize("golden", json.loads(_GOLDEN.read_text("utf-8")), ids=lambda golden: str(golden["name"]))
def test_the_same_sweep_has_the_same_configurations_for_ever(golden: dict[str, Any]) -> None:
    """Numbers, pairs, configurations and repeats of the first rows, as they stand in databases.

    Declared anew as well, but for the parameters whose law has changed since.
    """
    for spec in (
        SweepSpec.from_json(golden["json"]),
        SweepSpec.from_arguments(golden["name"], **golden["arguments"]),
    ):
        changed = golden.get("changed", []) if spec.to_json() != golden["json"] else []
        if changed and spec.method == "grid":
            continue  # it has fewer combinations
        rows = enumerate_trials(spec)[:24]
        found = [[row.number, row.model, row.dataset, row.config, row.same_as] for row in rows]
        assert _without(changed, found) == _without(changed, golden["configurations"])


def _without(names: list[str], rows: list[list[Any]]) -> str:
    return json.dumps(
        [[part if not isinstance(part, dict) else {**part, **dict.fromkeys(names)} for part in row] for row in rows]
    )


def _spec(**arguments: object) -> SweepSpec:
    declared: dict[str, object] = {
        "models": {"m": {"x": uniform(0, 1)}, "n": {"y": uniform(0, 1)}},
        "datasets": ["d", "e"],
        "jobs_per_pair": 3,
    }
    return SweepSpec.from_arguments("test", **(declared | arguments))


def _finished(rows: list[TrialRow]) -> list[TrialRow]:
    return [replace(row, state=TrialState.COMPLETE, metrics={"accuracy": 1.0}) for row in rows]


@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from(["random", "grid"]))
def test_enumerating_again_adds_only_what_is_missing(before: int, after: int, method: str) -> None:
    """Extended in two steps or declared at once: the same configurations; and a third time adds nothing."""
    arguments = {"models": {"m": {"x": [1, 2, 3, 4, 5]}}, "method": method}
    small, large = _spec(jobs_per_pair=before, **arguments), _spec(jobs_per_pair=before + after, **arguments)
    first = enumerate_trials(small)
    more = enumerate_trials(large, _finished(first))
    rows = first + more
    at_once = enumerate_trials(large)
    assert [row.number for row in rows] == list(range(len(at_once)))
    per_pair = [(row.model, row.dataset, repr(row.config)) for row in rows]
    assert sorted(per_pair) == sorted((row.model, row.dataset, repr(row.config)) for row in at_once)
    assert enumerate_trials(large, rows) == []


def test_a_new_model_and_dataset_get_rows_behind_the_others() -> None:
    """Numbers are for life; the new pairs start at their own index 0."""
    rows = enumerate_trials(_spec(models={"m": {"x": uniform(0, 1)}}, datasets=["d"]))
    added = enumerate_trials(_spec(), rows)
    assert [row.number for row in added] == list(range(3, 12))
    assert {(row.model, row.dataset) for row in added} == {("m", "e"), ("n", "d"), ("n", "e")}


def test_rows_that_exist_do_not_depend_on_their_order() -> None:
    """A store may give them back in any order."""
    rows = enumerate_trials(_spec())
    assert enumerate_trials(_spec(jobs_per_pair=4), rows[::-1]) == enumerate_trials(_spec(jobs_per_pair=4), rows)


def test_a_repeat_points_to_the_first_row_of_its_pair() -> None:
    """Drawn again in the same pair it is the same trial; in another pair it is not; old rows count as first."""
    spec = _spec(models=["m"], parameters={"x": [1, 2]}, jobs_per_pair=20)
    rows = enumerate_trials(spec)
    for row in rows:
        same = [r.number for r in rows if (r.model, r.dataset, r.config) == (row.model, row.dataset, row.config)]
        assert row.same_as == (None if row.number == same[0] else same[0])
    later = enumerate_trials(structs.replace(spec, jobs_per_pair=21), _finished(rows))
    assert [row.same_as is not None for row in later] == [True, True]


def test_one_true_and_one_are_different_configurations() -> None:
    """1, 1.0 and true are three values to compute, whatever Python's equality says."""
    spec = _spec(models=["m"], datasets=["d"], parameters={"x": [1, 1.0, True]}, method="grid", jobs_per_pair=None)
    assert [row.same_as for row in enumerate_trials(spec)] == [None, None, None]


def test_a_grid_gives_its_size_or_jobs_per_pair_of_it() -> None:
    """The whole grid unless jobs_per_pair is less."""
    models = {"m": {"x": [1, 2, 3]}, "n": {}}
    whole = enumerate_trials(_spec(method="grid", models=models, datasets=["d"], jobs_per_pair=None))
    assert [(row.model, row.config) for row in whole] == [("m", {"x": 1}), ("n", {}), ("m", {"x": 2}), ("m", {"x": 3})]
    assert len(enumerate_trials(_spec(method="grid", models=models, datasets=["d"], jobs_per_pair=2))) == 3


def test_a_choice_added_to_a_grid_gives_the_new_combinations_only() -> None:
    """What has run is not run again."""
    grid = {"method": "grid", "jobs_per_pair": None, "models": ["m"], "datasets": ["d"]}
    rows = enumerate_trials(_spec(**grid, parameters={"x": [1, 2], "y": [1, 2]}))
    added = enumerate_trials(_spec(**grid, parameters={"x": [1, 2], "y": [1, 2, 3]}), rows)
    assert [(row.number, row.config) for row in added] == [(4, {"x": 1, "y": 3}), (5, {"x": 2, "y": 3})]


@pytest.mark.parametrize("had", [0, 2])
def test_run_cap_bounds_the_sweep(had: int) -> None:
    """Counted over all pairs, existing rows included."""
    spec = _spec(run_cap=5)
    rows = enumerate_trials(spec)[:had]
    assert [row.number for row in rows + enumerate_trials(spec, rows)] == [0, 1, 2, 3, 4]


_POINTS: list[dict[str, Value]] = [{"x": 0.25}, {"y": 3}, {"x": 0.75, "y": 1}]


def _with_points(method: str, jobs: int | None, points: list[dict[str, Value]]) -> SweepSpec:
    space = {"x": [0.25, 0.5, 0.75], "y": [1, 2, 3]}
    return _spec(
        method=method, models={"m": space}, datasets=["d"], jobs_per_pair=jobs, points_to_evaluate=points, seed=5
    )


def test_points_are_the_first_of_each_pair_and_the_draw_fills_them_up() -> None:
    """What a point leaves out is what its index draws; the rows after them are as they are without points."""
    plain = enumerate_trials(_with_points("random", 6, []))
    rows = enumerate_trials(_with_points("random", 6, _POINTS))
    assert [row.config for row in rows[:3]] == [
        {**(row.config or {}), **point} for row, point in zip(plain, _POINTS, strict=False)
    ]
    assert [row.config for row in rows[3:]] == [row.config for row in plain[3:]]


def test_points_of_a_grid_come_first_and_not_twice() -> None:
    """For each point the first combination that has its values; the others follow in the grid's order."""
    rows = enumerate_trials(_with_points("grid", None, [*_POINTS, {"x": 0.75, "y": 1}]))
    first = [{"x": 0.25, "y": 1}, {"x": 0.25, "y": 3}, {"x": 0.75, "y": 1}]
    whole = [row.config for row in enumerate_trials(_with_points("grid", None, []))]
    assert [row.config for row in rows] == [*first, *(config for config in whole if config not in first)]
    assert len(enumerate_trials(_with_points("grid", 2, _POINTS))) == 2


@given(st.integers(1, 8), st.integers(1, 8), st.sampled_from(["random", "grid", "bayes"]))
def test_points_are_extended_as_rows_are(before: int, after: int, method: str) -> None:
    """In two steps or at once: the same configurations, and nothing is added a third time."""
    rows = enumerate_trials(_with_points(method, before, _POINTS))
    rows += enumerate_trials(_with_points(method, before + after, _POINTS), _finished(rows))
    assert rows == enumerate_trials(_with_points(method, before + after, _POINTS))
    assert enumerate_trials(_with_points(method, before + after, _POINTS), rows) == []


def test_points_that_are_added_later_are_the_next_rows() -> None:
    """Those that the pair has not tried, as far as there is room."""
    rows = enumerate_trials(_with_points("random", 2, _POINTS[:1]))
    more = enumerate_trials(_with_points("random", 4, [{"x": 0.5, "y": 2}, _POINTS[0]]), rows)
    assert more[0].config == {"x": 0.5, "y": 2}
    assert more[1].config == enumerate_trials(_with_points("random", 4, []))[3].config


def test_bayes_has_rows_without_configurations() -> None:
    """As many as random, none the copy of another; declared larger it gets more."""
    rows = enumerate_trials(_spec(method="bayes", points_to_evaluate=[{"x": 0.5}]))
    assert [(row.number, row.model, row.dataset) for row in rows] == [
        (row.number, row.model, row.dataset) for row in enumerate_trials(_spec())
    ]
    assert {(row.config, row.same_as) for row in rows} == {(None, None)}
    proposed = [replace(row, config={"x": 1.0}) for row in rows]
    more = enumerate_trials(_spec(method="bayes", jobs_per_pair=4), proposed)
    assert [(row.number, row.config) for row in more] == [(number, None) for number in range(12, 16)]


_SPACE = as_space({"C": loguniform(1e-3, 1e3), "kernel": choice(["rbf", "poly"]), "depth": integer(1, 99)})


def test_indices_can_be_asked_for_in_any_order() -> None:
    """The third is the third, whether or not the first was asked for."""
    ahead, again = random_search(3, "m", "d", _SPACE), random_search(3, "m", "d", _SPACE)
    assert [ahead(index) for index in (2, 0, 1)] == [again(2), again(0), again(1)]


@pytest.mark.parametrize(("seed", "model", "dataset"), [(1, "svc", "iris"), (0, "forest", "iris"), (0, "svc", "wine")])
def test_seed_model_and_dataset_each_change_the_draws(seed: int, model: str, dataset: str) -> None:
    """Pairs do not share their configurations."""
    one, other = random_search(0, "svc", "iris", _SPACE), random_search(seed, model, dataset, _SPACE)
    assert all(one(index)["C"] != other(index)["C"] for index in range(20))


def test_a_parameter_is_drawn_by_itself() -> None:
    """Order and neighbours do not matter: adding a parameter leaves the values of the others alone."""
    wide = random_search(0, "svc", "iris", dict(reversed([*_SPACE.items(), ("new", randn())])))
    narrow = random_search(0, "svc", "iris", _SPACE)
    for index in range(20):
        assert {name: wide(index)[name] for name in _SPACE} == narrow(index)


def test_every_combination_with_the_last_parameter_fastest() -> None:
    """The order is the order declared, not that of names."""
    space = as_space({"b": [1, 2], "a": integer(8, 9), "c": "x"})
    assert list(grid_configurations(space)) == [
        {"b": 1, "a": 8, "c": "x"},
        {"b": 1, "a": 9, "c": "x"},
        {"b": 2, "a": 8, "c": "x"},
        {"b": 2, "a": 9, "c": "x"},
    ]


def test_an_empty_space_has_one_configuration() -> None:
    """A model without parameters runs once."""
    assert list(grid_configurations({})) == [{}]


def test_points_without_a_configuration_are_left_in_their_order() -> None:
    """What the point does not name may be anything; rows without a configuration stand for nothing."""
    points = [{"x": 1}, {"y": 2}, {"x": 3, "y": 4}]
    assert remaining_points(points, [None, {"x": 5, "y": 2}]) == [{"x": 1}, {"x": 3, "y": 4}]
    assert remaining_points(points, []) == points


def test_a_configuration_stands_for_one_point() -> None:
    """The first that it has the values of."""
    assert remaining_points([{}, {"x": 1}], [{"x": 1}]) == [{"x": 1}]
    assert remaining_points([{"x": 1}, {"x": 1}], [{"x": 1}]) == [{"x": 1}]


def test_one_true_and_one_are_different_points() -> None:
    """Told apart as JSON does."""
    assert remaining_points([{"x": 1}], [{"x": 1.0}, {"x": True}]) == [{"x": 1}]
