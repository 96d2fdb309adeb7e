"""Search spaces of Optuna and Ray Tune, as domains that mean what they mean there.

Their objects are recognised by the names of their classes and modules, never imported: Optuna is slow to import and Ray
Tune may not be installed. What an object says about itself is all that is read.
"""

from __future__ import annotations

from raycolab.errors import SpaceError
from raycolab.spec.domains import Choice, Constant, Domain, Float, GridSearch, Integer, Normal
from raycolab.spec.values import as_number, as_value, as_whole
from raycolab.spec.wandb import in_steps
from raycolab.trials import Value

__all__ = ["foreign_domain", "is_of_tune"]

_OPTUNA = "optuna.distributions"
_TUNE = "ray.tune.search.sample"


def is_of_tune(value: object) -> bool:
    """Whether it is an object of Ray Tune's."""
    return any(known.__module__ == _TUNE for known in type(value).__mro__)


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
        return Choice(_values(_field(value, "choices")))
    low, high = _number(value, "low"), _number(value, "high")
    log = bool(_field(value, "log"))
    if name.startswith("Int"):
        step = as_whole(_field(value, "step"))
        return Integer(as_whole(low), as_whole(high), log, step, "optuna" if log else None)
    if low == high:
        return Constant(float(low))
    if _field(value, "step") is None:
        return Float(float(low), float(high), log)
    return Float(float(low), float(high), step=float(_number(value, "step")), law="optuna")


def _tune_domain(name: str, value: object) -> Domain:
    """Ray Tune's `Float`, `Integer` and `Categorical` with the samplers that its functions give them."""
    sampler = getattr(value, "sampler", None)
    if name == "Categorical":
        values = _values(_field(value, "categories"))
        return GridSearch(values) if type(sampler).__name__ == "Grid" else Choice(values)
    if name not in ("Float", "Integer"):
        raise SpaceError(
            "Ray Tune's sample_from draws by calling a function, which cannot be repeated; compute the value in compute"
        )
    q = None
    if type(sampler).__name__ == "Quantized":
        q, sampler = float(_number(sampler, "q")), _field(sampler, "sampler")
    law = type(sampler).__name__.strip("_")
    if law == "Normal":
        return Normal(float(_number(sampler, "mean")), float(_number(sampler, "sd")), step=q)
    low, high, log = _number(value, "lower"), _number(value, "upper"), law == "LogUniform"
    if name == "Float":
        # Steps lie between bounds that are multiples: Ray Tune refuses others.
        return Float(float(low), float(high), log) if q is None else in_steps(float(low), float(high), q, log=log)
    # Ray Tune leaves the upper bound out, except where it quantizes to more than 1.
    bottom, top, step = as_whole(low), as_whole(high), as_whole(1 if q is None else q)
    if step == 1:
        return Integer(bottom, top - 1, log)
    first, last = -(-bottom // step) * step, top // step * step
    if first > last:
        raise SpaceError(f"there is no multiple of {step} between {bottom} and {top}; take a smaller one")
    return Integer(first, last, log, step)


def _values(values: object) -> tuple[Value, ...]:
    return tuple(as_value(value) for value in (values if isinstance(values, list | tuple) else [values]))


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
