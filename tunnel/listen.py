"""Where a hub accepts agents: a TCP address or the path of a unix socket."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Listen", "TcpListen", "UnixListen"]


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
