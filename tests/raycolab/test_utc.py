"""Times as text of one width."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raycolab.text import utc_seconds, utc_text

moments = st.floats(0, 4e9)


def test_the_form_is_iso_8601_in_utc() -> None:
    """Microseconds always, so that every text is of one width."""
    assert utc_text(1_795_379_400.0) == "2026-11-22T20:30:00.000000Z"


@given(moments)
def test_a_time_comes_back_to_the_microsecond(seconds: float) -> None:
    """And written again it is the same text: rows read and written back do not drift."""
    text = utc_text(seconds)
    assert abs(utc_seconds(text) - seconds) <= 1e-6
    assert utc_text(utc_seconds(text)) == text


@given(moments, moments)
def test_sorting_the_text_sorts_the_time(one: float, other: float) -> None:
    """As databases and people sort it."""
    if one <= other:
        assert utc_text(one) <= utc_text(other)
