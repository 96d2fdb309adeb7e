"""A network for each of pytest's processes, so that clusters in two of them do not meet at one loopback."""

from __future__ import annotations

import ctypes
import fcntl
import functools
import os
import socket
import struct

__all__ = ["can_be_had", "take"]

_NEW_NETWORK = 1 << 30  # linux/sched.h
_SET_FLAGS, _UP_RUNNING = 0x8914, 0x41  # linux/sockios.h, linux/if.h


@functools.cache
def can_be_had() -> bool:
    """Whether this process may take one, tried by a child."""
    child = os.fork()
    if child == 0:
        try:
            take()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def take() -> None:
    """Move this thread, and all that it starts, to a network of a loopback and nothing else; OSError: it may not."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_NETWORK) != 0:
        raise OSError(ctypes.get_errno(), "no network of its own")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh", b"lo", _UP_RUNNING))
