"""Domains for property tests: every kind, with bounds that are awkward rather than round."""

from __future__ import annotations

from hypothesis import strategies as st

from raycolab.spec.domains import Beta, Choice, Constant, Domain, Float, Integer, Normal, stepped
from raycolab.trials import Scalar

__all__ = ["domains", "scalars", "units"]

units = st.floats(0, 1, exclude_max=True)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False), st.text(max_size=8)
)
_numbers = st.floats(-1e6, 1e6)
_positive = st.floats(1e-6, 1e6)


def _ordered(low: float, width: float) -> tuple[float, float]:
    return low, low + width + abs(low) * 1e-6


_bounds = st.builds(_ordered, _numbers, st.floats(0.01, 1e6))
_positive_bounds = st.builds(_ordered, _positive, st.floats(0.01, 1e6))
_steps = st.floats(0.001, 0.009)  # below the narrowest bounds, so that there is always a multiple between them


def _float(bounds: tuple[float, float], log: bool, step: float | None) -> Domain:
    return Float(*bounds, log=log) if step is None else stepped(*bounds, step, log=log)


def _integer(low: int, width: int, log: bool, step: int) -> Domain:
    return Integer((abs(low) + 1) * step if log else low, (abs(low) + 1) * step + width, log, step)


def _weighted(values: list[tuple[Scalar, float]]) -> Domain:
    return Choice(tuple(value for value, _ in values), tuple(weight for _, weight in values))


domains: st.SearchStrategy[Domain] = st.one_of(
    st.builds(Constant, scalars),
    st.builds(Choice, st.lists(scalars, min_size=1, max_size=6).map(tuple)),
    st.builds(_weighted, st.lists(st.tuples(scalars, st.floats(0.1, 10)), min_size=1, max_size=6)),
    st.builds(_float, _bounds, st.just(False), st.none() | _steps),
    st.builds(_float, _positive_bounds, st.booleans(), st.none() | _steps),
    st.builds(_integer, st.integers(-1000, 1000), st.integers(0, 10**6), st.booleans(), st.integers(1, 50)),
    st.builds(Normal, _numbers, _positive, st.just(False), st.none() | _steps),
    st.builds(Normal, st.floats(-5, 5), st.floats(0.1, 5), st.just(True), st.none()),
    st.builds(Beta, st.floats(0.5, 20), st.floats(0.5, 20), st.none() | st.just(0.25)),
)
