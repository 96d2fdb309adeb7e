"""One attempt to reach a hub: WebSocket, inner TLS, HELLO, WELCOME; and how long to wait before the next attempt.

Whether to try again is for the agent to decide.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import urllib.request
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidProxy, InvalidStatus, InvalidURI

from tunnel.address import JoinAddress
from tunnel.errors import Refused, RemoteProtocolError, TunnelError
from tunnel.frames import Frame, FrameType, decode_json, encode_json
from tunnel.gate import PATH
from tunnel.messages import Hello, Welcome
from tunnel.secure import SecureSession, prove
from tunnel.transport import WEBSOCKET, Carrier

__all__ = ["Backoff", "Transient", "dial", "proxy_variable"]

ATTEMPT_S = 15.0  # for one whole attempt
_PROXIES = {"wss": ("wss", "socks", "https"), "ws": ("ws", "socks", "https", "http")}  # as websockets looks for them


class Transient(TunnelError):  # noqa: N818 - it is only for the agent, to which it says what to do
    """This attempt did not reach the hub; another one may. The text says what happened, without a secret.

    `headers`, with names in lower case, are those of the HTTP response that came in the hub's place, if one did.
    """

    def __init__(self, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.headers = dict(headers or {})


class Backoff:
    """How long to wait before the next attempt: exponential backoff with nearly full jitter. Sans-I/O.

    1. The ceiling starts at `initial_s` and doubles with every wait up to `cap_s`.
    2. A wait is drawn evenly between the floor, half of `initial_s`, and the ceiling, so that joiners whose hub went
       away spread out. Full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter") has no floor; ours keeps
       the luckiest one from trying without pause.
    3. `reset` starts over, once an attempt has succeeded.
    """

    def __init__(self, initial_s: float, cap_s: float) -> None:
        self._initial_s = initial_s
        self._cap_s = cap_s
        self._ceiling_s = initial_s

    def next(self, random01: float) -> float:
        """Seconds to wait before the next attempt; `random01` is drawn evenly from [0, 1)."""
        floor_s = self._initial_s / 2
        wait_s = floor_s + (self._ceiling_s - floor_s) * random01
        self._ceiling_s = min(self._cap_s, self._ceiling_s * 2)
        return wait_s

    def reset(self) -> None:
        """Start over: the last attempt succeeded."""
        self._ceiling_s = self._initial_s


async def dial(address: JoinAddress, hello: Hello, timeout_s: float) -> tuple[Welcome, Carrier]:
    """Reach the hub at `address` once; raises Transient, PinMismatch or Refused."""
    try:
        async with asyncio.timeout(min(timeout_s, ATTEMPT_S)):
            websocket = await _connect(address)
            with contextlib.ExitStack() as unless_welcome:
                unless_welcome.callback(websocket.transport.abort)
                welcome, carrier = await _greet(websocket, address, hello)
                unless_welcome.pop_all()
                return welcome, carrier
    except TimeoutError as error:
        raise Transient(f"it does not answer{_by_proxy(address.url)}") from error
    except InvalidStatus as error:
        code = error.response.headers.get("Ngrok-Error-Code", "")
        headers = {name.lower(): value for name, value in error.response.headers.raw_items()}
        raise Transient(f"HTTP {error.response.status_code} {code}".strip(), headers) from error
    except RemoteProtocolError as error:
        raise Transient(f"what answers there is not a hub ({error})") from error
    except ConnectionClosed as error:
        raise Transient("the connection broke during the handshake") from error
    # ImportError: what a SOCKS proxy needs is not installed.
    except (OSError, InvalidHandshake, InvalidURI, InvalidProxy, ImportError) as error:
        raise Transient(f"{str(error) or type(error).__name__}{_by_proxy(address.url)}") from error


def proxy_variable(url: str) -> str | None:
    """The environment variable that puts a proxy between this machine and the hub; its value may hold a password."""
    parts = urlsplit(url)
    if parts.scheme not in _PROXIES or urllib.request.proxy_bypass(parts.netloc):
        return None
    named = urllib.request.getproxies_environment()
    for scheme in _PROXIES[parts.scheme]:
        if scheme in named:
            return next(name for name in (f"{scheme}_proxy", f"{scheme}_PROXY".upper()) if name in os.environ)
    return None


def _by_proxy(url: str) -> str:
    """What to add to the reason why a hub is not reached."""
    name = proxy_variable(url)
    if name is None:
        return ""
    host = urlsplit(url).hostname
    return f" (through the proxy that {name} names; to go without it, add {host} to the variable no_proxy)"


async def _connect(address: JoinAddress) -> ClientConnection:
    # The header spares a node the page that ngrok shows to browsers.
    options = WEBSOCKET | {"additional_headers": {"ngrok-skip-browser-warning": "1"}}
    path = address.unix_path
    if path is not None:
        return await unix_connect(path, f"ws://localhost{PATH}", **options)
    return await connect(address.url.rstrip("/") + PATH, **options)


async def _greet(websocket: ClientConnection, address: JoinAddress, hello: Hello) -> tuple[Welcome, Carrier]:
    carrier = Carrier(websocket, SecureSession.client(address.pin))
    carrier.began(websocket.request, websocket.response)
    frames = await carrier.handshake()
    challenge = await _one(carrier, frames, FrameType.CHALLENGE)
    proven = msgspec.structs.replace(hello, proof=prove(address.secret, address.pin, challenge.payload))
    await carrier.say(FrameType.HELLO, encode_json(FrameType.HELLO, proven.to_json()))
    answer = await _one(carrier, [], FrameType.WELCOME)
    welcome = Welcome.from_json(decode_json(answer))
    carrier.compress()
    return welcome, carrier


async def _one(carrier: Carrier, frames: list[Frame], kind: FrameType) -> Frame:
    """The single frame that the hub sends next, of this kind; Refused when the hub refuses."""
    while not frames:
        frames = await carrier.receive()
    if len(frames) == 1 and frames[0].type is FrameType.REFUSED:
        body = decode_json(frames[0])
        raise Refused(str(body.get("code", "")), str(body.get("message", "")))
    if len(frames) != 1 or frames[0].type is not kind:
        raise RemoteProtocolError(f"something other than one {kind.name}")
    return frames[0]
