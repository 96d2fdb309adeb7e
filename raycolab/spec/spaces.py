"""Search spaces as people write them: the functions, and what else is accepted for a parameter.

The functions have Ray Tune's names and meanings. Whatever is written becomes a flat mapping of names to domains
(`as_space`), nested names joined by "/". What a domain is and how it is drawn from stands in `raycolab.spec.domains`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import accumulate

from raycolab.errors import SpaceError
from raycolab.spec.domains import Choice, Constant, Domain, Float, Integer, Normal, check_computable, stepped
from raycolab.spec.foreign import foreign_domain, is_wandb_parameter, wandb_domain
from raycolab.spec.values import ArgumentError, as_number, as_scalar, as_whole, flatten, within

__all__ = [
    "as_domain",
    "as_space",
    "choice",
    "grid_search",
    "integer",
    "is_parameter",
    "lograndint",
    "loguniform",
    "quniform",
    "randint",
    "randn",
    "uniform",
]


def choice(values: Iterable[object]) -> Domain:
    """One of the values, each equally likely; names, numbers, booleans or None."""
    return _alternatives("choice", values)


def grid_search(values: Iterable[object]) -> Domain:
    """Alternatives: method grid tries each, method random draws one, as of a list or `choice`."""
    return _alternatives("grid_search", values)


def uniform(low: float, high: float) -> Domain:
    """A number between low and high."""
    low, high = _numbers("uniform", low, high)
    return Float(low, high)


def quniform(low: float, high: float, q: float) -> Domain:
    """A multiple of q between low and high, both included."""
    low, high, q = _numbers("quniform", low, high, q)
    return stepped(low, high, q)


def loguniform(low: float, high: float) -> Domain:
    """A number between low and high whose logarithm is uniform; low is above 0."""
    low, high = _numbers("loguniform", low, high)
    return Float(low, high, log=True)


def randint(low: int, high: int) -> Domain:
    """A whole number from low up to but not including high."""
    return _below("randint", low, high, log=False)


def lograndint(low: int, high: int) -> Domain:
    """A whole number from low up to but not including high, log-uniform; low is at least 1."""
    return _below("lograndint", low, high, log=True)


def integer(low: int, high: int) -> Domain:
    """A whole number from low to high, both included."""
    low, high = _wholes("integer", low, high)
    return Integer(low, high)


def randn(mean: float = 0.0, sd: float = 1.0) -> Domain:
    """A normally distributed number."""
    mean, sd = _numbers("randn", mean, sd)
    return Normal(mean, sd)


def _alternatives(function: str, values: object) -> Domain:
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise SpaceError(f"{function} takes a list, such as {function}([1, 2, 3]), not {values!r}")
    return Choice(tuple(as_scalar(value) for value in values))


def _numbers(function: str, *values: object) -> list[float]:
    with within(prefix=f"{function}: ", space=True):
        return [float(as_number(value)) for value in values]


def _wholes(function: str, *values: object) -> list[int]:
    with within(prefix=f"{function}: ", space=True):
        return [as_whole(value) for value in values]


def _below(function: str, low: object, high: object, *, log: bool) -> Domain:
    bottom, top = _wholes(function, low, high)
    if bottom >= top:
        raise SpaceError(f"{function}({bottom}, {top}) has no value: high is excluded and must be above low")
    return Integer(bottom, top - 1, log)


def as_domain(value: object) -> Domain:
    """The domain that a value means: a domain, a list of alternatives, a constant, or another library's object.

    Also `{"grid_search": [...]}` and a parameter in W&B's form. SpaceError for anything else, and for a distribution
    that floats cannot compute.
    """
    with within(space=True):
        domain = _written_domain(value)
        check_computable(domain)
    return domain


def _written_domain(value: object) -> Domain:
    if isinstance(value, Domain):
        return value
    if isinstance(value, Mapping):
        return _mapped_domain(value)
    foreign = foreign_domain(value)
    if foreign is not None:
        return foreign
    is_array = type(value).__module__ == "numpy" and getattr(value, "ndim", 0) > 0
    if isinstance(value, list | tuple | range) or is_array:
        return _alternatives("choice", value)
    if callable(value) or isinstance(value, set | frozenset | bytes):
        raise SpaceError(
            f"a {type(value).__name__} is not a search space; give a list of alternatives, one value, "
            "or a function of raycolab such as uniform(0, 1)"
        )
    return Constant(as_scalar(value))


def _mapped_domain(value: Mapping[str, object]) -> Domain:
    if "grid_search" in value:
        if len(value) > 1:
            raise SpaceError("a mapping with grid_search has no other key; remove the others")
        return _alternatives("grid_search", value["grid_search"])
    if is_wandb_parameter(value):
        return wandb_domain(value)
    raise SpaceError("an empty mapping is no search space; give a list of alternatives or one value")


def is_parameter(value: Mapping[str, object]) -> bool:
    """Whether a mapping is one parameter rather than nested names."""
    return not value or "grid_search" in value or is_wandb_parameter(value)


def as_space(parameters: Mapping[str, object]) -> dict[str, Domain]:
    """Flat names and their domains, in the order written; SpaceArgumentError leads to the one that is wrong."""
    space: dict[str, Domain] = {}
    with within(space=True):
        for name, (path, value) in flatten(parameters, is_parameter).items():
            with within(*path, prefix=f"parameter {name!r}: "):
                space[name] = as_domain(value)
        for name in space:
            for group in accumulate(name.split("/")[:-1], "{}/{}".format):
                if group in space:
                    problem = f"parameter {name!r}: {group!r} is a parameter itself; rename one of the two"
                    raise ArgumentError(problem, (group,))
    return space
