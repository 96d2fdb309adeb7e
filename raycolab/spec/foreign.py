"""Parameters as W&B, Optuna and Ray Tune write them, as domains.

W&B's forms (`{values: [...]}`, `{min: 0, max: 1}`, `{distribution: ..., ...}`) are those of its published schema
(wandb/sweeps, src/sweeps/config/schema.json), with its defaults: `q` is 1.0, `mu` 0, `sigma` 1, `a` and `b` 1; without
a distribution whole bounds mean int_uniform and others uniform; a whole `q` gives whole values. Nested parameters
(`{parameters: ...}`) are not one parameter.

Optuna's and Ray Tune's objects are recognised by the names of their classes and modules, never imported: Optuna is slow
to import and Ray Tune may not be installed. What an object says about itself is all that is read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from raycolab.errors import SpaceError
from raycolab.spec.domains import Beta, Choice, Constant, Domain, Float, Integer, Normal, stepped
from raycolab.spec.values import ArgumentError, as_number, as_scalar, as_whole, within
from raycolab.text import did_you_mean, listed
from raycolab.trials import Scalar

__all__ = ["foreign_domain", "is_wandb_parameter", "wandb_domain"]

# The keys of each of W&B's distributions: None where it has to be given, else its default.
_BOUNDS: Mapping[str, float | None] = {"min": None, "max": None}
_BELL: Mapping[str, float | None] = {"mu": 0.0, "sigma": 1.0}
_WITH_STEPS: Mapping[str, Mapping[str, float | None]] = {
    "uniform": _BOUNDS,
    "log_uniform": _BOUNDS,
    "log_uniform_values": _BOUNDS,
    "normal": _BELL,
    "log_normal": _BELL,
    "beta": {"a": 1.0, "b": 1.0},
}
_KEYS_OF: Mapping[str, Mapping[str, float | None]] = {
    "constant": {"value": None},
    "categorical": {"values": None},
    "categorical_w_probabilities": {"values": None, "probabilities": None},
    "int_uniform": _BOUNDS,
    "inv_log_uniform": _BOUNDS,
    "inv_log_uniform_values": _BOUNDS,
    **_WITH_STEPS,
    **{f"q_{name}": {**keys, "q": 1.0} for name, keys in _WITH_STEPS.items()},
}
_KEYS = tuple(dict.fromkeys(["distribution", "parameters", *(key for keys in _KEYS_OF.values() for key in keys)]))
_TELLING = frozenset({"value", "values", "min", "max", "distribution", "parameters"})
# Exponents above it give numbers that nobody searches: e^50 is 5e21.
_LARGEST_EXPONENT = 50.0

_OPTUNA = "optuna.distributions"
_TUNE = "ray.tune.search.sample"

Fields = Mapping[str, object]


def is_wandb_parameter(fields: Fields) -> bool:
    """Whether a mapping is a parameter in W&B's form rather than one of nested names."""
    return not _TELLING.isdisjoint(fields)


def wandb_domain(fields: Fields) -> Domain:
    """The domain of one W&B parameter; ArgumentError leads to the key that is wrong."""
    for key in fields:
        if key not in _KEYS:
            hint = did_you_mean(str(key), _KEYS)
            raise ArgumentError(f"unknown key {key!r}{hint}; known are {listed(_KEYS)}", (str(key),))
    name = _distribution(fields)
    known = _KEYS_OF[name]
    for key in fields:
        if key != "distribution" and key not in known:
            raise ArgumentError(f"distribution {name} has no key {key!r}; its keys are {listed(known)}", (key,))
    for key, default in known.items():
        if default is None and key not in fields:
            raise ArgumentError(f"distribution {name} needs the key {key!r}; add it", ("distribution",))
    if "value" in known:
        return Constant(as_scalar(fields["value"]))
    if "values" in known:
        return _categorical(fields)
    numbers: dict[str, int | float] = {}
    for key, default in known.items():
        with within(key, prefix=f"{key} of {name}: "):
            number = as_number(fields.get(key, default))
            numbers[key] = as_whole(number) if name == "int_uniform" else number
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
    bounds = (as_scalar(fields[key]) for key in ("min", "max"))
    return "int_uniform" if all(isinstance(bound, int) for bound in bounds) else "uniform"


