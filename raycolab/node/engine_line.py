"""The head's line to its engine, whichever actor is at the other end: one that restarts is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from raycolab.errors import ClusterError
from raycolab.node.control import EngineChannel

__all__ = ["EngineLine"]

ANSWER_S = 30.0
RESTART_S = 20.0


class EngineLine:
    """The channel of the engine that runs, if one does."""

    def __init__(self, on_progress: Callable[[dict[str, Any]], None]) -> None:
        """`on_progress` is told of every progress line."""
        self._on_progress = on_progress
        self._channel: EngineChannel | None = None
        # Set while an engine is connected.
        self.up = asyncio.Event()

    def connected(self, channel: EngineChannel) -> None:
        """An engine dialed in; after a restart of the actor, anew."""
        self._channel = channel
        channel.on_progress = self._on_progress
        channel.on_lost = lambda: self._lost(channel)
        self.up.set()

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send what needs no answer, and no engine either."""
        if self._channel is not None:
            self._channel.tell(message)

    async def ask(self, message: Mapping[str, Any], *, restart_s: float = RESTART_S) -> dict[str, Any]:
        """The engine's answer; what the last engine took with it the next one is asked again.

        A third one is not: it may be the question that ends them. Raises what the engine answers with, and
        ClusterError when none comes back.
        """
        channel = await self._running(restart_s)
        try:
            return await channel.request(message, ANSWER_S)
        except ClusterError:
            if self._channel is channel:
                raise
        return await (await self._running(restart_s)).request(message, ANSWER_S)

    async def _running(self, restart_s: float) -> EngineChannel:
        try:
            async with asyncio.timeout(restart_s):
                await self.up.wait()
        except TimeoutError:
            raise ClusterError("The sweep engine is restarting: try again in a few seconds.") from None
        assert self._channel is not None  # it is up
        return self._channel

    def _lost(self, channel: EngineChannel) -> None:
        if self._channel is channel:
            self._channel = None
            self.up.clear()
