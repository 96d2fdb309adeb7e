"""`python -m tunnel` between isolated sessions: separate processes, separate networks, an edge in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import psutil
import pytest

from raycolab.sandbox.sessions import SimulatedSession, probe
from tests.tunnel.edge import PROGRAM
from tunnel.address import JoinAddress, unix_url

pytestmark = [
    pytest.mark.skipif(probe().kind is None, reason=probe().reason or "sessions can be made"),
    pytest.mark.timeout(60),
]

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 20.0
GRACE_S = 1

# Answers each connection with the SHA-256 of what it sent; one that sends "hold" is kept open, one that sends "who" is
# told the address from which it comes.
SERVICE = """
import hashlib, socket, sys, threading
server = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("listening", flush=True)
def answer(connection):
    digest = hashlib.sha256()
    while data := connection.recv(1 << 16):
        digest.update(data)
        if data == b"hold":
            connection.sendall(b"held")
        if data == b"who":
            connection.sendall(connection.getpeername()[0].encode())
    connection.sendall(digest.hexdigest().encode())
    connection.close()
while True:
    threading.Thread(target=answer, args=(server.accept()[0],)).start()
"""
# Sends that many random bytes, ends its half, and says whether what comes back is their SHA-256.
CLIENT = """
import hashlib, random, socket, sys
data = random.Random(0).randbytes(int(sys.argv[3]))
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), 30)
try:
    connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)
    answer = connection.makefile().read()
except ConnectionResetError:
    answer = "ECONNRESET"
print("equal" if answer == hashlib.sha256(data).hexdigest() else answer)
"""
CALLER = """
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), 30)
connection.sendall(b"who")
print(connection.recv(99).decode())
"""
# Opens a connection, says so, and tells how it ends.
HOLDER = """
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), 30)
connection.sendall(b"hold")
print(connection.recv(4).decode(), flush=True)
try:
    print("ended" if connection.recv(1) == b"" else "went on")
except ConnectionResetError:
    print("ECONNRESET")
"""
LISTENERS = """
from pathlib import Path
import socket
for table in ("/proc/net/tcp", "/proc/net/tcp6"):
    for row in Path(table).read_text().splitlines()[1:]:
        words = row.split()
        if words[3] == "0A":
            address, _, port = words[1].partition(":")
            print(address if len(address) > 8 else socket.inet_ntoa(bytes.fromhex(address)[::-1]), int(port, 16))
