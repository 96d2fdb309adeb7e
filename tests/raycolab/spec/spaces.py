"""Domains for property tests: every kind, with bounds that are awkward rather than round, or that nobody means."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from raycolab.spec.domains import Beta, Choice, Constant, Domain, Float, GridSearch, Integer, Normal
from raycolab.spec.wandb import in_steps
from raycolab.trials import Scalar

__all__ = ["domains", "scalars", "units", "values", "wild_numbers", "wild_parameters"]

units = st.floats(0, 1, exclude_max=True)
scalars: st.SearchStrategy[Scalar] = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False), st.text(max_size=8)
)
values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)
_numbers = st.floats(-1e6, 1e6)
_positive = st.floats(1e-6, 1e6)


def _ordered(low: float, width: float) -> tuple[float, float]:
    return low, low + width + abs(low) * 1e-6


_bounds = st.builds(_ordered, _numbers, st.floats(0.01, 1e6))
_positive_bounds = st.builds(_ordered, _positive, st.floats(0.01, 1e6))
_steps = st.floats(0.001, 0.009)  # below the narrowest bounds, so that there is always a multiple between them


def _float(bounds: tuple[float, float], log: bool, step: float | None) -> Domain:
    return Float(*bounds, log=log) if step is None else in_steps(*bounds, step, log=log)


def _integer(low: int, width: int, log: bool, step: int) -> Domain:
    return Integer((abs(low) + 1) * step if log else low, (abs(low) + 1) * step + width, log, step)


def _equal_steps(low: float, step: float, count: int) -> Domain:
    return Float(low, low + step * count, step=step, law="optuna")


def _log_integer(low: int, width: int) -> Domain:
    return Integer(low, low + width, log=True, law="optuna")


def _weighted(values: list[tuple[Scalar, float]]) -> Domain:
    whole = sum(weight for _, weight in values)
    return Choice(tuple(value for value, _ in values), tuple(weight / whole for _, weight in values))


domains: st.SearchStrategy[Domain] = st.one_of(
    st.builds(Constant, values),
    st.builds(Choice, st.lists(values, min_size=1, max_size=6).map(tuple)),
    st.builds(GridSearch, st.lists(values, min_size=1, max_size=3).map(tuple)),
    st.builds(_weighted, st.lists(st.tuples(scalars, st.floats(0.1, 10)), min_size=1, max_size=6)),
    st.builds(_float, _bounds, st.just(False), st.none() | _steps),
    st.builds(_float, _positive_bounds, st.booleans(), st.none() | _steps),
    st.builds(_equal_steps, _numbers, st.sampled_from([0.25, 0.1, 3.0]), st.integers(1, 50)),
    st.builds(_log_integer, st.integers(1, 1000), st.integers(0, 10**6)),
    st.builds(_integer, st.integers(-1000, 1000), st.integers(0, 10**6), st.booleans(), st.integers(1, 50)),
    st.builds(Normal, _numbers, _positive, st.just(False), st.none() | _steps),
    st.builds(Normal, st.floats(-5, 5), st.floats(0.1, 5), st.just(True), st.none()),
    st.builds(Beta, st.floats(0.5, 20), st.floats(0.5, 20), st.none() | st.just(0.25)),
)

wild_numbers: st.SearchStrategy[int | float] = st.one_of(
    st.floats(),
    st.sampled_from([1e308, -1e308, 1.7976931348623157e308, 1e300, 1e154, 1000, 100, 50, 1, 0, 5e-324, 1e-300, 1e-9]),
    st.integers(-100, 100),
    st.sampled_from([2**53, 2**63, -(2**63), 10**308, 10**309, 10**400, 10**4000]),
)


def _of(distributions: str, *keys: str) -> st.SearchStrategy[dict[str, object]]:
    return st.fixed_dictionaries(
        {"distribution": st.sampled_from(distributions.split())} | dict.fromkeys(keys, wild_numbers)  # type: ignore[arg-type]
    )


# Parameters in W&B's form, most of which have to be refused.
wild_parameters: st.SearchStrategy[dict[str, object]] = st.one_of(
    _of("uniform int_uniform log_uniform log_uniform_values inv_log_uniform inv_log_uniform_values", "min", "max"),
    _of("q_uniform q_log_uniform q_log_uniform_values", "min", "max", "q"),
    _of("normal log_normal", "mu", "sigma"),
    _of("q_normal q_log_normal", "mu", "sigma", "q"),
    _of("beta", "a", "b"),
    _of("q_beta", "a", "b", "q"),
    st.fixed_dictionaries({"values": st.lists(wild_numbers, min_size=1, max_size=3)}),
    st.fixed_dictionaries({"values": st.just([1, 2]), "probabilities": st.lists(wild_numbers, min_size=2, max_size=2)}),
)
