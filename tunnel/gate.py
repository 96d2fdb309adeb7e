"""The hub's door: WebSockets from anyone, and the few steps in which a stranger becomes a visitor who knows the secret.

What strangers can take is bounded. At most STRANGERS connections are between TCP's accept and the proof; one more takes
the place of a random one, so that a flood slows an agent's joining and does not prevent it (sshd's MaxStartups drops at
random for the same reason). Each has HANDSHAKE_S for HTTP and as long for the rest, and the byte limits of TLS and of
one HELLO. Nothing is decompressed before the proof.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import logging
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve, unix_serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from tunnel.errors import PortTaken, Refused, RemoteProtocolError
from tunnel.frames import FrameType, decode_json, encode_json
from tunnel.listen import Listen, TcpListen, UnixListen, somebody_listens
from tunnel.messages import Hello, Welcome
from tunnel.secure import HubIdentity, SecureSession, make_challenge, proof_holds, server_context
from tunnel.transport import MAX_MESSAGE, WEBSOCKET, WRITE_LIMIT, Carrier, Traffic

__all__ = ["PATH", "Gate", "Visitor"]

PATH = "/tunnel"
STRANGERS = 64
HANDSHAKE_S = 10.0
STRANGER_BYTES = 128 * 1024  # that a caller may send before the proof; an honest one needs a few thousand
MAX_WAITING = WRITE_LIMIT + MAX_MESSAGE  # bytes that a caller has not taken
REFUSAL_S = 2.0  # for telling a visitor why it is refused
MISUNDERSTOOD = "The hub cannot read what this node says ({error}). Install the same version on both, then join again."
WRONG_SECRET = "The secret in this join address is not the head's. Ask the head for its current join address."

log = logging.getLogger("tunnel.gate")


class Visitor:
    """A WebSocket whose other end proved that it knows the secret."""

    def __init__(self, carrier: Carrier, hello: Hello) -> None:
        self.carrier = carrier
        self.hello = hello

    async def answer(self, welcome: Welcome) -> None:
        """Let the visitor in; compression begins."""
        await self.carrier.say(FrameType.WELCOME, encode_json(FrameType.WELCOME, welcome.to_json()))
        self.carrier.compress()


class Gate:
    """Accepts WebSockets and hands `enter` those who proved the secret; `enter` returns when they are gone."""

    def __init__(self, identity: HubIdentity, enter: Callable[[Visitor], Awaitable[None]]) -> None:
        self._identity = identity
        self._context = server_context(identity)
        self._enter = enter
        self._strangers: dict[ServerConnection, None] = {}  # in order of arrival
        self._carriers: set[Carrier] = set()  # of all open WebSockets
        self._past = Traffic()  # of those that ended
        self._server: Server | None = None
        self._path: Path | None = None  # of the unix socket
        self._closing = False

    @property
    def traffic(self) -> Traffic:
        """Bytes of all WebSockets so far, including those of strangers."""
        return sum((carrier.meter.traffic for carrier in self._carriers), self._past)

    async def open(self, listen: Listen) -> Listen:
        """Accept from now on; returns the address bound. PortTaken when it is in use, else OSError."""
        options = WEBSOCKET | {
            "create_connection": functools.partial(_Caller, self),
            "process_request": _only_tunnels,
            "open_timeout": HANDSHAKE_S,
            "server_header": None,
        }
        try:
            if isinstance(listen, UnixListen):
                if somebody_listens(listen.path):
                    raise PortTaken(str(listen.path), 0)
                self._server = await unix_serve(self._serve, str(listen.path), **options)
                self._path = listen.path
                return listen
            self._server = await serve(self._serve, listen.host, listen.port, **options)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            at = (listen.host, listen.port) if isinstance(listen, TcpListen) else (str(listen.path), 0)
            raise PortTaken(*at) from error
        return TcpListen(listen.host, next(iter(self._server.sockets)).getsockname()[1])

    async def close(self) -> None:
        """Stop accepting, drop all strangers, and close every WebSocket that is left."""
        if self._server is None:
            return
        self._closing = True
        if self._path is not None:
            self._path.unlink(missing_ok=True)  # asyncio does it from Python 3.13 on
        self._server.close()
        for stranger in list(self._strangers):
            stranger.transport.abort()
        await self._server.wait_closed()

    def arrived(self, stranger: ServerConnection) -> None:
        """A TCP connection came."""
        if self._closing:
            stranger.transport.abort()
            return
        if len(self._strangers) >= STRANGERS:
            unlucky = secrets.choice(list(self._strangers))
            del self._strangers[unlucky]
            unlucky.transport.abort()
        self._strangers[stranger] = None

    def is_stranger(self, caller: ServerConnection) -> bool:
        """Whether a connection's other end has not proved the secret yet."""
        return caller in self._strangers

    def no_stranger(self, stranger: ServerConnection) -> None:
        """A connection is gone, or its other end proved the secret."""
        self._strangers.pop(stranger, None)

    async def _serve(self, websocket: ServerConnection) -> None:
        carrier = Carrier(websocket, SecureSession.server(self._context))
        carrier.began(websocket.request, websocket.response)
        self._carriers.add(carrier)
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                visitor = await self._greet(carrier)
            self.no_stranger(websocket)
            await self._enter(visitor)
        except Refused as refused:
            log.debug("a visitor was refused: %s", refused.code)
            await _refuse(carrier, refused)
        except (RemoteProtocolError, ConnectionClosed, TimeoutError) as error:
            log.debug("a visitor did not get in: %s", error)
        finally:
            self._carriers.discard(carrier)
            self._past += carrier.meter.traffic

    async def _greet(self, carrier: Carrier) -> Visitor:
        frames = await carrier.handshake()
        challenge = make_challenge(secrets.token_bytes(32))
        await carrier.say(FrameType.CHALLENGE, challenge)
        while not frames:
            frames = await carrier.receive()
        if len(frames) != 1 or frames[0].type is not FrameType.HELLO:
            raise RemoteProtocolError("something other than one HELLO")
        try:
            hello = Hello.from_json(decode_json(frames[0]))
        except RemoteProtocolError as error:
            raise Refused("protocol", MISUNDERSTOOD.format(error=error)) from error
        if not proof_holds(self._identity.secret, self._identity.pin, challenge, hello.proof):
            raise Refused("secret", WRONG_SECRET)
        return Visitor(carrier, hello)


