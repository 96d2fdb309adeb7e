"""What each key of a sweep may be: from what is written to the value in the spec, or the sentence for anything else.

Each reader has the form that the table of keys wants (`raycolab.spec.keys.Reader`).
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from typing import Any

from raycolab.spec.domains import Domain, admitted
from raycolab.spec.spaces import as_space
from raycolab.spec.values import ArgumentError, as_name, as_scalar, flatten, read_count, read_names, within
from raycolab.text import did_you_mean, listed
from raycolab.trials import Config, Metric, Scalar

__all__ = [
    "DEFAULT_NAME",
    "GIVEN_BY_US",
    "Method",
    "check_grid",
    "points_of",
    "read_jobs",
    "read_method",
    "read_metric",
    "read_mode",
    "read_models",
    "read_name",
    "read_parameters",
    "read_points",
]

DEFAULT_NAME = "default"
"""The model or dataset of a sweep that lists none."""

GIVEN_BY_US = ("model", "dataset")
"""What raycolab passes beside the configuration, if compute takes it."""

# Jobs of each pair with methods random and bayes; method grid has the size of its grid.
_DEFAULT_JOBS = 10
_MODES: Mapping[object, str] = {"max": "max", "min": "min", "maximize": "max", "minimize": "min"}

Spaces = Mapping[str, Mapping[str, Domain]]
"""The space of each model."""


class Method(enum.StrEnum):
    """How configurations are found."""

    GRID = "grid"
    RANDOM = "random"
    BAYES = "bayes"


def read_name(_: str, value: object, _sweep: Mapping[str, object]) -> str:
    """The sweep's name."""
    return as_name("a sweep's name", value)


def read_method(_: str, value: object, _sweep: Mapping[str, object]) -> Method:
    """grid, random or bayes."""
    if not isinstance(value, str) or value not in tuple(Method):
        hint = did_you_mean(str(value), Method)
        raise ArgumentError(f"unknown method {value!r}{hint}; methods are {listed(Method)}")
    return Method(value)


def read_mode(key: str, value: object, _: Mapping[str, object]) -> str | None:
    """max or min, for a metric's mode or goal; None where nothing is said."""
    mode = _MODES.get(value) if isinstance(value, str) else None
    if mode is None and value is not None:
        words = "max or min" if key == "mode" else "maximize or minimize"
        raise ArgumentError(f"{key} is {words}, not {value!r}")
    return mode


def read_metric(_: str, metric: object, sweep: Mapping[str, Any]) -> Metric:
    """The metric from its name, W&B's `{name, goal}` or a Metric, and the mode beside it; max unless said."""
    if isinstance(metric, Metric):
        metric = {"name": metric.name, "mode": metric.mode}
    if not isinstance(metric, Mapping):
        return Metric(as_name("a metric's name", metric), sweep["mode"] or "max")
    allowed = ("name", "goal", "mode")
    for key in metric:
        if key not in allowed:
            hint = did_you_mean(str(key), allowed)
            raise ArgumentError(f"metric has no key {key!r}{hint}; its keys are name and goal", (str(key),))
    with within("name"):
        name = as_name("a metric's name", metric.get("name"))
    modes = {sweep["mode"]}
    for key in ("goal", "mode"):
        with within(key):
            modes.add(read_mode(key, metric.get(key), {}))
    modes -= {None}
    if len(modes) != 1:
        how = "goals that contradict each other" if modes else "no goal"
        raise ArgumentError(f"metric {name!r} has {how}; say goal: maximize or goal: minimize")
    return Metric(name, modes.pop())


def read_parameters(_: str, parameters: object, _sweep: Mapping[str, object]) -> dict[str, Domain]:
    """The space of one model, or that of all; an empty one where nothing is said."""
    if parameters is None:
        return {}
    with within(space=True):
        if not isinstance(parameters, Mapping):
            raise ArgumentError(f"parameters are a mapping of names to values, not {parameters!r}")
        space = as_space(parameters)
        for name in space:
            first, *rest = name.split("/")
            if first in GIVEN_BY_US:
                cure = f"list the alternatives under {first}s, or rename it"
                problem = f"parameter {name!r}: raycolab itself passes {first!r} to compute; {cure}"
                raise ArgumentError(problem, (first, *rest))
        return space


