"""What W&B's sweep files say beyond our table of keys: its parameters as domains, and its own keys.

The forms of a parameter (`{values: [...]}`, `{min: 0, max: 1}`, `{distribution: ..., ...}`) are those of its published
schema (wandb/sweeps, src/sweeps/config/schema.json), with its defaults: `q` is 1.0, `mu` 0, `sigma` 1, `a` and `b` 1;
without a distribution whole bounds mean int_uniform and others uniform; a whole `q` gives whole values. Steps are its
`round(X / q) * q` of the law without steps. Nested parameters (`{parameters: ...}`) are not one parameter. Three
distributions more say what W&B has no word for: `float` and `integer` have steps from `min` and logarithms of whole
numbers, `grid_search` is Ray Tune's.

A key of its that cannot change a result is accepted and named; one that can, and cannot be had here, is refused.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from typing import Any

from raycolab.spec.domains import (
    MAX_GRID_VALUES,
    Beta,
    Choice,
    Constant,
    Domain,
    Float,
    GridSearch,
    Integer,
    Normal,
    tidy,
)
from raycolab.spec.values import ArgumentError, Refusals, as_number, as_scalar, as_value, as_whole, within
from raycolab.text import did_you_mean, listed

__all__ = ["SHORT_OF_METRIC", "in_steps", "is_wandb_parameter", "unused_key", "wandb_domain"]

# The keys of each of W&B's distributions: ... where it has to be given, else its default.
_BOUNDS: Mapping[str, object] = {"min": ..., "max": ...}
_BELL: Mapping[str, object] = {"mu": 0.0, "sigma": 1.0}
_WITH_STEPS: Mapping[str, Mapping[str, object]] = {
    "uniform": _BOUNDS,
    "log_uniform": _BOUNDS,
    "log_uniform_values": _BOUNDS,
    "normal": _BELL,
    "log_normal": _BELL,
    "beta": {"a": 1.0, "b": 1.0},
}
_OURS: Mapping[str, Mapping[str, object]] = {
    "float": {**_BOUNDS, "log": False, "step": None, "law": None},
    "integer": {**_BOUNDS, "log": False, "step": 1, "law": None},
    "grid_search": {"values": ...},
}
_KEYS_OF: Mapping[str, Mapping[str, object]] = {
    "constant": {"value": ...},
    "categorical": {"values": ...},
    "categorical_w_probabilities": {"values": ..., "probabilities": ...},
    "int_uniform": _BOUNDS,
    "inv_log_uniform": _BOUNDS,
    "inv_log_uniform_values": _BOUNDS,
    **_WITH_STEPS,
    **{f"q_{name}": {**keys, "q": 1.0} for name, keys in _WITH_STEPS.items()},
    **_OURS,
}
_KEYS = tuple(dict.fromkeys(["distribution", "parameters", *(key for keys in _KEYS_OF.values() for key in keys)]))
_TELLING = ("value", "values", "min", "max", "distribution", "parameters")
# Keys that name nothing else: a mapping of these alone lacks its distribution.
_OF_DISTRIBUTIONS = frozenset({"mu", "sigma", "q", "probabilities"})
# How alike a lone key and one of W&B's are that were meant to be the same.
_SLIP = 0.8
# Exponents above it give numbers that nobody searches: e^50 is 5e21.
_LARGEST_EXPONENT = 50.0
# Positive exponents this many times apart are the bounds of a search by orders of magnitude.
_DECADES = 100.0
# How far a bound may be from a multiple of the step, in steps, and still be one; and a sum of shares from 1.
_CLOSE, _WHOLE = 1e-9, 1e-5

Fields = Mapping[str, object]


def is_wandb_parameter(fields: Fields) -> bool:
    """Whether a mapping is a parameter in W&B's form, or was meant as one, rather than nested names."""
    if not fields or not fields.keys().isdisjoint(_TELLING):
        return bool(fields)
    lone = next(iter(fields)) if len(fields) == 1 else None
    return fields.keys() <= _OF_DISTRIBUTIONS or bool(
        lone and difflib.get_close_matches(str(lone), _TELLING, cutoff=_SLIP)
    )


