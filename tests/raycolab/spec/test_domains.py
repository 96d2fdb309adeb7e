"""Domains give every value they promise, none beside it, and survive JSON."""

from __future__ import annotations

import contextlib
import enum
import json
import math
from statistics import NormalDist

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycolab.errors import SpaceError
from raycolab.spec.domains import (
    LARGEST_UNIT,
    AnyDomain,
    Beta,
    Choice,
    Constant,
    Domain,
    Float,
    Integer,
    Normal,
    admitted,
    as_number,
    as_scalar,
    as_whole,
    domain_json,
    stepped,
)
from raycolab.spec.spaces import as_domain
from tests.raycolab.spec.spaces import domains, units, wild_numbers, wild_parameters


def _at_hundredths(domain: Domain) -> list[object]:
    return [domain.at(k / 100) for k in range(100)]


@given(domains)
def test_json_gives_the_same_domain_back(domain: Domain) -> None:
    """A domain, its JSON and the domain of that JSON are the same, down to the types of numbers."""
    text = json.dumps(domain_json(domain))
    again: Domain = msgspec.convert(json.loads(text), AnyDomain)
    assert (type(again), json.dumps(domain_json(again)), str(again)) == (type(domain), text, str(domain))


@given(domains, units)
def test_a_draw_stays_within_its_domain(domain: Domain, unit: float) -> None:
    """Whatever the quantile, the value is one of the alternatives or lies between the bounds, ends included."""
    value = domain.at(unit)
    match domain:
        case Constant():
            assert value == domain.value
        case Choice():
            assert any(value is alternative for alternative in domain.values)
        case Float() | Integer():
            assert isinstance(value, int | float)
            assert domain.low <= value <= domain.high
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
    domain = stepped(first * step, (first + count + 1) * step, step)
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


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        (
            {"distribution": "log_normal", "mu": 1000, "sigma": 100},
            "lognormal(1000.0, 100.0) reaches beyond what a float can hold; take a narrower distribution",
        ),
        (
            {"min": -1e308, "max": 1e308},
            "uniform(-1e+308, 1e+308) reaches beyond what a float can hold; take a narrower distribution",
        ),
        (
            {"distribution": "log_normal", "mu": -1000, "sigma": 1},
            "lognormal(-1000.0, 1.0) has values so small that a float takes them for 0; take a narrower distribution",
        ),
        (
            {"distribution": "q_normal", "sigma": 1e300, "q": 1e-10},
            "qrandn(0.0, 1e+300, 1e-10) reaches beyond what a float can hold; take a narrower distribution, or a "
            "larger step",
        ),
        (
            {"distribution": "q_uniform", "min": 0, "max": 1e300, "q": 1e-10},
            "a quantization of 1e-10 is too fine for numbers from 0 to 1e+300; take a larger one",
        ),
        ({"distribution": "normal", "sigma": math.inf}, "randn(0.0, inf) needs a finite mean and a standard deviation"),
        ({"distribution": "beta", "a": 1e9}, "beta(1000000000.0, 1.0) cannot be computed; take a and b from 0.001 to"),
        ({"min": 0, "max": 10**400}, "max: a whole number of more than 308 digits cannot be computed with"),
        ({"values": [1, 2], "probabilities": [1e308, 1e308]}, "probabilities are finite numbers from 0 upward"),
    ],
    ids=str,
)
def test_a_distribution_that_floats_cannot_compute_is_refused(written: dict[str, object], sentence: str) -> None:
    """As it was understood, and what to do."""
    with pytest.raises(SpaceError) as caught:
        as_domain(written)
    assert str(caught.value).startswith(sentence)


def test_stepped_numbers_have_no_binary_dust() -> None:
    """Multiples of 0.1 are written 0.3, not 0.30000000000000004."""
    assert stepped(0, 0.5, 0.1).grid() == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]


def test_whole_steps_from_a_whole_start_are_ints() -> None:
    """Low, high and step of type int give ints, as W&B does for a whole q."""
    values = stepped(32, 256, 8, log=True).grid()
    assert values == list(range(32, 257, 8))
    assert all(type(value) is int for value in values)


def test_steps_lie_within_bounds_that_are_no_multiples() -> None:
    """The first and last step are the multiples inside the bounds."""
    assert stepped(0.5, 3.5, 1.0).grid() == [1.0, 2.0, 3.0]
    assert stepped(0.5, 1.4, 1.0) == Constant(1.0)


def test_rounding_to_steps_halves_the_ends() -> None:
    """A quarter, a half and a quarter of the draws for three steps, as Ray Tune's quniform."""
    drawn = _at_hundredths(stepped(0, 2, 1))
    assert [drawn.count(value) for value in (0, 1, 2)] == [25, 50, 25]


def test_a_log_uniform_number_has_equal_shares_per_decade() -> None:
    """Half of the draws between 1 and 100 lie below 10."""
    below = [value for value in _at_hundredths(Float(1, 100, log=True)) if isinstance(value, float) and value < 10]
    assert len(below) == 50