def _categorical(fields: Fields) -> Domain:
    for key in ("values", "probabilities"):
        if not isinstance(fields.get(key, []), list | tuple):
            raise ArgumentError(f"{key} is a list, such as [1, 2, 3], not {fields[key]!r}", (key,))
    values = _scalars(fields["values"])
    if "probabilities" not in fields:
        return Choice(values)
    return Choice(values, tuple(float(as_number(weight)) for weight in _scalars(fields["probabilities"])))


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
    return Float(float(first), float(second), log) if step is None else stepped(first, second, step, log=log)


def _check_exponents(name: str, low: float, high: float) -> None:
    """ArgumentError where the bounds that W&B takes for exponents look like the values themselves."""
    if 0 < low < 1 or not max(abs(low), abs(high)) <= _LARGEST_EXPONENT:
        raise ArgumentError(
            f"W&B's {name} takes exponents, min: {low} means exp({low}), and these bounds look like the values "
            f"themselves; write distribution: {name}_values",
            ("distribution",),
        )


def foreign_domain(value: object) -> Domain | None:
    """The domain that an Optuna distribution or a Ray Tune search space object means; None for anything else."""
    for known in type(value).__mro__:
        if known.__module__ == _OPTUNA:
            return _optuna_domain(known.__name__, value)
        if known.__module__ == _TUNE:
            return _tune_domain(known.__name__, value)
    return None


def _optuna_domain(name: str, value: object) -> Domain:
    """`FloatDistribution`, `IntDistribution` and `CategoricalDistribution`; older ones are subclasses of these."""
    if name.endswith("CategoricalDistribution"):
        return Choice(_scalars(_field(value, "choices")))
    low, high = _number(value, "low"), _number(value, "high")
    log = bool(_field(value, "log"))
    if name.startswith("Int"):
        return Integer(as_whole(low), as_whole(high), log, as_whole(_field(value, "step")))
    if low == high:
        return Constant(float(low))
    step = None if _field(value, "step") is None else float(_number(value, "step"))
    return Float(float(low), float(high), log, step)


def _tune_domain(name: str, value: object) -> Domain:
    """Ray Tune's `Float`, `Integer` and `Categorical` with the samplers that its functions give them."""
    if name == "Categorical":
        return Choice(_scalars(_field(value, "categories")))
    if name not in ("Float", "Integer"):
        raise SpaceError(
            "Ray Tune's sample_from draws by calling a function, which cannot be repeated; compute the value in compute"
        )
    sampler = getattr(value, "sampler", None)
    q = None
    if type(sampler).__name__ == "Quantized":
        q, sampler = float(_number(sampler, "q")), _field(sampler, "sampler")
    law = type(sampler).__name__.strip("_")
    if law == "Normal":
        return Normal(float(_number(sampler, "mean")), float(_number(sampler, "sd")), step=q)
    low, high, log = _number(value, "lower"), _number(value, "upper"), law == "LogUniform"
    if name == "Float":
        return Float(float(low), float(high), log) if q is None else stepped(float(low), float(high), q, log=log)
    # Ray Tune leaves the upper bound out, except where it quantizes to more than 1.
    bottom, top, step = as_whole(low), as_whole(high), as_whole(1 if q is None else q)
    if step == 1:
        return Integer(bottom, top - 1, log)
    first, last = -(-bottom // step) * step, top // step * step
    if first > last:
        raise SpaceError(f"there is no multiple of {step} between {bottom} and {top}; take a smaller one")
    return Integer(first, last, log, step)


def _scalars(values: object) -> tuple[Scalar, ...]:
    return tuple(as_scalar(value) for value in (values if isinstance(values, list | tuple) else [values]))


def _number(value: object, name: str) -> int | float:
    return as_number(_field(value, name))


def _field(value: object, name: str) -> object:
    """An attribute of a foreign object; SpaceError when its library has changed its shape."""
    try:
        return getattr(value, name)
    except AttributeError:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise SpaceError(
            f"{kind} has no {name!r} in the installed version; write this parameter with raycolab's own functions"
        ) from None
