"""Numbers on a line: where they lie, and which of them are written beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Scale", "number_label"]


@dataclass(frozen=True, slots=True)
class Scale:
    """Values from `low` to `high` as places from `begin` to `end`; what lies outside is put at the nearer end."""

    low: float
    high: float
    begin: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return self.begin + min(max(share, 0.0), 1.0) * (self.end - self.begin)

    def ticks(self, count: int) -> list[float]:
        """About `count` round values within."""
        span = self.high - self.low
        if not span > 0 or not math.isfinite(span):
            return [self.low]
        raw = span / count
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= raw * 0.999)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [index * step for index in range(first, min(last, first + 4 * count) + 1)]


def number_label(value: float) -> str:
    """Short: `0.25`, `1e-05`, `12k`, `3M`; no binary dust."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if unit <= abs(value) < 1e12 and abs(value) >= 10_000:
            return f"{value / unit:.3g}{name}"
    return f"{round(value, 12):.4g}"
