"""The arguments of a declaration, one by one: what each may be, its default, and the sentence for anything else.

Python's `declare(...)` and the sweep file give the same keys and meet the same checks here. An error carries the way to
the value that is wrong (`path`), so that a sweep file can be quoted by line. `spec` puts them together.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence

from raycolab.errors import SpaceError, UsageError
from raycolab.spec.domains import Domain
from raycolab.spec.spaces import ParameterError, as_space
from raycolab.spec.values import as_number, as_whole
from raycolab.text import did_you_mean, listed
from raycolab.trials import Metric

__all__ = [
    "ALIASES",
    "DEFAULT_JOBS_PER_PAIR",
    "DEFAULT_METRIC",
    "DEFAULT_NAME",
    "GIVEN_BY_US",
    "SWEEP_KEYS",
    "ArgumentError",
    "Method",
    "SpaceArgumentError",
    "check_key",
    "check_parameters",
    "check_size",
    "check_text",
    "read_count",
    "read_datasets",
    "read_method",
    "read_metric",
    "read_models",
    "read_name",
    "read_seconds",
    "read_seed",
    "settle_keys",
]

SWEEP_KEYS = (
    "models",
    "datasets",
    "parameters",
    "jobs_per_pair",
    "run_cap",
    "method",
    "metric",
    "mode",
    "seed",
    "timeout_s",
    "resources",
    "points_to_evaluate",
    "early_terminate",
    "max_failures",
    "max_concurrent_trials",
    "time_budget_s",
)
"""What a declaration may say, in the words of the sweep file."""

ALIASES: Mapping[str, str] = {"num_samples": "jobs_per_pair", "space": "parameters"}
"""Other words for the same: Ray Tune's `num_samples`, and `space` for W&B's `parameters`."""

DEFAULT_JOBS_PER_PAIR = 10  # of methods random and bayes; method grid has the size of its grid
DEFAULT_METRIC = "metric"  # the column of a number that compute returns without a name
DEFAULT_NAME = "default"  # the model or dataset of a sweep that lists none

GIVEN_BY_US = ("model", "dataset")  # what raycolab passes beside the configuration, if compute takes it

_LONGEST_NAME = 120  # characters; it stands in tables, file names and terminals
_MOST_JOBS = 1_000_000  # per pair, and
_MOST_TRIALS = 1_000_000  # of a sweep: its rows are made and kept at once
_MODES: Mapping[object, str] = {"max": "max", "min": "min", "maximize": "max", "minimize": "min"}


class Method(enum.StrEnum):
    """How configurations are found."""

    GRID = "grid"
    RANDOM = "random"
    BAYES = "bayes"


class ArgumentError(UsageError):
    """A key or value of a declaration is wrong; `path` leads to it through the keys as written."""

    def __init__(self, path: tuple[str, ...], problem: str) -> None:
        super().__init__(problem)
        self.path = path


class SpaceArgumentError(ArgumentError, SpaceError):
    """The space in a declaration is malformed or does not suit the method."""


def settle_keys(arguments: Mapping[str, object]) -> dict[str, object]:
    """The arguments that say something, under their own names; ArgumentError for unknown and doubled ones."""
    settled: dict[str, object] = {}
    written: dict[str, str] = {}
    for key, value in arguments.items():
        if value is None:
            continue
        check_key(key)
        name = ALIASES.get(key, key)
        if name in settled:
            raise ArgumentError((key,), f"{written[name]} and {key} mean the same; give one of them")
        settled[name], written[name] = value, key
    return settled


def check_key(key: str, also: Sequence[str] = ()) -> None:
    """ArgumentError for a key that no declaration has (`also` names the ones a file has beside them)."""
    allowed = (*also, *SWEEP_KEYS)
    if key not in allowed and key not in ALIASES:
        known = (*allowed, *ALIASES)
        raise ArgumentError((key,), f"unknown key {key!r}{did_you_mean(key, known)}; allowed are {listed(allowed)}")


def read_name(name: object) -> str:
    """A sweep's name: printable, not empty, short enough for a table."""
    return _name(("name",), "a sweep's name", name)


def read_method(value: object) -> Method:
    """grid, random or bayes; random when nothing is said."""
    if value is None:
        return Method.RANDOM
    if not isinstance(value, str) or value not in tuple(Method):
        hint = did_you_mean(str(value), Method)
        raise ArgumentError(("method",), f"unknown method {value!r}{hint}; methods are {listed(Method)}")
    return Method(value)


def read_metric(metric: object, mode: object) -> Metric:
    """The metric from its name, W&B's `{name, goal}` or a Metric, and the mode beside it; max unless said."""
    if isinstance(metric, Metric):
        metric = {"name": metric.name, "mode": metric.mode}
    if not isinstance(metric, Mapping):
        name = _name(("metric",), "a metric's name", DEFAULT_METRIC if metric is None else metric)
        return Metric(name, _mode(("mode",), "mode", "max" if mode is None else mode))
    allowed = ("name", "goal", "mode")
    for key in metric:
        if key not in allowed:
            hint = did_you_mean(str(key), allowed)
            raise ArgumentError(("metric", str(key)), f"metric has no key {key!r}{hint}; its keys are name and goal")
    name = _name(("metric", "name"), "a metric's name", metric.get("name"))
    said = {
        _mode(path, path[-1], value)
        for path, value in (
            (("metric", "goal"), metric.get("goal")),
            (("metric", "mode"), metric.get("mode")),
            (("mode",), mode),
        )
        if value is not None
    }
    if len(said) != 1:
        how = "goals that contradict each other" if said else "no goal"
        raise ArgumentError(("metric",), f"metric {name!r} has {how}; say goal: maximize or goal: minimize")
    return Metric(name, said.pop())


