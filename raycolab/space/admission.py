"""Whether a value that a person wrote is one of a domain's, and how the domain itself would give it. Pure.

Numbers that are equal are the same value (1.0 where 1 was written), and binary dust does not count; True is no number.
"""

from __future__ import annotations

import math

from raycolab.errors import SpaceError
from raycolab.scalar import as_number, as_scalar, as_whole
from raycolab.space.domain import Beta, Choice, Constant, Domain, Float, Integer, Normal, tidy
from raycolab.trial import Scalar

__all__ = ["LARGEST_UNIT", "admitted"]

LARGEST_UNIT = 1.0 - 2.0**-53
"""The last number below 1: the quantile of the largest value a domain gives."""

_SAME = 1e-12  # how far, relatively, a number may be from a step and still be on it
_CLOSE = 1e-9  # the same in steps, for numbers near 0


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
    dust = max(abs(number) * _SAME, step * _CLOSE)
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
