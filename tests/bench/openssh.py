"""OpenSSH doing the tunnel's two hops: `ssh -L` at the client, `ssh -R` at the service, an sshd in the middle."""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.bench.processes import PATIENCE_S, Line, Way, edge
from tests.programs import find

__all__ = ["free_port", "missing", "openssh"]

PROGRAMS = ("sshd", "ssh", "ssh-keygen")
CIPHER = "aes128-gcm@openssh.com"


def missing() -> str:
    """Which of OpenSSH's programs are not here, "" when all are."""
    return " ".join(name for name in PROGRAMS if find(name) is None)


def free_port() -> int:
    """A port of 127.0.0.1 at which nobody listens now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def openssh(folder: Path, line: Line | None = None) -> Iterator[Way]:
    """The way through an sshd with keys of its own in `folder`, each client through `line` if there is one."""
    entry, middle, service = free_port(), free_port(), free_port()
    with contextlib.ExitStack() as stack:
        _make_keys(folder)
        server = stack.enter_context(_sshd(folder, port := free_port()))
        if line is not None:
            port = int(stack.enter_context(edge(f"127.0.0.1:{port}", line))[0].rpartition(":")[2])
        back = stack.enter_context(_ssh(folder, port, "-R", f"127.0.0.1:{middle}:127.0.0.1:{service}"))
        _until_it_listens(middle)
        there = stack.enter_context(_ssh(folder, port, "-L", f"127.0.0.1:{entry}:127.0.0.1:{middle}"))
        _until_it_listens(entry)
        clients = [psutil.Process(back.pid), psutil.Process(there.pid)]
        relays = [*psutil.Process(server.pid).children(recursive=True), *clients]
        yield Way("openssh", ("127.0.0.1", entry), ("127.0.0.1", service), relays)


def _make_keys(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("host", "user"):
        keygen = _program("ssh-keygen")
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name)], check=True)
    (folder / "sshd_config").write_text(
        f"HostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\n"
        "LogLevel FATAL\nStrictModes no\nUsePAM no\nPidFile none\nMaxSessions 1000\nMaxStartups 1000\n"
    )


@contextlib.contextmanager
def _sshd(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # empty; sshd locks itself in there
    command = [_program("sshd"), "-D", "-e", "-f", str(folder / "sshd_config"), "-o", f"ListenAddress=127.0.0.1:{port}"]
    with _running(command) as server:
        _until_it_listens(port)
        yield server


@contextlib.contextmanager
def _ssh(folder: Path, port: int, option: str, forward: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [
        *(_program("ssh"), "-N", "-F", "none", "-i", f"{folder}/user", "-p", str(port)),
        *("-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={folder}/known_hosts"),
        *("-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-o", "ExitOnForwardFailure=yes"),
        *("-c", CIPHER, "-o", "Compression=no", option, forward, f"{getpass.getuser()}@127.0.0.1"),
    ]
    with _running(command) as client:
        yield client


@contextlib.contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)


def _until_it_listens(port: int) -> None:
    """Wait for a listener at 127.0.0.1 without dialing it, which would be a connection of the load."""
    row = f"0100007F:{port:04X} 00000000:0000 0A"
    deadline = time.monotonic() + PATIENCE_S
    while row not in Path("/proc/net/tcp").read_text():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing listens at 127.0.0.1:{port}")
        time.sleep(0.02)


def _program(name: str) -> str:
    path = find(name)
    assert path is not None, f"{name} is missing"
    return path
