"""Method grid: every combination once, the last parameter fastest."""

from __future__ import annotations

import pytest

from raycolab.errors import SpaceError
from raycolab.search.enumeration import grid_configurations
from raycolab.spec.spaces import as_space, integer, uniform


def test_every_combination_with_the_last_parameter_fastest() -> None:
    """The order is the order declared, not that of names."""
    space = as_space({"b": [1, 2], "a": integer(8, 9), "c": "x"})
    assert list(grid_configurations(space)) == [
        {"b": 1, "a": 8, "c": "x"},
        {"b": 1, "a": 9, "c": "x"},
        {"b": 2, "a": 8, "c": "x"},
        {"b": 2, "a": 9, "c": "x"},
    ]


def test_an_empty_space_has_one_configuration() -> None:
    """A model without parameters runs once."""
    assert list(grid_configurations({})) == [{}]


def test_a_continuous_domain_is_refused() -> None:
    """There is no end to its values."""
    with pytest.raises(SpaceError, match="is continuous"):
        list(grid_configurations(as_space({"a": uniform(0, 1)})))
