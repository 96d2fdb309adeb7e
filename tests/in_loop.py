"""Runs `async def` tests, each in an event loop of its own, and a loop in a thread; by the standard library alone."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

__all__ = ["LoopThread", "in_loop"]

P = ParamSpec("P")
T = TypeVar("T")


def in_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Decorates an `async def` test; below the marks, so that they stay outermost."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


class LoopThread:
    """An event loop in a thread, for a server whose clients block this one."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What this comes to there."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(90)

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Call this there, soon."""
        self._loop.call_soon_threadsafe(function, *arguments)

    def end(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
