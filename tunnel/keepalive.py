"""The pings of a link: when to ping, how long the round trip is, when silence means that a WebSocket is dead.

The agent asks and the hub answers, so an idle link costs one ping each way per PING_EVERY_S. The hub learns the round
trip from the next ping, which the first time follows at once. It gives a WebSocket up when it heard nothing for two
intervals of pings and SILENCE_S. Sans-I/O.
"""

from __future__ import annotations

from tunnel.errors import RemoteProtocolError
from tunnel.frames import SEQUENCE_MASK, Frame, pack_pair, unpack_pair

__all__ = ["PING_BUSY_S", "PING_EVERY_S", "SILENCE_S", "Keepalive"]

PING_EVERY_S = 20.0  # NATs and proxies forget a connection that is silent for a minute or so
PING_BUSY_S = 5.0  # of silence, while something sent is not acknowledged: ask sooner
SILENCE_S = 15.0  # of silence after a ping: the WebSocket is dead, whatever TCP says


class Keepalive:
    """Whether the other end is still there; `initiator` is the agent's end, which pings."""

    def __init__(self, *, initiator: bool, now: float) -> None:
        # Seconds: the agent measures it with its pings and tells the hub in the next one.
        self.round_trip_s: float | None = None
        self._initiator = initiator
        self._heard_at = now
        self._ping_at = now  # when the next ping is due; the first at once, to know the round trip
        self._ping_sent_at: float | None = None  # while a ping is not answered
        self._token = 0

    def resume(self, now: float) -> None:
        """A new WebSocket: ping at once, and expect no answer to a ping on the old one."""
        self._heard_at = self._ping_at = now
        self._ping_sent_at = None

    def heard(self, now: float) -> None:
        """Something came."""
        self._heard_at = now

    def deadline(self, *, busy: bool) -> float:
        """When to ping or give the WebSocket up; `busy`: something sent is not acknowledged."""
        if not self._initiator:
            return self._heard_at + 2 * PING_EVERY_S + SILENCE_S
        if self._ping_sent_at is not None:
            return max(self._ping_sent_at, self._heard_at) + SILENCE_S
        return min(self._ping_at, self._heard_at + PING_BUSY_S) if busy else self._ping_at

    def ping(self, now: float) -> bytes | None:
        """The PING to send at the deadline; None when the deadline means that the WebSocket is dead."""
        if self._ping_sent_at is not None or not self._initiator:
            return None
        self._token = (self._token + 1) & SEQUENCE_MASK
        self._ping_sent_at = now
        return pack_pair(self._token, int((self.round_trip_s or 0) * 1e6))

    def pinged(self, frame: Frame) -> None:
        """The agent's PING came; RemoteProtocolError at the agent itself, which nobody pings."""
        if self._initiator:
            raise RemoteProtocolError("a PING from the hub")
        _, microseconds = unpack_pair(frame)
        if microseconds:
            self.round_trip_s = microseconds / 1e6

    def ponged(self, frame: Frame, now: float) -> None:
        """A PONG came; one that answers no open ping means nothing."""
        token, _ = unpack_pair(frame)
        if self._ping_sent_at is not None and token == self._token:
            self._ping_at = now if self.round_trip_s is None else now + PING_EVERY_S
            self.round_trip_s = max(now - self._ping_sent_at, 0.0)
            self._ping_sent_at = None
