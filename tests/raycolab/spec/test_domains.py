"""Domains give every value they promise, none beside it, and survive JSON."""

from __future__ import annotations

import contextlib
import json
import math
from collections import Counter
from statistics import NormalDist

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycolab.errors import SpaceError
from raycolab.spec.domains import (
    LARGEST_UNIT,
    Beta,
    Choice,
    Constant,
    Domain,
    Float,
    GridSearch,
    Integer,
    Normal,
    admitted,
    domain_json,
)
from raycolab.spec.spaces import as_domain
from raycolab.spec.wandb import in_steps
from tests.raycolab.spec.spaces import domains, units, wild_numbers, wild_parameters


def _at_hundredths(domain: Domain) -> list[object]:
    return [domain.at(k / 100) for k in range(100)]


@given(domains)
def test_json_gives_the_same_domain_back(domain: Domain) -> None:
    """A domain, its JSON and the domain of that JSON are the same, down to the types of numbers."""
    text = json.dumps(domain_json(domain))
    again: Domain = msgspec.convert(json.loads(text), Domain)
    assert (type(again), json.dumps(domain_json(again)), str(again)) == (type(domain), text, str(domain))


@given(domains, units)
def test_a_draw_stays_within_its_domain(domain: Domain, unit: float) -> None:
    """Whatever the quantile, the value is one of the alternatives or lies between the bounds, ends included."""
    value = domain.at(unit)
    match domain:
        case Constant():
            assert value == domain.value
        case Choice() | GridSearch():
            assert any(value is alternative for alternative in domain.values)
        case Float() | Integer():
            assert isinstance(value, int | float)
            half = domain.step / 2 if isinstance(domain, Float) and domain.step and domain.law == "wandb" else 0
            dust = 1e-9 * abs(value) if half else 0
            assert domain.low - half - dust <= value <= domain.high + half + dust
        case Beta():
            assert isinstance(value, int | float)
            assert 0 <= value <= 1
        case _:
            assert isinstance(value, int | float)
            assert math.isfinite(value)


@given(st.integers(1, 10**6), st.integers(0, 10**5), st.booleans(), st.integers(1, 9), units)
def test_a_whole_number_is_an_int_and_a_step_from_low(low: int, width: int, log: bool, step: int, unit: float) -> None:
    """Integers are ints, and lie whole steps above the low bound."""
    domain = Integer(low * step, low * step + width, log, step)
    value = domain.at(unit)
    assert type(value) is int
    assert (value - domain.low) % step == 0


@given(st.integers(-50, 50), st.integers(0, 100), st.sampled_from([0.1, 0.25, 0.3, 1e-5, 1.0, 7.5]), units)
def test_a_stepped_number_is_one_of_its_grid(first: int, count: int, step: float, unit: float) -> None:
    """What is drawn from a stepped domain is exactly one of the values its grid lists."""
    domain = in_steps(first * step, (first + count + 1) * step, step)
    assert domain.at(unit) in domain.grid()


@given(wild_parameters, units, wild_numbers)
def test_a_parameter_is_refused_or_each_quantile_is_one_of_its_values(
    written: dict[str, object], unit: float, other: float
) -> None:
    """Whatever the numbers: none of them makes an infinite value, or any error but the one for whoever wrote it."""
    try:
        domain = as_domain(written)
    except SpaceError:
        return
    for at in (0.0, 5e-324, 1e-300, 2.0**-54, unit, 0.5, LARGEST_UNIT):
        value = domain.at(at)
        if not isinstance(domain, Choice | Constant):
            assert isinstance(value, int | float)
            assert math.isfinite(value)
        assert repr(admitted(domain, value)) == repr(value)
    with contextlib.suppress(SpaceError):
        admitted(domain, other)


def test_stepped_numbers_have_no_binary_dust() -> None:
    """Multiples of 0.1 are written 0.3, not 0.30000000000000004."""
    assert in_steps(0, 0.5, 0.1).grid() == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]


def test_whole_steps_from_a_whole_start_are_ints() -> None:
    """Low, high and step of type int give ints, as W&B does for a whole q."""
    values = in_steps(32, 256, 8, log=True).grid()
    assert values == list(range(32, 257, 8))
    assert all(type(value) is int for value in values)


def test_steps_between_bounds_that_are_no_multiples() -> None:
    """The multiples of the step that a number between the bounds is nearest to, beyond a bound too; no more of them."""
    assert in_steps(0.1, 0.9, 0.25).grid() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert in_steps(0.5, 3.5, 1.0).grid() == [1.0, 2.0, 3.0]
    assert in_steps(0.1, 0.4, 1.0).grid() == [0.0]


@pytest.mark.parametrize(
    ("domain", "shares"),
    [
        # Rounding to steps halves the ends, as in Ray Tune's quniform.
        (in_steps(0, 2, 1), {0: 25, 1: 50, 2: 25}),
        (in_steps(0.25, 1.25, 1), {0: 25, 1: 75}),
        (Float(0.0, 2.0, step=0.5, law="optuna"), dict.fromkeys([0.0, 0.5, 1.0, 1.5, 2.0], 20)),
        # The low bound has its share of the logarithm, and the high bound is drawn.
        (Integer(1, 3, log=True), {1: 50, 2: 30, 3: 20}),
        (Integer(0, 8, step=2), dict.fromkeys([0, 2, 4, 6, 8], 20)),
        (Choice(("a", "b", "c"), (1.0, 0.0, 3.0)), {"a": 25, "c": 75}),
    ],
    ids=str,
)
def test_each_value_has_its_share(domain: Domain, shares: dict[object, int]) -> None:
    """Of a hundred draws at equal distances."""
    assert Counter(_at_hundredths(domain)) == shares


