"""The provider for joiners that share the head's file system: a unix socket, as simulated sessions use."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from raycolab.errors import ClusterError, UsageError
from raycolab.files import typed_path
from raycolab.providers.base import UNIX_PATH_BYTES, check_free
from tunnel.address import unix_url
from tunnel.listen import Listen, UnixListen

__all__ = ["UnixProvider"]

SOCKET_NAME = "hub.sock"


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
        never: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        return await never

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
