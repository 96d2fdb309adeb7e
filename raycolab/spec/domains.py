"""The domains a parameter is searched in: what each value may be, and how likely. Nothing here draws or searches.

A domain is a frozen value, kept in the database as it is declared here. Its one question is `at(unit)`: the value at
that quantile, so that whoever brings a number in [0, 1) decides about chance, and the same number gives the same value
for ever. `grid()` lists the values of a finite domain.

    Constant     one value
    Choice       alternatives, equally likely unless it has probabilities
    GridSearch   alternatives that are all tried, whatever else is drawn
    Float        uniform or log-uniform between two bounds, in steps or not
    Integer      whole numbers between two bounds, both included
    Normal       a normal distribution, or its exponential, in steps or not
    Beta         a beta distribution on [0, 1], in steps or not
"""

from __future__ import annotations

import json
import math
from decimal import Decimal
from functools import lru_cache
from statistics import NormalDist
from typing import Literal

import msgspec

from raycolab.errors import SpaceError
from raycolab.spec.beta import LARGEST_SHAPE, SMALLEST_SHAPE, beta_quantile
from raycolab.spec.values import as_number, as_value, as_whole
from raycolab.trials import Value

__all__ = [
    "LARGEST_UNIT",
    "MAX_GRID_VALUES",
    "Beta",
    "Choice",
    "Constant",
    "Domain",
    "Float",
    "GridSearch",
    "Integer",
    "Normal",
    "admitted",
    "check_computable",
    "domain_json",
    "ends",
    "tidy",
    "value_key",
]

MAX_GRID_VALUES = 10_000
"""The most values of one numeric domain that a grid lists; more is a mistake rather than a wish."""

LARGEST_UNIT = 1.0 - 2.0**-53
"""The last number below 1: the quantile of the largest value a domain gives."""

# What a unit of 0 counts as where the quantile of 0 is minus infinity.
_SMALLEST_UNIT = 2.0**-54
# How far a bound may be from a multiple of the step, in steps, and still be one.
_CLOSE = 1e-9
# How far a value may be from a step, relative to itself, and still be on it.
_SAME = 1e-12
# The most steps that floats can count.
_MOST_STEPS = 2**53


class _Law(msgspec.Struct, frozen=True, tag_field="kind", tag=str.lower, forbid_unknown_fields=True):
    """What values one parameter may take. The database has its fields, and its class in lower case as its kind."""

    def at(self, unit: float) -> Value:
        """The value at a quantile in [0, 1)."""
        raise NotImplementedError

    @property
    def count(self) -> int:
        """How many values there are; 0 where they have no steps."""
        return 0

    def nth(self, index: int) -> Value:
        """One of `count` values, from 0."""
        raise NotImplementedError

    def grid(self) -> list[Value]:
        """Every value in order; SpaceError where there are too many to list."""
        if not self.count:
            raise SpaceError(
                f"{self} is continuous and method grid needs alternatives; give a list such as [1, 2, 3], "
                "or use method random"
            )
        if self.count > MAX_GRID_VALUES:
            raise SpaceError(
                f"{self} has {self.count:,} values and method grid lists at most {MAX_GRID_VALUES:,}; "
                "give a list of the ones you mean, or use method random"
            )
        return [self.nth(index) for index in range(self.count)]


class Constant(_Law, frozen=True):
    """One value."""

    value: Value

    def at(self, unit: float) -> Value:
        return self.value

    def grid(self) -> list[Value]:
        return [self.value]

    def __str__(self) -> str:
        return repr(self.value)


