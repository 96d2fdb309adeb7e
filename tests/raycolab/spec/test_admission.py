"""A value that a person wrote is one of a domain's, as the domain gives it, or is refused with the domain named."""

from __future__ import annotations

import math

import pytest
from hypothesis import given

from raycolab.errors import SpaceError
from raycolab.spec.domains import Beta, Choice, Constant, Domain, Float, Integer, Normal, admitted
from tests.raycolab.spec.spaces import domains, units


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
