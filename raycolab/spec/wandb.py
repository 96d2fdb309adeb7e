"""One parameter as W&B writes it: `{values: [...]}`, `{min: 0, max: 1}`, `{distribution: ..., ...}`, as a domain.

The forms are those of W&B's published schema (wandb/sweeps, src/sweeps/config/schema.json), with its defaults: `q` is
1.0, `mu` 0, `sigma` 1, `a` and `b` 1; without a distribution whole bounds mean int_uniform and others uniform; a whole
`q` gives whole values. Nested parameters (`{parameters: ...}`) are not one parameter: see `raycolab.spec.spaces`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from raycolab.errors import SpaceError
from raycolab.spec.domains import Beta, Choice, Constant, Domain, Float, Integer, Normal, stepped
from raycolab.spec.values import as_number, as_scalar, as_whole
from raycolab.text import did_you_mean, listed

__all__ = ["WandbKeyError", "is_wandb_parameter", "wandb_domain"]

_TELLING = frozenset({"value", "values", "min", "max", "distribution", "parameters"})
_EXP_LIMIT = 50.0  # exponents above it give numbers nobody searches: e^50 is 5e21

Fields = Mapping[str, object]


class WandbKeyError(SpaceError):
    """A W&B parameter has a wrong key or value; `key` names it."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(problem)
        self.key = key


def is_wandb_parameter(fields: Mapping[str, object]) -> bool:
    """Whether a mapping is a parameter in W&B's form rather than one of nested names."""
    return not _TELLING.isdisjoint(fields)


def wandb_domain(fields: Fields) -> Domain:
    """The domain of one W&B parameter; WandbKeyError names the key that is wrong and the cure."""
    for key in fields:
        if key not in _KEYS:
            raise WandbKeyError(key, f"unknown key {key!r}{did_you_mean(key, _KEYS)}; known are {listed(_KEYS)}")
    name = _distribution(fields)
    form = _FORMS[name]
    known = (*form.required, *form.defaults)
    for key in fields:
        if key != "distribution" and key not in known:
            raise WandbKeyError(
                key,
                f"distribution {name} has no key {key!r}; its keys are {listed(known)}",
            )
    for key in form.required:
        if key not in fields:
            raise WandbKeyError("distribution", f"distribution {name} needs the key {key!r}; add it")
    return form.domain({**form.defaults, **fields})


