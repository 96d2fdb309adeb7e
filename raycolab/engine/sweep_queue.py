"""The sweeps that wait for their turn, and how each is to be run when it comes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

__all__ = ["Turn", "Turns"]


@dataclass(frozen=True, slots=True)
class Turn:
    """How a sweep is to be run."""

    expect_slots: int | None = None  # to wait for before the first trial
    pulled: bool = False  # by notebooks that pull, and by no slots
    goes_on: bool = False  # it was at work when the last engine ended


class Turns:
    """A queue of sweeps by name, for the engine's event loop."""

    def __init__(self) -> None:
        self._waiting: dict[str, Turn] = {}
        self._any = asyncio.Event()

    def __contains__(self, name: str) -> bool:
        return name in self._waiting

    def add(self, name: str, turn: Turn) -> None:
        """The sweep waits; one that waits keeps its place, and what was to be pulled may be run by slots after all."""
        waiting = self._waiting.get(name)
        if waiting is None or waiting.pulled:
            self._waiting[name] = turn
        self._any.set()

    def drop(self, name: str) -> bool:
        """The sweep waits no more; whether it did."""
        return self._waiting.pop(name, None) is not None

    def take(self) -> tuple[str, Turn] | None:
        """The first in line, which waits no more; None when nothing waits."""
        if not self._waiting:
            self._any.clear()
            return None
        name = next(iter(self._waiting))
        return name, self._waiting.pop(name)

    async def wait(self) -> None:
        """Return when something may be waiting."""
        await self._any.wait()
