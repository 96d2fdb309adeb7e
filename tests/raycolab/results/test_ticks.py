"""Places and labels of numbers on a line."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycolab.view.charts import Scale, number_label

finite = st.floats(-1e12, 1e12)


def test_a_scale_puts_values_in_proportion() -> None:
    """Also upside down; what lies outside is put at the nearer end."""
    up = Scale(0, 10, 100, 0)
    assert [up(value) for value in (0, 5, 10, -3, 99)] == [100, 50, 0, 100, 0]
    assert Scale(2, 2, 0, 100)(2) == 50


@given(finite, finite)
def test_ticks_are_few_and_within(one: float, other: float) -> None:
    """Whatever the range, there is at least one and never a crowd."""
    low, high = min(one, other), max(one, other)
    ticks = Scale(low, high, 0, 100).ticks(4)
    assert len(ticks) <= 17
    room = (high - low) * 1e-6 + 1e-12
    assert all(low - room <= tick <= high + room for tick in ticks)


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0, 1, ["0", "0.25", "0.5", "0.75", "1"]),
        (0.58, 0.93, ["0.6", "0.7", "0.8", "0.9"]),
        (0, 59, ["0", "20", "40"]),
        (0, 100_000, ["0", "25k", "50k", "75k", "100k"]),
        (-2e-5, 1e-5, ["-2e-05", "-1e-05", "0", "1e-05"]),
    ],
)
def test_ticks_are_round_and_short(low: float, high: float, labels: list[str]) -> None:
    """As a person would write them."""
    assert [number_label(value) for value in Scale(low, high, 0, 1).ticks(4)] == labels


def test_labels_have_no_binary_dust() -> None:
    """0.30000000000000004 is 0.3; what is not finite has its name."""
    assert number_label(0.1 + 0.2) == "0.3"
    assert number_label(12_345.0) == "12.3k"
    assert number_label(3_000_000.0) == "3M"
    assert number_label(math.inf) == "inf"