def wandb_domain(fields: Fields, *, grid: bool = False) -> Domain:
    """The domain of one W&B parameter, for method grid with `grid`; ArgumentError leads to each key that is wrong."""
    refusals = Refusals()
    for key in fields:
        if key not in _KEYS:
            hint = did_you_mean(str(key), _KEYS)
            refusals.add(f"unknown key {key!r}{hint}; known are {listed(_KEYS)}", str(key))
    refusals.raise_all()
    name = _distribution(fields)
    known = _KEYS_OF[name]
    for key in fields:
        if key != "distribution" and key not in known:
            refusals.add(f"distribution {name} has no key {key!r}; its keys are {listed(known)}", key)
    for key, default in known.items():
        if default is ... and key not in fields:
            refusals.add(f"distribution {name} needs the key {key!r}; add it", "distribution")
    refusals.raise_all()
    if name in _OURS and "min" in known:
        return _our_domain(name, {**known, **fields})
    if "value" in known:
        with within("value"):
            return Constant(as_value(fields["value"]))
    if "values" in known:
        return _categorical(fields)
    numbers: dict[str, int | float] = {}
    for key, default in known.items():
        with refusals.at(key, prefix=f"{key} of {name}: "):
            number = as_number(fields.get(key, default))
            numbers[key] = as_whole(number) if name == "int_uniform" else number
    refusals.raise_all()
    if grid and name == "q_uniform":
        return _walked(**numbers)
    return _numeric_domain(name, numbers)


def _distribution(fields: Fields) -> str:
    """The distribution that is named, or that W&B takes for these keys."""
    if "distribution" in fields:
        name = fields["distribution"]
        if not isinstance(name, str) or name not in _KEYS_OF:
            hint = did_you_mean(str(name), _KEYS_OF)
            raise ArgumentError(f"unknown distribution {name!r}{hint}; known are {listed(_KEYS_OF)}", ("distribution",))
        return name
    if "value" in fields:
        return "constant"
    if "values" in fields:
        return "categorical_w_probabilities" if "probabilities" in fields else "categorical"
    if "parameters" in fields:
        problem = "parameters holds a mapping of nested names and has no other key beside it; remove the others"
        raise ArgumentError(problem, ("parameters",))
    for key, other in (("min", "max"), ("max", "min")):
        if key in fields and other not in fields:
            raise ArgumentError(f"{key!r} needs {other!r} beside it; add it, or give values: [...]", (key,))
    if "min" not in fields:
        raise ArgumentError(f"{listed(map(repr, fields))} without a distribution; add distribution: normal, or another")
    bounds = (as_scalar(fields[key]) for key in ("min", "max"))
    return "int_uniform" if all(isinstance(bound, int) for bound in bounds) else "uniform"


def _categorical(fields: Fields) -> Domain:
    for key in ("values", "probabilities"):
        if not isinstance(fields.get(key, []), list | tuple):
            raise ArgumentError(f"{key} is a list, such as [1, 2, 3], not {fields[key]!r}", (key,))
    values: list[Any] = as_value(fields["values"])  # type: ignore[assignment]  # of a list
    if fields.get("distribution") == "grid_search":
        return GridSearch(tuple(values))
    if "probabilities" not in fields:
        return Choice(tuple(values))
    with within("probabilities"):
        weights = tuple(float(as_number(weight)) for weight in fields["probabilities"])  # type: ignore[attr-defined]
        choice = Choice(tuple(values), weights)
        if abs(sum(weights) - 1) > _WHOLE:
            raise ArgumentError(f"the probabilities add up to {sum(weights):g}, not to 1; correct them")
    return choice


def _our_domain(name: str, fields: Fields) -> Domain:
    for key in ("log", "law"):
        allowed = (False, True) if key == "log" else (None, "wandb", "optuna")
        if fields[key] not in allowed:
            raise ArgumentError(f"{key} is one of {listed(map(str, allowed))}, not {fields[key]!r}", (key,))
    log, law, step = bool(fields["log"]), fields["law"], fields["step"]
    low, high = (as_number(fields[key]) for key in ("min", "max"))
    if name == "integer":
        return Integer(as_whole(low), as_whole(high), log, as_whole(step), law)  # type: ignore[arg-type]
    return Float(low, high, log, None if step is None else as_number(step), law)  # type: ignore[arg-type]


def _numeric_domain(name: str, numbers: Mapping[str, int | float]) -> Domain:
    first, second, *steps = numbers.values()
    step = steps[0] if steps else None
    law = name.removeprefix("q_")
    match law:
        case "int_uniform":
            return Integer(int(first), int(second))
        case "normal" | "log_normal":
            return Normal(float(first), float(second), law == "log_normal", step)
        case "beta":
            return Beta(float(first), float(second), step)
        case "log_uniform" | "inv_log_uniform":
            # With inv_log_uniform log(1/X) is uniform between min and max, so that X is log-uniform between exp(-max)
            # and exp(-min). By the same reckoning inv_log_uniform_values is log_uniform_values.
            _check_exponents(name, float(first), float(second))
            sign = -1 if law == "inv_log_uniform" else 1
            first, second = sorted((math.exp(sign * first), math.exp(sign * second)))
    log = "log" in law
    return Float(float(first), float(second), log) if step is None else in_steps(first, second, step, log=log)


