"""A point is tried when a configuration of the pair stands for it."""

from __future__ import annotations

from raycolab.search.enumeration import untried


def test_points_without_a_configuration_are_left_in_their_order() -> None:
    """What the point does not name may be anything; rows without a configuration stand for nothing."""
    points = [{"x": 1}, {"y": 2}, {"x": 3, "y": 4}]
    assert untried(points, [None, {"x": 5, "y": 2}]) == [{"x": 1}, {"x": 3, "y": 4}]
    assert untried(points, []) == points


def test_a_configuration_stands_for_one_point() -> None:
    """The first that it has the values of."""
    assert untried([{}, {"x": 1}], [{"x": 1}]) == [{"x": 1}]
    assert untried([{"x": 1}, {"x": 1}], [{"x": 1}]) == [{"x": 1}]


def test_one_true_and_one_are_different_points() -> None:
    """Told apart as JSON does."""
    assert untried([{"x": 1}], [{"x": 1.0}, {"x": True}]) == [{"x": 1}]
