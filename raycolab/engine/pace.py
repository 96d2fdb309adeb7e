"""Measured durations: how long trials take, how much must lie ahead of a slot, when the sweep will be done.

How many trials ahead
1. A slot that finishes a trial needs the next one at hand: its report travels half a round trip to the engine and
   the answer another half; while an earlier report is under way it first waits for that one's answer. Two round
   trips and a margin for the engine's own work therefore cover it (`cover_s`).
2. What lies ahead is counted in expected seconds, each trial by the *short* duration of its model (the lower
   quartile of the last ones), so that a few short ones in a row do not run the slot dry.
3. One trial is always ahead; never more than MAX_AHEAD.
"""

from __future__ import annotations

from collections import deque

__all__ = ["MAX_AHEAD", "Pace"]

# Trials that a slot may hold and has not started.
MAX_AHEAD = 64
# Durations per model.
_REMEMBERED = 31
# The engine's and the slot's own work on one exchange.
_MARGIN_S = 0.02
# Weight of the newest duration in the mean, once there are ten.
_SMOOTHING = 0.1


class Pace:
    """Durations of finished trials per model, and what follows from them."""

    def __init__(self) -> None:
        self._recent: dict[str, deque[float]] = {}
        self._short: dict[str, float] = {}
        self._mean: dict[str, float] = {}
        self._seen: dict[str, int] = {}

    def finished(self, model: str, duration_s: float) -> None:
        """One more trial of the model took this long."""
        duration_s = max(duration_s, 0.0)
        recent = self._recent.setdefault(model, deque(maxlen=_REMEMBERED))
        recent.append(duration_s)
        self._short.pop(model, None)
        seen = self._seen[model] = self._seen.get(model, 0) + 1
        mean = self._mean.get(model, duration_s)
        self._mean[model] = mean + (duration_s - mean) * max(1 / seen, _SMOOTHING)

    def mean_s(self, model: str) -> float | None:
        """How long a trial of the model takes; None while none has finished."""
        return self._mean.get(model)

    def short_s(self, model: str) -> float | None:
        """How long a short trial of the model takes; None while none has finished."""
        if model not in self._short:
            recent = self._recent.get(model)
            if not recent:
                return None
            self._short[model] = sorted(recent)[len(recent) // 4]
        return self._short[model]

    @staticmethod
    def cover_s(round_trip_s: float) -> float:
        """How many seconds of work must lie ahead of a slot with this round trip."""
        return 2 * round_trip_s + _MARGIN_S

    def eta_s(self, waiting: dict[str, int], running: list[tuple[str, float]], slots: int) -> float | None:
        """Seconds until all is done, from trials per model that wait and (model, seconds so far) of those that run.

        None while nothing has been measured or no slot is up. A model without a measure counts as the average one.
        """
        if not self._mean or slots < 1:
            return None
        average = sum(self._mean.values()) / len(self._mean)
        rest = [max(self._mean.get(model, average) - elapsed, 0.0) for model, elapsed in running]
        work = sum(self._mean.get(model, average) * count for model, count in waiting.items())
        return max((work + sum(rest)) / slots, max(rest, default=0.0))
