"""Search spaces that were written for Optuna or Ray Tune, taken as they are.

Both are recognised by the names of their classes and modules, never imported: Optuna is slow to import and Ray Tune may
not be installed. What an object says about itself is all that is read.
"""

from __future__ import annotations

from raycolab.errors import SpaceError
from raycolab.spec.domains import (
    Choice,
    Constant,
    Domain,
    Float,
    Integer,
    Normal,
    as_number,
    as_scalar,
    as_whole,
    stepped,
)

__all__ = ["foreign_domain"]

_OPTUNA = "optuna.distributions"
_TUNE = "ray.tune.search.sample"


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
        return Choice(tuple(as_scalar(choice) for choice in _items(value, "choices")))
    low, high = _field(value, "low"), _field(value, "high")
    step, log = _field(value, "step"), bool(_field(value, "log"))
    if name.startswith("Int"):
        return Integer(as_whole(low), as_whole(high), log, as_whole(step))
    bottom, top = float(as_number(low)), float(as_number(high))
    if bottom == top:
        return Constant(bottom)
    return Float(bottom, top, log, None if step is None else float(as_number(step)))


def _tune_domain(name: str, value: object) -> Domain:
    """Ray Tune's `Float`, `Integer` and `Categorical` with the samplers that its functions give them."""
    if name == "Categorical":
        return Choice(tuple(as_scalar(category) for category in _items(value, "categories")))
    if name not in ("Float", "Integer"):
        raise SpaceError(
            "Ray Tune's sample_from draws by calling a function, which cannot be repeated; compute the value in compute"
        )
    sampler = getattr(value, "sampler", None)
    quantum = None
    if type(sampler).__name__ == "Quantized":
        quantum, sampler = _field(sampler, "q"), _field(sampler, "sampler")
    law = type(sampler).__name__.strip("_")
    if law == "Normal":
        mean, sd = (float(as_number(_field(sampler, name))) for name in ("mean", "sd"))
        return Normal(mean, sd, step=None if quantum is None else float(as_number(quantum)))
    low, high = as_number(_field(value, "lower")), as_number(_field(value, "upper"))
    log = law == "LogUniform"
    if name == "Integer":
        return _tune_integer(as_whole(low), as_whole(high), log, quantum)
    if quantum is None:
        return Float(float(low), float(high), log)
    return stepped(float(low), float(high), float(as_number(quantum)), log=log)


def _tune_integer(low: int, high: int, log: bool, quantum: object) -> Domain:
    """Ray Tune leaves the upper bound out, except where it quantizes to more than 1."""
    q = 1 if quantum is None else as_whole(quantum)
    if q == 1:
        return Integer(low, high - 1, log)
    first, last = -(-low // q) * q, high // q * q
    if first > last:
        raise SpaceError(f"there is no multiple of {q} between {low} and {high}; take a smaller quantization")
    return Integer(first, last, log, q)


def _items(value: object, name: str) -> tuple[object, ...]:
    items = _field(value, name)
    return tuple(items) if isinstance(items, list | tuple) else (items,)


def _field(value: object, name: str) -> object:
    """An attribute of a foreign object; SpaceError when its library has changed its shape."""
    try:
        return getattr(value, name)
    except AttributeError:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise SpaceError(
            f"{kind} has no {name!r} in the installed version; write this parameter with raycolab's own functions"
        ) from None
