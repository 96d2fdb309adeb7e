"""Search spaces as people write them: the functions, and what else is accepted for a parameter.

The functions have Ray Tune's names and meanings. Whatever is written becomes a flat mapping of names to domains
(`as_space`), nested names joined by "/". What a domain is and how it is drawn from stands in `raycolab.spec.domains`.

Spaces written for Optuna or Ray Tune are taken as they are. Both are recognised by the names of their classes and
modules, never imported: Optuna is slow to import and Ray Tune may not be installed. What an object says about itself is
all that is read.
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
from raycolab.spec.wandb import WandbKeyError, is_wandb_parameter, wandb_domain
from raycolab.trials import Scalar

__all__ = [
    "Domain",
    "ParameterError",
    "as_domain",
    "as_space",
    "choice",
    "foreign_domain",
    "grid_search",
    "integer",
    "lograndint",
    "loguniform",
    "quniform",
    "randint",
    "randn",
    "uniform",
]


_OPTUNA = "optuna.distributions"
_TUNE = "ray.tune.search.sample"


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
