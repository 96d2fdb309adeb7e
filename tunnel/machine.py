"""What the tunnel must know about the machine it runs on; its only module that reads /proc or sets limits."""

from __future__ import annotations

import ctypes
import os
import resource
import socket
from dataclasses import dataclass
from pathlib import Path

from tunnel.nodes import FIRST_PORT, LAST_PORT

__all__ = ["Machine", "busy_ports", "keep_freed_memory", "namespace_id", "raise_file_limit"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)

_LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp (include/net/tcp_states.h)


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a node runs, as far as the mesh is concerned: programs of one machine see each other's ports.

    Each machine of a mesh has 127.77.0.0/24 to itself. A machine that plays several gives each of them its own
    `subnet`, so that one's listeners for another are not in the other one's way.
    """

    namespace: str  # differs between machines that do not share loopback
    subnet: int = 0  # 0-255

    @classmethod
    def here(cls) -> Machine:
        """The machine, or the network namespace of it, that this process runs in."""
        return cls(namespace_id())

    def address_of(self, node: int) -> str:
        """The loopback address that stands for a node on this machine: 127.77.0.k."""
        return f"127.77.{self.subnet}.{node}"


def namespace_id() -> str:
    """A text that is equal for two processes if and only if they share loopback: boot id and network namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.stat('/proc/self/ns/net').st_ino}"
    except OSError:  # not Linux: one host is one loopback
        return socket.gethostname()


def busy_ports() -> frozenset[int]:
    """Ports that blocks could use and that some program here listens on, at any address."""
    ports: set[int] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            if len(fields) > 3 and fields[3] == _LISTEN:
                ports.add(int(fields[1].rpartition(":")[2], 16))
    return frozenset(port for port in ports if FIRST_PORT <= port <= LAST_PORT)


def raise_file_limit() -> int:
    """Allow this process as many open files as the system permits; returns that number.

    A node listens on every port of every other node, which takes about 50 files for each; a connection takes two more.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def keep_freed_memory() -> None:
    """Have glibc keep up to 32 MiB of freed memory instead of returning that of every batch to the kernel.

    Each batch takes a few blocks of 256 KiB; getting their pages again costs a seventh of the CPU of relaying.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 4 * 1024 * 1024)
        mallopt(_M_TRIM_THRESHOLD, 32 * 1024 * 1024)
