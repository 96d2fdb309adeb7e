"""One parameter as W&B writes it: `{values: [...]}`, `{min: 0, max: 1}`, `{distribution: ..., ...}`, as a domain.

The forms are those of W&B's published schema (wandb/sweeps, src/sweeps/config/schema.json), with its defaults: `q` is
1.0, `mu` 0, `sigma` 1, `a` and `b` 1; without a distribution whole bounds mean int_uniform and others uniform; a whole
`q` gives whole values. Nested parameters (`{parameters: ...}`) are not one parameter: see `raycolab.spec.spaces`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeVar

from raycolab.errors import SpaceError
from raycolab.spec.domains import Beta, Choice, Constant, Domain, Float, Integer, Normal, as_number, as_scalar, as_whole
from raycolab.spec.domains import stepped as in_steps
from raycolab.text import did_you_mean, listed
from raycolab.trials import Scalar

__all__ = ["WandbKeyError", "is_wandb_parameter", "wandb_domain"]

# The keys of each distribution: None where it has to be given, else its default.
_BOUNDS: Mapping[str, float | None] = {"min": None, "max": None}
_BELL: Mapping[str, float | None] = {"mu": 0.0, "sigma": 1.0}
_SHAPES: Mapping[str, float | None] = {"a": 1.0, "b": 1.0}
_Q: Mapping[str, float | None] = {"q": 1.0}
_KEYS_OF: Mapping[str, Mapping[str, float | None]] = {
    "constant": {"value": None},
    "categorical": {"values": None},
    "categorical_w_probabilities": {"values": None, "probabilities": None},
    "int_uniform": _BOUNDS,
    "uniform": _BOUNDS,
    "q_uniform": {**_BOUNDS, **_Q},
    "log_uniform": _BOUNDS,
    "log_uniform_values": _BOUNDS,
    "q_log_uniform": {**_BOUNDS, **_Q},
    "q_log_uniform_values": {**_BOUNDS, **_Q},
    "inv_log_uniform": _BOUNDS,
    "inv_log_uniform_values": _BOUNDS,
    "normal": _BELL,
    "q_normal": {**_BELL, **_Q},
    "log_normal": _BELL,
    "q_log_normal": {**_BELL, **_Q},
    "beta": _SHAPES,
    "q_beta": {**_SHAPES, **_Q},
}
_KEYS = tuple(dict.fromkeys(["distribution", "parameters", *(key for keys in _KEYS_OF.values() for key in keys)]))
_TELLING = frozenset({"value", "values", "min", "max", "distribution", "parameters"})
# Exponents above it give numbers that nobody searches: e^50 is 5e21.
_LARGEST_EXPONENT = 50.0

Fields = Mapping[str, object]
Number = TypeVar("Number", int, int | float)


class WandbKeyError(SpaceError):
    """A W&B parameter has a wrong key or value; `key` names it."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(problem)
        self.key = key


def is_wandb_parameter(fields: Fields) -> bool:
    """Whether a mapping is a parameter in W&B's form rather than one of nested names."""
    return not _TELLING.isdisjoint(fields)


def wandb_domain(fields: Fields) -> Domain:
    """The domain of one W&B parameter; WandbKeyError names the key that is wrong and the cure."""
    for key in fields:
        if key not in _KEYS:
            raise WandbKeyError(key, f"unknown key {key!r}{did_you_mean(key, _KEYS)}; known are {listed(_KEYS)}")
    name = _distribution(fields)
    known = _KEYS_OF[name]
    for key in fields:
        if key != "distribution" and key not in known:
            raise WandbKeyError(key, f"distribution {name} has no key {key!r}; its keys are {listed(known)}")
    for key, default in known.items():
        if default is None and key not in fields:
            raise WandbKeyError("distribution", f"distribution {name} needs the key {key!r}; add it")
    return _domain(name, {**known, **fields})


