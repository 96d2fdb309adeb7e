"""The month's bytes beside what a provider gives for free."""

from __future__ import annotations

import pytest

from raycolab.node.allowance import Allowance
from raycolab.node.data_dir import MonthTraffic

NOVEMBER = 1_795_000_000.0  # 2026-11-18
DECEMBER = NOVEMBER + 20 * 86_400
LIMIT = 1_000_000_000


def test_a_head_counts_on_from_the_one_before() -> None:
    """The sum of a month outlives the head; what a head reports is its own total."""
    first = Allowance("ngrok", LIMIT, MonthTraffic())
    first.count(100, NOVEMBER)
    first.count(250, NOVEMBER + 1)
    second = Allowance("ngrok", LIMIT, first.month)
    second.count(1_000, NOVEMBER + 2)
    assert second.month == MonthTraffic("2026-11", 1_250)
    assert second.status() == {
        "provider": "ngrok",
        "month": "2026-11",
        "month_bytes": 1_250,
        "limit_bytes": LIMIT,
        "warning": None,
    }


def test_a_month_begins_at_nothing() -> None:
    """What was counted in the old one stays there, and its warnings are due again."""
    allowance = Allowance("ngrok", LIMIT, MonthTraffic("2026-11", 900_000_000))
    allowance.count(5, NOVEMBER)
    assert allowance.new_warning() is not None
    allowance.count(800_000_005, DECEMBER)
    assert allowance.month == MonthTraffic("2026-12", 800_000_000)
    assert allowance.new_warning() is not None


@pytest.mark.parametrize(
    ("used", "words"),
    [
        (799_999_999, None),
        (
            800_000_000,
            "800 MB of the 1.0 GB a month of ngrok's free plan are used (2026-11): once they are used up, joi",
        ),
        (
            1_000_000_000,
            "1.0 GB of the 1.0 GB a month of ngrok's free plan are used up (2026-11): joiners may be cut off",
        ),
    ],
)
def test_it_warns_before_the_end(used: int, words: str | None) -> None:
    """From four fifths on, with what to do; another sentence once it is used up."""
    allowance = Allowance("ngrok", LIMIT, MonthTraffic())
    allowance.count(used, NOVEMBER)
    warning = allowance.status()["warning"]
    assert warning is None if words is None else warning.startswith(words)


def test_the_log_hears_of_each_level_once() -> None:
    """At 80, 95 and 100 %; a jump over two of them is one warning."""
    allowance = Allowance("ngrok", LIMIT, MonthTraffic())
    warned = []
    for percent in (50, 81, 82, 96, 97, 101, 102):
        allowance.count(percent * LIMIT // 100, NOVEMBER)
        warned.append(allowance.new_warning() is not None)
    assert warned == [False, True, False, True, False, True, False]


def test_where_nobody_counts_nothing_is_warned_of() -> None:
    """A provider without an allowance."""
    allowance = Allowance("direct", None, MonthTraffic())
    allowance.count(10**15, NOVEMBER)
    assert (allowance.status()["warning"], allowance.new_warning()) == (None, None)
    assert allowance.month == MonthTraffic("2026-11", 10**15)
