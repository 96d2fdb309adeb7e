"""What a provider is: it says where the hub listens and which URL joiners dial.

Also here: reading a listen address, and finding out before the hub binds that it cannot. The hub binds, not
the provider; nothing here knows the tunnel or any one provider.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path
from typing import Protocol

import psutil

from raycolab.errors import ClusterError, PortTakenError, RaycolabError, UsageError
from tunnel.listen import Listen, TcpListen, UnixListen

__all__ = [
    "UNIX_PATH_BYTES",
    "Provider",
    "bind_failure",
    "check_free",
    "parse_listen",
]

UNIX_PATH_BYTES = 107  # sockaddr_un.sun_path holds 108 on Linux, the last one a NUL
CONNECT_TIMEOUT_S = 1.0  # to see whether somebody answers at a local socket


class Provider(Protocol):
    """Makes the hub reachable: `prepare`, the hub listens, `open`; and `open` again after `wait_lost`."""

    @property
    def name(self) -> str:
        """`ngrok`, `direct` or `unix`."""

    @property
    def free_month_bytes(self) -> int | None:
        """Bytes a month that cost nothing; None where nobody counts."""

    async def prepare(self) -> Listen:
        """Where the hub must bind, checked to be free. Raises RaycolabError."""

    async def open(self, bound: Listen) -> str:
        """The URL joiners dial (`ws://`, `wss://` or `unix://`), for a hub that listens at `bound`."""

    async def wait_lost(self) -> str:
        """The reason, a sentence, once joiners can no longer get through; for some providers that is never."""

    async def close(self) -> None:
        """End what `open` began; harmless when nothing was opened."""

    def remember(self) -> dict[str, str]:
        """What the next head needs to have the same URL; `choose_provider` takes it as `remembered`."""


def parse_listen(text: str) -> TcpListen:
    """`HOST:PORT` or `[IPV6]:PORT` as a TcpListen; raises UsageError."""
    host, colon, port = text.strip().rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise UsageError(f"--listen {text}: put an IPv6 address in brackets, as in [::1]:8765.")
    if not colon or not host or not (port.isascii() and port.isdigit()) or len(port) > 5 or int(port) > 65535:
        raise UsageError(
            f"--listen {text}: write it as HOST:PORT, as in 127.0.0.1:8765, with a port up to 65535 (0 is any"
            " free one)."
        )
    try:
        host.encode("idna")  # as the resolver will
    except UnicodeError as error:
        raise UsageError(f"--listen {text!r}: {host!r} is no name a machine can have.") from error
    return TcpListen(host, int(port))


def check_free(listen: Listen) -> None:
    """Raise the sentence of `bind_failure` when a hub could not bind there now; leaves nothing behind."""
    try:
        if isinstance(listen, UnixListen):
            _check_unix(listen.path)
        else:
            _check_tcp(listen)
    except OSError as error:
        raise bind_failure(listen, error) from error


def bind_failure(listen: Listen, error: OSError) -> RaycolabError:
    """The error a person reads when binding `listen` failed with `error`."""
    if isinstance(error, socket.gaierror):
        return UsageError(
            f"{listen} cannot be listened on: no such host is known here. Use an address of this machine."
        )
    if error.errno == errno.EADDRINUSE:
        if isinstance(listen, UnixListen):
            return PortTakenError(
                f"The socket {listen} is in use by another running head: shut that one down, or give --listen"
                " another path."
            )
        return PortTakenError(
            f"Port {listen.port} on {listen.host} is in use by {_holder(listen.port)}, so the head cannot listen there:"
            " stop that program, or give --listen another port (port 0 takes any free one)."
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return UsageError(
            f"{listen} is not an address of this machine: give --listen one it has, such as 127.0.0.1:0,"
            " and --url what joiners dial."
        )
    if error.errno in {errno.EACCES, errno.EPERM}:
        return UsageError(f"This user may not listen at {listen}: give --listen another one (a port above 1023).")
    return ClusterError(
        f"The head cannot listen at {listen}: {os.strerror(error.errno or 0)}. Give --listen another one."
    )


def _check_tcp(listen: TcpListen) -> None:
    family, kind, protocol, _, address = socket.getaddrinfo(
        listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as probe:
        # As asyncio's own servers do: what a former head left in TIME_WAIT takes no port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        probe.listen(1)  # two sockets may share a bound address until one listens


def _check_unix(path: Path) -> None:
    """Binding over a live socket would steal it (asyncio removes the file first), so dial it."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise UsageError(f"{path} exists and is not a socket: give --listen another path.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(CONNECT_TIMEOUT_S)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return  # a former head's, dead
        except TimeoutError:
            pass  # its queue is full: alive
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _holder(port: int) -> str:
    """Who listens at a port, as far as this user may see."""
    try:
        for entry in psutil.net_connections(kind="tcp"):
            if entry.status == psutil.CONN_LISTEN and entry.laddr and entry.laddr.port == port and entry.pid:
                return f"{psutil.Process(entry.pid).name()} (process {entry.pid})"
    except psutil.Error:
        pass
    return "another program"