class Choice(_Law, frozen=True):
    """Alternatives, equally likely unless each has a probability."""

    values: tuple[Value, ...]
    # weights; they are divided by their sum
    probabilities: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not self.values:
            raise SpaceError("a choice needs at least one value, and this one is empty")
        weights = self.probabilities
        if weights is None:
            return
        if len(weights) != len(self.values):
            raise SpaceError(f"there are {len(self.values)} values and {len(weights)} probabilities; give one for each")
        if not all(weight >= 0 for weight in weights) or not 0 < sum(weights) < math.inf:
            raise SpaceError("probabilities are finite numbers from 0 upward, at least one of them above 0")

    def at(self, unit: float) -> Value:
        """The alternative whose share of [0, 1) holds the quantile."""
        if self.probabilities is None:
            return self.values[min(int(unit * len(self.values)), len(self.values) - 1)]
        left = unit * sum(self.probabilities)
        chosen = self.values[0]
        for value, weight in zip(self.values, self.probabilities, strict=True):
            if weight > 0:
                chosen = value
                if left < weight:
                    break
            left -= weight
        return chosen

    @property
    def possible(self) -> tuple[Value, ...]:
        """The alternatives without those of probability 0."""
        weights = self.probabilities or (1.0,) * len(self.values)
        return tuple(value for value, weight in zip(self.values, weights, strict=True) if weight > 0)

    def grid(self) -> list[Value]:
        return list(self.values)

    def __str__(self) -> str:
        weighted = "" if self.probabilities is None else f" with probabilities {list(self.probabilities)!r}"
        return f"{list(self.values)!r}{weighted}"


class GridSearch(_Law, frozen=True):
    """Ray Tune's `grid_search`: method random tries each value as often as the others, and draws the rest."""

    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise SpaceError("grid_search needs at least one value, and this one is empty")

    def at(self, unit: float) -> Value:
        return Choice(self.values).at(unit)

    def grid(self) -> list[Value]:
        return list(self.values)

    def __str__(self) -> str:
        return f"grid_search({list(self.values)!r})"


Law = Literal["wandb", "optuna"]
"""Whose law of steps it is, where it is not Ray Tune's."""


class Float(_Law, frozen=True):
    """A number between two bounds, or one of the steps between them.

    Steps are low, low + step … high, the ends half as likely as those between, as Ray Tune has it; with W&B's law the
    multiples of the step, which may lie beyond a bound by half a step; with Optuna's as without, but equally likely.
    Where what they are counted from and the step are of type int, so are the values.
    """

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None
    law: Law | None = None

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise SpaceError(f"{self} needs its low bound below its high one; for one fixed value give the value")
        if self.log and self.low <= 0:
            raise SpaceError(f"{self} needs a low bound above 0; start at a small positive number, or use uniform")
        _check_step(self, self.step)
        if self.law is not None and (self.step is None or (self.log and self.law == "optuna")):
            raise SpaceError(f"{self} has a law of steps, {self.law}, and no such steps; leave it out")

    @property
    def _origin(self) -> int | float:
        """What the steps are counted from."""
        return 0 if self.law == "wandb" else self.low

    @property
    def _first(self) -> int:
        """Steps from the origin to the smallest value that has a share."""
        return math.floor(self.low / self.step + 0.5) if self.law == "wandb" and self.step else 0

    @property
    def count(self) -> int:
        if self.step is None:
            return 0
        if self.law == "wandb":
            return math.ceil(self.high / self.step - 0.5) - self._first + 1
        return math.floor((self.high - self.low) / self.step + _CLOSE) + 1

    def nth(self, index: int) -> int | float:
        return tidy(self._origin, 0 if self.step is None else self.step, self._first + index)

    def at(self, unit: float) -> int | float:
        """The number at the quantile, rounded to a step where there is one."""
        if self.law == "optuna":
            return self.nth(min(int(unit * self.count), self.count - 1))
        if self.log:
            bottom = math.log(self.low)
            value = math.exp(bottom + unit * (math.log(self.high) - bottom))
        else:
            value = self.low * (1.0 - unit) + self.high * unit
        if self.step is None:
            return min(max(value, self.low), self.high)
        steps = math.floor((value - self._origin) / self.step + 0.5) - self._first
        return self.nth(min(max(steps, 0), self.count - 1))

    def __str__(self) -> str:
        if self.law == "optuna":
            return f"FloatDistribution({self.low}, {self.high}, step={self.step})"
        if self.law == "wandb":
            return f"{'q_log_uniform_values' if self.log else 'q_uniform'}({self.low}, {self.high}, {self.step})"
        return _call("loguniform" if self.log else "uniform", self.low, self.high, self.step)