class _Caller(ServerConnection):
    """A TCP connection to the hub, known to the gate from its first moment."""

    def __init__(self, gate: Gate, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._gate = gate
        self._came = 0  # bytes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._gate.arrived(self)

    def data_received(self, data: bytes) -> None:
        self._came += len(data)
        if self._came > STRANGER_BYTES and self._gate.is_stranger(self):
            self.transport.abort()
            return
        super().data_received(data)
        # websockets answers pings by itself, even if the other end does not take the answers.
        if self.transport.get_write_buffer_size() > MAX_WAITING:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gate.no_stranger(self)
        super().connection_lost(exc)


async def _refuse(carrier: Carrier, refused: Refused) -> None:
    """Tell a visitor why it is refused, if it listens."""
    payload = encode_json(FrameType.REFUSED, {"code": refused.code, "message": refused.message})
    with contextlib.suppress(ConnectionClosed, TimeoutError):
        async with asyncio.timeout(REFUSAL_S):
            await carrier.say(FrameType.REFUSED, payload)


def _only_tunnels(websocket: ServerConnection, request: Request) -> Response | None:
    """Answer whatever is not a tunnel's WebSocket with a 404 that says nothing."""
    if request.path == PATH and "websocket" in request.headers.get("Upgrade", "").lower():
        return None
    return websocket.respond(404, "Not found\n")
