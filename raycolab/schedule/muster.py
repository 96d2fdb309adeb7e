"""The wait for slots before the first trial, so that a sweep that expects several begins on all of them.

Over when enough are up or it has lasted long enough; it begins with the first event that has a time.
"""

from __future__ import annotations

__all__ = ["Muster"]


class Muster:
    """Nothing is given out while it lasts."""

    def __init__(self, expect_slots: int | None, within_s: float) -> None:
        """None expects nothing: there is no wait."""
        self.lasts = expect_slots is not None
        # When it ends at the latest.
        self.until: float | None = None
        self._expect_slots = expect_slots or 0
        self._within_s = within_s

    def see(self, slots_up: int, now: float) -> bool:
        """So many slots are up now; whether that ended the wait."""
        if not self.lasts:
            return False
        if self.until is None:
            self.until = now + self._within_s
        if slots_up < self._expect_slots and now < self.until:
            return False
        self.lasts = False
        self.until = None
        return True
