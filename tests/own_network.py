"""A network for each of pytest's processes, so that clusters in two of them do not meet at one loopback."""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess

__all__ = ["can_be_had", "take"]

_NEW_NETWORK = 1 << 30  # linux/sched.h


@functools.cache
def can_be_had() -> bool:
    """Whether this process may take one, tried by a child."""
    child = os.fork()
    if child == 0:
        try:
            take()
        except (OSError, subprocess.SubprocessError):
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def take() -> None:
    """Move this thread, and all that it starts, to a network of a loopback and nothing else; OSError: it may not."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_NETWORK) != 0:
        raise OSError(ctypes.get_errno(), "no network of its own")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
