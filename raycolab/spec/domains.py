"""The domains a parameter is searched in: what each value may be, and how likely. Nothing here draws or searches.

A domain is a frozen value. Its one question is `at(unit)`: the value at that quantile, so that whoever brings a number
in [0, 1) decides about chance, and the same number gives the same value for ever. `grid()` lists the values of a
finite domain. `to_json` and `domain_from_json` are inverse to each other.

    Constant   one value
    Choice     alternatives, equally likely unless it has probabilities
    Float      uniform or log-uniform between two bounds, in steps or not
    Integer    whole numbers between two bounds, both included
    Normal     a normal distribution, or its exponential, in steps or not
    Beta       a beta distribution on [0, 1], in steps or not
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from functools import lru_cache
from statistics import NormalDist
from typing import ClassVar, Protocol

from raycolab.errors import SpaceError
from raycolab.spec.values import as_number, as_scalar, as_whole
from raycolab.trials import Scalar

__all__ = [
    "LARGEST_UNIT",
    "MAX_GRID_VALUES",
    "Beta",
    "Choice",
    "Constant",
    "Domain",
    "Draws",
    "Float",
    "Integer",
    "Normal",
    "admitted",
    "beta_cdf",
    "beta_quantile",
    "domain_from_json",
    "stepped",
    "tidy",
]

MAX_GRID_VALUES = 10_000
"""The most values of one numeric domain that a grid lists; more is a mistake rather than a wish."""

_CLOSE = 1e-9  # how far a bound may be from a multiple of the step, in steps, and still be one
_SMALLEST_UNIT = 2.0**-54  # what a unit of 0 counts as where the quantile of 0 is minus infinity


class Draws(Protocol):
    """A source of chance such as `random.Random`."""

    def random(self) -> float:
        """A number in [0, 1)."""


class Domain(ABC):
    """What values one parameter may take."""

    __slots__ = ()
    kind: ClassVar[str]

    @abstractmethod
    def at(self, unit: float) -> Scalar:
        """The value at a quantile in [0, 1)."""

    def grid(self) -> list[Scalar]:
        """Every value in order; SpaceError where there are too many to list."""
        raise SpaceError(
            f"{self} is continuous and method grid needs alternatives; give a list such as [1, 2, 3], "
            "or use method random"
        )

    def sample(self, draws: Draws) -> Scalar:
        """One value, drawn."""
        return self.at(draws.random())

    def to_json(self) -> dict[str, object]:
        """The domain as a JSON object; fields that are None are left out."""
        fields = asdict(self)  # type: ignore[call-overload]  # every subclass is a dataclass
        return {"kind": self.kind} | {key: value for key, value in fields.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Constant(Domain):
    """One value."""

    kind: ClassVar[str] = "constant"
    value: Scalar

    def at(self, unit: float) -> Scalar:
        """The value, whatever the quantile."""
        return self.value

    def grid(self) -> list[Scalar]:
        """The value."""
        return [self.value]

    def to_json(self) -> dict[str, object]:
        """The value, which may be None."""
        return {"kind": self.kind, "value": self.value}

    def __str__(self) -> str:
        return repr(self.value)


@dataclass(frozen=True, slots=True)
class Choice(Domain):
    """Alternatives, equally likely unless each has a probability."""

    kind: ClassVar[str] = "choice"
    values: tuple[Scalar, ...]
    probabilities: tuple[float, ...] | None = None  # weights; they are divided by their sum

    def __post_init__(self) -> None:
        if not self.values:
            raise SpaceError("a choice needs at least one value, and this one is empty")
        if self.probabilities is None:
            return
        if len(self.probabilities) != len(self.values):
            raise SpaceError(
                f"{len(self.values)} values have {len(self.probabilities)} probabilities; give one for each"
            )
        weights = self.probabilities
        if not all(0 <= weight < math.inf for weight in weights) or sum(weights) <= 0:
            raise SpaceError("probabilities are numbers from 0 upward, at least one of them above 0")

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
        """The alternatives as given."""
        return list(self.values)

    def __str__(self) -> str:
        return repr(list(self.values))


@dataclass(frozen=True, slots=True)
class Float(Domain):
    """A number between two bounds; with a step, one of low, low + step … high.

    Rounding to a step leaves the ends half as likely as the values between them, as Ray Tune's does. Where low and
    step are of type int, so are the values.
    """

    kind: ClassVar[str] = "float"
    low: float
    high: float
    log: bool = False
    step: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise SpaceError(f"{self} needs finite bounds")
        if self.low >= self.high:
            raise SpaceError(f"{self} needs its low bound below its high one; for one fixed value give the value")
        if self.log and self.low <= 0:
            raise SpaceError(f"{self} needs a low bound above 0; start at a small positive number, or use uniform")
        if self.step is not None and not 0 < self.step < math.inf:
            raise SpaceError(f"{self} needs a step above 0")

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
        return tidy(self.low, self.step, min(max(steps, 0), self._last_step))

    @property
    def _last_step(self) -> int:
        assert self.step is not None
        return math.floor((self.high - self.low) / self.step + _CLOSE)

    def grid(self) -> list[Scalar]:
        """Every step, where there are steps and no more than `MAX_GRID_VALUES`."""
        if self.step is None:
            return Domain.grid(self)
        _check_grid_size(self, self._last_step + 1)
        return [tidy(self.low, self.step, k) for k in range(self._last_step + 1)]

    def __str__(self) -> str:
        name = ("q" if self.step is not None else "") + ("loguniform" if self.log else "uniform")
        return f"{name}({self.low}, {self.high}{_and_step(self.step)})"


@dataclass(frozen=True, slots=True)
class Integer(Domain):
    """A whole number between two bounds, both included, in steps counted from low."""

    kind: ClassVar[str] = "integer"
    low: int
    high: int
    log: bool = False
    step: int = 1

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise SpaceError(f"{self} has no value: its low bound is above its high one; swap them")
        if self.log and self.low < 1:
            raise SpaceError(f"{self} is logarithmic and needs a low bound of at least 1")
        if self.step < 1:
            raise SpaceError(f"{self} needs a step of at least 1")

    @property
    def _count(self) -> int:
        return (self.high - self.low) // self.step + 1

    def at(self, unit: float) -> Scalar:
        """The whole number at the quantile; log-uniform ones are counted in steps, as Ray Tune does."""
        if not self.log:
            return self.low + self.step * min(int(unit * self._count), self._count - 1)
        first = self.low // self.step
        bottom = math.log(first)
        index = int(math.exp(bottom + unit * (math.log(first + self._count) - bottom)))
        return self.low + self.step * min(max(index - first, 0), self._count - 1)

    def grid(self) -> list[Scalar]:
        """Every whole number, where there are no more than `MAX_GRID_VALUES`."""
        _check_grid_size(self, self._count)
        return list(range(self.low, self.high + 1, self.step))

    def __str__(self) -> str:
        if self.log:
            return f"lograndint({self.low}, {self.high + 1})"
        return f"integer({self.low}, {self.high}{_and_step(self.step if self.step > 1 else None)})"


@dataclass(frozen=True, slots=True)
class Normal(Domain):
    """A normal distribution, or with `log` the exponential of one; rounded to multiples of a step if there is one."""

    kind: ClassVar[str] = "normal"
    mean: float = 0.0
    sd: float = 1.0
    log: bool = False
    step: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and 0 < self.sd < math.inf):
            raise SpaceError(f"{self} needs a finite mean and a standard deviation above 0")
        if self.step is not None and not 0 < self.step < math.inf:
            raise SpaceError(f"{self} needs a step above 0")

    def at(self, unit: float) -> Scalar:
        """The number at the quantile."""
        value = NormalDist(self.mean, self.sd).inv_cdf(max(unit, _SMALLEST_UNIT))
        value = math.exp(value) if self.log else value
        return value if self.step is None else tidy(0, self.step, math.floor(value / self.step + 0.5))

    def __str__(self) -> str:
        name = ("q" if self.step is not None else "") + ("lognormal" if self.log else "randn")
        return f"{name}({self.mean}, {self.sd}{_and_step(self.step)})"


@dataclass(frozen=True, slots=True)
class Beta(Domain):
    """A beta distribution on [0, 1]; rounded to multiples of a step if there is one."""

    kind: ClassVar[str] = "beta"
    a: float = 1.0
    b: float = 1.0
    step: float | None = None

    def __post_init__(self) -> None:
        if not (0 < self.a < math.inf and 0 < self.b < math.inf):
            raise SpaceError(f"{self} needs a and b above 0")
        if self.step is not None and not 0 < self.step < math.inf:
            raise SpaceError(f"{self} needs a step above 0")

    def at(self, unit: float) -> Scalar:
        """The number at the quantile."""
        value = beta_quantile(self.a, self.b, unit)
        return value if self.step is None else tidy(0, self.step, math.floor(value / self.step + 0.5))

    def __str__(self) -> str:
        return f"beta({self.a}, {self.b}{_and_step(self.step)})"


def stepped(low: float, high: float, step: float, *, log: bool = False) -> Domain:
    """The multiples of a step between two bounds (Ray Tune's and W&B's `q`); SpaceError where there is none."""
    if not 0 < step < math.inf:
        raise SpaceError(f"a quantization of {step} is not above 0; take a positive number")
    whole = Float(low, high, log)  # checks the bounds
    first, last = math.ceil(whole.low / step - _CLOSE), math.floor(whole.high / step + _CLOSE)
    if first > last:
        raise SpaceError(f"there is no multiple of {step} between {low} and {high}; take a smaller quantization")
    if first == last:
        return Constant(tidy(0, step, first))
    return Float(tidy(0, step, first), tidy(0, step, last), log, step)


def domain_from_json(data: Mapping[str, object]) -> Domain:
    """The domain that `to_json` described."""
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items() if key != "kind"}
    return _KINDS[str(data["kind"])](**fields)


_KINDS: Mapping[str, type[Domain]] = {
    domain.kind: domain for domain in (Constant, Choice, Float, Integer, Normal, Beta)
}


def _check_grid_size(domain: Domain, size: int) -> None:
    if size > MAX_GRID_VALUES:
        raise SpaceError(
            f"{domain} has {size:,} values and method grid lists at most {MAX_GRID_VALUES:,}; "
            "give a list of the ones you mean, or use method random"
        )


def _and_step(step: float | None) -> str:
    return "" if step is None else f", {step}"


def tidy(low: float, step: float, steps: int) -> float:
    """`low + steps * step` without binary dust: 0.3, not 0.30000000000000004; an int where both are."""
    value = low + steps * step
    return value if isinstance(value, int) else round(value, max(_places(low), _places(step)))


@lru_cache(maxsize=1024)
def _places(number: float) -> int:
    exponent = Decimal(repr(number)).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


_ENOUGH = 1e-14
_MAX_TERMS = 500  # of the fraction; it needs about sqrt(max(a, b))
_MAX_ROUNDS = 100  # of Newton and bisection; bisection alone needs 53
_TINY = 1e-300


def beta_cdf(a: float, b: float, x: float) -> float:
    """The probability that a beta variable is at most x."""
    if x <= 0.0 or x >= 1.0:
        return 0.0 if x <= 0.0 else 1.0
    if x > (a + 1) / (a + b + 2):  # where the fraction of the mirrored one is the fast one
        return 1.0 - beta_cdf(b, a, 1.0 - x)
    front = math.exp(a * math.log(x) + b * math.log1p(-x) - _log_beta(a, b)) / a
    return front * _fraction(a, b, x)


def beta_quantile(a: float, b: float, unit: float) -> float:
    """The x in [0, 1] below which a beta variable lies with probability `unit`."""
    if unit <= 0.0 or unit >= 1.0:
        return 0.0 if unit <= 0.0 else 1.0
    low, high, x = 0.0, 1.0, a / (a + b)
    for _ in range(_MAX_ROUNDS):
        over = beta_cdf(a, b, x) - unit
        low, high = (low, x) if over > 0 else (x, high)
        density = _density(a, b, x)
        step = over / density if density > _TINY else math.inf
        following = x - step
        if not low < following < high:
            following = (low + high) / 2
        if abs(following - x) <= _ENOUGH * following or following in (low, high):
            return following
        x = following
    return x


def _density(a: float, b: float, x: float) -> float:
    return math.exp((a - 1) * math.log(x) + (b - 1) * math.log1p(-x) - _log_beta(a, b))


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _fraction(a: float, b: float, x: float) -> float:
    ratio_c, ratio_d = 1.0, 1.0 / _not_zero(1.0 - (a + b) * x / (a + 1))
    value = ratio_d
    for m in range(1, _MAX_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            ratio_d = 1.0 / _not_zero(1.0 + term * ratio_d)
            ratio_c = _not_zero(1.0 + term / ratio_c)
            value *= ratio_c * ratio_d
        if abs(ratio_c * ratio_d - 1.0) < _ENOUGH:
            break
    return value


def _not_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


LARGEST_UNIT = 1.0 - 2.0**-53
"""The last number below 1: the quantile of the largest value a domain gives."""

_SAME = 1e-12  # how far, relatively, a number may be from a step and still be on it
_CLOSE_ADMISSION = 1e-9  # the same in steps, for numbers near 0


def admitted(domain: Domain, value: object) -> Scalar:
    """The value as the domain gives it; SpaceError where it is none of the domain's."""
    match domain:
        case Constant(only):
            return _one_of((only,), value)
        case Choice():
            return _one_of(domain.possible, value)
        case Integer(low, high, _, step):
            whole = as_whole(value)
            if low <= whole <= high and (whole - low) % step == 0:
                return whole
        case Float(low, high, _, step):
            return _between(domain, value, low, high, low, step)
        case Normal() | Beta():
            low, high = (float(as_number(domain.at(unit))) for unit in (0.0, LARGEST_UNIT))
            return _between(domain, value, low, high, 0, domain.step)
    raise _foreign(domain, value)


def _between(domain: Domain, value: object, low: float, high: float, origin: float, step: float | None) -> Scalar:
    number = float(as_number(value))
    if step is None or not math.isfinite(number):
        if low <= number <= high:
            return number
        raise _foreign(domain, value)
    near = tidy(origin, step, round((number - origin) / step))
    dust = max(abs(number) * _SAME, step * _CLOSE_ADMISSION)
    if low - dust <= near <= high + dust and abs(near - number) <= dust:
        return near
    raise _foreign(domain, value)


def _one_of(values: tuple[Scalar, ...], value: object) -> Scalar:
    given = as_scalar(value)
    for each in values:
        if type(each) is type(given) and (each == given or (each != each and given != given)):  # NaN is itself here
            return each
    for each in values:
        if not isinstance(each, bool) and not isinstance(given, bool) and each == given:
            return each
    raise SpaceError(f"{given!r} is none of {list(values)!r}")


def _foreign(domain: Domain, value: object) -> SpaceError:
    return SpaceError(f"{value!r} is not a value of {domain}")