class Integer(_Law, frozen=True):
    """A whole number between two bounds, both included, in steps counted from low.

    Log-uniform ones are counted in steps and rounded down, as Ray Tune does, or to the nearest by Optuna's law.
    """

    low: int
    high: int
    log: bool = False
    step: int = 1
    law: Literal["optuna"] | None = None

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise SpaceError(f"{self} has no value: its low bound is above its high one; swap them")
        if self.step < 1:
            raise SpaceError(f"{self} needs a step of at least 1")
        if self.log and self.low < self.step:
            raise SpaceError(f"{self} is logarithmic and needs a low bound of at least {self.step}")
        if self.law is not None and not (self.log and self.step == 1):
            raise SpaceError(f"{self} is not logarithmic in steps of 1, so Optuna has no law of its own; leave it out")

    @property
    def count(self) -> int:
        return (self.high - self.low) // self.step + 1

    def nth(self, index: int) -> Value:
        return self.low + self.step * index

    @property
    def log_bounds(self) -> tuple[float, float]:
        """Between which the logarithm is uniform, in steps."""
        first = self.low // self.step
        down = 0.5 if self.law == "optuna" else 0
        return first - down, first + self.count - down

    def at(self, unit: float) -> Value:
        if self.log:
            low, high = self.log_bounds
            bottom = math.log(low)
            value = math.exp(bottom + unit * (math.log(high) - bottom))
            index = int(value + (0.5 if self.law == "optuna" else 0)) - self.low // self.step
        else:
            index = int(unit * self.count)
        return self.nth(min(max(index, 0), self.count - 1))

    def __str__(self) -> str:
        if self.law == "optuna":
            return f"IntDistribution({self.low}, {self.high}, log=True)"
        if self.log:
            return f"lograndint({self.low}, {self.high + 1})"
        return (
            f"integer({self.low}, {self.high}, {self.step})" if self.step > 1 else f"integer({self.low}, {self.high})"
        )


class Normal(_Law, frozen=True):
    """A normal distribution, or with `log` the exponential of one; rounded to multiples of a step if there is one."""

    mean: int | float = 0.0
    sd: int | float = 1.0
    log: bool = False
    step: int | float | None = None

    def __post_init__(self) -> None:
        if not self.sd > 0:
            raise SpaceError(f"{self} needs a standard deviation above 0")
        _check_step(self, self.step)

    def at(self, unit: float) -> Value:
        value = NormalDist(self.mean, self.sd).inv_cdf(max(unit, _SMALLEST_UNIT))
        value = math.exp(value) if self.log else value
        return value if self.step is None else tidy(0, self.step, math.floor(value / self.step + 0.5))

    def __str__(self) -> str:
        return _call("lognormal" if self.log else "randn", self.mean, self.sd, self.step)


class Beta(_Law, frozen=True):
    """A beta distribution on [0, 1]; rounded to multiples of a step if there is one."""

    a: int | float = 1.0
    b: int | float = 1.0
    step: int | float | None = None

    def __post_init__(self) -> None:
        if not all(SMALLEST_SHAPE <= shape <= LARGEST_SHAPE for shape in (self.a, self.b)):
            raise SpaceError(f"{self} needs a and b from {SMALLEST_SHAPE} to {LARGEST_SHAPE:,.0f}")
        _check_step(self, self.step)

    def at(self, unit: float) -> Value:
        value = beta_quantile(self.a, self.b, unit)
        return value if self.step is None else tidy(0, self.step, math.floor(value / self.step + 0.5))

    def __str__(self) -> str:
        return _call("beta", self.a, self.b, self.step)


Domain = Constant | Choice | GridSearch | Float | Integer | Normal | Beta


def domain_json(domain: Domain) -> dict[str, object]:
    """The domain as the database keeps it; what it does not have is left out."""
    fields: dict[str, object] = msgspec.to_builtins(domain)
    return {key: value for key, value in fields.items() if value is not None or key == "value"}


