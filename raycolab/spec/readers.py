"""What each key of a sweep may be: from what is written to the value in the spec, or the sentence for anything else.

Each reader has the form that the table of keys wants (`raycolab.spec.keys.Reader`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from raycolab.spec.domains import Domain, GridSearch, admitted
from raycolab.spec.spaces import Method, as_space
from raycolab.spec.values import (
    ArgumentError,
    Refusals,
    SpaceArgumentError,
    as_name,
    as_value,
    flatten,
    read_count,
    read_names,
)
from raycolab.spec.wandb import SHORT_OF_METRIC
from raycolab.text import did_you_mean, listed
from raycolab.trials import Config, Metric, Value

__all__ = [
    "DEFAULT_NAME",
    "GIVEN_BY_US",
    "check_grid",
    "check_names",
    "grid_search_size",
    "points_of",
    "read_files",
    "read_jobs",
    "read_main",
    "read_method",
    "read_metric",
    "read_mode",
    "read_models",
    "read_name",
    "read_notes",
    "read_parameters",
    "read_points",
    "read_tags",
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


def read_notes(key: str, value: object, _sweep: Mapping[str, object]) -> str | None:
    """Any text; None for none."""
    if value is not None and not isinstance(value, str):
        raise ArgumentError(f"{key} is text, not {value!r}; put it in quotes")
    return value


def read_tags(key: str, value: object, sweep: Mapping[str, object]) -> tuple[str, ...]:
    """A list of names, which may be empty."""
    return () if value in ((), []) else read_names(key, value, sweep)


def read_files(key: str, value: object, _: Mapping[str, object]) -> tuple[str, ...]:
    """Patterns of files and folders, each relative to MAIN's folder and within it."""
    patterns = [value] if isinstance(value, str) else value
    if not isinstance(patterns, Sequence) or not all(isinstance(each, str) for each in patterns):
        raise ArgumentError(
            f"{key} is a list of file names and patterns, such as [data/*.csv, helpers.py], not {value!r}"
        )
    for pattern in patterns:
        if not pattern.strip() or not pattern.isprintable():
            raise ArgumentError(f"{key}: {pattern!r} is no file's name; remove it")
        if pattern.startswith(("/", "~")) or ".." in pattern.split("/"):
            raise ArgumentError(
                f"{key}: {pattern!r} leads out of MAIN's folder, and what travels lies in it: give a path relative to "
                "that folder, or move the file there"
            )
    return tuple(dict.fromkeys(patterns))


def read_name(_: str, value: object, _sweep: Mapping[str, object]) -> str:
    """The sweep's name."""
    return as_name("a sweep's name", value)


def read_main(key: str, value: object, _: Mapping[str, object]) -> object:
    """MAIN as it is given; ArgumentError for a path that is neither a notebook's nor a Python file's."""
    if isinstance(value, str):
        if not value.strip():
            raise ArgumentError(f"{key} is the path of a notebook or a Python file, not {value!r}")
        if not value.endswith((".ipynb", ".py")) and not value.lstrip().startswith("{"):  # a notebook's own text
            cure = "put the training into compute of a MAIN.ipynb and name that, or pass --set main=MAIN.ipynb"
            raise ArgumentError(
                f"main {value!r} is neither a notebook nor a Python file; raycolab calls its compute, so {cure}"
            )
    return value


def read_method(_: str, value: object, _sweep: Mapping[str, object]) -> Method:
    """grid, random or bayes."""
    if value == "custom":
        raise ArgumentError("method custom is W&B's, for a scheduler of one's own; take random, grid or bayes")
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
    refusals = Refusals()
    for key in metric:
        if key in SHORT_OF_METRIC and not (key == "target" or sweep.get("method") is Method.BAYES):
            # What failed trials count for is a question of the search alone.
            continue
        if key in SHORT_OF_METRIC:
            what = "ends the sweep at a value" if key == "target" else "gives the search a value for failed trials"
            cure = "remove it, and `raycolab stop` the sweep at that value" if key == "target" else "remove it"
            refusals.add(f"metric.{key} is W&B's and {what}, which a sweep here does not do; {cure}", key)
        elif key not in allowed:
            hint = did_you_mean(str(key), allowed)
            refusals.add(f"metric has no key {key!r}{hint}; its keys are name and goal", str(key))
    name = ""
    with refusals.at("name"):
        name = as_name("a metric's name", metric.get("name"))
    modes = {sweep["mode"]}
    for key in ("goal", "mode"):
        with refusals.at(key):
            modes.add(read_mode(key, metric.get(key), {}))
    refusals.raise_all()
    modes -= {None}
    if len(modes) != 1:
        how = "goals that contradict each other" if modes else "no goal"
        raise ArgumentError(f"metric {name!r} has {how}; say goal: maximize or goal: minimize")
    return Metric(name, modes.pop())


def read_parameters(_: str, parameters: object, sweep: Mapping[str, Any]) -> dict[str, Domain]:
    """The space of one model, or that of all; an empty one where nothing is said."""
    if parameters is None:
        return {}
    if not isinstance(parameters, Mapping):
        raise SpaceArgumentError(f"parameters are a mapping of names to values, not {parameters!r}")
    return as_space(parameters, sweep.get("method", Method.RANDOM))


