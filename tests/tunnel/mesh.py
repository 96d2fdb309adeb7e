"""A mesh on this machine, for tests: a hub and agents that each play a machine of their own, with real sockets between.

Every machine has a subnet of 127.77.0.0/16 and a namespace text to itself, so that one's listeners are not in the way
of another's services, as if they shared no loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import os
import random
import socket
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import uvloop

from tests.tunnel.edge import Edge
from tunnel.address import JoinAddress, unix_url
from tunnel.agent import Agent
from tunnel.hub import Hub, Peer
from tunnel.listen import UnixListen
from tunnel.machine import Machine, busy_ports
from tunnel.messages import Welcome
from tunnel.nodes import Node, NodeId, PortBlock
from tunnel.secure import HubIdentity

__all__ = [
    "NOW",
    "AgentLog",
    "HubLog",
    "Log",
    "Member",
    "Mesh",
    "Serve",
    "behind_an_edge",
    "echo",
    "eventually",
    "free_block",
    "identity",
    "in_each_loop",
    "listening",
    "machine",
    "nothing_left",
    "reset",
    "reset_on_close",
]

NOW = 1.75e9  # of the identities; any time will do
_FIRST_SUBNET = os.getpid() % 24 * 10  # two runs of these tests on one machine are not in each other's way
PATIENCE_S = 45.0  # what a test waits for comes at once, or after a while on a busy machine

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def in_each_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Decorates an `async def` test: it runs in asyncio's loop and in uvloop's, which supervisors use."""

    @functools.wraps(test)
    def run(*self: Any, loop: str, **arguments: Any) -> None:
        factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(asyncio.wait_for(test(*self, loop=loop, **arguments), 2 * PATIENCE_S))

    marked: Callable[..., None] = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])(run)
    return marked


async def eventually(true: Callable[[], object]) -> None:
    """Wait until something holds that nobody announces."""
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110 - nobody sets an event for it
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """The block leaves no task and no open file."""
    tasks, files = asyncio.all_tasks(), len(_open_files())
    yield
    await eventually(lambda: asyncio.all_tasks() <= tasks)
    # Python 3.11's asyncio keeps some connections that were accepted while their server closed, or cut meanwhile.
    if sys.version_info >= (3, 12):
        await eventually(lambda: len(_open_files()) <= files)


def _open_files() -> list[str]:
    files = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the folder's own, closed meanwhile
            files.append(os.readlink(f"/proc/self/fd/{name}"))
    return [file for file in files if file != "/dev/null"]  # libuv keeps one of those in reserve


def listening() -> set[tuple[str, int]]:
    """Address and port of every TCP listener of this process, from the kernel's own tables."""
    own = set(_open_files())
    found = set()
    for row in Path("/proc/self/net/tcp").read_text().splitlines()[1:]:
        words = row.split()
        if words[3] == "0A" and f"socket:[{words[9]}]" in own:
            address, _, port = words[1].partition(":")
            found.add((socket.inet_ntoa(bytes.fromhex(address)[::-1]), int(port, 16)))
    return found


def reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection with a reset."""
    reset_on_close(writer.get_extra_info("socket"))
    writer.transport.abort()


def reset_on_close(connection: socket.socket) -> None:
    """Let the close of a socket be a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # linger: on, 0 seconds


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A service that sends everything back, then ends."""
    with contextlib.suppress(ConnectionResetError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@functools.cache
def identity() -> HubIdentity:
    """One for all tests: making it is slow."""
    return HubIdentity.create(NOW)


def free_block(count: int = 2) -> PortBlock:
    """Ports nobody listens on, away from those that a roster gives out first."""
    busy = busy_ports()
    return PortBlock(next(p for p in range(25000, 32000, count) if not busy & set(range(p, p + count))), count)


def machine(number: int) -> Machine:
    """One of ten that share their loopback with no other."""
    return Machine(f"machine {number}", _FIRST_SUBNET + number)


class Log:
    """What an application was told, in order, as tuples that begin with the call's name."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self._changed = asyncio.Event()

    def add(self, *event: Any) -> None:
        """Note a call."""
        self.events.append(event)
        self._changed.set()

    def count(self, *start: Any) -> int:
        """How many calls began like this so far."""
        return sum(event[: len(start)] == start for event in self.events)

    async def saw(self, *start: Any, times: int = 1) -> tuple[Any, ...]:
        """Wait until that many calls began like this, and give the last of them."""
        async with asyncio.timeout(PATIENCE_S):
            while self.count(*start) < times:
                self._changed.clear()
                await self._changed.wait()
        return [event for event in self.events if event[: len(start)] == start][times - 1]


