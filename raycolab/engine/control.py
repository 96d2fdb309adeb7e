"""The engine's line to the head's supervisor: JSON lines over a unix socket, dialled again whenever it is lost.

It carries lines and decides nothing. The first line after each connecting is `{"op": "engine"}`; what comes is given
to `obey`, whose answer goes back; what `tell` gives is sent as it comes, only the newest while the line is down.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from raycolab.node.rpc import LINE_BYTES

__all__ = ["ControlLine"]

_log = logging.getLogger(__name__)

_REDIAL_S = 0.5

Message = dict[str, Any]


class ControlLine:
    """One connection to the supervisor at a time."""

    def __init__(self, path: str, obey: Callable[[Message], Awaitable[Message | None]]) -> None:
        self._path = path
        self._obey = obey
        self._writer: asyncio.StreamWriter | None = None
        self._news: Message | None = None  # the newest, sent again to every new connection
        self._obeying: set[asyncio.Task[None]] = set()

    def tell(self, news: Message) -> None:
        """Send this now, or when the line is up again if nothing newer has come by then."""
        self._news = news
        self._send(news)

    async def run(self) -> None:
        """Keep the line up until cancelled."""
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._path, limit=LINE_BYTES)
            except OSError:
                await asyncio.sleep(_REDIAL_S)
                continue
            self._writer = writer
            try:
                self._send({"op": "engine"})
                if self._news is not None:
                    self._send(self._news)
                await self._read(reader)
            finally:
                self._writer = None
                writer.close()
            await asyncio.sleep(_REDIAL_S)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while True:
            try:
                line = await reader.readline()
                message = json.loads(line) if line else None
            except (OSError, ValueError) as error:
                _log.warning("the line to the supervisor is lost: %s", error)
                return
            if not isinstance(message, dict):
                return
            task = asyncio.create_task(self._answer(message))
            self._obeying.add(task)
            task.add_done_callback(self._obeying.discard)

    async def _answer(self, message: Message) -> None:
        answer = await self._obey(message)
        if answer is not None:
            self._send(answer)

    def _send(self, message: Message) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")
