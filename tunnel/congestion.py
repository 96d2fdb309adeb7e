"""How much DATA may be under way on a link: as much as fills the line, and a little more, so that little waits in it.

What a sender puts on a line beyond delay x rate only waits in somebody's buffer, and every heartbeat waits behind it.
So the limit follows the round trip, as in TCP Vegas and FAST TCP (Wei, Jin, Low, Hegde, 2006):

1. A *round* is the time in which what was under way at its start is acknowledged. Its round trip is the shortest of
   its acknowledgements', because a busy machine makes some of them late for reasons that are not the line's.
2. Where the limit held the sender back during the round, the next one is limit x (base + queue) / round trip +
   INCREASE: the line is kept full, with `queue` seconds waiting. The constant brings links that share a line to equal
   shares. Where the sender had no more to say nothing is learned.
3. It begins by growing with every byte acknowledged, so that it doubles each round, until the latest round trips show
   a queue (as HyStart, RFC 9406).
4. `base` is the shortest round trip seen. After BASE_S without one as short it is measured anew: the limit is halved
   until something sent since then is acknowledged, so that our own queue is not taken for the length of the line.
5. A frame and a batch are each a part of that queue, a few milliseconds of the line: what comes next waits so long.

Sans-I/O; what is under way, the ledger counts.
"""

from __future__ import annotations

import math
from collections import deque

from tunnel.frames import MAX_PAYLOAD

__all__ = ["BATCH", "MAX_FLIGHT", "MIN_FLIGHT", "START_FLIGHT", "Congestion"]

BATCH = 256 * 1024  # bytes that leave at once, at most, give or take a frame: one WebSocket message
MIN_FLIGHT = 32 * 1024
START_FLIGHT = 64 * 1024
MAX_FLIGHT = 8 * 1024 * 1024  # what a link keeps for replay, at most; fills 80 MB/s at 100 ms
INCREASE = 4 * 1024  # per round
QUEUE = 1 / 8  # of the base round trip, and within these:
MIN_QUEUE_S = 0.005  # less than this is the machines' own pace, not the line's
MAX_QUEUE_S = 0.015
BASE_S = 30.0
RECENT = 3  # round trips in a row that show the end of the start
FRAMES = 6  # of the size that a queue as long as is meant would hold,
BATCHES = 3  # and batches
MIN_FRAME = 4 * 1024
START_FRAME = 16 * 1024  # the first ones measure the line, and their own length is part of what they measure
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
        self._starting: deque[float] | None = deque(maxlen=RECENT)  # the latest round trips, until there is a queue
        self._held_back = False  # in this round
        self._round_s = math.inf  # the shortest round trip of this round
        self._round_end = 0  # the acknowledgement of a later frame than this ends the round
        self._measuring = False  # the limit is half of what it will be again

    def hold_back(self) -> None:
        """There is more to send than the limit allows."""
        self._held_back = True

    def resume(self, sent_count: int) -> None:
        """Another WebSocket, perhaps another path: only frames numbered from now on tell anything."""
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
