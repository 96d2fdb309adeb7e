"""A near miss is named, a far one is not."""

from __future__ import annotations

from raycolab.text import did_you_mean, listed


def test_a_near_miss_is_named() -> None:
    """The closest known word, quoted."""
    assert did_you_mean("gama", ["C", "gamma"]) == " (did you mean 'gamma'?)"


def test_a_far_miss_is_not() -> None:
    """No guess is better than a wild one."""
    assert did_you_mean("momentum", ["C", "gamma"]) == ""


def test_words_are_listed_with_commas() -> None:
    """In the order given."""
    assert listed(["a", "b"]) == "a, b"
