"""What each key of a sweep may be: from what is written to the value in the spec, or the sentence for anything else.

Each reader has the form that the table of keys wants (`raycolab.spec.keys.Reader`).
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from raycolab.errors import SpaceError
from raycolab.spec.domains import Domain, admitted, as_scalar
from raycolab.spec.keys import ArgumentError, SpaceArgumentError, checked_name, checked_names, read_count
from raycolab.spec.spaces import ParameterError, as_space
from raycolab.text import did_you_mean, listed
from raycolab.trials import Config, Metric, Scalar

__all__ = [
    "DEFAULT_NAME",
    "GIVEN_BY_US",
    "Method",
    "points_of",
    "read_datasets",
    "read_jobs",
    "read_method",
    "read_metric",
    "read_models",
    "read_name",
    "read_points",
]

DEFAULT_NAME = "default"
"""The model or dataset of a sweep that lists none."""

GIVEN_BY_US = ("model", "dataset")
"""What raycolab passes beside the configuration, if compute takes it."""

# Jobs of each pair with methods random and bayes; method grid has the size of its grid.
_DEFAULT_JOBS = 10
_MODES: Mapping[object, str] = {"max": "max", "min": "min", "maximize": "max", "minimize": "min"}


class Method(enum.StrEnum):
    """How configurations are found."""

    GRID = "grid"
    RANDOM = "random"
    BAYES = "bayes"


def read_name(key: str, value: object, _: Mapping[str, object]) -> str:
    """The sweep's name."""
    return checked_name((key,), "a sweep's name", value)


def read_method(key: str, value: object, _: Mapping[str, object]) -> Method:
    """grid, random or bayes."""
    if not isinstance(value, str) or value not in tuple(Method):
        hint = did_you_mean(str(value), Method)
        raise ArgumentError((key,), f"unknown method {value!r}{hint}; methods are {listed(Method)}")
    return Method(value)


def read_metric(key: str, metric: object, sweep: Mapping[str, object]) -> Metric:
    """The metric from its name, W&B's `{name, goal}` or a Metric, and the mode beside it; max unless said."""
    mode = sweep["mode"]
    if isinstance(metric, Metric):
        metric = {"name": metric.name, "mode": metric.mode}
    if not isinstance(metric, Mapping):
        name = checked_name((key,), "a metric's name", metric)
        return Metric(name, _read_mode(("mode",), "max" if mode is None else mode))
    allowed = ("name", "goal", "mode")
    for each in metric:
        if each not in allowed:
            hint = did_you_mean(str(each), allowed)
            raise ArgumentError((key, str(each)), f"metric has no key {each!r}{hint}; its keys are name and goal")
    name = checked_name((key, "name"), "a metric's name", metric.get("name"))
    said = {(key, "goal"): metric.get("goal"), (key, "mode"): metric.get("mode"), ("mode",): mode}
    modes = {_read_mode(path, value) for path, value in said.items() if value is not None}
    if len(modes) != 1:
        how = "goals that contradict each other" if modes else "no goal"
        raise ArgumentError((key,), f"metric {name!r} has {how}; say goal: maximize or goal: minimize")
    return Metric(name, modes.pop())


def _read_mode(path: tuple[str, ...], value: object) -> str:
    mode = _MODES.get(value) if isinstance(value, str) else None
    if mode is None:
        words = "max or min" if path[-1] == "mode" else "maximize or minimize"
        raise ArgumentError(path, f"{path[-1]} is {words}, not {value!r}")
    return mode


def read_models(key: str, models: object, sweep: Mapping[str, Any]) -> dict[str, dict[str, Domain]]:
    """The space of each model: `parameters` is every model's, and a model's own space goes before it."""
    parameters = sweep["parameters"]
    shared = {} if parameters is None else _read_space(("parameters",), "", parameters)
    own: dict[str, dict[str, Domain]]
    if models is None:
        own = {DEFAULT_NAME: {}}
    elif isinstance(models, Mapping):
        own = {
            checked_name((key, str(model)), "a model's name", model): {}
            if space is None
            else _read_space((key, str(model)), f"the space of model {model!r}, ", space)
            for model, space in models.items()
        }
    else:
        own = {model: {} for model in checked_names(key, models)}
    if not own:
        raise ArgumentError((key,), f"{key} is empty; name at least one model, or leave the key out")
    spaces = {model: {**shared, **space} for model, space in own.items()}
    for model, space in spaces.items():
        for name, domain in space.items():
            parts = tuple(name.split("/"))
            if name in own[model]:
                path, where = (key, model, *parts), f"the space of model {model!r}, parameter {name!r}"
            else:
                path, where = ("parameters", *parts), f"parameter {name!r}"
            _check_parameter(path, where, parts[0], domain, sweep["method"])
    return spaces