def read_models(key: str, models: object, sweep: Mapping[str, Any]) -> dict[str, dict[str, Domain]]:
    """The space of each model: `parameters` is every model's, and a model's own space goes before it."""
    own: dict[str, dict[str, Domain]] = {}
    for model in read_names(key, list(models) if isinstance(models, Mapping) else models, sweep):
        space = models[model] if isinstance(models, Mapping) else None
        with within(model, prefix=f"the space of model {model!r}, "):
            own[model] = read_parameters(key, space, sweep)
    return {model: {**sweep["parameters"], **space} for model, space in own.items()}


def check_grid(models: Spaces, shared: Mapping[str, Domain]) -> None:
    """SpaceArgumentError for a parameter that method grid cannot list; `shared` are those of all models."""
    for model, space in models.items():
        for name, domain in space.items():
            is_shared = domain is shared.get(name)
            path = ("parameters",) if is_shared else ("models", model)
            where = "" if is_shared else f"the space of model {model!r}, "
            with within(*path, *name.split("/"), prefix=f"{where}parameter {name!r}: ", space=True):
                domain.grid()


def read_jobs(key: str, value: object, sweep: Mapping[str, Any]) -> int | None:
    """How many trials each pair has; None for all of a grid."""
    jobs = read_count(key, value, sweep)
    if jobs is not None or sweep["method"] is Method.GRID:
        return jobs
    pairs = len(sweep["models"]) * len(sweep["datasets"])
    return _DEFAULT_JOBS if sweep["run_cap"] is None else math.ceil(sweep["run_cap"] / pairs)


def read_points(key: str, value: object, sweep: Mapping[str, Any]) -> tuple[Config, ...]:
    """The points, flat, as given; ArgumentError for one that no model can try."""
    if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
        raise ArgumentError(f"{key} is a list of configurations, such as [{{x: 1}}], not {value!r}")
    points: list[Config] = []
    for index, written in enumerate(value):
        with within(str(index), prefix=f"point {index + 1} of {key}: "):
            points.append(_read_point(written, sweep["models"]))
    return tuple(points)


def _read_point(written: object, models: Spaces) -> Config:
    if not isinstance(written, Mapping):
        raise ArgumentError(f"a mapping of names to values is needed, not {written!r}")
    known = list(dict.fromkeys(name for space in models.values() for name in space))
    flat = flatten(written)
    point: dict[str, Scalar] = {}
    for name, (path, value) in flat.items():
        first = name.split("/")[0]
        if first in GIVEN_BY_US:
            cure = f"remove {first!r}, or declare a sweep of that {first} alone"
            raise ArgumentError(f"every point is tried with every pair; {cure}", path)
        if name not in known:
            there_are = f"the parameters are {listed(known)}" if known else "there are none"
            raise ArgumentError(f"no model has a parameter {name!r}{did_you_mean(name, known)}; {there_are}", path)
        with within(*path, prefix=f"parameter {name!r}: "):
            point[name] = as_scalar(value)
    trying = {model: space for model, space in models.items() if point.keys() <= space.keys()}
    if not trying:
        raise ArgumentError(f"no model has all of {listed(point)}; give each model a point of its own")
    for model, space in trying.items():
        of_model = f" of model {model!r}" if len(models) > 1 else ""
        for name, value in point.items():
            with within(*flat[name][0], prefix=f"parameter {name!r}{of_model}: "):
                admitted(space[name], value)
    return point


def points_of(points: Sequence[Config], space: Mapping[str, Domain]) -> list[dict[str, Scalar]]:
    """The points that a model with this space tries, with the values as its domains give them."""
    return [
        {name: admitted(space[name], value) for name, value in point.items()}
        for point in points
        if point.keys() <= space.keys()
    ]