def ends(domain: Domain) -> tuple[int | float, int | float]:
    """The smallest and the largest number that a domain of numbers gives."""
    return as_number(domain.at(0.0)), as_number(domain.at(LARGEST_UNIT))


def check_computable(domain: Domain) -> None:
    """SpaceError for a domain some of whose values, or whose law, floats cannot hold.

    Quantiles grow with their unit, so that what lies between two that are finite is finite.
    """
    if isinstance(domain, Constant | Choice | GridSearch):
        return
    step = None if isinstance(domain, Integer) else domain.step
    try:
        low, high = (float(end) for end in ends(domain))
        computable = math.isfinite(high - low)
        if step is not None:
            origin = domain.low if isinstance(domain, Float) and domain.law != "wandb" else 0
            computable &= max(abs(low - origin), abs(high - origin)) / step <= _MOST_STEPS
    except (OverflowError, ValueError):
        computable = False
    if not computable:
        coarser = "" if step is None else ", or a larger step"
        raise SpaceError(f"{domain} reaches beyond what a float can hold; take a narrower distribution{coarser}")
    if isinstance(domain, Normal) and domain.log and step is None and low == 0:
        raise SpaceError(f"{domain} has values so small that a float takes them for 0; take a narrower distribution")


def admitted(domain: Domain, value: object) -> Value:
    """The value as the domain gives it; SpaceError where it is none of the domain's."""
    found: Value
    match domain:
        case Constant(only):
            return _one_of((only,), value)
        case Choice():
            return _one_of(domain.possible, value)
        case GridSearch(values):
            return _one_of(values, value)
        case Integer(low, high, _, step):
            whole = as_whole(value)
            found = whole if low <= whole <= high and (whole - low) % step == 0 else None
        case Float(low, high) if domain.law != "wandb":
            found = _nearest(domain, as_number(value), low, high, origin=low)
        case _:
            low, high = ends(domain)
            found = _nearest(domain, as_number(value), low, high, origin=0)
    if found is None:
        raise SpaceError(f"{value!r} is not a value of {domain}")
    return found


def _nearest(domain: Float | Normal | Beta, number: float, low: float, high: float, origin: float) -> float | None:
    """The value between low and high that the number is, but for rounding."""
    step = domain.step
    if step is None:
        return float(number) if low <= number <= high else None
    dust = max(abs(number) * _SAME, step * _CLOSE)
    if not (math.isfinite(number) and low - dust <= number <= high + dust):
        return None
    near = tidy(origin, step, round((number - origin) / step))
    return near if low - dust <= near <= high + dust and abs(near - number) <= dust else None


def value_key(value: object) -> str:
    """The value as JSON, by which values are told apart: 1, 1.0 and true are three, a NaN is itself."""
    return json.dumps(value, sort_keys=True)


def _one_of(values: tuple[Value, ...], value: object) -> Value:
    given = as_value(value)
    for each in values:
        if value_key(each) == value_key(given):
            return each
    for each in values:
        if not isinstance(each, bool) and not isinstance(given, bool) and each == given:
            return each
    raise SpaceError(f"{given!r} is none of {list(values)!r}")


def _check_step(domain: Domain, step: float | None) -> None:
    if step is not None and not 0 < step < math.inf:
        raise SpaceError(f"{domain} needs a step above 0")


def _call(function: str, first: float, second: float, step: float | None) -> str:
    """A domain as its function is written, with a q before the name where there are steps."""
    return f"{function}({first}, {second})" if step is None else f"q{function}({first}, {second}, {step})"


def tidy(low: float, step: float, steps: int) -> float:
    """`low + steps * step` without binary dust: 0.3, not 0.30000000000000004; an int where both are."""
    value = low + steps * step
    return value if isinstance(value, int) else round(value, max(_places(low), _places(step)))


@lru_cache(maxsize=1024)
def _places(number: float) -> int:
    exponent = Decimal(repr(number)).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0
