"""Where to listen, and the sockets that do: a TCP address, or the path of a unix socket."""

from __future__ import annotations

import contextlib
import errno
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tunnel.errors import ListenFailed, PortTaken

__all__ = ["BACKLOG", "Listen", "TcpListen", "UnixListen", "bind_tcp", "bind_unix", "somebody_listens", "tcp_socket"]

BACKLOG = 128


@dataclass(frozen=True, slots=True)
class TcpListen:
    """A TCP address; port 0 lets the system choose."""

    host: str  # without brackets when it is IPv6
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_wildcard(self) -> bool:
        """Whether it stands for every address of the machine, which nobody can dial."""
        return self.host in {"0.0.0.0", "::", ""}


@dataclass(frozen=True, slots=True)
class UnixListen:
    """A unix socket; the path is absolute."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


Listen = TcpListen | UnixListen
"""Where a hub binds."""


def tcp_socket() -> socket.socket:
    """A socket for asyncio, which turns Nagle's algorithm off only where a socket says that it is TCP."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setblocking(False)
    return made


def bind_tcp(address: str, port: int) -> socket.socket:
    """A socket that listens there; ListenFailed when it cannot.

    asyncio itself ignores some of the reasons, such as too many open files.
    """
    return _listening(tcp_socket, (address, port), address, port)


def bind_unix(path: Path) -> socket.socket:
    """A socket that listens at `path`, for this user only; ListenFailed when it cannot.

    It replaces a socket on which nobody listens any more, and nothing else.
    """
    if somebody_listens(path):
        raise PortTaken(str(path), 0)
    try:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise ListenFailed(str(path), 0, "something that is not a socket is there")
            path.unlink()
    except OSError as error:
        raise ListenFailed(str(path), 0, error.strerror or str(error)) from error
    return _listening(lambda: socket.socket(socket.AF_UNIX), str(path), str(path), 0)


def somebody_listens(path: Path) -> bool:
    """Whether a program accepts connections at a unix socket; asyncio would replace it without a word."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.setblocking(False)
        try:
            caller.connect(str(path))
        except BlockingIOError:
            return True  # its queue of connections to accept is full
        except OSError:
            return False  # nothing is there, or nobody listens any more
        return True


def _listening(
    make: Callable[[], socket.socket], where: str | tuple[str, int], address: str, port: int
) -> socket.socket:
    try:
        listener = make()
    except OSError as error:
        raise ListenFailed(address, port, f"{error.strerror}; `ulimit -n` raises the limit") from error
    try:
        listener.setblocking(False)
        if listener.family == socket.AF_INET:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        if isinstance(where, str):
            Path(where).chmod(0o600)  # before it listens, so that nobody else can ever connect
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(address, port) from error
        raise ListenFailed(address, port, error.strerror or str(error)) from error
    return listener