def in_steps(low: float, high: float, step: int | float, *, log: bool = False) -> Domain:
    """The multiples of a step by W&B's law; between two that are bounds it is Ray Tune's too."""
    first, last = (bound / step if step > 0 else math.nan for bound in (low, high))
    if all(math.isfinite(end) and abs(end - round(end)) <= _CLOSE for end in (first, last)) and round(first) >= log:
        return Float(tidy(0, step, round(first)), tidy(0, step, round(last)), log, step)
    return Float(low, high, log, step, "wandb")


def _walked(min: float, max: float, q: float) -> Domain:  # noqa: A002 - W&B's names
    """The values of q_uniform that W&B's grid walks: from min in steps of q, without max (numpy's arange)."""
    # Refuses what is no distribution.
    whole = in_steps(min, max, q)
    count = math.ceil((max - min) / q)
    if count > MAX_GRID_VALUES:
        problem = f"{whole} has {count:,} values and method grid lists at most {MAX_GRID_VALUES:,}"
        raise ArgumentError(f"{problem}; give a list of the ones you mean, or use method random")
    of = int if all(isinstance(number, int) for number in (min, max, q)) else float
    return Choice(tuple(of(tidy(min, q, index)) for index in range(count)))


def _check_exponents(name: str, low: float, high: float) -> None:
    """ArgumentError where the bounds that W&B takes for exponents look like the values themselves."""
    decades = low > 0 and (high <= 1 or high >= _DECADES * low)
    if decades or not max(abs(low), abs(high)) <= _LARGEST_EXPONENT:
        raise ArgumentError(
            f"W&B's {name} takes exponents, min: {low} means exp({low}), and these bounds look like the values "
            f"themselves; write distribution: {name}_values, and where exponents are meant exp of each bound with it",
            ("distribution",),
        )


# --- keys ------------------------------------------------------------------------------------------------------------

# What no result hangs on, whatever it says.
_UNUSED = frozenset({"apiVersion", "controller", "description", "entity", "image_uri", "job", "kind", "project"})
_SCHEDULER_UNUSED = frozenset({"engine", "job", "name", "num_workers", "resource", "resource_args", "docker_image"})
_MACRO = re.compile(
    r"\$\{(env|interpreter|program|args|args_no_hyphens|args_no_boolean_flags|args_json|args_json_file|args_dict)\}"
)
_PROGRAM = re.compile(r"(.*/)?(env|python[0-9.]*|accelerate|launch|run|-m|-u)|.*\.py")

SHORT_OF_METRIC = ("target", "impute", "impute_while_running")
"""W&B's keys of a metric that ours does not have."""


def unused_key(key: str, value: object) -> bool:
    """Whether it is a key of W&B's sweep files that cannot change a result; ArgumentError for one that can.

    False for a key that is none of W&B's, or that is ours too.
    """
    if key in _UNUSED:
        return True
    with within(key):
        match key:
            case "command":
                _check_command(value)
            case "scheduler":
                _check_scheduler(value)
            case "metrics":
                raise ArgumentError("metrics is W&B's list of several goals, and a sweep here has one; give metric")
            case _:
                return False
    return True


def _check_command(value: object) -> None:
    """ArgumentError for a command that gives its program arguments of its own."""
    words = value.split() if isinstance(value, str) else [str(word) for word in value] if _is_list(value) else []  # type: ignore[attr-defined]
    own = [word for word in words if not _MACRO.fullmatch(word) and not _PROGRAM.fullmatch(word)]
    if own:
        raise ArgumentError(
            f"command is W&B's command line of a script, and raycolab calls compute, which would not get {own[0]!r}; "
            "make what it sets a parameter and remove command, or leave it out with --set command="
        )


def _check_scheduler(value: object) -> None:
    """ArgumentError for a scheduler of W&B's that searches in its own way."""
    fields = value if isinstance(value, Mapping) else {}
    settings = fields.get("settings")
    settings = settings if isinstance(settings, Mapping) else fields
    method = settings.get("method")
    deciding = [key for key in fields if key not in _SCHEDULER_UNUSED]
    if deciding or fields.get("engine", "wandb") != "wandb":
        moved = f"write method: {method} as a key of the sweep and remove scheduler" if method else "remove scheduler"
        what = listed(deciding) or f"engine {fields['engine']}"
        raise ArgumentError(f"scheduler is W&B's, and its {what} would decide what is tried; {moved}")


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)