"""


class Program:
    """A process that writes one JSON line per event; the lines are kept as they come."""

    def __init__(self, command: list[str], errors: Path) -> None:
        with errors.open("ab") as stderr:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=ROOT
            )
        self.events: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,))
        self._reader.start()

    def _read(self, stdout: IO[str]) -> None:
        for line in stdout:
            with self._changed:
                self.events.append(json.loads(line))
                self._changed.notify_all()

    def told(self, event: str, times: int = 1, **fields: object) -> dict[str, Any]:
        """Wait until an event of this name, with these fields, has come that often, and give the last."""

        def found() -> list[dict[str, Any]]:
            return [said for said in self.events if {"event": event, **fields}.items() <= said.items()]

        with self._changed:
            assert self._changed.wait_for(lambda: len(found()) >= times, PATIENCE_S), self.events
            return found()[times - 1]

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(PATIENCE_S)
        self._reader.join()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        return code


class Tab:
    """A session with a hub or an agent in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.session = SimulatedSession(shared=[folder])
        self.session.start()
        self.tunnel: Program
        self._services: list[subprocess.Popen[str]] = []

    def start(self, *words: str) -> Program:
        """Run `python -m tunnel WORDS` here."""
        command = self.session.command([sys.executable, "-m", "tunnel", *words], cwd=ROOT)
        self.tunnel = Program(command, self.folder / "errors")
        return self.tunnel

    def python(self, code: str, *words: object) -> subprocess.Popen[str]:
        """Run a script here."""
        argv = [sys.executable, "-c", textwrap.dedent(code), *map(str, words)]
        return subprocess.Popen(self.session.command(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)

    def serve(self, at: int = 0) -> tuple[str, int]:
        """Start SERVICE on this node; the address and port it has in every session."""
        node = self.tunnel.told("hub" if self.tunnel.events[0]["event"] == "hub" else "joined")
        where = node["address"], node["ports"][at]
        service = self.python(SERVICE, *where)
        self._services.append(service)
        assert service.stdout is not None
        assert service.stdout.readline() == "listening\n"
        return where

    def send(self, where: tuple[str, int], count: int) -> str:
        """What CLIENT says here."""
        return self.python(CLIENT, *where, count).communicate(timeout=PATIENCE_S)[0].strip()

    def end(self) -> None:
        """End the session with all that is in it."""
        self.session.end()
        self.tunnel.end()
        for service in self._services:
            service.communicate()


class Mesh:
    """A hub's and two agents' sessions, which meet only at the edge's socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.edge = Program(
            [
                *(*PROGRAM, "--listen", f"unix:{folder}/edge.sock"),
                *("--to", f"unix:{folder}/hub.sock", "--delay", "0.01", "--rate", "20000000"),
            ],
            folder / "errors",
        )
        self.hub = Tab(folder)
        self.start_hub()
        self.agents = [Tab(folder) for _ in range(2)]
        for number, agent in enumerate(self.agents):
            agent.start("agent", f"@{folder}/address", "--name", f"tab-{number}")
        for agent in self.agents:
            agent.tunnel.told("ready")

    def start_hub(self) -> None:
        """Start the hub with the identity it has, and write its address for the agents."""
        hub = self.hub.start(
            *("hub", "--listen", f"{self.folder}/hub.sock", "--url", unix_url(f"{self.folder}/edge.sock")),
            *("--identity", f"{self.folder}/identity", "--grace", str(GRACE_S)),
        )
        address = hub.told("hub")["join_address"]
        (self.folder / "address").write_text(address)

    def tell_edge(self, line: str) -> None:
        """Say something to the edge."""
        assert self.edge.process.stdin is not None
        self.edge.process.stdin.write(line + "\n")
        self.edge.process.stdin.flush()

    def end(self) -> None:
        """End everything."""
        for tab in [*self.agents, self.hub]:
            tab.end()
        self.edge.end()


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    """One mesh for all tests here; they run in their order, and the last ones take it apart."""
    with tempfile.TemporaryDirectory(prefix="tn-", dir="/tmp") as folder:
        mesh = Mesh(Path(folder))
        yield mesh
        mesh.end()


def test_sessions_without_a_network_reach_each_others_services(mesh: Mesh) -> None:
    """A service at each node, a client at every other: the address and port are the same everywhere."""
    tabs = [mesh.hub, *mesh.agents]
    for server in tabs:
        where = server.serve()
        for client in tabs:
            assert client.send(where, 1_000_000) == "equal"


def test_a_service_sees_which_node_calls(mesh: Mesh) -> None:
    """The hub and the other agent, at a service of the first; not 127.0.0.1, as everybody once was."""
    first, second = mesh.agents
    where = first.serve(at=3)
    for client, event in ((mesh.hub, "hub"), (second, "joined")):
        seen = client.python(CALLER, *where).communicate(timeout=PATIENCE_S)[0].strip()
        assert seen == client.tunnel.told(event)["address"]


def test_a_port_nobody_serves_is_a_reset(mesh: Mesh) -> None:
    """From agent to agent, two hops away."""
    node = mesh.agents[1].tunnel.told("joined")
    assert mesh.agents[0].send((node["address"], node["ports"][7]), 10) == "ECONNRESET"


def test_every_listener_is_one_of_the_meshs_addresses(mesh: Mesh) -> None:
    """No session listens anywhere but at 127.77.0.k, and at the whole block of every other node."""
    blocks = {node["address"]: set(node["ports"]) for node in _nodes(mesh)}
    for tab in [mesh.hub, *mesh.agents]:
        rows = tab.python(LISTENERS).communicate(timeout=PATIENCE_S)[0].splitlines()
        found = {(address, int(port)) for address, _, port in (row.partition(" ") for row in rows)}
        assert {address for address, _ in found} <= set(blocks)
        own = next(node["address"] for node in _nodes(mesh) if node in tab.tunnel.events)
        others = {(address, port) for address, ports in blocks.items() if address != own for port in ports}
        assert others <= found
        assert 1 <= len(found - others) <= 2  # the services that tests started at this node


def _nodes(mesh: Mesh) -> list[dict[str, Any]]:
    return [mesh.hub.tunnel.told("hub"), *(agent.tunnel.told("joined") for agent in mesh.agents)]


def test_no_command_line_holds_the_secret(mesh: Mesh) -> None:
    """Joined by @FILE, nothing of the address is in any process's arguments, nor in what was logged."""
    token = JoinAddress.parse((mesh.folder / "address").read_text()).text.partition("#")[2]
    for process in psutil.process_iter(["cmdline"]):
        assert token not in " ".join(process.info["cmdline"] or [])
    assert token not in (mesh.folder / "errors").read_text()


def test_cuts_are_invisible_to_transfers_and_to_idle_connections(mesh: Mesh) -> None:
    """Every WebSocket cut again and again: one connection idles through it, another one's bytes arrive whole."""
    where = mesh.agents[1].serve(at=1)
    holder = mesh.agents[0].python(HOLDER, *where)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    client = mesh.agents[0].python(CLIENT, *where, 30_000_000)
    for _ in range(4):
        time.sleep(0.6)
        mesh.tell_edge("cut")
    assert client.communicate(timeout=PATIENCE_S)[0] == "equal\n"
    assert holder.poll() is None
    for agent in mesh.agents:
        agent.tunnel.told("up", times=2)
        assert not [event for event in agent.tunnel.events if event["event"] == "left"]
    holder.kill()
    holder.communicate()


def test_a_session_that_ends_is_gone_after_the_grace(mesh: Mesh) -> None:
    """The hub says so with a reason, connections to it are reset, and a new session has its name."""
    lost, other = mesh.agents
    holder = other.python(HOLDER, *lost.serve(at=2))
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    lost.end()
    assert mesh.hub.tunnel.told("left")["reason"] == f"it was away for {GRACE_S} s"
    assert holder.communicate(timeout=PATIENCE_S)[0] == "ECONNRESET\n"
    mesh.agents[0] = again = Tab(mesh.folder)
    again.start("agent", f"@{mesh.folder}/address", "--name", "tab-0").told("ready")
    assert mesh.hub.tunnel.told("ready", name="tab-0", times=2)
    assert other.send(again.serve(), 100_000) == "equal"


def test_a_hub_that_was_killed_and_started_again_gets_its_agents_back(mesh: Mesh) -> None:
    """SIGKILL, the same identity, the same address: new lives under the old names, and services are reached again."""
    old = mesh.hub.tunnel
    before = (mesh.folder / "address").read_text()
    assert old.end(signal.SIGKILL) == -signal.SIGKILL
    mesh.start_hub()
    assert (mesh.folder / "address").read_text() == before
    for number, agent in enumerate(mesh.agents):
        mesh.hub.tunnel.told("ready", name=f"tab-{number}")
        agent.tunnel.told("ready", times=2)
        agent.tunnel.told("left")
    joined = mesh.agents[0].tunnel.told("joined", times=2)
    mesh.agents[0].tunnel.events[:] = [joined]
    assert mesh.agents[1].send(mesh.agents[0].serve(), 100_000) == "equal"


def test_everything_ends_in_order(mesh: Mesh) -> None:
    """SIGTERM to the hub: it and its agents exit with 0, and its socket is gone."""
    assert mesh.hub.tunnel.end() == 0
    for agent in mesh.agents:
        agent.tunnel.told("left", reason="the hub was stopped")
        assert agent.tunnel.process.wait(PATIENCE_S) == 0
    assert "hub.sock" not in os.listdir(mesh.folder)
    assert (mesh.folder / "errors").read_text() == ""
