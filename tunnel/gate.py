"""The hub's door: WebSockets from anyone, and the few steps in which a stranger becomes a visitor who knows the secret.

Bounded against strangers: STRANGERS connections at most are in the handshake, the oldest making room for the newest;
each has HANDSHAKE_S and the byte limits of TLS and of one HELLO; and nothing is decompressed before the proof.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve, unix_serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from tunnel.errors import PortTaken, Refused, RemoteProtocolError
from tunnel.frames import FrameType, decode_json, encode_header, encode_json
from tunnel.handshake import Hello, Welcome
from tunnel.listen import Listen, TcpListen, UnixListen
from tunnel.secure import HubIdentity, SecureSession, make_challenge, proof_holds, server_context
from tunnel.transport import MAX_MESSAGE, WRITE_LIMIT, Carrier

__all__ = ["PATH", "Gate", "Visitor"]

PATH = "/tunnel"
STRANGERS = 64
HANDSHAKE_S = 10.0
WRONG_SECRET = "The secret in this join address is not the head's. Ask the head for its current join address."

log = logging.getLogger("tunnel.gate")


class Visitor:
    """A WebSocket whose other end proved that it knows the secret."""

    def __init__(self, carrier: Carrier, hello: Hello) -> None:
        self.carrier = carrier
        self.hello = hello

    async def answer(self, welcome: Welcome) -> None:
        """Let the visitor in; compression begins."""
        payload = encode_json(FrameType.WELCOME, welcome.to_json())
        await self.carrier.send(encode_header(FrameType.WELCOME, len(payload)) + payload)
        self.carrier.compress()


class Gate:
    """Accepts WebSockets and hands `enter` those who proved the secret; `enter` returns when they are gone."""

    def __init__(self, identity: HubIdentity, enter: Callable[[Visitor], Awaitable[None]]) -> None:
        self._identity = identity
        self._context = server_context(identity)
        self._enter = enter
        self._strangers: dict[ServerConnection, None] = {}

    async def open(self, listen: Listen) -> tuple[Server, Listen]:
        """Begin to accept; returns the server and the address bound. PortTaken when it is in use."""
        options: dict[str, Any] = {
            "process_request": _only_tunnels,
            "compression": None,
            "max_size": MAX_MESSAGE,
            "ping_interval": None,  # links have their own pings, which work through any proxy
            "write_limit": WRITE_LIMIT,
            "open_timeout": HANDSHAKE_S,
            "close_timeout": 2,
            "server_header": None,
            "logger": logging.getLogger("tunnel.websockets"),
        }
        try:
            if isinstance(listen, UnixListen):
                return await unix_serve(self._serve, str(listen.path), **options), listen
            server = await serve(self._serve, listen.host, listen.port, **options)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            at = (listen.host, listen.port) if isinstance(listen, TcpListen) else (str(listen.path), 0)
            raise PortTaken(*at) from error
        return server, TcpListen(listen.host, next(iter(server.sockets)).getsockname()[1])

    async def close(self) -> None:
        """Drop whoever is still at the door."""
        for websocket in list(self._strangers):
            websocket.transport.abort()

    async def _serve(self, websocket: ServerConnection) -> None:
        if len(self._strangers) >= STRANGERS:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.transport.abort()
        self._strangers[websocket] = None
        carrier = Carrier(websocket, SecureSession.server(self._context))
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                visitor = await self._greet(carrier)
            self._strangers.pop(websocket, None)
            await self._enter(visitor)
        except Refused as refused:
            payload = encode_json(FrameType.REFUSED, {"code": refused.code, "message": refused.message})
            await carrier.send(encode_header(FrameType.REFUSED, len(payload)) + payload)
        except (RemoteProtocolError, ConnectionClosed, TimeoutError) as error:
            log.debug("a visitor did not get in: %s", error)
        finally:
            self._strangers.pop(websocket, None)

    async def _greet(self, carrier: Carrier) -> Visitor:
        frames = await carrier.handshake()
        challenge = make_challenge(secrets.token_bytes(32))
        await carrier.send(encode_header(FrameType.CHALLENGE, len(challenge)) + challenge)
        while not frames:
            frames = await carrier.receive()
        if len(frames) != 1 or frames[0].type is not FrameType.HELLO:
            raise RemoteProtocolError("something else than one HELLO")
        hello = Hello.from_json(decode_json(frames[0]))
        if not proof_holds(self._identity.secret, self._identity.pin, challenge, hello.proof):
            raise Refused("secret", WRONG_SECRET)
        return Visitor(carrier, hello)


def _only_tunnels(websocket: ServerConnection, request: Request) -> Response | None:
    """Answer whatever is not a tunnel's WebSocket with a 404 that says nothing."""
    if request.path == PATH and "websocket" in request.headers.get("Upgrade", "").lower():
        return None
    return websocket.respond(404, "Not found\n")
