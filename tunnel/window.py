"""How much a stream may have on its way: receive windows, and the budget that bounds them all together.

Credit is hop by hop. The receiver of a hop says how many more bytes it takes; the sender never sends more. The rules:

1. Both ends know that a stream begins with INITIAL_WINDOW bytes of credit, so its first bytes need no round trip.
2. A byte counts against the window from its grant until it is *delivered*: written to the socket it is for, or
   acknowledged by the next hop. The window is therefore a bound on the memory a stream can take here.
3. Delivered bytes are granted again once they are half a window, so that credit costs little traffic.
4. A stream that used up a whole window since it last grew gets a window GROWTH times as large, at most MAX_WINDOW
   and at most half of what the budget of its destination has left: somebody is always still to come.
5. When its budget is overdrawn by others, a window shrinks by what is delivered until it is INITIAL_WINDOW again.

This module counts bytes; it knows nothing of frames, sockets or time.
"""

from __future__ import annotations

from tunnel.errors import LocalProtocolError, RemoteProtocolError

__all__ = ["BUDGET", "GROWTH", "INITIAL_WINDOW", "MAX_WINDOW", "Budget", "ReceiveWindow"]

INITIAL_WINDOW = 16 * 1024
MAX_WINDOW = 4 * 1024 * 1024
GROWTH = 4
BUDGET = 32 * 1024 * 1024


class Budget:
    """Bytes that all streams toward one destination may take beyond their initial windows."""

    def __init__(self, total: int = BUDGET) -> None:
        self.total = total
        # Sum over the windows of what they are larger than INITIAL_WINDOW.
        self.reserved = 0

    @property
    def free(self) -> int:
        """Bytes nobody has reserved."""
        return self.total - self.reserved


class ReceiveWindow:
    """The receiving side's account of one stream on one hop; `delivered` returns what to grant."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.size = INITIAL_WINDOW  # outstanding + held never exceeds it
        self.outstanding = INITIAL_WINDOW  # granted, not yet received
        self.held = 0  # received, not yet delivered
        self._used = 0  # delivered since the window last grew

    def assign(self, budget: Budget) -> None:
        """Charge `budget` from now on: the destination is known only after the stream was opened."""
        self._budget.reserved -= self.size - INITIAL_WINDOW
        self._budget = budget
        self._budget.reserved += self.size - INITIAL_WINDOW

    def received(self, count: int) -> None:
        """`count` bytes came; RemoteProtocolError when the sender had no credit for them."""
        if count > self.outstanding:
            raise RemoteProtocolError(f"{count} bytes where {self.outstanding} were granted")
        self.outstanding -= count
        self.held += count

    def delivered(self, count: int) -> int:
        """`count` bytes left this hop; returns how much new credit to give the sender, often 0."""
        if count > self.held:
            raise LocalProtocolError(f"{count} bytes delivered of {self.held} held")
        self.held -= count
        self._used += count
        if self._budget.free < 0:
            self._resize(max(INITIAL_WINDOW, self.size - count))
        elif self._used >= self.size:
            self._used = 0
            self._resize(min(self.size * GROWTH, MAX_WINDOW, self.size + self._budget.free // 2))
        grant = self.size - self.outstanding - self.held
        if grant * 2 < self.size:
            return 0
        self.outstanding += grant
        return grant

    def close(self) -> None:
        """Give the budget back; the stream is over."""
        self._resize(INITIAL_WINDOW)

    def _resize(self, size: int) -> None:
        self._budget.reserved += size - self.size
        self.size = size
