"""Scalars, numbers and whole numbers, as numpy, YAML and enums have them."""

from __future__ import annotations

import enum

import numpy as np
import pytest

from raycolab.errors import SpaceError
from raycolab.spec.values import as_number, as_scalar, as_whole


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
