"""Many who know a hub's URL and not its secret: they get nowhere, and keep nobody out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from typing import cast

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed, InvalidMessage

from tests.in_loop import in_loop
from tests.tunnel.door import get_in, open_door
from tests.tunnel.mesh import eventually, identity, in_each_loop
from tunnel.gate import PATH, STRANGERS, Gate, Visitor
from tunnel.listen import Listen, TcpListen
from tunnel.secure import SecureSession


class Crowd:
    """Strangers, each with a connection of its own that is kept."""

    def __init__(self, at: Listen) -> None:
        assert isinstance(at, TcpListen)
        self._at = at
        self._sockets: list[socket.socket] = []
        self._websockets: list[ClientConnection] = []

    async def silent(self, say: bytes = b"") -> None:
        """A TCP connection that says this much, and nothing more."""
        stranger = socket.socket()
        stranger.setblocking(False)
        self._sockets.append(stranger)
        await asyncio.get_running_loop().sock_connect(stranger, (self._at.host, self._at.port))
        with contextlib.suppress(OSError):
            stranger.send(say)

    async def websocket(self, *say: bytes) -> None:
        """A WebSocket that sends these messages, and nothing more."""
        with contextlib.suppress(ConnectionClosed, OSError, InvalidMessage):  # the hub made room for another
            stranger = await connect(f"ws://{self._at}{PATH}", compression=None, max_queue=None)
            self._websockets.append(stranger)
            for message in say:
                await stranger.send(message)

    def still_connected(self) -> int:
        """How many TCP connections the hub has not closed."""
        alive = 0
        for stranger in self._sockets:
            try:
                alive += stranger.recv(1, socket.MSG_PEEK) != b""
            except BlockingIOError:
                alive += 1
            except ConnectionResetError:
                continue
        return alive

    def leave(self) -> None:
        """Everybody goes."""
        for stranger in self._sockets:
            stranger.close()
        for websocket in self._websockets:
            websocket.transport.abort()


class Stranger:
    """A connection without a network, which knows whether it was dropped."""

    def __init__(self) -> None:
        self.gone = False
        self.transport = self

    def abort(self) -> None:
        """Be dropped."""
        self.gone = True


async def _enter(visitor: Visitor) -> None:
    """Nobody gets that far."""


class TestStrangers:
    """Many who know the URL and not the secret."""

    @in_each_loop
    async def test_three_hundred_of_them_do_not_keep_an_agent_out(self, loop: str) -> None:
        """Silent, slow, or with garbage at each layer: a joiner still joins in 5 s."""
        greeting = SecureSession.client(identity().pin).data_to_send()
        async with open_door(TcpListen("127.0.0.1", 0)) as (door, at):
            crowd = Crowd(at)
            for _ in range(50):
                await crowd.silent()
                await crowd.silent(b"GET /tunnel HTTP/1.1\r\nHost: h\r\nX-Slow: ")
                await crowd.silent(os.urandom(300))
            await asyncio.gather(*(crowd.websocket(*say) for say in [(), (os.urandom(999),), (greeting,)] * 50))
            began = time.monotonic()
            await (await get_in(at)).close()
            assert time.monotonic() - began < 5
            assert len(door.visitors) == 1
            crowd.leave()

    @in_loop
    async def test_a_connection_that_sent_no_request_did_not_count(self) -> None:
        """STRANGERS bounds every connection that has proved nothing, from TCP's accept on."""
        async with open_door(TcpListen("127.0.0.1", 0)) as (_, at):
            crowd = Crowd(at)
            for _ in range(3 * STRANGERS):
                await crowd.silent()
            await eventually(lambda: crowd.still_connected() == STRANGERS)
            crowd.leave()

    def test_whoever_came_first_was_the_first_to_go(self) -> None:
        """Strangers who come faster than a handshake takes would keep everybody out: a random one makes room."""
        gate = Gate(identity(), _enter)
        early, late = [Stranger() for _ in range(STRANGERS)], [Stranger() for _ in range(STRANGERS)]
        for stranger in early + late:
            gate.arrived(cast("ServerConnection", stranger))
        assert sum(not stranger.gone for stranger in early + late) == STRANGERS
        assert any(not stranger.gone for stranger in early)  # each with a chance of 0.36
        assert not late[-1].gone

    @in_loop
    async def test_silent_strangers_delayed_the_close_by_ten_seconds(self) -> None:
        """Whoever is still at the door is dropped, whatever layer it has reached."""
        async with open_door(TcpListen("127.0.0.1", 0)) as (door, at):
            crowd = Crowd(at)
            await crowd.silent()
            await crowd.silent(b"GET ")
            await crowd.websocket()
            began = time.monotonic()
            await door.gate.close()
            assert time.monotonic() - began < 2
            crowd.leave()
