"""Points to evaluate: flat or nested, tried by the models that have their parameters."""

from __future__ import annotations

from raycolab.spec.domains import Domain
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
