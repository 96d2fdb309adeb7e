"""A second declaration extends a sweep or contradicts it, and each difference has its line."""

from __future__ import annotations

import pytest

from raycolab.errors import SweepChangedError
from raycolab.spec.change import Change, compare, refuse_contradictions
from raycolab.spec.spaces import uniform
from raycolab.spec.spec import SweepSpec


def _spec(**arguments: object) -> SweepSpec:
    declared: dict[str, object] = {
        "models": {"m": {"x": [1, 2], "y": uniform(0, 1), "z": 5}},
        "datasets": ["d", "e"],
        "jobs_per_pair": 10,
    }
    return SweepSpec.from_arguments("s", **(declared | arguments))


def _space(**parameters: object) -> dict[str, object]:
    return {"models": {"m": {"x": [1, 2], "y": uniform(0, 1), "z": 5} | parameters}}


def test_the_same_in_another_order_is_no_change() -> None:
    """Orders mean nothing to rows that exist."""
    change = compare(_spec(), _spec(models={"m": {"z": 5, "y": uniform(0, 1), "x": [1, 2]}}, datasets=["e", "d"]))
    assert change == Change((), ())
    assert change.nothing


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"jobs_per_pair": 20}, "jobs_per_pair was 10 and is now 20"),
        ({"datasets": ["d", "e", "f", "g"]}, "new dataset: f, g"),
        ({"models": {"m": {"x": [1, 2], "y": uniform(0, 1), "z": 5}, "n": {}}}, "new model: n"),
        (_space(x=[1, 2, 3, "a"]), "model 'm': parameter 'x' may now also be 3, \"a\""),
        (_space(z=[5, 6]), "model 'm': parameter 'z' may now also be 6"),
        ({"timeout_s": 9}, "timeout_s was none and is now 9.0"),
        ({"max_failures": 9}, "max_failures was none and is now 9"),
        (
            {"points_to_evaluate": [{"x": 1}]},
            'new point to evaluate, by the next configurations of each pair: {"x": 1}',
        ),
    ],
)
def test_an_addition_extends(arguments: dict[str, object], line: str) -> None:
    """More of everything, as long as the rows that exist keep their meaning."""
    assert compare(_spec(), _spec(**arguments)) == Change((line,), ())


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"jobs_per_pair": 5}, "jobs_per_pair was 10 and is now 5"),
        ({"run_cap": 5}, "run_cap was unlimited and is now 5"),
        ({"datasets": ["d"]}, "dataset no longer there: e"),
        (_space(x=[2, 1]), "model 'm': parameter 'x' was [1, 2] and is now [2, 1]"),
        (_space(x=[1]), "model 'm': parameter 'x' was [1, 2] and is now [1]"),
        (_space(x=[1.0, 2]), "model 'm': parameter 'x' was [1, 2] and is now [1.0, 2]"),
        (_space(y=uniform(0, 2)), "model 'm': parameter 'y' was uniform(0.0, 1.0) and is now uniform(0.0, 2.0)"),
        (_space(w=1), "model 'm': parameter 'w' is new, and finished trials ran without it"),
        ({"models": {"m": {"x": [1, 2], "y": uniform(0, 1)}}}, "model 'm': parameter 'z' is no longer there"),
        ({"seed": 1}, "seed was 0 and is now 1"),
        ({"metric": "loss"}, "metric was metric and is now loss"),
        ({"mode": "min"}, "mode was max and is now min"),
        ({"method": "bayes"}, "method was random and is now bayes"),
        ({"early_terminate": "median"}, "early_terminate was none and is now median"),
    ],
)
def test_what_changes_the_meaning_of_rows_contradicts(arguments: dict[str, object], line: str) -> None:
    """Less of anything, another space, another goal."""
    assert compare(_spec(), _spec(**arguments)) == Change((), (line,))


def test_a_grid_without_a_limit_is_the_largest() -> None:
    """Limiting it contradicts, lifting the limit extends."""
    grid: dict[str, object] = {"method": "grid", "models": {"m": {"x": [1, 2]}}}
    limited, whole = _spec(**grid, jobs_per_pair=1), _spec(**grid, jobs_per_pair=None)
    assert compare(limited, whole) == Change(("jobs_per_pair was 1 and is now unlimited",), ())
    assert compare(whole, limited) == Change((), ("jobs_per_pair was unlimited and is now 1",))
    assert "method was grid and is now random" in compare(limited, _spec(models={"m": {"x": [1, 2]}})).contradictions


def test_points_and_pruners_of_before() -> None:
    """Points in another order are the same; one that is gone, or another option of the pruner, contradicts."""
    early = {"type": "median", "n_warmup_steps": 2}
    old = _spec(points_to_evaluate=[{"x": 1}, {"x": 2}], early_terminate=early, max_failures=3)
    same = _spec(points_to_evaluate=[{"x": 2}, {"x": 1}], early_terminate=dict(early), max_failures=3)
    assert compare(old, same).nothing
    other = _spec(points_to_evaluate=[{"x": 2}], early_terminate={"type": "median"}, max_failures=1)
    assert compare(old, other) == Change(
        ("max_failures was 3 and is now 1",),
        (
            'point to evaluate no longer there: {"x": 1}',
            "early_terminate was median(n_warmup_steps=2) and is now median",
        ),
    )


def test_contradictions_are_refused_with_the_ways_out() -> None:
    """Each on its own line, then what to do; additions alone pass."""
    refuse_contradictions("s", compare(_spec(), _spec(jobs_per_pair=20)))
    with pytest.raises(SweepChangedError) as caught:
        refuse_contradictions("my sweep", compare(_spec(), _spec(jobs_per_pair=20, seed=1, mode="min")))
    assert str(caught.value) == (
        "the sweep 'my sweep' exists and this declaration contradicts it:\n"
        "  mode was max and is now min\n"
        "  seed was 0 and is now 1\n"
        'Undo the change, declare it under another name, or run `raycolab delete "my sweep"` first.'
    )
    assert caught.value.exit_code == 2
