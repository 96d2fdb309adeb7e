"""Carriers whose WebSocket is two queues, for tests of `tunnel.transport` and for the fuzzer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import cache
from ssl import SSLContext
from typing import Any, TypeVar, cast

from websockets.asyncio.connection import Connection
from websockets.exceptions import ConnectionClosed

from tests.tunnel.mesh import identity
from tunnel.frames import FrameType, encode_header
from tunnel.secure import SecureSession, server_context
from tunnel.transport import Carrier

__all__ = ["Line", "at_once", "carriers", "data_frame"]

T = TypeVar("T")


class Line:
    """One end of a WebSocket without a network; `stuck` takes nothing more, as behind a full buffer."""

    def __init__(self) -> None:
        self.other: Line
        self.stuck = False
        self.aborted = False
        self.transport = self
        self.inbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._open = True

    async def send(self, data: bytes) -> None:
        """Hand a message to the other end."""
        if self.stuck:
            await asyncio.Event().wait()
        if not self._open:
            raise ConnectionClosed(None, None)
        self.other.inbox.put_nowait(data)

    async def recv(self, decode: bool | None = None) -> bytes:
        """The next message; what came before a close is still given, as websockets does."""
        message = await self.inbox.get()
        if message is None:
            raise ConnectionClosed(None, None)
        return message

    async def close(self) -> None:
        """End it for both; a stuck one waits for the other side for ever."""
        if self.stuck:
            await asyncio.Event().wait()
        for end in (self, self.other):
            if end._open:
                end._open = False
                end.inbox.put_nowait(None)

    def abort(self) -> None:
        """End it at once."""
        self.aborted = True

    def take(self) -> list[bytes]:
        """What has come and was not received yet, in the network's hand now."""
        return [cast("bytes", self.inbox.get_nowait()) for _ in range(self.inbox.qsize())]

    def put(self, *messages: bytes) -> None:
        """Let these messages come."""
        for message in messages:
            self.inbox.put_nowait(message)


@cache
def _context() -> SSLContext:
    return server_context(identity())


def carriers(*, compressed: bool = True) -> tuple[Carrier, Carrier, Line, Line]:
    """An agent's and a hub's carrier whose handshake is done, and their ends of the line."""
    agent, hub = SecureSession.client(identity().pin), SecureSession.server(_context())
    while not (agent.established and hub.established):
        hub.receive(agent.data_to_send())
        agent.receive(hub.data_to_send())
    one, two = Line(), Line()
    one.other, two.other = two, one
    both = Carrier(cast("Connection", one), agent), Carrier(cast("Connection", two), hub)
    for carrier in both if compressed else ():
        carrier.compress()
    return *both, one, two


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """The result of what never waits."""
    try:
        work.send(None)
    except StopIteration as done:
        return cast("T", done.value)
    raise AssertionError("it waits")


def data_frame(payload: bytes) -> bytes:
    """The bytes of a DATA frame."""
    return encode_header(FrameType.DATA, len(payload), 1, 1) + payload
