"""The tunnel without Ray and without notebooks: a TCP service that knows nothing of it, across two closed networks.

Two sessions are made on this machine, each with a network of its own that reaches nothing but a unix socket. A hub
runs in one, an agent and an OpenSSH server in the other. `ssh` and `scp` in the hub's session then reach that server
under the same address and port that it has in its own session. Nothing is sent to any other machine.

On two real machines, of which B can reach A (or A's hub is behind `ngrok http 8443`, then add --url https://...):

    A$  python -m tunnel hub --listen 0.0.0.0:8443 --url ws://a.example:8443
        {"event": "hub", "join_address": "tunnel+ws://a.example:8443#…", "address": "127.77.0.1", "ports": [10002, …]}
    B$  python -m tunnel agent 'tunnel+ws://a.example:8443#…'
        {"event": "joined", "name": "node-1", "address": "127.77.0.2", "ports": [10010, …]}

Then any program whose address and ports can be set is reached from every node: it listens at its own node's address on
ports of its node's block (--ports says how many there are), and is dialed there from everywhere. Dask, for one:

    A$  dask scheduler --host 127.77.0.1 --port 10002 --no-dashboard
    B$  dask worker tcp://127.77.0.1:10002 --host 127.77.0.2 --worker-port 10010 --no-nanny --no-dashboard
    A$  python -c 'from dask.distributed import Client; print(Client("127.77.0.1:10002").submit(sum, [1, 2]).result())'

torch.distributed meets in the same way (MASTER_ADDR=127.77.0.1 MASTER_PORT=10002), but its gloo backend then opens
ports of its own choice, which a tunnel of fixed ports does not carry: it needs a backend whose ports can be set.

Run it:  python examples/tunnel_only.py      (Linux, with openssh-server and openssh-client; takes a few seconds)
"""

# ruff: noqa: T201 - it is here to be watched

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raycolab.sandbox.sessions import SimulatedSession, probe

__all__ = ["SEARCH", "ExampleError", "find_programs", "main"]

PACKAGES = {"sshd": "openssh-server", "ssh": "openssh-client", "scp": "openssh-client", "ssh-keygen": "openssh-client"}
SEARCH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])  # where Debian keeps sshd
PATIENCE_S = 20.0
COPIED_BYTES = 8_000_000

TUNNEL = [sys.executable, "-m", "tunnel"]


class ExampleError(Exception):
    """Why the example cannot be run, or did not work, in one sentence."""


def main() -> int:
    """Run the example; 0 when everything arrived whole."""
    try:
        programs = find_programs(SEARCH)
        if probe().kind is None:
            raise ExampleError(probe().reason)
        with tempfile.TemporaryDirectory(prefix="tunnel-", dir="/tmp") as folder:
            seconds = run(programs, Path(folder))
    except ExampleError as error:
        print(f"tunnel_only: {error}", file=sys.stderr)
        return 1
    print(f"tunnel_only: a command ran and {COPIED_BYTES:,} bytes came back whole in {seconds:.1f} s")
    return 0


def find_programs(search: str) -> dict[str, str]:
    """The path of each program of OpenSSH that is needed; ExampleError names those that are missing, and the cure."""
    found = {name: shutil.which(name, path=search) for name in PACKAGES}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        packages = " ".join(sorted({PACKAGES[name] for name in missing}))
        raise ExampleError(f"{' and '.join(missing)} not found; install with: sudo apt-get install {packages}")
    return {name: path for name, path in found.items() if path is not None}


def run(programs: dict[str, str], folder: Path) -> float:
    """Everything, in the order in which a person would do it; returns how long ssh and scp took."""
    with contextlib.ExitStack() as at_the_end:
        # Two machines. What they share is the folder, for the hub's socket in it.
        here = at_the_end.enter_context(SimulatedSession(shared=[folder], hostname="here"))
        there = at_the_end.enter_context(SimulatedSession(shared=[folder], hostname="there"))

        # 1. The hub, on the machine that the others can reach. It prints the join address, which is a secret.
        hub = at_the_end.enter_context(running(here, [*TUNNEL, "hub", "--listen", f"{folder}/hub.sock"]))
        join_address = wait_for(hub, "hub")["join_address"]
        print(f"here    the hub listens at {folder}/hub.sock")

        # 2. An agent on each other machine. @FILE keeps the secret out of the list of processes.
        file = folder / "join-address"
        file.touch(mode=0o600)
        file.write_text(join_address)
        agent = at_the_end.enter_context(running(there, [*TUNNEL, "agent", f"@{file}", "--name", "there"]))
        node = wait_for(agent, "joined")
        wait_for(agent, "ready")  # from now on every node reaches every other
        address, port = node["address"], node["ports"][0]
        print(f"there   the agent joined: this machine is {address}, ports {port} to {node['ports'][-1]}")

        # 3. Any service, at the node's own address and a port of its block.
        keys = make_keys(programs, folder, f"[{address}]:{port}")
        at_the_end.enter_context(running(there, sshd_command(programs, keys, address, port)))
        wait_until_it_listens(there, address, port)
        print(f"there   an OpenSSH server that knows nothing of the tunnel listens at {address}:{port}")

        # 4. Any client, at that same address and port, on every other machine.
        return use_ssh(programs, here, keys, address, port)


