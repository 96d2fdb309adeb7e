"""The domains a parameter is searched in: what each value may be, and how likely. Nothing here draws or searches.

A domain is a frozen value, kept in the database as it is declared here. Its one question is `at(unit)`: the value at
that quantile, so that whoever brings a number in [0, 1) decides about chance, and the same number gives the same value
for ever. `grid()` lists the values of a finite domain.

    Constant   one value
    Choice     alternatives, equally likely unless it has probabilities
    Float      uniform or log-uniform between two bounds, in steps or not
    Integer    whole numbers between two bounds, both included
    Normal     a normal distribution, or its exponential, in steps or not
    Beta       a beta distribution on [0, 1], in steps or not
"""

from __future__ import annotations

import math
from decimal import Decimal
from functools import lru_cache
from statistics import NormalDist

import msgspec

from raycolab.errors import SpaceError
from raycolab.spec.beta import LARGEST_SHAPE, SMALLEST_SHAPE, beta_quantile
from raycolab.spec.values import as_number, as_scalar, as_whole
from raycolab.trials import Scalar

__all__ = [
    "LARGEST_UNIT",
    "MAX_GRID_VALUES",
    "Beta",
    "Choice",
    "Constant",
    "Domain",
    "Float",
    "Integer",
    "Normal",
    "admitted",
    "check_computable",
    "domain_json",
    "ends",
    "stepped",
    "tidy",
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

    def at(self, unit: float) -> Scalar:
        """The value at a quantile in [0, 1)."""
        raise NotImplementedError

    @property
    def count(self) -> int:
        """How many values there are; 0 where they have no steps."""
        return 0

    def nth(self, index: int) -> Scalar:
        """One of `count` values, from 0."""
        raise NotImplementedError

    def grid(self) -> list[Scalar]:
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

    value: Scalar

    def at(self, unit: float) -> Scalar:
        return self.value

    def grid(self) -> list[Scalar]:
        return [self.value]

    def __str__(self) -> str:
        return repr(self.value)


class Choice(_Law, frozen=True):
    """Alternatives, equally likely unless each has a probability."""

    values: tuple[Scalar, ...]
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

    def at(self, unit: float) -> Scalar:
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
    def possible(self) -> tuple[Scalar, ...]:
        """The alternatives without those of probability 0."""
        weights = self.probabilities or (1.0,) * len(self.values)
        return tuple(value for value, weight in zip(self.values, weights, strict=True) if weight > 0)

    def grid(self) -> list[Scalar]:
        return list(self.values)

    def __str__(self) -> str:
        return repr(list(self.values))


class Float(_Law, frozen=True):
    """A number between two bounds; with a step, one of low, low + step … high.

    Rounding to a step leaves the ends half as likely as the values between them, as Ray Tune's does. Where low and
    step are of type int, so are the values.
    """

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise SpaceError(f"{self} needs its low bound below its high one; for one fixed value give the value")
        if self.log and self.low <= 0:
            raise SpaceError(f"{self} needs a low bound above 0; start at a small positive number, or use uniform")
        _check_step(self, self.step)

    def at(self, unit: float) -> Scalar:
        """The number at the quantile, rounded to a step where there is one."""
        if self.log:
            bottom = math.log(self.low)
            value = math.exp(bottom + unit * (math.log(self.high) - bottom))
        else:
            value = self.low * (1.0 - unit) + self.high * unit
        if self.step is None:
            return min(max(value, self.low), self.high)
        steps = math.floor((value - self.low) / self.step + 0.5)
        return self.nth(min(max(steps, 0), self.count - 1))

    @property
    def count(self) -> int:
        return 0 if self.step is None else math.floor((self.high - self.low) / self.step + _CLOSE) + 1

    def nth(self, index: int) -> Scalar:
        return tidy(self.low, 0 if self.step is None else self.step, index)

    def __str__(self) -> str:
        return _call("loguniform" if self.log else "uniform", self.low, self.high, self.step)


class Integer(_Law, frozen=True):
    """A whole number between two bounds, both included, in steps counted from low."""

    low: int
    high: int
    log: bool = False
    step: int = 1

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise SpaceError(f"{self} has no value: its low bound is above its high one; swap them")
        if self.step < 1:
            raise SpaceError(f"{self} needs a step of at least 1")
        if self.log and self.low < self.step:
            raise SpaceError(f"{self} is logarithmic and needs a low bound of at least {self.step}")

    @property
    def count(self) -> int:
        return (self.high - self.low) // self.step + 1

    def nth(self, index: int) -> Scalar:
        return self.low + self.step * index

    def at(self, unit: float) -> Scalar:
        """The whole number at the quantile; log-uniform ones are counted in steps, as Ray Tune does."""
        first = self.low // self.step
        if self.log:
            bottom = math.log(first)
            index = int(math.exp(bottom + unit * (math.log(first + self.count) - bottom))) - first
        else:
            index = int(unit * self.count)
        return self.nth(min(max(index, 0), self.count - 1))

    def __str__(self) -> str:
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

    def at(self, unit: float) -> Scalar:
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

    def at(self, unit: float) -> Scalar:
        value = beta_quantile(self.a, self.b, unit)
        return value if self.step is None else tidy(0, self.step, math.floor(value / self.step + 0.5))

    def __str__(self) -> str:
        return _call("beta", self.a, self.b, self.step)


Domain = Constant | Choice | Float | Integer | Normal | Beta


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
    if isinstance(domain, Constant | Choice):
        return
    step = None if isinstance(domain, Integer) else domain.step
    try:
        low, high = (float(end) for end in ends(domain))
        computable = math.isfinite(high - low)
        if step is not None:
            origin = domain.low if isinstance(domain, Float) else 0
            computable &= max(abs(low - origin), abs(high - origin)) / step <= _MOST_STEPS
    except (OverflowError, ValueError):
        computable = False
    if not computable:
        coarser = "" if step is None else ", or a larger step"
        raise SpaceError(f"{domain} reaches beyond what a float can hold; take a narrower distribution{coarser}")
    if isinstance(domain, Normal) and domain.log and step is None and low == 0:
        raise SpaceError(f"{domain} has values so small that a float takes them for 0; take a narrower distribution")


def stepped(low: float, high: float, step: float, *, log: bool = False) -> Domain:
    """The multiples of a step between two bounds (Ray Tune's and W&B's `q`); SpaceError where there is none."""
    whole = Float(low, high, log, step)
    if not max(abs(low), abs(high)) / step <= _MOST_STEPS:
        raise SpaceError(f"{whole} has more steps than a float can count; take a larger step")
    first, last = math.ceil(low / step - _CLOSE), math.floor(high / step + _CLOSE)
    if first > last:
        raise SpaceError(f"there is no multiple of {step} between {low} and {high}; take a smaller one")
    if first == last:
        return Constant(tidy(0, step, first))
    return Float(tidy(0, step, first), tidy(0, step, last), log, step)


def admitted(domain: Domain, value: object) -> Scalar:
    """The value as the domain gives it; SpaceError where it is none of the domain's."""
    found: Scalar
    match domain:
        case Constant(only):
            return _one_of((only,), value)
        case Choice():
            return _one_of(domain.possible, value)
        case Integer(low, high, _, step):
            whole = as_whole(value)
            found = whole if low <= whole <= high and (whole - low) % step == 0 else None
        case Float(low, high):
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


def _one_of(values: tuple[Scalar, ...], value: object) -> Scalar:
    given = as_scalar(value)
    for each in values:
        # NaN is itself here.
        if type(each) is type(given) and (each == given or (each != each and given != given)):
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
