"""Search spaces as people write them: the functions, and what else is accepted for a parameter.

The functions have Ray Tune's names and meanings. Whatever is written becomes a flat mapping of names to domains
(`as_space`), nested names joined by "/". What a domain is and how it is drawn from stands in `raycolab.spec.domains`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

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
    check_computable,
    stepped,
)
from raycolab.spec.foreign import foreign_domain
from raycolab.spec.wandb import WandbKeyError, is_wandb_parameter, wandb_domain
from raycolab.trials import Scalar

__all__ = [
    "Domain",
    "ParameterError",
    "as_domain",
    "as_space",
    "choice",
    "grid_search",
    "integer",
    "lograndint",
    "loguniform",
    "quniform",
    "randint",
    "randn",
    "uniform",
]


class ParameterError(SpaceError):
    """One parameter of a space is malformed; `keys` is the way to it through the mappings as written."""

    def __init__(self, name: str, keys: tuple[str, ...], problem: str) -> None:
        super().__init__(f"parameter {name!r}: {problem}")
        self.keys = keys


def choice(values: Iterable[object]) -> Domain:
    """One of the values, each equally likely; names, numbers, booleans or None."""
    return Choice(_scalars("choice", values))


def grid_search(values: Iterable[object]) -> Domain:
    """Alternatives: method grid tries each, method random draws one, as of a list or `choice`."""
    return Choice(_scalars("grid_search", values))


def uniform(low: float, high: float) -> Domain:
    """A number between low and high."""
    return Float(_number("uniform", low), _number("uniform", high))


def quniform(low: float, high: float, q: float) -> Domain:
    """A multiple of q between low and high, both included."""
    bounds = _number("quniform", low), _number("quniform", high)
    return stepped(*bounds, _number("quniform", q))


def loguniform(low: float, high: float) -> Domain:
    """A number between low and high whose logarithm is uniform; low is above 0."""
    return Float(_number("loguniform", low), _number("loguniform", high), log=True)


def randint(low: int, high: int) -> Domain:
    """A whole number from low up to but not including high."""
    return _below("randint", low, high, log=False)


def lograndint(low: int, high: int) -> Domain:
    """A whole number from low up to but not including high, log-uniform; low is at least 1."""
    return _below("lograndint", low, high, log=True)


def integer(low: int, high: int) -> Domain:
    """A whole number from low to high, both included."""
    return Integer(_whole("integer", low), _whole("integer", high))


def randn(mean: float = 0.0, sd: float = 1.0) -> Domain:
    """A normally distributed number."""
    return Normal(_number("randn", mean), _number("randn", sd))


def as_domain(value: object) -> Domain:
    """The domain that a value means: a domain, a list of alternatives, a constant, or another library's object.

    Also `{"grid_search": [...]}` and a parameter in W&B's form. SpaceError for anything else, and for a distribution
    that floats cannot compute.
    """
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
        return Choice(_scalars("choice", value))
    if callable(value) or isinstance(value, set | frozenset | bytes):
        raise SpaceError(
            f"a {type(value).__name__} is not a search space; give a list of alternatives, one value, "
            "or a function of raycolab such as uniform(0, 1)"
        )
    return Constant(as_scalar(value))


def as_space(parameters: Mapping[str, object]) -> dict[str, Domain]:
    """Flat names and their domains, in the order written; ParameterError names the parameter that is wrong."""
    space: dict[str, Domain] = {}
    _flatten(parameters, "", (), space)
    for name in space:
        parts = name.split("/")
        for depth in range(1, len(parts)):
            group = "/".join(parts[:depth])
            if group in space:
                raise ParameterError(name, (group,), f"{group!r} is a parameter itself; rename one of the two")
    return space


def _flatten(parameters: Mapping[str, object], prefix: str, keys: tuple[str, ...], space: dict[str, Domain]) -> None:
    for key, value in parameters.items():
        here = (*keys, str(key))
        name = f"{prefix}{key}"
        if not isinstance(key, str) or not all(part.strip() for part in key.split("/")):
            raise ParameterError(name, here, "a parameter's name is text and not empty; put it in quotes")
        if isinstance(value, Mapping) and set(value) == {"parameters"} and isinstance(value["parameters"], Mapping):
            _flatten(value["parameters"], f"{name}/", (*here, "parameters"), space)
        elif isinstance(value, Mapping) and value and "grid_search" not in value and not is_wandb_parameter(value):
            _flatten(value, f"{name}/", here, space)
        elif name in space:
            raise ParameterError(name, here, "it is given twice; remove one")
        else:
            space[name] = _domain_of(name, here, value)


def _domain_of(name: str, keys: tuple[str, ...], value: object) -> Domain:
    try:
        return as_domain(value)
    except WandbKeyError as error:
        raise ParameterError(name, (*keys, error.key), str(error)) from error
    except SpaceError as error:
        raise ParameterError(name, keys, str(error)) from error


def _mapped_domain(value: Mapping[str, object]) -> Domain:
    if "grid_search" in value:
        if len(value) > 1:
            raise SpaceError("a mapping with grid_search has no other key; remove the others")
        return Choice(_scalars("grid_search", value["grid_search"]))
    if set(value) == {"parameters"}:
        raise SpaceError("parameters holds a mapping of nested names")
    if is_wandb_parameter(value):
        return wandb_domain(value)
    raise SpaceError("an empty mapping is no search space; give a list of alternatives or one value")


def _scalars(function: str, values: object) -> tuple[Scalar, ...]:
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise SpaceError(f"{function} takes a list, such as {function}([1, 2, 3]), not {values!r}")
    return tuple(as_scalar(value) for value in values)


def _number(function: str, value: object) -> float:
    try:
        return float(as_number(value))
    except SpaceError as error:
        raise SpaceError(f"{function}: {error}") from error


def _whole(function: str, value: object) -> int:
    try:
        return as_whole(value)
    except SpaceError as error:
        raise SpaceError(f"{function}: {error}") from error


def _below(function: str, low: object, high: object, *, log: bool) -> Domain:
    bottom, top = _whole(function, low), _whole(function, high)
    if bottom >= top:
        raise SpaceError(f"{function}({bottom}, {top}) has no value: high is excluded and must be above low")
    return Integer(bottom, top - 1, log)
