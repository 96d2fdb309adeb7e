"""How much DATA may be under way on a link: enough to fill the line and a little more, so that little waits in it.

What a sender puts on a line beyond delay x rate only waits in a buffer, and every ping waits behind it. So the limit
follows the round trip, as in TCP Vegas and FAST TCP (Wei, Jin, Low, Hegde, 2006):

1. A *round* is the time in which what was under way at its start is acknowledged. Its round trip is the shortest
   among its acknowledgements, because a busy machine delays some of them for reasons of its own.
2. If the limit held the sender back during the round, the next one is limit x (base + queue) / round trip +
   INCREASE: the line is kept full, with `queue` seconds waiting. The constant brings links that share a line to equal
   shares. If the sender had no more to say, nothing is learned.
3. At the start it grows with every byte acknowledged, so that it doubles each round, until the latest round trips
   show a queue (as in HyStart, RFC 9406).
4. `base` is the shortest round trip seen. After BASE_S without one as short it is measured again: the limit is halved
   until something sent since then is acknowledged, so that our own queue is not taken for the length of the line.
5. A frame and a batch are each a fraction of that queue, a few milliseconds of the line, for which what comes next has
   to wait.

Sans-I/O; the ledger counts what is under way.
"""

from __future__ import annotations

import math
from collections import deque

from tunnel.frames import MAX_PAYLOAD

__all__ = ["BATCH", "MAX_FLIGHT", "MIN_FLIGHT", "START_FLIGHT", "Congestion"]

# Bytes in one WebSocket message at most, give or take a frame.
BATCH = 256 * 1024

# Bytes under way. The most is what a link keeps for replay; it fills 80 MB/s at 100 ms.
MIN_FLIGHT = 32 * 1024
START_FLIGHT = 64 * 1024
MAX_FLIGHT = 8 * 1024 * 1024
INCREASE = 4 * 1024  # per round

# The queue is a share of the base round trip between two bounds; below the lower one the machines' own pace shows.
QUEUE = 1 / 8
MIN_QUEUE_S = 0.005
MAX_QUEUE_S = 0.015
BASE_S = 30.0
RECENT = 3  # round trips in a row that end the start

# How many frames and batches the queue holds when it is as long as it should be. The first frames measure the line,
# and their own length is part of what they measure, so they are small.
FRAMES = 6
BATCHES = 3
MIN_FRAME = 4 * 1024
START_FRAME = 16 * 1024
MIN_BATCH = 8 * 1024
START_BATCH = 32 * 1024


class Congestion:
    """The limit of one direction of a link."""

    def __init__(self) -> None:
        self.limit = START_FLIGHT  # bytes under way, as the ledger counts them
        self.frame = START_FRAME  # bytes of payload in a frame, at most
        self.batch = START_BATCH  # bytes that leave at once, at most, give or take a frame
        self._base_s = math.inf
        self._base_at = 0.0  # when a round trip as short was last seen
        self._starting: deque[float] | None = deque(maxlen=RECENT)  # the latest round trips; None once the start ended
        self._held_back = False  # in this round
        self._round_s = math.inf  # the shortest round trip of this round
        self._round_end = 0  # the acknowledgement of a frame after this one ends the round
        self._measuring = False  # the limit is halved to measure the base

    def hold_back(self) -> None:
        """There is more to send than the limit allows."""
        self._held_back = True

    def resume(self, sent_count: int) -> None:
        """Another WebSocket, perhaps another path: only frames numbered from now on say anything about it."""
        self._base_s = self._round_s = math.inf
        self._held_back = False
        self._round_end = sent_count
        self._end_measuring()

    def acknowledged(self, number: int, sent_at: float, sent_count: int, size: int, now: float) -> None:
        """The peer has `size` bytes more of what is under way; frame `number` of `sent_count` was the last of them."""
        trip_s = now - sent_at
        if number > self._round_end or self._base_s < math.inf:
            self._round_s = min(self._round_s, trip_s)
            if self._starting is not None:
                self._start(self._starting, trip_s, size)
        if number > self._round_end:
            self._end_round(self._round_s, now)
            self._round_s, self._held_back, self._round_end = math.inf, False, sent_count

    def _start(self, recent: deque[float], trip_s: float, size: int) -> None:
        recent.append(trip_s)
        wanted_s = min(self._base_s, self._round_s) + self._queue_s
        if len(recent) == RECENT and min(recent) > wanted_s:
            self._starting = None
            self._set(max(self.limit * wanted_s / min(recent), self.limit / 2))
        elif self._held_back:
            self._set(self.limit + size)

    def _end_round(self, round_s: float, now: float) -> None:
        if self._measuring:
            self._base_s = math.inf
        if round_s <= self._base_s:
            self._base_s, self._base_at = round_s, now
        if self._measuring:
            self._end_measuring()
        elif self._held_back and self._starting is None:
            wanted_s = self._base_s + self._queue_s
            self._set(min(self.limit * wanted_s / max(round_s, 1e-6) + INCREASE, self.limit * 2))
            if now - self._base_at > BASE_S:
                self._measuring = True
                self._set(self.limit / 2)

    def _end_measuring(self) -> None:
        if self._measuring:
            self._measuring = False
            self._set(self.limit * 2)

    def _set(self, limit: float) -> None:
        self.limit = int(min(max(limit, MIN_FLIGHT), MAX_FLIGHT))
        queue = self.limit * self._queue_s / (self._base_s + self._queue_s)  # 0 where nothing is known of the line
        self.frame = int(min(max(queue / FRAMES, MIN_FRAME), MAX_PAYLOAD))
        self.batch = int(min(max(queue / BATCHES, MIN_BATCH), BATCH))

    @property
    def _queue_s(self) -> float:
        return min(max(self._base_s * QUEUE, MIN_QUEUE_S), MAX_QUEUE_S)
