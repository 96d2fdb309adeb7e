"""The beta distribution's quantile against closed forms and its own inverse."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycolab.spec.beta import beta_cdf, beta_quantile
from tests.raycolab.spec.spaces import units

_shapes = st.floats(0.3, 100)


@given(_shapes, _shapes, units)
def test_the_quantile_is_the_inverse_of_the_distribution(a: float, b: float, unit: float) -> None:
    """Going to the quantile and back gives the probability."""
    x = beta_quantile(a, b, unit)
    assert 0 <= x <= 1
    if 1e-12 < x < 1 - 1e-6:  # nearer to the ends a double cannot tell the probabilities apart
        assert beta_cdf(a, b, x) == pytest.approx(unit, abs=1e-8)


@given(st.floats(0, 1 - 1e-6))
def test_shapes_with_a_closed_form(unit: float) -> None:
    """Beta(1, 1) is uniform, Beta(2, 1) a square root, Beta(1, 3) a cube root mirrored."""
    assert beta_quantile(1, 1, unit) == pytest.approx(unit, abs=1e-9)
    assert beta_quantile(2, 1, unit) == pytest.approx(math.sqrt(unit), abs=1e-9)
    assert beta_quantile(1, 3, unit) == pytest.approx(1 - (1 - unit) ** (1 / 3), abs=1e-9)


def test_the_ends_are_the_ends() -> None:
    """Probability 0 is at 0, probability 1 at 1."""
    assert (beta_quantile(2, 5, 0.0), beta_quantile(2, 5, 1.0)) == (0.0, 1.0)
    assert (beta_cdf(2, 5, -1.0), beta_cdf(2, 5, 2.0)) == (0.0, 1.0)