def test_a_log_uniform_number_has_equal_shares_per_decade() -> None:
    """Half of the draws between 1 and 100 lie below 10."""
    below = [value for value in _at_hundredths(Float(1, 100, log=True)) if isinstance(value, float) and value < 10]
    assert len(below) == 50


@given(units)
def test_a_normal_number_is_its_quantile(unit: float) -> None:
    """`randn` and its exponential follow the normal distribution's quantiles, finite at 0 too."""
    plain, exponential = Normal(1.0, 0.5).at(unit), Normal(1.0, 0.5, log=True).at(unit)
    assert isinstance(plain, float)
    assert exponential == pytest.approx(math.exp(plain))
    if unit > 1e-9:
        assert NormalDist(1.0, 0.5).cdf(plain) == pytest.approx(unit)


@pytest.mark.parametrize("domain", [Float(0, 1), Float(1, 2, log=True), Normal(), Normal(step=1.0), Beta()], ids=str)
def test_a_continuous_domain_has_no_grid(domain: Domain) -> None:
    """Listing it is refused with both ways out."""
    with pytest.raises(SpaceError, match=r"is continuous .*; give a list such as \[1, 2, 3\], or use method random"):
        domain.grid()


@pytest.mark.parametrize("domain", [Integer(1, 10_001), in_steps(0, 10_000, 1)], ids=str)
def test_a_huge_domain_has_no_grid(domain: Domain) -> None:
    """10,001 values are too many, 10,000 are not."""
    with pytest.raises(SpaceError, match="has 10,001 values and method grid lists at most 10,000"):
        domain.grid()
    assert len(Integer(1, 10_000).grid()) == 10_000


def test_what_no_parameter_is_written_as_is_refused_too() -> None:
    """A database may hold it, and Optuna may give it."""
    with pytest.raises(SpaceError, match=r"lograndint\(0, 3\) is logarithmic and needs a low bound of at least 1"):
        Integer(0, 2, log=True)
    with pytest.raises(SpaceError, match=r"integer\(0, 2\) needs a step of at least 1"):
        Integer(0, 2, step=0)


@given(domains, units)
def test_what_a_domain_gives_is_admitted_as_it_is(domain: Domain, unit: float) -> None:
    """Every drawn value is one of its domain's, whatever the domain."""
    value = domain.at(unit)
    assert repr(admitted(domain, value)) == repr(value)


@pytest.mark.parametrize(
    ("domain", "written", "meant"),
    [
        (Choice((1, 1.0, True)), 1.0, 1.0),
        (Choice((1, 1.0, True)), True, True),
        (Choice((1, "a")), 1.0, 1),
        (Choice((math.nan, 1)), math.nan, math.nan),
        (Constant(3), 3.0, 3),
        (Float(0.0, 1.0), 1, 1.0),
        (Float(0.0, 1.0, step=0.1), 0.30000000000000004, 0.3),
        (Float(0, 10, step=5), 5.0, 5),
        (Integer(1, 5), 3.0, 3),
        (Normal(step=0.5), -1.5, -1.5),
        (Beta(2.0, 2.0), 0.25, 0.25),
    ],
    ids=repr,
)
def test_a_number_is_itself_in_another_dress(domain: Domain, written: object, meant: object) -> None:
    """The domain's own type and rounding are taken on."""
    assert repr(admitted(domain, written)) == repr(meant)


@pytest.mark.parametrize(
    ("domain", "written", "sentence"),
    [
        (Choice(("a", "b")), "c", "'c' is none of ['a', 'b']"),
        (Choice((0, 1)), True, "True is none of [0, 1]"),
        (Choice(("a", "b"), (0.0, 1.0)), "a", "'a' is none of ['b']"),
        (Constant(3), 4, "4 is none of [3]"),
        (Float(0.0, 1.0), 1.5, "1.5 is not a value of uniform(0.0, 1.0)"),
        (Float(0.0, 1.0), math.nan, "nan is not a value of uniform(0.0, 1.0)"),
        (Float(0.0, 1.0, step=0.25), 0.3, "0.3 is not a value of quniform(0.0, 1.0, 0.25)"),
        (Float(0.0, 1.0, step=0.25), 1.25, "1.25 is not a value of quniform(0.0, 1.0, 0.25)"),
        (Float(0.0, 1.0, step=0.25), math.inf, "inf is not a value of quniform(0.0, 1.0, 0.25)"),
        (Float(0.0, 1.0), "x", "a number is needed, not 'x'"),
        (Integer(1, 9, step=2), 4, "4 is not a value of integer(1, 9, 2)"),
        (Integer(1, 9), 1.5, "a whole number is needed, not 1.5"),
        (Integer(1, 9), True, "a number is needed, not True"),
        (Normal(0.0, 1.0, log=True), 0.0, "0.0 is not a value of lognormal(0.0, 1.0)"),
        (Normal(0.0, 1.0), 50.0, "50.0 is not a value of randn(0.0, 1.0)"),
        (Beta(), 1.5, "1.5 is not a value of beta(1.0, 1.0)"),
    ],
    ids=repr,
)
def test_what_is_none_of_a_domains_values(domain: Domain, written: object, sentence: str) -> None:
    """The value and the domain are named."""
    with pytest.raises(SpaceError) as caught:
        admitted(domain, written)
    assert str(caught.value) == sentence
