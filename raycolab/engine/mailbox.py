"""Ordered, exactly-once messages between the engine and a slot, over calls that may fail or overtake each other.

Each direction has an Outbox at its sender and an Inbox at its receiver. Messages are numbered from 1. What is sent is
kept until the other side has said that it has everything up to there; after a failed call all that is kept is sent
again. What overtook is held back, what came before is dropped. No I/O, no clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Batch", "Inbox", "Outbox"]

Message = TypeVar("Message")

MAX_EARLY = 64  # batches that may overtake; two calls are under way at most, so this is never reached by our own


@dataclass(frozen=True, slots=True)
class Batch(Generic[Message]):
    """Consecutive messages, and how far the sender has received the other direction."""

    first: int  # number of the first message, also when there is none
    messages: tuple[Message, ...]
    received: int


class Outbox(Generic[Message]):
    """The sender's end: what was put and is not acknowledged."""

    def __init__(self) -> None:
        self._kept: deque[Message] = deque()
        self._first = 1  # number of the first one kept
        self._sent = 0  # how many of those kept were sent

    @property
    def has_unsent(self) -> bool:
        """Whether anything waits to be sent."""
        return self._sent < len(self._kept)

    @property
    def is_empty(self) -> bool:
        """Whether everything is acknowledged."""
        return not self._kept

    def put(self, message: Message) -> None:
        """Append a message."""
        self._kept.append(message)

    def last_unsent(self) -> Message | None:
        """The latest message if it was not sent yet."""
        return self._kept[-1] if self.has_unsent else None

    def drop_last_unsent(self) -> None:
        """Take the latest message back; only when `last_unsent` gave one."""
        if self.has_unsent:
            self._kept.pop()

    def take(self, received: int) -> Batch[Message]:
        """What is to be sent now; `received` is what the Inbox beside this Outbox has."""
        first = self._first + self._sent
        messages = tuple(self._kept) if self._sent == 0 else tuple(list(self._kept)[self._sent :])
        self._sent = len(self._kept)
        return Batch(first, messages, received)

    def acknowledged(self, received: int) -> None:
        """The other side has everything up to this number."""
        while self._kept and self._first <= received:
            self._kept.popleft()
            self._first += 1
            self._sent = max(self._sent - 1, 0)

    def send_again(self) -> None:
        """A call failed: what is not acknowledged counts as not sent."""
        self._sent = 0


class Inbox(Generic[Message]):
    """The receiver's end: each message once, in order."""

    def __init__(self) -> None:
        self.received = 0  # everything up to this number is here
        self._early: dict[int, tuple[Message, ...]] = {}

    def take(self, first: int, messages: Sequence[Message]) -> list[Message]:
        """The messages that are new and in turn, now that these came."""
        if messages and first > self.received + 1:
            if len(self._early) < MAX_EARLY:
                self._early[first] = tuple(messages)
            return []
        new = list(messages[self.received + 1 - first :])
        self.received += len(new)
        while True:
            ripe = next((each for each in sorted(self._early) if each <= self.received + 1), None)
            if ripe is None:
                return new
            more = self._early.pop(ripe)[self.received + 1 - ripe :]
            self.received += len(more)
            new.extend(more)
