"""The hub's door, with real sockets: who gets in, who is told why not, and what many strangers cannot do."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import logging
import os
import socket
import time
from pathlib import Path
from typing import cast

import pytest
from msgspec.structs import replace
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from tests.in_loop import in_loop
from tests.tunnel.door import HELLO, WELCOME, Door, address_of_hub, get_in, hail, open_door
from tests.tunnel.mesh import eventually, identity, in_each_loop, nothing_left
from tunnel.dial import Transient, dial
from tunnel.errors import PortTaken, Refused
from tunnel.frames import FrameType, encode_header, encode_json
from tunnel.gate import PATH, STRANGERS, Gate, Visitor
from tunnel.listen import Listen, TcpListen, UnixListen
from tunnel.secure import SecureSession, prove


class TestWhoGetsIn:
    """The handshake, seen from both sides."""

    @in_loop
    async def test_the_secret_opens_the_door(self) -> None:
        """The hub hears the HELLO whole, the agent the WELCOME, and frames go on from there."""
        async with open_door(TcpListen("127.0.0.1", 0)) as (door, at):
            welcome, carrier = await dial(address_of_hub(at), HELLO, 5.0)
            assert welcome == WELCOME
            assert [replace(visitor.hello, proof=b"") for visitor in door.visitors] == [HELLO]
            await carrier.close()

    @in_loop
    async def test_a_wrong_secret_is_refused_with_a_sentence(self) -> None:
        """Refused("secret"): the person is told to ask for the current address; nobody entered."""
        async with open_door(TcpListen("127.0.0.1", 0)) as (door, at):
            with pytest.raises(Refused, match="Ask the head for its current join address") as caught:
                await get_in(at, secret=bytes(32))
            assert caught.value.code == "secret"
            assert door.visitors == []

    @in_loop
    async def test_a_hello_the_hub_cannot_read_was_met_with_silence(self) -> None:
        """Refused("protocol"), instead of a closed connection that an agent would keep trying."""
        async with open_door(TcpListen("127.0.0.1", 0)) as (door, at):
            with pytest.raises(Refused, match="Install the same version on both") as caught:
                await dial(address_of_hub(at), replace(HELLO, name="x" * 999), 5.0)
            assert caught.value.code == "protocol"
            assert door.visitors == []

    @in_loop
    async def test_a_refusal_nobody_waits_for_was_logged_as_a_failure(self, caplog: pytest.LogCaptureFixture) -> None:
        """A visitor that is gone before it hears no is nothing to report."""
        async with open_door(TcpListen("127.0.0.1", 0)) as (door, at):
            door.refusal = Refused("full", "There is no room.")
            carrier, challenge = await hail(at)
            proof = prove(identity().secret, identity().pin, challenge)
            payload = encode_json(FrameType.HELLO, replace(HELLO, proof=proof).to_json())
            await carrier.send(encode_header(FrameType.HELLO, len(payload)) + payload)
            await carrier.close()
            await eventually(lambda: door.visitors)
        assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []

    @in_loop
    async def test_anything_but_a_hello_is_cut_off(self) -> None:
        """A frame of another kind where the HELLO should be ends the connection."""
        async with open_door(TcpListen("127.0.0.1", 0)) as (door, at):
            carrier, _ = await hail(at)
            await carrier.send(encode_header(FrameType.FINISH, 0, 1, 1))
            with pytest.raises(ConnectionClosed):
                await carrier.receive()
            assert door.visitors == []


class TestWhatIsNoTunnel:
    """Whoever finds the URL with something else."""

    @pytest.mark.parametrize("path", ["/", PATH, "/favicon.ico", PATH + "/", PATH + "?x=1"])
    @in_loop
    async def test_http_gets_404(self, path: str) -> None:
        """A browser, a scanner or a health check learns nothing, on the tunnel's own path either."""

        def get(port: int) -> tuple[int, bytes, str | None]:
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as client:
                client.request("GET", path)
                answer = client.getresponse()
                return answer.status, answer.read(), answer.getheader("Server")

        async with open_door(TcpListen("127.0.0.1", 0)) as (_, at):
            assert isinstance(at, TcpListen)
            answer = await asyncio.get_running_loop().run_in_executor(None, get, at.port)
            assert answer == (404, b"Not found\n", None)
            await asyncio.get_running_loop().shutdown_default_executor()

    @in_loop
    async def test_an_edges_error_is_named(self) -> None:
        """A dial that meets ngrok's error page says its number, for the person who waits."""

        async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 404 Not Found\r\nNgrok-Error-Code: ERR_NGROK_3200\r\nContent-Length: 0\r\n\r\n")
            writer.close()

        async with await asyncio.start_server(page, "127.0.0.1", 0) as server:
            at = TcpListen("127.0.0.1", server.sockets[0].getsockname()[1])
            with pytest.raises(Transient, match="HTTP 404 ERR_NGROK_3200"):
                await get_in(at)

    @in_loop
    async def test_what_is_no_hub_is_said_to_be_none(self) -> None:
        """A WebSocket server that speaks something else is no reason to stop trying, and is named."""

        async def chat(websocket: ServerConnection) -> None:
            await websocket.send("welcome to the chat")
            await websocket.wait_closed()

        async with serve(chat, "127.0.0.1", 0) as server:
            at = TcpListen("127.0.0.1", next(iter(server.sockets)).getsockname()[1])
            with pytest.raises(Transient, match="what answers there is not a hub"):
                await get_in(at)

    @in_loop
    async def test_a_websocket_on_another_path_gets_404(self) -> None:
        """Only PATH is a tunnel's."""
        async with open_door(TcpListen("127.0.0.1", 0)) as (_, at):
            with pytest.raises(InvalidStatus) as caught:
                await connect(f"ws://{at}/other")
            assert caught.value.response.status_code == 404