def read_models(models: object, parameters: object) -> dict[str, dict[str, Domain]]:
    """The space of each model: `parameters` is every model's, and a model's own space goes before it.

    `models` is a mapping of names to spaces, or a list of names; without it there is one model, `default`.
    """
    shared = {} if parameters is None else _space(("parameters",), "", parameters)
    if models is None:
        return {DEFAULT_NAME: shared}
    if isinstance(models, Mapping):
        spaces = {
            _name(("models", str(name)), "a model's name", name): shared
            | ({} if space is None else _space(("models", str(name)), f"the space of model {name!r}, ", space))
            for name, space in models.items()
        }
    else:
        spaces = {name: dict(shared) for name in _names("models", models)}
    if not spaces:
        raise ArgumentError(("models",), "models is empty; name at least one model, or leave the key out")
    return spaces


def check_parameters(model: str, space: Mapping[str, Domain], method: Method, models: object) -> None:
    """SpaceArgumentError for a parameter whose name is taken, or that method grid cannot list.

    `models` is the argument as given, to tell a model's own parameters from those it shares.
    """
    own = models.get(model) if isinstance(models, Mapping) else None
    for name, domain in space.items():
        parts = tuple(name.split("/"))
        is_own = isinstance(own, Mapping) and (parts[0] in own or name in own)
        path = ("models", model, *parts) if is_own else ("parameters", *parts)
        where = f"the space of model {model!r}, parameter {name!r}" if is_own else f"parameter {name!r}"
        if parts[0] in GIVEN_BY_US:
            raise SpaceArgumentError(
                path,
                f"{where}: raycolab itself passes {parts[0]!r} to compute; "
                f"list the alternatives under {parts[0]}s, or rename it",
            )
        if method is not Method.GRID:
            continue
        try:
            domain.grid()
        except SpaceError as error:
            raise SpaceArgumentError(path, f"{where}: {error}") from error


def read_datasets(datasets: object) -> tuple[str, ...]:
    """The names of the datasets; without them there is one, `default`."""
    if datasets is None:
        return (DEFAULT_NAME,)
    names = _names("datasets", datasets)
    if not names:
        raise ArgumentError(("datasets",), "datasets is empty; name at least one dataset, or leave the key out")
    return names


def read_count(key: str, value: object) -> int | None:
    """How many jobs: a whole number from 1, or None where nothing is said."""
    if value is None:
        return None
    count = _whole(key, value)
    if not 1 <= count <= _MOST_JOBS:
        raise ArgumentError((key,), f"{key} is a whole number from 1 to {_MOST_JOBS:,}, not {count:,}")
    return count


def check_size(trials: int, jobs_per_pair: object) -> None:
    """ArgumentError for a sweep of more trials than can be kept; `jobs_per_pair` as given."""
    if trials > _MOST_TRIALS:
        key = "method" if jobs_per_pair is None else "jobs_per_pair"
        raise ArgumentError(
            (key,),
            f"this sweep has {trials:,} trials and at most {_MOST_TRIALS:,} are possible; "
            "lower jobs_per_pair, or set run_cap",
        )


def check_text(text: str) -> None:
    """ArgumentError for a declaration with a text that no file and no database can keep."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        near = text[max(error.start - 20, 0) : error.end]
        sentence = f"a text in the sweep has half a character, at the end of {near!r}: remove it"
        raise ArgumentError((), sentence) from error


def read_seed(value: object) -> int:
    """A whole number; 0 when nothing is said."""
    return 0 if value is None else _whole("seed", value)


def read_seconds(key: str, value: object) -> float | None:
    """Seconds above 0, of a trial (timeout_s) or of the sweep (time_budget_s); None for no limit."""
    if value is None:
        return None
    try:
        seconds = float(as_number(value))
    except SpaceError as error:
        raise ArgumentError((key,), f"{key}: {error}") from error
    if not 0 < seconds < float("inf"):
        raise ArgumentError((key,), f"{key} is a number of seconds above 0, not {seconds}; remove it for none")
    return seconds


def _space(path: tuple[str, ...], what: str, parameters: object) -> dict[str, Domain]:
    if not isinstance(parameters, Mapping):
        raise SpaceArgumentError(path, f"{what}parameters are a mapping of names to values, not {parameters!r}")
    try:
        return as_space(parameters)
    except ParameterError as error:
        raise SpaceArgumentError((*path, *error.keys), f"{what}{error}") from error


def _names(key: str, names: object) -> tuple[str, ...]:
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise ArgumentError((key,), f"{key} is a list of names, such as [first, second], not {names!r}")
    checked = tuple(_name((key,), f"a name in {key}", name) for name in names)
    for name in checked:
        if checked.count(name) > 1:
            raise ArgumentError((key,), f"{key} names {name!r} twice; remove one")
    return checked


def _name(path: tuple[str, ...], what: str, name: object) -> str:
    if not isinstance(name, str) or not name.strip():
        raise ArgumentError(path, f"{what} is text and not empty, not {name!r}; put it in quotes")
    if name != name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME:
        raise ArgumentError(
            path,
            f"{what} is one printable line of at most {_LONGEST_NAME} characters, no spaces around it, not {name!r}",
        )
    return str.__str__(name)


def _mode(path: tuple[str, ...], key: str, value: object) -> str:
    mode = _MODES.get(value) if isinstance(value, str) else None
    if mode is None:
        words = "max or min" if key == "mode" else "maximize or minimize"
        raise ArgumentError(path, f"{key} is {words}, not {value!r}")
    return mode


def _whole(key: str, value: object) -> int:
    try:
        return as_whole(value)
    except SpaceError as error:
        raise ArgumentError((key,), f"{key}: {error}") from error
