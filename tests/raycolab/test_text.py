"""How counts, durations, sizes, configurations and times read, and what a mistyped word was meant to be."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycolab.text import (
    bytes_text,
    config_text,
    counted,
    did_you_mean,
    duration_text,
    number_text,
    tally_text,
    utc_seconds,
    utc_text,
    visible,
)

moments = st.floats(0, 4e9)


def test_a_near_miss_is_named_and_a_far_one_is_not() -> None:
    """The closest known word, quoted; no guess is better than a wild one."""
    assert did_you_mean("gama", ["C", "gamma"]) == " (did you mean 'gamma'?)"
    assert did_you_mean("momentum", ["C", "gamma"]) == ""


def test_one_has_no_s() -> None:
    """Halves of a GPU are several."""
    assert [counted(number, "GPU") for number in (0, 1, 2, 0.5)] == ["0 GPUs", "1 GPU", "2 GPUs", "0.5 GPUs"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((-1.0, "0.0 s"), (0.44, "0.4 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min")),
        *((370.0, "6 min 10 s"), (3_599.7, "1 h"), (7_530.0, "2 h 5 min"), (86_399.9, "1 d"), (273_600.0, "3 d 4 h")),
    ],
)
def test_a_duration_has_two_units_at_most(seconds: float, text: str) -> None:
    """Rounded before it is split, so no `60 s` appears."""
    assert duration_text(seconds) == text


def test_a_tally_has_the_words_of_the_field() -> None:
    """ok, failed and running always; the rarer states only where there are any."""
    counts = {"total": 480, "pending": 337, "running": 5, "complete": 120, "failed": 9, "pruned": 8, "lost": 0}
    assert tally_text(counts) == "137/480  ok 120  failed 9  running 5  pruned 8"
    assert tally_text({"total": 3, "complete": 3}) == "3/3  ok 3  failed 0  running 0"


@pytest.mark.parametrize(
    ("value", "text"), [(0.98333, "0.9833"), (1, "1"), (1234567.0, "1.235e+06"), (math.nan, "nan"), (-math.inf, "-inf")]
)
def test_a_metric_has_four_significant_digits(value: float, text: str) -> None:
    """What is not finite is named."""
    assert number_text(value) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (812, "812 B"), (3_400, "3.4 kB"), (999_600, "1.0 MB"), (5 * 10**12, "5.0 TB")]
)
def test_sizes_count_in_thousands(count: int, text: str) -> None:
    """As a provider's allowance does."""
    assert bytes_text(count) == text


def test_a_configuration_is_short() -> None:
    """Numbers rounded, names kept."""
    assert (
        config_text({"C": 1.23456, "depth": 4, "kernel": "rbf", "a/b": None})
        == "C=1.235, depth=4, kernel=rbf, a/b=None"
    )


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


def test_what_a_terminal_would_obey_is_shown_as_an_escape() -> None:
    """A window's title, a cleared screen, an overwritten line and a turned direction; line ends and tabs stay."""
    title, clear, turned = "\x1b]0;mine\x07", "\x1b[2J", "\u202egnp.exe"
    assert visible(f"{title}{clear}a\rb\tc\n{turned}\x9b1m") == (
        "\\x1b]0;mine\\x07\\x1b[2Ja\\rb\tc\n\\u202egnp.exe\\x9b1m"
    )
    assert visible("Größe: 中文 😀") == "Größe: 中文 😀"
