"""The beta distribution and its quantile, by the continued fraction of the incomplete beta function (DLMF 8.17.22).

scipy has them too, but is not among our dependencies, nor among theirs.
"""

from __future__ import annotations

import math

__all__ = ["LARGEST_SHAPE", "SMALLEST_SHAPE", "beta_cdf", "beta_quantile"]

SMALLEST_SHAPE, LARGEST_SHAPE = 0.001, 1e5
"""The shapes between which the probability of a quantile is right to seven digits."""

_ENOUGH = 1e-14
# Of the fraction, which needs about sqrt(max(a, b)) of them.
_MAX_TERMS = 500
# Of Newton's method and bisection; bisection alone needs 53.
_MAX_ROUNDS = 100
_TINY = 1e-300


def beta_cdf(a: float, b: float, x: float) -> float:
    """The probability that a beta variable is at most x."""
    if x <= 0.0 or x >= 1.0:
        return 0.0 if x <= 0.0 else 1.0
    # Where the fraction of the mirrored distribution converges faster.
    if x > (a + 1) / (a + b + 2):
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
