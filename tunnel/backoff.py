"""How long to wait before the next try to reach the hub: longer each time, and never in step with the others.

Sans-I/O: the caller draws the random number and does the waiting.
"""

from __future__ import annotations

from tunnel.errors import LocalProtocolError

__all__ = ["Backoff"]


class Backoff:
    """Exponential backoff with nearly full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter").

    1. The ceiling starts at `initial_s` and doubles with every wait up to `cap_s`.
    2. A wait is drawn evenly between the floor, half of `initial_s`, and the ceiling. Full jitter draws from
       nothing on, so that five joiners whose hub went away spread out; the floor keeps the luckiest one from
       knocking without pause.
    3. `reset` begins anew, once a try has succeeded.
    """

    def __init__(self, initial_s: float, cap_s: float) -> None:
        if not 0 < initial_s <= cap_s:
            raise LocalProtocolError(f"a backoff needs 0 < initial_s <= cap_s, not {initial_s} and {cap_s}")
        self._initial_s = initial_s
        self._cap_s = cap_s
        self._ceiling_s = initial_s

    def next(self, random01: float) -> float:
        """Seconds to wait before the next try; `random01` is drawn evenly from [0, 1)."""
        if not 0 <= random01 <= 1:
            raise LocalProtocolError(f"a backoff needs a random number from 0 to 1, not {random01}")
        floor_s = self._initial_s / 2
        wait_s = floor_s + (self._ceiling_s - floor_s) * random01
        self._ceiling_s = min(self._cap_s, self._ceiling_s * 2)
        return wait_s

    def reset(self) -> None:
        """Begin anew: the last try succeeded."""
        self._ceiling_s = self._initial_s