def _read_space(path: tuple[str, ...], what: str, parameters: object) -> dict[str, Domain]:
    if not isinstance(parameters, Mapping):
        raise SpaceArgumentError(path, f"{what}parameters are a mapping of names to values, not {parameters!r}")
    try:
        return as_space(parameters)
    except ParameterError as error:
        raise SpaceArgumentError((*path, *error.keys), f"{what}{error}") from error


def _check_parameter(path: tuple[str, ...], where: str, first: str, domain: Domain, method: Method) -> None:
    """SpaceArgumentError for a parameter whose name is taken, or that method grid cannot list."""
    if first in GIVEN_BY_US:
        raise SpaceArgumentError(
            path,
            f"{where}: raycolab itself passes {first!r} to compute; list the alternatives under {first}s, or rename it",
        )
    if method is Method.GRID:
        try:
            domain.grid()
        except SpaceError as error:
            raise SpaceArgumentError(path, f"{where}: {error}") from error


def read_datasets(key: str, value: object, _: Mapping[str, object]) -> tuple[str, ...]:
    """The names of the data sets, at least one."""
    datasets = checked_names(key, value)
    if not datasets:
        raise ArgumentError((key,), f"{key} is empty; name at least one dataset, or leave the key out")
    return datasets


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
        raise ArgumentError((key,), f"{key} is a list of configurations, such as [{{x: 1}}], not {value!r}")
    points: list[Config] = []
    for index, written in enumerate(value):
        path, what = (key, str(index)), f"point {index + 1} of {key}"
        if not isinstance(written, Mapping):
            raise ArgumentError(path, f"{what} is a mapping of names to values, not {written!r}")
        point: dict[str, Scalar] = {}
        for name, where, scalar in _flat(written, "", path, what):
            if name in point:
                raise ArgumentError(where, f"{what} gives {name!r} twice; remove one")
            point[name] = scalar
        _check_point(point, path, what, sweep["models"])
        points.append(point)
    return tuple(points)


def _flat(
    written: Mapping[object, object], prefix: str, path: tuple[str, ...], what: str
) -> Iterator[tuple[str, tuple[str, ...], Scalar]]:
    """Each flat name with the way to it and its value."""
    for key, value in written.items():
        here = (*path, str(key))
        name = f"{prefix}{key}"
        if name in GIVEN_BY_US:
            raise ArgumentError(
                here,
                f"{what} names a {name}, and every point is tried with every pair; remove it, "
                f"or declare a sweep of that {name} alone",
            )
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}/", here, what)
            continue
        try:
            yield name, here, as_scalar(value)
        except SpaceError as error:
            raise ArgumentError(here, f"{what}, parameter {name!r}: {error}") from error


def _check_point(point: Config, path: tuple[str, ...], what: str, models: Mapping[str, Mapping[str, Domain]]) -> None:
    known = list(dict.fromkeys(name for space in models.values() for name in space))
    for name in point:
        if name not in known:
            there_are = f"the parameters are {listed(known)}" if known else "the sweep has none"
            raise ArgumentError(
                (*path, *name.split("/")),
                f"{what} names {name!r}{did_you_mean(name, known)}, which no model has; {there_are}",
            )
    trying = {model: space for model, space in models.items() if point.keys() <= space.keys()}
    if not trying:
        raise ArgumentError(
            path, f"{what} fits no model, as none has all of {listed(point)}; give each model a point of its own"
        )
    for model, space in trying.items():
        for name, value in point.items():
            try:
                admitted(space[name], value)
            except SpaceError as error:
                of_model = f" of model {model!r}" if len(models) > 1 else ""
                raise ArgumentError(
                    (*path, *name.split("/")), f"{what}, parameter {name!r}{of_model}: {error}"
                ) from error


def points_of(points: Sequence[Config], space: Mapping[str, Domain]) -> list[dict[str, Scalar]]:
    """The points that a model with this space tries, with the values as its domains give them."""
    return [
        {name: admitted(space[name], value) for name, value in point.items()}
        for point in points
        if point.keys() <= space.keys()
    ]