class HubLog(Log):
    """A hub's application that lets everybody in and notes what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.refusal: Exception | None = None  # what `admit` raises
        self.complaint: Exception | None = None  # what `message` raises

    def admit(self, application: Mapping[str, Any]) -> Mapping[str, Any]:
        """Let in, or not."""
        if self.refusal is not None:
            raise self.refusal
        return {"seen": dict(application)}

    def node_joined(self, node: Node, application: Mapping[str, Any]) -> None:
        """Note it."""
        self.add("joined", node.name)

    def node_ready(self, node: Node) -> None:
        """Note it."""
        self.add("ready", node.name)

    def node_left(self, node: Node, reason: str) -> None:
        """Note it."""
        self.add("left", node.name, reason)

    def message(self, node: Node, body: Mapping[str, Any]) -> None:
        """Note it, and complain if so told."""
        self.add("message", node.name, dict(body))
        if self.complaint is not None:
            raise self.complaint


class AgentLog(Log):
    """An agent's application that notes what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.complaint: Exception | None = None  # what `message` raises

    def joined(self, welcome: Welcome) -> None:
        """Note it."""
        self.add("joined", welcome.node.name, welcome)

    def ready(self) -> None:
        """Note it."""
        self.add("ready")

    def message(self, body: Mapping[str, Any]) -> None:
        """Note it, and complain if so told."""
        self.add("message", dict(body))
        if self.complaint is not None:
            raise self.complaint

    def link(self, up: bool, reason: str) -> None:
        """Note it."""
        self.add("up" if up else "down", reason)

    async def left(self, reason: str) -> None:
        """Note it."""
        self.add("left", reason)


@dataclass(slots=True)
class Member:
    """An agent of a mesh that runs."""

    agent: Agent
    log: AgentLog
    machine: Machine
    running: asyncio.Task[str]

    @property
    def node(self) -> Node:
        """Who it is now."""
        assert self.agent.node is not None
        return self.agent.node

    async def leave(self) -> str:
        """Say goodbye; why it ended."""
        self.agent.leave()
        return await self.running


@dataclass(slots=True)
class Mesh:
    """A hub on a unix socket, and whoever joins. `via` is what agents dial when it is not the hub itself."""

    folder: Path
    grace_s: float = 120.0
    identity: HubIdentity = field(default_factory=identity)
    via: Path | None = None
    log: HubLog = field(default_factory=HubLog)
    machine: Machine = field(default_factory=lambda: machine(0))
    services: Mapping[int, Path] = field(default_factory=dict)
    hub: Hub = field(init=False)
    members: list[Member] = field(default_factory=list)
    _servers: list[asyncio.Server] = field(default_factory=list)

    @property
    def path(self) -> Path:
        """The hub's socket."""
        return self.folder / "hub.sock"

    @property
    def address(self) -> JoinAddress:
        """What agents are given."""
        return JoinAddress(unix_url(str(self.via or self.path)), self.identity.pin, self.identity.secret)

    async def start(self) -> None:
        """Start the hub, or another one in its place."""
        options: dict[str, Any] = {
            "ports": 8,
            "grace_s": self.grace_s,
            "machine": self.machine,
            "services": self.services,
        }
        self.hub = Hub(self.identity, self.log, **options)
        await self.hub.start(UnixListen(self.path))

    def begin(self, where: Machine | None = None, *, log: AgentLog | None = None, **options: Any) -> Member:
        """An agent that is about to join; on a machine of its own unless told."""
        where = where or machine(len(self.members) + 1)
        log = log or AgentLog()
        options = {"ports": 8, **options}
        agent = Agent(options.pop("address", self.address), log, machine=where, **options)
        member = Member(agent, log, where, asyncio.get_running_loop().create_task(agent.run()))
        self.members.append(member)
        return member

    async def join(self, where: Machine | None = None, **options: Any) -> Member:
        """An agent that has joined and is ready."""
        member = self.begin(where, **options)
        await member.log.saw("ready")
        return member

    def peer(self, member: Member) -> Peer:
        """A member as the hub knows it."""
        return next(peer for peer in self.hub.peers if peer.node == member.node)

    async def serve(self, member: Member | None, serve: Serve, at: int = 0) -> tuple[NodeId, int]:
        """A service on a member (None: the hub) at a port of its block; the node and port it has for everyone else."""
        node = self.hub.node if member is None else member.node
        where = self.machine if member is None else member.machine
        port = node.block.first + at
        self._servers.append(await asyncio.start_server(serve, where.address_of(node.id), port))
        return node.id, port

    async def dial(self, member: Member | None, target: tuple[int, int]) -> Streams:
        """Connect to a node's port as a program on a member (None: on the hub's machine) does."""
        where = self.machine if member is None else member.machine
        return await asyncio.open_connection(where.address_of(target[0]), target[1])

    async def echoes(self, member: Member | None, target: tuple[int, int]) -> None:
        """Send 300,000 random bytes from a member to an `echo`, and get them back."""
        reader, writer = await self.dial(member, target)
        data = random.Random(7).randbytes(300_000)
        writer.write(data)
        writer.write_eof()
        assert hashlib.sha256(await reader.read()).digest() == hashlib.sha256(data).digest()
        writer.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self.members:
            member.agent.leave()
        results = await asyncio.gather(*(member.running for member in self.members), return_exceptions=True)
        await self.hub.close("the test is over", final=True)
        for server in self._servers:
            server.close()
        if error is None:
            ended = [result for result in results if not isinstance(result, str | Exception)]
            assert not ended, f"agents that did not end in order: {ended}"


@contextlib.asynccontextmanager
async def behind_an_edge(tmp_path: Path, **options: Any) -> AsyncIterator[tuple[Mesh, Edge]]:
    """A mesh whose agents come through an edge, which obeys the test."""
    via = tmp_path / "edge.sock"
    async with (
        nothing_left(),
        Edge(f"unix:{via}", f"unix:{tmp_path / 'hub.sock'}") as edge,
        Mesh(tmp_path, via=via, **options) as mesh,
    ):
        try:
            yield mesh, edge
        finally:
            edge.blackhole(False)
            edge.refuse(False)