def _distribution(fields: Fields) -> str:
    """The distribution that is named, or that W&B takes for these keys."""
    if "distribution" in fields:
        name = fields["distribution"]
        if not isinstance(name, str) or name not in _FORMS:
            raise WandbKeyError(
                "distribution",
                f"unknown distribution {name!r}{did_you_mean(str(name), _FORMS)}; known are {listed(_FORMS)}",
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
    bounds = _number(fields, "min"), _number(fields, "max")
    return "int_uniform" if all(isinstance(bound, int) for bound in bounds) else "uniform"


def _number(fields: Fields, key: str) -> int | float:
    try:
        return as_number(fields[key])
    except SpaceError as error:
        raise WandbKeyError(key, f"{key}: {error}") from error


def _values(fields: Fields) -> tuple[object, ...]:
    values = fields["values"]
    if not isinstance(values, list | tuple):
        raise WandbKeyError("values", f"values is a list, such as [1, 2, 3], not {values!r}")
    return tuple(values)


def _categorical(fields: Fields) -> Domain:
    return Choice(tuple(as_scalar(value) for value in _values(fields)))


def _weighted(fields: Fields) -> Domain:
    weights = fields["probabilities"]
    if not isinstance(weights, list | tuple):
        raise WandbKeyError("probabilities", f"probabilities is a list with one number per value, not {weights!r}")
    values = tuple(as_scalar(value) for value in _values(fields))
    return Choice(values, tuple(float(as_number(weight)) for weight in weights))


def _int_uniform(fields: Fields) -> Domain:
    whole = {}
    for key in ("min", "max"):
        try:
            whole[key] = as_whole(fields[key])
        except SpaceError as error:
            raise WandbKeyError(
                key, f"{key}: {error}; for numbers with a fraction use distribution: uniform"
            ) from error
    return Integer(whole["min"], whole["max"])


def _floating(fields: Fields) -> Domain:
    return Float(float(_number(fields, "min")), float(_number(fields, "max")))


def _log_values(fields: Fields) -> Domain:
    return Float(float(_number(fields, "min")), float(_number(fields, "max")), log=True)


def _quantized(fields: Fields) -> Domain:
    return stepped(_number(fields, "min"), _number(fields, "max"), _number(fields, "q"))


def _quantized_log_values(fields: Fields) -> Domain:
    return stepped(_number(fields, "min"), _number(fields, "max"), _number(fields, "q"), log=True)


def _exponents(fields: Fields, *, sign: int = 1) -> tuple[float, float]:
    """The bounds that W&B's log_uniform means by its exponents; refused where they look like values."""
    low, high = float(_number(fields, "min")), float(_number(fields, "max"))
    if 0 < low < 1 or max(abs(low), abs(high)) > _EXP_LIMIT:
        name = str(fields["distribution"])
        raise WandbKeyError(
            "distribution",
            f"W&B's {name} takes exponents, min: {low} means exp({low}), and these bounds look like the values "
            f"themselves; write distribution: {name}_values",
        )
    ends = sorted((math.exp(sign * low), math.exp(sign * high)))
    return ends[0], ends[1]


def _log_exponents(fields: Fields) -> Domain:
    return Float(*_exponents(fields), log=True)


def _inverse_log_exponents(fields: Fields) -> Domain:
    """Log(1/X) is uniform between min and max, so X is log-uniform between exp(-max) and exp(-min)."""
    return Float(*_exponents(fields, sign=-1), log=True)


def _quantized_log_exponents(fields: Fields) -> Domain:
    return stepped(*_exponents(fields), _number(fields, "q"), log=True)


def _normal(fields: Fields) -> Domain:
    return _bell(fields, log=False)


def _log_normal(fields: Fields) -> Domain:
    return _bell(fields, log=True)


def _bell(fields: Fields, *, log: bool) -> Domain:
    step = _number(fields, "q") if "q" in fields else None
    return Normal(float(_number(fields, "mu")), float(_number(fields, "sigma")), log, step)


def _beta(fields: Fields) -> Domain:
    step = _number(fields, "q") if "q" in fields else None
    return Beta(float(_number(fields, "a")), float(_number(fields, "b")), step)


@dataclass(frozen=True, slots=True)
class _Form:
    domain: Callable[[Fields], Domain]
    required: tuple[str, ...]
    defaults: Mapping[str, object]


_BOUNDS = ("min", "max")
_Q: Mapping[str, object] = {"q": 1.0}
_BELL: Mapping[str, object] = {"mu": 0.0, "sigma": 1.0}
_AB: Mapping[str, object] = {"a": 1.0, "b": 1.0}

_FORMS: Mapping[str, _Form] = {
    "constant": _Form(lambda fields: Constant(as_scalar(fields["value"])), ("value",), {}),
    "categorical": _Form(_categorical, ("values",), {}),
    "categorical_w_probabilities": _Form(_weighted, ("values", "probabilities"), {}),
    "int_uniform": _Form(_int_uniform, _BOUNDS, {}),
    "uniform": _Form(_floating, _BOUNDS, {}),
    "q_uniform": _Form(_quantized, _BOUNDS, _Q),
    "log_uniform": _Form(_log_exponents, _BOUNDS, {}),
    "log_uniform_values": _Form(_log_values, _BOUNDS, {}),
    "q_log_uniform": _Form(_quantized_log_exponents, _BOUNDS, _Q),
    "q_log_uniform_values": _Form(_quantized_log_values, _BOUNDS, _Q),
    "inv_log_uniform": _Form(_inverse_log_exponents, _BOUNDS, {}),
    # log(1/X) uniform between log(1/max) and log(1/min) is log X uniform between log(min) and log(max)
    "inv_log_uniform_values": _Form(_log_values, _BOUNDS, {}),
    "normal": _Form(_normal, (), _BELL),
    "q_normal": _Form(_normal, (), {**_BELL, **_Q}),
    "log_normal": _Form(_log_normal, (), _BELL),
    "q_log_normal": _Form(_log_normal, (), {**_BELL, **_Q}),
    "beta": _Form(_beta, (), _AB),
    "q_beta": _Form(_beta, (), {**_AB, **_Q}),
}

_KEYS = tuple(
    dict.fromkeys(
        ["distribution", "parameters", *(key for form in _FORMS.values() for key in (*form.required, *form.defaults))]
    )
)