def read_models(key: str, models: object, sweep: Mapping[str, Any]) -> dict[str, dict[str, Domain]]:
    """The space of each model: `parameters` is every model's, and a model's own space goes before it."""
    own: dict[str, dict[str, Domain]] = {}
    refusals = Refusals()
    for model in read_names(key, list(models) if isinstance(models, Mapping) else models, sweep):
        space = models[model] if isinstance(models, Mapping) else None
        with refusals.at(model, prefix=f"the space of model {model!r}, "):
            own[model] = read_parameters(key, space, sweep)
    refusals.raise_all()
    return {model: {**sweep["parameters"], **space} for model, space in own.items()}


def check_grid(models: Spaces, shared: Mapping[str, Domain]) -> None:
    """SpaceArgumentError for a parameter that method grid cannot list; `shared` are those of all models."""
    refusals = Refusals()
    for name, domain in shared.items():
        with refusals.at("parameters", *name.split("/"), prefix=f"parameter {name!r}: ", space=True):
            domain.grid()
    for model, space in models.items():
        for name, domain in space.items():
            where = f"the space of model {model!r}, parameter {name!r}: "
            with refusals.at("models", model, *name.split("/"), prefix=where, space=True):
                if domain is not shared.get(name):
                    domain.grid()
    refusals.raise_all()


def check_names(models: Spaces, shared: Mapping[str, Domain], given: Collection[str]) -> None:
    """SpaceArgumentError for a parameter called `model` or `dataset` where the sweep has such of its own."""
    refusals = Refusals()
    owners = [(("models", model), space.keys() - shared.keys()) for model, space in models.items()]
    for way, names in [(("parameters",), shared), *owners]:
        for name in names:
            first, *rest = name.split("/")
            if first in GIVEN_BY_US and f"{first}s" in given:
                cure = f"list the alternatives under {first}s, or rename it"
                with refusals.at(*way, first, *rest, space=True):
                    raise ArgumentError(f"parameter {name!r}: raycolab itself passes {first!r} to compute; {cure}")
    refusals.raise_all()


def read_jobs(key: str, value: object, sweep: Mapping[str, Any]) -> int | None:
    """How many trials each pair has, or each combination of its grid_search; None for all of a grid."""
    jobs: int | None = read_count(key, value, sweep)
    if jobs is not None or sweep["method"] is Method.GRID:
        return jobs
    samples = [grid_search_size(space) for space in sweep["models"].values()]
    if sweep["run_cap"] is not None:
        cap: int = sweep["run_cap"]
        return math.ceil(cap / (sum(samples) * len(sweep["datasets"])))
    return 1 if max(samples) > 1 else _DEFAULT_JOBS


def grid_search_size(space: Mapping[str, Domain]) -> int:
    """How many combinations the grid_searches of a space have; 1 where there is none."""
    return math.prod(len(domain.values) for domain in space.values() if isinstance(domain, GridSearch))


def read_points(key: str, value: object, sweep: Mapping[str, Any]) -> tuple[Config, ...]:
    """The points, flat, as given; ArgumentError for one that no model can try."""
    if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
        raise ArgumentError(f"{key} is a list of configurations, such as [{{x: 1}}], not {value!r}")
    points: list[Config] = []
    refusals = Refusals()
    for index, written in enumerate(value):
        with refusals.at(str(index), prefix=f"point {index + 1} of {key}: "):
            points.append(_read_point(written, sweep["models"]))
    refusals.raise_all()
    return tuple(points)


def _read_point(written: object, models: Spaces) -> Config:
    if not isinstance(written, Mapping):
        raise ArgumentError(f"a mapping of names to values is needed, not {written!r}")
    known = list(dict.fromkeys(name for space in models.values() for name in space))
    flat = flatten(written, lambda name, _: name in known)
    point: dict[str, Value] = {}
    refusals = Refusals()
    for name, (path, value) in flat.items():
        first = name.split("/")[0]
        if name not in known and first in GIVEN_BY_US:
            cure = f"remove {first!r}, or declare a sweep of that {first} alone"
            refusals.add(f"every point is tried with every pair; {cure}", *path)
        elif name not in known:
            there_are = f"the parameters are {listed(known)}" if known else "there are none"
            refusals.add(f"no model has a parameter {name!r}{did_you_mean(name, known)}; {there_are}", *path)
        else:
            with refusals.at(*path, prefix=f"parameter {name!r}: "):
                point[name] = as_value(value)
    refusals.raise_all()
    trying = {model: space for model, space in models.items() if point.keys() <= space.keys()}
    if not trying:
        raise ArgumentError(f"no model has all of {listed(point)}; give each model a point of its own")
    for model, space in trying.items():
        of_model = f" of model {model!r}" if len(models) > 1 else ""
        for name, value in point.items():
            with refusals.at(*flat[name][0], prefix=f"parameter {name!r}{of_model}: "):
                admitted(space[name], value)
    refusals.raise_all()
    return point


def points_of(points: Sequence[Config], space: Mapping[str, Domain]) -> list[dict[str, Value]]:
    """The points that a model with this space tries, with the values as its domains give them."""
    return [
        {name: admitted(space[name], value) for name, value in point.items()}
        for point in points
        if point.keys() <= space.keys()
    ]
