"""What went through the tunnel this month, beside what the provider gives for free; pure, the head keeps the record.

A month is UTC's, since no provider documents when its own begins. Only what passed the heads of this data directory is
known here: other programs on the same account use up the same allowance.
"""

from __future__ import annotations

from typing import Any

from raycolab.node.data_dir import MonthTraffic
from raycolab.text import bytes_text, utc_text

__all__ = ["Allowance"]

WARN_AT = (0.8, 0.95, 1.0)  # of the allowance


class Allowance:
    """Adds what this head moves to the month that the head before left."""

    def __init__(self, provider: str, limit_bytes: int | None, before: MonthTraffic | None) -> None:
        self._provider = provider
        self._limit_bytes = limit_bytes  # a month; None: the provider does not count
        # What the next head needs to go on counting.
        self.month = before or MonthTraffic()
        self._counted = 0  # bytes of this head that are in the month, or in one before
        self._warned = 0  # levels of WARN_AT that `new_warning` has returned

    def count(self, total_bytes: int, now: float) -> None:
        """This head has moved `total_bytes` since it started; `now` is seconds since the epoch."""
        month, so_far = utc_text(now)[:7], self.month.bytes
        if month != self.month.month:
            so_far, self._warned = 0, 0
        self.month = MonthTraffic(month, so_far + total_bytes - self._counted)
        self._counted = total_bytes

    def status(self) -> dict[str, Any]:
        """What a TrafficStatus says of the month."""
        return {
            "provider": self._provider,
            "month": self.month.month,
            "month_bytes": self.month.bytes,
            "limit_bytes": self._limit_bytes,
            "warning": self._warning if self._level else None,
        }

    def new_warning(self) -> str | None:
        """The warning, once for each level that was passed since the last call; for the log."""
        if self._level <= self._warned:
            return None
        self._warned = self._level
        return self._warning

    @property
    def _level(self) -> int:
        limit = self._limit_bytes
        return 0 if limit is None else sum(self.month.bytes >= share * limit for share in WARN_AT)

    @property
    def _warning(self) -> str:
        plan = f"{bytes_text(self._limit_bytes or 0)} a month of {self._provider}'s free plan"
        used = f"{bytes_text(self.month.bytes)} of the {plan} are used"
        if self._level < len(WARN_AT):
            return (
                f"{used} ({self.month.month}): once they are used up, joiners are cut off. End joiners that you can"
                " spare, let `compute` return less, or consider a paid plan."
            )
        return f"{used} up ({self.month.month}): joiners may be cut off at any time until the next month begins."