def _distribution(fields: Fields) -> str:
    """The distribution that is named, or that W&B takes for these keys."""
    if "distribution" in fields:
        name = fields["distribution"]
        if not isinstance(name, str) or name not in _KEYS_OF:
            raise WandbKeyError(
                "distribution",
                f"unknown distribution {name!r}{did_you_mean(str(name), _KEYS_OF)}; known are {listed(_KEYS_OF)}",
            )
        return name
    if "value" in fields:
        return "constant"
    if "values" in fields:
        return "categorical_w_probabilities" if "probabilities" in fields else "categorical"
    if "parameters" in fields:
        raise WandbKeyError("parameters", "a mapping with parameters: {...} has no other key; remove the others")
    for key, other in (("min", "max"), ("max", "min")):
        if key in fields and other not in fields:
            raise WandbKeyError(key, f"{key!r} needs {other!r} beside it; add it, or give values: [...]")
    bounds = (_read(fields, key, as_number) for key in ("min", "max"))
    return "int_uniform" if all(isinstance(bound, int) for bound in bounds) else "uniform"


def _domain(name: str, fields: Fields) -> Domain:
    """The domain of a distribution whose keys are all there."""
    step = _read(fields, "q", as_number) if "q" in fields else None
    match name.removeprefix("q_"):
        case "constant":
            return Constant(as_scalar(fields["value"]))
        case "categorical" | "categorical_w_probabilities":
            return _choice(fields)
        case "int_uniform":
            cure = "; for numbers with a fraction use distribution: uniform"
            return Integer(_read(fields, "min", as_whole, cure), _read(fields, "max", as_whole, cure))
        case "normal" | "log_normal" as law:
            mean, sd = (float(_read(fields, key, as_number)) for key in ("mu", "sigma"))
            return Normal(mean, sd, law == "log_normal", step)
        case "beta":
            a, b = (float(_read(fields, key, as_number)) for key in ("a", "b"))
            return Beta(a, b, step)
        case "log_uniform" | "inv_log_uniform" as law:
            low, high = _exponents(fields, law)
        case _:
            # log(1/X) uniform between log(1/max) and log(1/min) is log X uniform between log(min) and log(max), so
            # that inv_log_uniform_values is log_uniform_values.
            low, high = (_read(fields, key, as_number) for key in ("min", "max"))
    log = "log" in name
    return Float(float(low), float(high), log) if step is None else in_steps(low, high, step, log=log)


def _choice(fields: Fields) -> Domain:
    """Alternatives, with probabilities where they are given."""
    values, weights = fields["values"], fields.get("probabilities")
    if not isinstance(values, list | tuple):
        raise WandbKeyError("values", f"values is a list, such as [1, 2, 3], not {values!r}")
    scalars: tuple[Scalar, ...] = tuple(as_scalar(value) for value in values)
    if "probabilities" not in fields:
        return Choice(scalars)
    if not isinstance(weights, list | tuple):
        raise WandbKeyError("probabilities", f"probabilities is a list with one number per value, not {weights!r}")
    return Choice(scalars, tuple(float(as_number(weight)) for weight in weights))


def _exponents(fields: Fields, law: str) -> tuple[float, float]:
    """The bounds that W&B means by its exponents; refused where they look like the values themselves.

    inv_log_uniform has log(1/X) uniform between min and max, so that X is log-uniform between exp(-max) and exp(-min).
    """
    low, high = (float(_read(fields, key, as_number)) for key in ("min", "max"))
    if 0 < low < 1 or not max(abs(low), abs(high)) <= _LARGEST_EXPONENT:
        name = fields["distribution"]
        raise WandbKeyError(
            "distribution",
            f"W&B's {name} takes exponents, min: {low} means exp({low}), and these bounds look like the values "
            f"themselves; write distribution: {name}_values",
        )
    sign = -1 if law == "inv_log_uniform" else 1
    first, last = sorted((math.exp(sign * low), math.exp(sign * high)))
    return first, last


def _read(fields: Fields, key: str, reader: Callable[[object], Number], cure: str = "") -> Number:
    try:
        return reader(fields[key])
    except SpaceError as error:
        raise WandbKeyError(key, f"{key}: {error}{cure}") from error
