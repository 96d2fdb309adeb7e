"""The providers that need nobody in between: a TCP address that joiners dial themselves, and a unix socket.

The address may be that of a proxy that stands before the head. The socket is for joiners that share the head's file
system, as simulated sessions do.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from raycolab.errors import ClusterError, PortTakenError, UsageError
from raycolab.files import typed_path
from raycolab.providers.base import UNIX_PATH_BYTES, check_free, parse_listen
from tunnel.address import PIN_BYTES, SECRET_BYTES, JoinAddress, unix_url
from tunnel.listen import Listen, TcpListen, UnixListen

__all__ = ["DirectProvider", "UnixProvider", "loopback_note", "own_address", "websocket_url"]

SOCKET_NAME = "hub.sock"
WEBSOCKET_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


def own_address() -> str:
    """The address by which this machine reaches its network; that of loopback where there is none. Nothing is sent."""
    for family, far in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):  # for examples: nobody's
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((far, 9))
            return str(probe.getsockname()[0])
    # There is no way out, but there may be neighbours.
    for name, addresses in psutil.net_if_addrs().items():
        found = [address for each in addresses if (address := _ip(each.address)) and not address.is_link_local]
        if found and name.partition(":")[0] != "lo":
            return str(found[0])
    return "127.0.0.1"


def loopback_note(url: str) -> str | None:
    """What has to be said of a URL that only joiners on the head's own machine can dial; None for any other."""
    host = urlsplit(url).hostname or ""
    address = _ip(host)
    if host != "localhost" and not (address and address.is_loopback):
        return None
    return (
        f"Only this machine can join: {host} is its own address, and on another one means that one. For others start"
        " the head with --listen HOST:PORT (in a notebook listen=), where HOST is an address of this machine that they"
        " reach."
    )


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


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
    """Joiners dial the hub's own address, or `url`.

    Without `listen` it is the machine's `own_address`, and the port the remembered one or any free one.
    """

    name = "direct"
    free_month_bytes = None

    def __init__(self, *, listen: str | None, url: str | None, remembered: Mapping[str, str]) -> None:
        former = remembered.get("port", "")
        # The port that joiners of a former head know; an address that was typed goes before it.
        self._former_port = int(former) if listen is None and former.isdigit() else None
        self._listen = parse_listen(listen) if listen is not None else TcpListen(own_address(), self._former_port or 0)
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
        return await _wait_for_ever()

    async def close(self) -> None:
        """Nothing to end."""

    def remember(self) -> dict[str, str]:
        """The port, so that a restarted head has the same URL."""
        return {} if self._port is None else {"port": str(self._port)}


class UnixProvider:
    """Joiners dial a socket path. Without `listen` it is the remembered one, or one in `run_dir`."""

    name = "unix"
    free_month_bytes = None

    def __init__(self, *, listen: str | None, run_dir: Path, remembered: Mapping[str, str]) -> None:
        self._given = listen is not None
        self._run_dir = run_dir
        path = typed_path(listen or remembered.get("path") or run_dir / SOCKET_NAME, "--listen")
        self._listen = UnixListen(path.absolute())
        self._open = False
        length = len(os.fsencode(self._listen.path))
        if length > UNIX_PATH_BYTES:
            raise UsageError(
                f"The socket path {path} has {length} bytes and Linux takes {UNIX_PATH_BYTES} at most:"
                " give --listen a shorter one, such as /tmp/hub.sock."
            )

    async def prepare(self) -> Listen:
        """The path to bind, checked to be free; its folder is made, private, unless the path was given."""
        folder = self._listen.path.parent
        if self._given and not folder.is_dir():
            raise UsageError(f"--listen {self._listen}: there is no folder {folder}. Make it, or give another path.")
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            owner = folder.lstat().st_uid
        except OSError as error:
            raise ClusterError(
                f"The folder {folder} for the head's socket cannot be made ({error.strerror}): give --listen a path."
            ) from error
        if not self._given and owner != os.getuid():
            raise ClusterError(f"The folder {folder} belongs to another user: give --listen a path of your own.")
        check_free(self._listen)
        return self._listen

    async def open(self, bound: Listen) -> str:
        """`unix://` and the path, percent-encoded."""
        if not isinstance(bound, UnixListen):
            raise TypeError(f"a unix provider needs a socket path, not {bound}")
        self._open = True
        return unix_url(str(bound.path))

    async def wait_lost(self) -> str:
        """Never returns: the socket lives as long as the hub."""
        return await _wait_for_ever()

    async def close(self) -> None:
        """Remove the socket file, which Python before 3.13 leaves behind, and a former head's folder made again."""
        if not self._open:
            return
        self._open = False
        self._listen.path.unlink(missing_ok=True)
        if not self._given and self._listen.path.parent != self._run_dir:
            with contextlib.suppress(OSError):  # somebody put something there
                self._listen.path.parent.rmdir()

    def remember(self) -> dict[str, str]:
        """The path, so that a restarted head has the same URL."""
        return {"path": str(self._listen.path)} if self._open else {}


async def _wait_for_ever() -> str:
    never: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    return await never
