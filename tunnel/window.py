"""How much a stream may have on its way: receive windows, and the budget that bounds them all together.

The rules are the numbered ones of section 10 of `PROTOCOL.md`. Why they are so: the window bounds the memory that a
stream can take here. Credit in halves of a window costs little traffic. A stream that trickles for days stays small,
and there may always be more streams. Busy streams come to equal shares, whichever was first. Credit cannot be taken
back, so the window of an idle stream stays. This module knows nothing of frames, sockets or time.
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
        # What all the windows together have beyond their INITIAL_WINDOW.
        self.reserved = 0

    @property
    def free(self) -> int:
        """Bytes that no window has reserved."""
        return self.total - self.reserved


class ReceiveWindow:
    """The receiving side's account of one stream on one hop; `delivered` returns what to grant."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.size = INITIAL_WINDOW  # outstanding + held never exceeds it
        self.outstanding = INITIAL_WINDOW  # granted, not yet received
        self.held = 0  # received, not yet delivered
        self._used = 0  # delivered since the window last grew
        self._wanted = False  # since then the sender said that it waits for credit
        self._finished = False

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

    def wanted(self) -> None:
        """The sender has more than it may send."""
        self._wanted = True

    def finish(self) -> None:
        """Nothing more comes: credit that was not used goes back to the budget."""
        self._finished = True
        self.outstanding = 0
        self._resize(max(INITIAL_WINDOW, self.held))

    def delivered(self, count: int) -> int:
        """`count` bytes left this hop; returns how much new credit to give the sender, often 0."""
        if count > self.held:
            raise LocalProtocolError(f"{count} bytes delivered of {self.held} held")
        self.held -= count
        if self._finished:
            self._resize(max(INITIAL_WINDOW, self.held))
            return 0
        self._used += count
        free = self._budget.free
        if self.size > 2 * free:
            self._resize(max(INITIAL_WINDOW, self.size - min(count, self.size // 2 - free)))
        elif self._wanted and self._used >= self.size:
            self._used, self._wanted = 0, False
            self._resize(max(self.size, min(self.size * GROWTH, MAX_WINDOW, (self.size + free) // 2)))
        grant = self.size - self.outstanding - self.held
        if grant * 2 < self.size:
            return 0
        self.outstanding += grant
        return grant

    def close(self) -> None:
        """The stream is over, with what it still held: give the budget back."""
        self._resize(INITIAL_WINDOW)

    def _resize(self, size: int) -> None:
        self._budget.reserved += size - self.size
        self.size = size
