"""Times as UTC ISO 8601 text of one width, as databases and files hold them; for people there is `wording`."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["utc_seconds", "utc_text"]


def utc_text(seconds: float) -> str:
    """Seconds since the epoch as `2026-11-22T20:30:00.000000Z`; sorting such text sorts time."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")[:26] + "Z"


def utc_seconds(text: str) -> float:
    """The inverse of `utc_text`, equal to the microsecond."""
    return datetime.fromisoformat(text).timestamp()
