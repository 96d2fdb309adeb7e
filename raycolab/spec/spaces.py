"""Search spaces as people write them: the functions, and what else is accepted for a parameter.

The functions have Ray Tune's names and meanings. Whatever is written becomes a flat mapping of names to domains
(`as_space`), nested names joined by "/". What a domain is and how it is drawn from stands in `raycolab.spec.domains`.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Mapping
from itertools import accumulate

from raycolab.errors import SpaceError
from raycolab.spec.domains import Choice, Constant, Domain, Float, GridSearch, Integer, Normal, check_computable
from raycolab.spec.foreign import foreign_domain, is_of_tune
from raycolab.spec.values import Refusals, as_number, as_value, as_whole, flatten, is_array, within
from raycolab.spec.wandb import in_steps, is_wandb_parameter, wandb_domain
from raycolab.trials import Value

__all__ = [
    "Method",
    "as_domain",
    "as_space",
    "choice",
    "constant",
    "grid_search",
    "integer",
    "lograndint",
    "loguniform",
    "quniform",
    "randint",
    "randn",
    "uniform",
]


class Method(enum.StrEnum):
    """How configurations are found."""

    GRID = "grid"
    RANDOM = "random"
    BAYES = "bayes"


def constant(value: object) -> Domain:
    """This value, which may be a list or a dict."""
    return Constant(as_value(value))


def choice(values: Iterable[object]) -> Domain:
    """One of the values, each equally likely; what JSON has, lists and dicts too."""
    return Choice(_listed("choice", values))


def grid_search(values: Iterable[object]) -> Domain:
    """Alternatives that are all tried `jobs_per_pair` times, whatever else is drawn; method grid tries each once."""
    return GridSearch(_listed("grid_search", values))


def uniform(low: float, high: float) -> Domain:
    """A number between low and high."""
    low, high = _numbers("uniform", low, high)
    return Float(low, high)


def quniform(low: float, high: float, q: float) -> Domain:
    """A multiple of q between low and high, which are multiples themselves and included, each half as likely."""
    low, high, q = _numbers("quniform", low, high, q)
    for end, bound in (("low", low), ("high", high)):
        if q > 0 and math.isfinite(bound / q) and not math.isclose(bound / q, round(bound / q)):
            raise SpaceError(f"quniform({low}, {high}, {q}): {end} is no multiple of {q}; take one that is")
    return in_steps(low, high, q)


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


def _listed(function: str, values: object) -> tuple[Value, ...]:
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise SpaceError(f"{function} takes a list, such as {function}([1, 2, 3]), not {values!r}")
    return tuple(as_value(value) for value in values)


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


def as_domain(value: object, method: Method = Method.RANDOM) -> Domain:
    """The domain that a value means: a domain, a list of alternatives, a constant, or another library's object.

    Also `{"grid_search": [...]}` and a parameter in W&B's form. SpaceError for anything else, and for a distribution
    that floats cannot compute, or that has no meaning with the method.
    """
    with within(space=True):
        domain = _written_domain(value, grid=method is Method.GRID)
        check_computable(domain)
        if isinstance(domain, GridSearch) and method is not Method.RANDOM:
            if method is Method.BAYES:
                raise SpaceError("method bayes cannot try all of a grid_search; give a list, or take method random")
            return Choice(domain.values)
        if isinstance(domain, Choice) and domain.probabilities and method is Method.GRID:
            return Choice(domain.possible, tuple(weight for weight in domain.probabilities if weight > 0))
    return domain


def _written_domain(value: object, *, grid: bool) -> Domain:
    if isinstance(value, Domain):
        return value
    if isinstance(value, Mapping):
        return _mapped_domain(value, grid=grid)
    foreign = foreign_domain(value)
    if foreign is not None:
        return foreign
    if _is_listing(value):
        return choice(value)  # type: ignore[arg-type]  # a listing
    if callable(value) or isinstance(value, set | frozenset | bytes):
        raise SpaceError(
            f"a {type(value).__name__} is not a search space; give a list of alternatives, one value, "
            "or a function of raycolab such as uniform(0, 1)"
        )
    return constant(value)


def _mapped_domain(value: Mapping[str, object], *, grid: bool) -> Domain:
    if "grid_search" in value:
        if len(value) > 1:
            raise SpaceError("a mapping with grid_search has no other key; remove the others")
        return grid_search(value["grid_search"])  # type: ignore[arg-type]  # it looks
    if is_wandb_parameter(value):
        return wandb_domain(value, grid=grid)
    raise SpaceError("an empty mapping is no search space; give a list of alternatives or one value")


def _is_listing(value: object) -> bool:
    """Whether it is alternatives; a tuple is one value, as Ray Tune has it."""
    return isinstance(value, list | range) or is_array(value)


def _check_beside_tune(value: object) -> None:
    """SpaceError for what Ray Tune takes for one value and we do not, in a space that has its objects."""
    if _is_listing(value):
        raise SpaceError(
            "a list beside Ray Tune's objects is one value there and alternatives here; write "
            "raycolab.constant([...]) for the one, raycolab.choice([...]) for the others"
        )
    if isinstance(value, Mapping) and is_wandb_parameter(value):
        raise SpaceError(
            "a mapping beside Ray Tune's objects is one value there and W&B's form of a parameter here; write "
            "raycolab.constant({...}) for the one, a function such as raycolab.uniform for the other"
        )


def as_space(parameters: Mapping[str, object], method: Method = Method.RANDOM) -> dict[str, Domain]:
    """Flat names and their domains, in the order written; SpaceArgumentError leads to all that are wrong."""
    space: dict[str, Domain] = {}
    refusals = Refusals()
    with within(space=True):
        flat = flatten(parameters, lambda _, value: not value or "grid_search" in value or is_wandb_parameter(value))
        of_tune = any(
            is_of_tune(value) or (isinstance(value, Mapping) and "grid_search" in value) for _, value in flat.values()
        )
        for name, (path, value) in flat.items():
            with refusals.at(*path, prefix=f"parameter {name!r}: "):
                if of_tune:
                    _check_beside_tune(value)
                space[name] = as_domain(value, method)
            for group in accumulate(name.split("/")[:-1], "{}/{}".format):
                if group in flat:
                    problem = f"parameter {name!r}: {group!r} is a parameter itself; rename one of the two"
                    refusals.add(problem, *flat[group][0])
        refusals.raise_all()
    return space