def use_ssh(programs: dict[str, str], here: SimulatedSession, keys: Path, address: str, port: int) -> float:
    """From `here` run a command there, copy a file there and back; returns the seconds it took."""
    options = [
        *("-F", "none", "-i", f"{keys}/user", "-o", f"UserKnownHostsFile={keys}/known_hosts"),
        *("-o", "GlobalKnownHostsFile=none", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"),
    ]
    login = f"{pwd.getpwuid(os.getuid()).pw_name}@{address}"
    ssh = [programs["ssh"], *options, "-p", str(port), login]
    scp = [programs["scp"], *options, "-P", str(port)]
    began = time.monotonic()

    said = run_in(here, [*ssh, "hostname"]).strip()
    print(f"here    ssh {login} -p {port} hostname    says {said!r}")
    if said != "there":
        raise ExampleError(f"the command ran on {said!r}, not on the other machine")

    # /tmp is each session's own, so what is found there came through the tunnel.
    original, returned = keys / "original", keys / "returned"
    original.write_bytes(os.urandom(COPIED_BYTES))
    run_in(here, [*scp, str(original), f"{login}:/tmp/what-came"])
    digest = run_in(here, [*ssh, "sha256sum /tmp/what-came"]).split()[0]
    run_in(here, [*scp, f"{login}:/tmp/what-came", str(returned)])
    seconds = time.monotonic() - began
    for name, seen in (("there", digest), ("back", sha256(returned))):
        print(f"here    scp: SHA-256 of what arrived {name:<5}  {seen[:16]}…")
        if seen != sha256(original):
            raise ExampleError(f"the file that arrived {name} is not the one that was sent")
    return seconds


def make_keys(programs: dict[str, str], folder: Path, host: str) -> Path:
    """A host key, a user key and a known_hosts file in a new directory: /etc/ssh and ~/.ssh are left alone."""
    keys = folder / "keys"
    keys.mkdir(mode=0o700)
    for name in ("host", "user"):
        command = [programs["ssh-keygen"], "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(keys / name)]
        subprocess.run(command, check=True)
    (keys / "known_hosts").write_text(f"{host} {(keys / 'host.pub').read_text()}")
    return keys


def sshd_command(programs: dict[str, str], keys: Path, address: str, port: int) -> list[str]:
    """The arguments of an OpenSSH server in the foreground, which lets in whoever has the user key."""
    config = keys / "sshd_config"
    config.write_text(
        f"ListenAddress {address}:{port}\n"
        f"HostKey {keys}/host\n"
        f"AuthorizedKeysFile {keys}/user.pub\n"
        "LogLevel FATAL\nStrictModes no\nUsePAM no\nPidFile none\nSubsystem sftp internal-sftp\n"
    )
    command = [programs["sshd"], "-D", "-e", "-f", str(config)]
    if os.geteuid() != 0:
        # In a session of an ordinary user everybody is root, and sshd as root wants rights that this root has not.
        return ["unshare", "--user", f"--map-user={os.getuid()}", f"--map-group={os.getgid()}", *command]
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # empty; sshd locks itself in there. Debian's service makes it.
    return command


@contextlib.contextmanager
def running(session: SimulatedSession, argv: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A command that runs in a session as long as the block."""
    process = subprocess.Popen(
        session.command(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )  # what it complains of goes where our own complaints go
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_S)


def wait_for(process: subprocess.Popen[str], event: str) -> dict[str, Any]:
    """The hub and the agent print one JSON line per event: the first of this name."""
    assert process.stdout is not None
    for line in process.stdout:
        said: dict[str, Any] = json.loads(line)
        if said["event"] == event:
            return said
    raise ExampleError(f"a tunnel process ended before it was {event}")


def wait_until_it_listens(session: SimulatedSession, address: str, port: int) -> None:
    """Dial from inside the session until something accepts."""
    code = f"import socket; socket.create_connection(({address!r}, {port}))"
    deadline = time.monotonic() + PATIENCE_S
    while session.run([sys.executable, "-c", code]).returncode != 0:
        if time.monotonic() > deadline:
            raise ExampleError(f"nothing listens at {address}:{port}")
        time.sleep(0.1)


def run_in(session: SimulatedSession, argv: list[str]) -> str:
    """Run a command in a session to its end; what it printed."""
    done = session.run(argv, timeout_s=PATIENCE_S)
    if done.returncode != 0:
        raise ExampleError(f"{Path(argv[0]).name} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout


def sha256(path: Path) -> str:
    """The digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    raise SystemExit(main())
