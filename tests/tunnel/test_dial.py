"""Backoff: waits that grow to a cap, spread out, and start over after a success."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tunnel.dial import Backoff


def test_longest_waits_double_up_to_the_cap() -> None:
    """With the highest draw each wait is the ceiling: initial, doubled, and the cap from then on."""
    backoff = Backoff(initial_s=0.5, cap_s=5)
    assert [backoff.next(1.0) for _ in range(6)] == [0.5, 1, 2, 4, 5, 5]


def test_reset_starts_over() -> None:
    """After a success the next failure waits as little as the first."""
    backoff = Backoff(initial_s=1, cap_s=30)
    for _ in range(10):
        backoff.next(1.0)
    backoff.reset()
    assert backoff.next(1.0) == 1


@given(st.lists(st.floats(0, 1), max_size=2000), st.floats(0.001, 10), st.floats(1, 100))
def test_every_wait_stays_within_floor_and_cap(draws: list[float], initial_s: float, factor: float) -> None:
    """However often it fails, no wait is below the floor or above the cap."""
    backoff = Backoff(initial_s, cap_s=initial_s * factor)
    for draw in draws:
        assert initial_s / 2 <= backoff.next(draw) <= initial_s * factor * (1 + 1e-9)
