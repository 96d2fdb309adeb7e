"""The beta distribution's quantile against scipy's, which comes with the demo's packages, and its own inverse."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.special import betainc

from raycolab.spec.beta import LARGEST_SHAPE, SMALLEST_SHAPE, beta_cdf, beta_quantile
from tests.raycolab.spec.spaces import units

_shapes = st.floats(-3, 5).map(lambda exponent: min(max(10**exponent, SMALLEST_SHAPE), LARGEST_SHAPE))


@given(_shapes, _shapes, units)
@example(SMALLEST_SHAPE, LARGEST_SHAPE, 0.5)
@example(LARGEST_SHAPE, LARGEST_SHAPE, 0.999)
def test_the_quantile_is_the_inverse_of_the_distribution(a: float, b: float, unit: float) -> None:
    """Going to the quantile and back gives the probability, by scipy's reckoning and by ours, for all shapes."""
    x = beta_quantile(a, b, unit)
    assert 0 <= x <= 1
    # Nearer to the ends a double cannot tell the probabilities apart.
    if 1e-9 < x < 1 - 1e-6:
        assert betainc(a, b, x) == pytest.approx(unit, abs=1e-7)
        assert beta_cdf(a, b, x) == pytest.approx(unit, abs=1e-7)


def test_the_ends_are_the_ends() -> None:
    """Probability 0 is at 0, probability 1 at 1."""
    assert (beta_quantile(2, 5, 0.0), beta_quantile(2, 5, 1.0)) == (0.0, 1.0)
    assert (beta_cdf(2, 5, -1.0), beta_cdf(2, 5, 2.0)) == (0.0, 1.0)
