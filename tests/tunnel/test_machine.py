"""What the tunnel knows of this machine, compared with what the system itself says."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tunnel.machine import busy_ports, keep_freed_memory, namespace_id, raise_file_limit
from tunnel.nodes import FIRST_PORT, LAST_PORT


def test_processes_of_one_namespace_have_one_namespace_id() -> None:
    """A child without a network of its own says the same text; it names the boot and the namespace."""
    code = "from tunnel.machine import namespace_id; print(namespace_id())"
    root = Path(__file__).resolve().parents[2]
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert child.stdout.strip() == namespace_id()
    assert namespace_id().endswith(f"/{os.stat('/proc/self/ns/net').st_ino}")


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.5"), (socket.AF_INET6, "::1")])
def test_a_port_is_busy_while_somebody_listens(family: socket.AddressFamily, address: str) -> None:
    """At whatever address; ports outside the blocks' range are nobody's business."""
    free = next(port for port in range(FIRST_PORT, LAST_PORT) if port not in busy_ports())
    try:
        server = socket.create_server((address, free), family=family)
    except OSError as error:
        pytest.skip(f"this machine has no {address}: {error}")
    with server:
        assert free in busy_ports()
        assert all(FIRST_PORT <= port <= LAST_PORT for port in busy_ports())
    assert free not in busy_ports()


def test_the_file_limit_is_raised_as_far_as_it_goes() -> None:
    """The soft limit becomes the hard one, which is what is returned."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        assert raise_file_limit() == hard
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_freed_memory_is_kept() -> None:
    """What was freed and is taken again costs no new page from the kernel."""
    keep_freed_memory()
    bytes(3_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        bytearray(b"x") * 3_000_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 20 * 3_000_000 // 4096