def test_log_integers_reach_both_ends() -> None:
    """The low bound is as likely as its share of the logarithm, and the high bound is drawn."""
    drawn = _at_hundredths(Integer(1, 3, log=True))
    assert [drawn.count(value) for value in (1, 2, 3)] == [50, 30, 20]


def test_integers_are_equally_likely() -> None:
    """Five values, a fifth of the draws each."""
    drawn = _at_hundredths(Integer(0, 8, step=2))
    assert [drawn.count(value) for value in (0, 2, 4, 6, 8)] == [20] * 5


def test_probabilities_are_shares() -> None:
    """A weighted choice gives each value its share, and never one of probability 0."""
    drawn = _at_hundredths(Choice(("a", "b", "c"), (1.0, 0.0, 3.0)))
    assert [drawn.count(value) for value in ("a", "b", "c")] == [25, 0, 75]


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


@pytest.mark.parametrize("domain", [Integer(1, 10_001), stepped(0, 10_000, 1)], ids=str)
def test_a_huge_domain_has_no_grid(domain: Domain) -> None:
    """10,001 values are too many, 10,000 are not."""
    with pytest.raises(SpaceError, match="has 10,001 values and method grid lists at most 10,000"):
        domain.grid()
    assert len(Integer(1, 10_000).grid()) == 10_000


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (
            lambda: Float(1, 1),
            "uniform(1, 1) needs its low bound below its high one; for one fixed value give the value",
        ),
        (
            lambda: Float(0, 1, log=True),
            "loguniform(0, 1) needs a low bound above 0; start at a small positive number, or use uniform",
        ),
        (lambda: Float(0, math.inf), "uniform(0, inf) needs finite bounds"),
        (lambda: Float(0, 1, step=0), "quniform(0, 1, 0) needs a step above 0"),
        (lambda: Integer(3, 2), "integer(3, 2) has no value: its low bound is above its high one; swap them"),
        (lambda: Integer(0, 2, log=True), "lograndint(0, 3) is logarithmic and needs a low bound of at least 1"),
        (lambda: Integer(0, 2, step=0), "integer(0, 2) needs a step of at least 1"),
        (lambda: Choice(()), "a choice needs at least one value, and this one is empty"),
        (lambda: Choice((1, 2), (1.0,)), "there are 2 values and 1 probabilities; give one for each"),
        (lambda: Choice((1,), (-1.0,)), "probabilities are finite numbers from 0 upward, at least one of them above 0"),
        (lambda: Normal(0, 0), "randn(0, 0) needs a finite mean and a standard deviation above 0"),
        (lambda: Normal(0, 1, step=-1), "qrandn(0, 1, -1) needs a step above 0"),
        (lambda: Beta(0, 1), "beta(0, 1) needs a and b above 0"),
        (lambda: Beta(1, 1, step=0), "beta(1, 1, 0) needs a step above 0"),
        (lambda: stepped(0, 1, 0), "a quantization of 0 is not above 0; take a positive number"),
        (lambda: stepped(0.1, 0.9, 1), "there is no multiple of 1 between 0.1 and 0.9; take a smaller quantization"),
    ],
)
def test_a_malformed_domain_is_refused_in_a_sentence(build: object, sentence: str) -> None:
    """What is wrong, shown as it was written, and where there is one, the cure."""
    assert callable(build)
    with pytest.raises(SpaceError) as caught:
        build()
    assert str(caught.value) == sentence


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


class _Colour(enum.StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        (None, None),
        (True, True),
        (3, 3),
        (0.5, 0.5),
        ("rbf", "rbf"),
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("rbf"), "rbf"),
        (np.array(2.5), 2.5),
        (_Colour.RED, "red"),
    ],
)
def test_a_scalar_becomes_the_plain_one(written: object, plain: object) -> None:
    """Same value, and of Python's own type."""
    scalar = as_scalar(written)
    assert (scalar, type(scalar)) == (plain, type(plain))


@pytest.mark.parametrize(
    "value", [object(), [1], (1, 2), {"a": 1}, b"x", np.array([1, 2])], ids=lambda value: type(value).__name__
)
def test_an_object_is_refused_with_the_cure(value: object) -> None:
    """What a table cannot hold goes by a name."""
    with pytest.raises(SpaceError, match="give a name or a number, and look the object up in compute"):
        as_scalar(value)


@pytest.mark.parametrize("value", [True, "1", None])
def test_a_number_is_no_bool_and_no_text(value: object) -> None:
    """Bounds are numbers."""
    with pytest.raises(SpaceError, match="a number is needed, not"):
        as_number(value)


def test_a_whole_number_may_be_written_as_a_float() -> None:
    """10.0 is whole, 10.5 is not."""
    assert as_whole(1e3) == 1000
    assert type(as_whole(np.float64(10))) is int
    with pytest.raises(SpaceError, match=r"a whole number is needed, not 10\.5"):
        as_whole(10.5)
