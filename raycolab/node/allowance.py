"""What went through the tunnel this month, beside what the provider gives for nothing; pure, the head keeps it.

A month is UTC's; when a provider's own month begins is not documented. Only what passed heads of this data directory
is known here: other programs on the same account use the same allowance.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raycolab.text import bytes_text, utc_text

__all__ = ["Allowance"]

WARN_AT = (0.8, 0.95, 1.0)  # of the allowance


class Allowance:
    """Counts bytes by month; `stored` is what `to_json` gave the head before."""

    def __init__(self, provider: str, limit_bytes: int | None, stored: Mapping[str, Any] | None) -> None:
        self._provider = provider
        self._limit_bytes = limit_bytes  # a month; None: the provider does not count
        self._month = str((stored or {}).get("month", ""))
        bytes_before = (stored or {}).get("bytes", 0)
        self._month_bytes = bytes_before if isinstance(bytes_before, int) else 0
        self._counted = 0  # bytes of this head that are in the month, or in one before
        self._warned = 0  # levels of WARN_AT that `news` told of

    def count(self, total_bytes: int, now: float) -> None:
        """This head has moved `total_bytes` since it started; `now` is seconds since the epoch."""
        month = utc_text(now)[:7]
        if month != self._month:
            self._month, self._month_bytes, self._warned = month, 0, 0
        self._month_bytes += total_bytes - self._counted
        self._counted = total_bytes

    def to_json(self) -> dict[str, Any]:
        """What the next head needs to go on counting."""
        return {"month": self._month, "bytes": self._month_bytes}

    def status(self) -> dict[str, Any]:
        """The month as `status --json` shows it: month, month_bytes, limit_bytes (None: none), warning (or None)."""
        return {
            "provider": self._provider,
            "month": self._month,
            "month_bytes": self._month_bytes,
            "limit_bytes": self._limit_bytes,
            "warning": self._warning if self._level else None,
        }

    def news(self) -> str | None:
        """The warning, once for each level that was passed since the last call; for the log."""
        if self._level <= self._warned:
            return None
        self._warned = self._level
        return self._warning

    @property
    def _level(self) -> int:
        limit = self._limit_bytes
        return 0 if limit is None else sum(self._month_bytes >= share * limit for share in WARN_AT)

    @property
    def _warning(self) -> str:
        limit = self._limit_bytes or 0
        used = (
            f"{bytes_text(self._month_bytes)} of the {bytes_text(limit)} that {self._provider}'s free plan has a month"
        )
        if self._month_bytes < limit:
            return (
                f"{used} are used ({self._month}): when they are used up, joiners are cut off. End joiners that you"
                f" can spare, let `compute` return less, or see to a paid plan."
            )
        return (
            f"{used} are used up ({self._month}): on that plan joiners may be cut off any time, until the next month."
        )
