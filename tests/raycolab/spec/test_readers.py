"""Points to evaluate: flat or nested, tried by the models that have their parameters, refused where none could."""

from __future__ import annotations

import pytest

from raycolab.spec.domains import Domain
from raycolab.spec.keys import ArgumentError
from raycolab.spec.readers import points_of, read_points
from raycolab.spec.spaces import as_space, integer, loguniform, uniform
from raycolab.trials import Config

_MODELS: dict[str, dict[str, Domain]] = {
    "net": as_space({"lr": loguniform(1e-6, 1), "opt": {"name": ["sgd", "adam"], "beta": uniform(0, 1)}}),
    "tree": as_space({"depth": integer(1, 9), "lr": [0.1, 1]}),
}


def _read(points: object) -> tuple[Config, ...]:
    return read_points("points_to_evaluate", points, {"models": _MODELS})


def test_points_are_flat_and_may_leave_names_out() -> None:
    """Nested mappings or joined names; the values are kept as written."""
    points = [{"lr": 1}, {"opt": {"name": "sgd"}, "lr": 0.5}, {"opt/beta": 0}, {}]
    assert _read(points) == ({"lr": 1}, {"opt/name": "sgd", "lr": 0.5}, {"opt/beta": 0}, {})
    assert _read([]) == ()


def test_a_model_tries_the_points_whose_names_it_has() -> None:
    """With the values as its own domains give them."""
    points = _read([{"lr": 1}, {"depth": 3.0}, {"opt/beta": 1}])
    assert repr(points_of(points, _MODELS["net"])) == repr([{"lr": 1.0}, {"opt/beta": 1.0}])
    assert repr(points_of(points, _MODELS["tree"])) == repr([{"lr": 1}, {"depth": 3}])


@pytest.mark.parametrize(
    ("written", "path", "sentence"),
    [
        ({"lr": 1}, (), "points_to_evaluate is a list of configurations, such as [{x: 1}], not {'lr': 1}"),
        ("lr", (), "points_to_evaluate is a list of configurations, such as [{x: 1}], not 'lr'"),
        ([3], ("0",), "point 1 of points_to_evaluate is a mapping of names to values, not 3"),
        (
            [{}, {"lrr": 1}],
            ("1", "lrr"),
            "point 2 of points_to_evaluate names 'lrr' (did you mean 'lr'?), which no model has; the parameters are "
            "lr, opt/name, opt/beta, depth",
        ),
        (
            [{"opt": {"nam": 1}}],
            ("0", "opt", "nam"),
            "point 1 of points_to_evaluate names 'opt/nam' (did you mean 'opt/name'?), which no model has; "
            "the parameters are lr, opt/name, opt/beta, depth",
        ),
        (
            [{"depth": 1, "opt/beta": 1}],
            ("0",),
            "point 1 of points_to_evaluate fits no model, as none has all of depth, opt/beta; "
            "give each model a point of its own",
        ),
        (
            [{"lr": 0.5}],
            ("0", "lr"),
            "point 1 of points_to_evaluate, parameter 'lr' of model 'tree': 0.5 is none of [0.1, 1]",
        ),
        (
            [{"opt": {"beta": 2}}],
            ("0", "opt", "beta"),
            "point 1 of points_to_evaluate, parameter 'opt/beta' of model 'net': 2 is not a value of uniform(0.0, 1.0)",
        ),
        (
            [{"model": "net", "lr": 1}],
            ("0", "model"),
            "point 1 of points_to_evaluate names a model, and every point is tried with every pair; remove it, or "
            "declare a sweep of that model alone",
        ),
        (
            [{"dataset": "iris"}],
            ("0", "dataset"),
            "point 1 of points_to_evaluate names a dataset, and every point is tried with every pair; remove it, or "
            "declare a sweep of that dataset alone",
        ),
        (
            [{"lr": [1]}],
            ("0", "lr"),
            "point 1 of points_to_evaluate, parameter 'lr': a value of type list cannot be stored in one cell of a "
            "table; give a name or a number, and look the object up in compute",
        ),
        (
            [{"opt/beta": 1, "opt": {"beta": 1}}],
            ("0", "opt", "beta"),
            "point 1 of points_to_evaluate gives 'opt/beta' twice; remove one",
        ),
    ],
)
def test_what_is_refused(written: object, path: tuple[str, ...], sentence: str) -> None:
    """Which point, which parameter, and what could stand there."""
    with pytest.raises(ArgumentError) as caught:
        _read(written)
    assert (str(caught.value), caught.value.path) == (sentence, ("points_to_evaluate", *path))
