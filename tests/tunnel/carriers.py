"""Carriers whose WebSocket is two queues, for tests of `tunnel.transport`."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import cast

from websockets.asyncio.connection import Connection
from websockets.exceptions import ConnectionClosed

from tests.tunnel.mesh import NOW
from tunnel.frames import FrameType, encode_header
from tunnel.secure import HubIdentity, SecureSession, server_context
from tunnel.transport import Carrier

__all__ = ["Line", "carriers", "data_frame", "identity", "line"]


@cache
def identity() -> HubIdentity:
    """One for all tests: making it is slow."""
    return HubIdentity.create(NOW)


class Line:
    """One end of a WebSocket without a network; `stuck` takes nothing more, as behind a full buffer."""

    def __init__(self) -> None:
        self.other: Line
        self.stuck = False
        self.aborted = False
        self.transport = self
        self._inbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._open = True

    async def send(self, data: bytes) -> None:
        """Hand a message to the other end."""
        if self.stuck:
            await asyncio.Event().wait()
        if not self._open:
            raise ConnectionClosed(None, None)
        self.other._inbox.put_nowait(data)

    async def recv(self, decode: bool | None = None) -> bytes:
        """The next message; what came before a close is still given, as websockets does."""
        message = await self._inbox.get()
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
                end._inbox.put_nowait(None)

    def abort(self) -> None:
        """End it at once."""
        self.aborted = True


def line() -> tuple[Line, Line]:
    """Both ends."""
    one, two = Line(), Line()
    one.other, two.other = two, one
    return one, two


async def carriers(*, compressed: bool = True) -> tuple[Carrier, Carrier, Line, Line]:
    """A node's and a hub's carrier whose handshake is done, and their lines."""
    one, two = line()
    agent = Carrier(cast("Connection", one), SecureSession.client(identity().pin))
    hub = Carrier(cast("Connection", two), SecureSession.server(server_context(identity())))
    await asyncio.gather(agent.handshake(), hub.handshake())
    if compressed:
        agent.compress()
        hub.compress()
    return agent, hub, one, two


def data_frame(payload: bytes) -> bytes:
    """The bytes of a DATA frame."""
    return encode_header(FrameType.DATA, len(payload), 1, 1) + payload
