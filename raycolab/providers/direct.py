"""The provider for a head that joiners can dial themselves: a TCP address, or a proxy that stands before it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import urlsplit

from raycolab.errors import PortTakenError, UsageError
from raycolab.providers.base import check_free, parse_listen
from tunnel.address import PIN_BYTES, SECRET_BYTES, JoinAddress
from tunnel.listen import Listen, TcpListen

__all__ = ["DirectProvider", "websocket_url"]

LOOPBACK = "127.0.0.1"
WEBSOCKET_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


def websocket_url(url: str) -> str:
    """The WebSocket URL of what was typed: `http` means `ws`, `https` means `wss`. Raises UsageError."""
    try:
        parts = urlsplit(url.strip().rstrip("/"))
        usable = parts.scheme.lower() in WEBSOCKET_SCHEMES and bool(parts.hostname) and parts.port != 0
        if usable and not (parts.query or parts.fragment or parts.username):
            typed = parts._replace(scheme=WEBSOCKET_SCHEMES[parts.scheme.lower()]).geturl()
            return JoinAddress(typed, bytes(PIN_BYTES), bytes(SECRET_BYTES)).url  # which knows what an address can hold
    except ValueError:  # a port that is no number, half an IPv6 address, a character that no address has
        pass
    raise UsageError(
        f"--url {url}: give the address joiners dial as ws://HOST:PORT or wss://HOST (http:// and https:// mean the"
        " same)."
    )


class DirectProvider:
    """Joiners dial the hub's own address, or `url`. Without `listen` the port is the remembered one or any free one."""

    name = "direct"
    free_month_bytes = None

    def __init__(self, *, listen: str | None, url: str | None, remembered: Mapping[str, str]) -> None:
        former = remembered.get("port", "")
        # The port that joiners of a former head know; an address that was typed goes before it.
        self._former_port = int(former) if listen is None and former.isdigit() else None
        self._listen = parse_listen(listen) if listen is not None else TcpListen(LOOPBACK, self._former_port or 0)
        self._url = websocket_url(url) if url is not None else None
        self._port: int | None = None  # what the hub got, once open
        if self._listen.is_wildcard and self._url is None:
            raise UsageError(
                f"--listen {listen} listens at every address of this machine, which nobody can dial:"
                " add --url ws://HOST:PORT with the address joiners reach it by."
            )

    async def prepare(self) -> Listen:
        """The address to bind, checked to be free."""
        try:
            await asyncio.to_thread(check_free, self._listen)
        except PortTakenError as error:
            if self._former_port is None:
                raise
            raise PortTakenError(
                f"{error} The join address of this data directory names port {self._former_port}:"
                " with another one joiners need the new address."
            ) from error
        return self._listen

    async def open(self, bound: Listen) -> str:
        """`url` where one was given, else the bound address."""
        if not isinstance(bound, TcpListen):
            raise TypeError(f"a direct provider needs a TCP address, not {bound}")
        self._port = bound.port
        return self._url or f"ws://{TcpListen(self._listen.host, bound.port)}"

    async def wait_lost(self) -> str:
        """Never returns: nothing stands between the hub and its joiners that this process would see end."""
        never: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        return await never

    async def close(self) -> None:
        """Nothing to end."""

    def remember(self) -> dict[str, str]:
        """The port, so that a restarted head has the same URL."""
        return {} if self._port is None else {"port": str(self._port)}