class TestOpening:
    """Where the hub listens, and what it leaves."""

    @in_each_loop
    async def test_a_port_in_use_is_port_taken(self, loop: str) -> None:
        """The sentence names it."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            with pytest.raises(PortTaken, match=f"Port {port} of 127.0.0.1 is in use"):
                await Door().gate.open(TcpListen("127.0.0.1", port))

    @in_each_loop
    async def test_a_second_hub_on_a_unix_socket_took_the_firsts_place(self, loop: str, tmp_path: Path) -> None:
        """asyncio replaces a socket file without asking whether somebody listens: PortTaken instead."""
        at = UnixListen(tmp_path / "hub.sock")
        async with open_door(at) as (door, _):
            with pytest.raises(PortTaken, match=r"Another program listens at /.*hub\.sock"):
                await Door().gate.open(at)
            await (await get_in(at)).close()
            assert len(door.visitors) == 1

    @in_each_loop
    async def test_a_dead_hubs_socket_file_is_no_obstacle(self, loop: str, tmp_path: Path) -> None:
        """A file nobody listens behind is replaced; in the end none is left."""
        path = tmp_path / "hub.sock"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        async with open_door(UnixListen(path)) as (_, at):
            await (await get_in(at)).close()
        assert not path.exists()


@in_loop
async def test_a_dial_that_is_given_up_leaves_no_connection() -> None:
    """Cancelled, timed out or refused in mid-handshake: the socket is closed."""

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionResetError):
            await reader.read(-1)
        writer.close()

    async with nothing_left(), await asyncio.start_server(hold, "127.0.0.1", 0) as server:
        at = TcpListen("127.0.0.1", server.sockets[0].getsockname()[1])
        with pytest.raises(Transient, match="it does not answer"):
            await dial(address_of_hub(at), HELLO, 0.05)
        dialing = asyncio.create_task(dial(address_of_hub(at), HELLO, 5.0))
        await asyncio.sleep(0.02)
        dialing.cancel()
        await asyncio.wait({dialing})


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

    @in_loop
    async def test_three_hundred_of_them_do_not_keep_an_agent_out(self) -> None:
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
