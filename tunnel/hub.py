"""The hub: accepts WebSockets, keeps the links, switches streams between nodes, and is node 1 itself.

The driver around `Roster`, `Router` and one `Link` per agent; `gate` decides who gets in. An application (raycolab's
head, or the command line) hears what happens through `HubApplication` and talks to agents with `message`.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tunnel.errors import LinkLost, ListenFailed, Refused, RemoteProtocolError
from tunnel.frames import ResetCode
from tunnel.gate import Gate, Visitor
from tunnel.link import Event, Link, MessageReceived, RosterReceived
from tunnel.listen import Listen
from tunnel.machine import Machine, busy_ports, keep_freed_memory, raise_file_limit
from tunnel.messages import Hello, LinkOver, NodePorts, Orders, Ready, Resume, Taken, Welcome, roster_of_agent
from tunnel.nodes import HUB, Node, NodeId, Roster
from tunnel.router import Endpoint, Router
from tunnel.secure import HubIdentity
from tunnel.sockets import LocalEndpoint
from tunnel.stream import StreamEvent, StreamOpened
from tunnel.transport import Carrier, Traffic, Wake, carry

__all__ = ["GRACE_S", "Hub", "HubApplication", "Peer"]

GRACE_S = 120.0
GRACE_MARGIN = 1.05  # times the grace period is how long the hub waits, for the sake of the agent's last attempt
MAX_DISMISSED = 1000  # links ended for good whose agents may have been away and are told when they come back
PARTING_S = 2.0  # how long a node that is sent away may take to close its WebSocket

log = logging.getLogger("tunnel.hub")


class HubApplication(Protocol):
    """What the program around a hub is asked and told; all calls are on the hub's event loop and return at once.

    What an agent's application says may have any form: `admit` raises Refused and `message` RemoteProtocolError for
    what they cannot use, and only that agent's link ends. Nothing else may be raised.
    """

    def admit(self, application: Mapping[str, Any]) -> Mapping[str, Any]:
        """Look at a newcomer's object and return ours; raises Refused to turn the newcomer away."""

    def node_joined(self, node: Node, application: Mapping[str, Any]) -> None:
        """A node has a number and ports, but not everyone listens for it yet. `application` is what `admit` saw."""

    def node_ready(self, node: Node) -> None:
        """Every node can reach this one and it can reach every node."""

    def node_left(self, node: Node, reason: str) -> None:
        """A node is gone for good."""

    def message(self, node: Node, body: Mapping[str, Any]) -> None:
        """An agent's application sent this."""


@dataclass(slots=True, eq=False)
class Peer:
    """An agent as the hub knows it."""

    node: Node
    link: Link
    link_id: str
    instance: str
    namespace: str
    wake: Wake = field(default_factory=Wake)
    carrier: Carrier | None = None  # None while the agent is away
    carrying: asyncio.Task[str] | None = None  # the latest one, which may have ended; None before the first
    visitor: Visitor | None = None  # the latest WebSocket that came to carry this link
    ready: bool = False
    ordered: set[NodeId] = field(default_factory=set)  # nodes it was told to listen for
    expiry: asyncio.TimerHandle | None = None
    over: LinkOver | None = None  # the agent said goodbye
    past: Traffic = field(default_factory=Traffic)  # of the carriers that ended

    @property
    def traffic(self) -> Traffic:
        """Bytes of this agent's WebSockets since it joined, as the hub sees them."""
        return self.past if self.carrier is None else self.past + self.carrier.meter.traffic


class Hub:
    """Node 1 and the switch in the middle.

    `services` are unix sockets of this machine that every node reaches as ports of node 1, outside every block.
    """

    def __init__(
        self,
        identity: HubIdentity,
        application: HubApplication,
        *,
        ports: int,
        name: str = "hub",
        prefix: str = "node",
        grace_s: float = GRACE_S,
        machine: Machine | None = None,
        services: Mapping[int, Path] | None = None,
    ) -> None:
        machine = machine or Machine.here()
        self.incarnation = secrets.token_hex(8)
        self._identity = identity
        self._application = application
        self._grace_s = grace_s
        self._roster = Roster(prefix=prefix)
        self._router = Router(self._route)
        self._local = LocalEndpoint(self._from_sockets, machine.address_of, services)
        self._peers: dict[NodeId, Peer] = {}
        self._owners: dict[Endpoint, Peer] = {}  # of the peers' links
        self._gate = Gate(identity, self._welcome)
        self._dismissed: dict[str, str] = {}  # link id and reason, oldest first
        self._closing = False
        self._orders: asyncio.Queue[tuple[list[Node], list[NodeId]]] = asyncio.Queue()
        self._following: asyncio.Task[None] | None = None
        self.node = self._roster.join(name=name, ports=ports, namespace=machine.namespace, busy=busy_ports())
        self._local.become(self.node)
        self._roster.newly_ready()

    # For the application.

    @property
    def peers(self) -> list[Peer]:
        """The agents, in order of joining."""
        return list(self._peers.values())

    @property
    def traffic(self) -> Traffic:
        """Bytes of all WebSockets so far: of present and former nodes, and of strangers."""
        return self._gate.traffic

    async def start(self, listen: Listen) -> Listen:
        """Accept agents at `listen`; returns the address bound. PortTaken when it is in use, else OSError."""
        raise_file_limit()
        keep_freed_memory()
        bound = await self._gate.open(listen)
        self._following = asyncio.create_task(self._follow_orders())
        return bound

    def message(self, node_id: NodeId, body: Mapping[str, Any]) -> None:
        """Send an object to a node's application; nothing happens when the node is gone."""
        peer = self._peers.get(node_id)
        if peer is not None:
            peer.link.message(body)
            peer.wake.set()

    async def probe(self, node_id: NodeId, port: int, timeout_s: float = 10.0) -> ResetCode | None:
        """Dial a node's port from here, through the mesh; None when it accepted, else why not."""
        return await self._local.probe(node_id, port, timeout_s)

    async def remove(self, node_id: NodeId, reason: str) -> None:
        """Send a node away for good."""
        peer = self._peers.get(node_id)
        if peer is not None:
            await self._part(peer, reason, final=True)

    async def close(self, reason: str, *, final: bool) -> None:
        """Stop; `final` tells the agents that the hub does not come back."""
        self._closing = True
        await asyncio.gather(*(self._part(peer, reason, final=final) for peer in self.peers))
        await self._gate.close()
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        await self._local.close()

    # Links.

    async def _welcome(self, visitor: Visitor) -> None:
        """A visitor proved the secret: carry on its link or begin one, until its WebSocket ends."""
        if self._closing:
            return
        hello = visitor.hello
        ours = self._application.admit(hello.application)
        peer = self._admit(hello) if hello.resume is None else await self._take_back(hello.resume, hello.instance)
        peer.visitor = visitor
        try:
            await visitor.answer(self._welcome_to(peer, ours))
            if self._peers.get(peer.node.id) is not peer or peer.visitor is not visitor:
                return  # the grace period ended, or the agent came again, while the answer was on its way
            if hello.resume is not None:
                self._act(peer, peer.link.resume(hello.resume.received, time.monotonic()))
            self._carry(peer, visitor.carrier)
        except RemoteProtocolError as error:
            peer.link.lost = str(error)
            raise
        finally:
            if peer.visitor is visitor:  # does nothing when the visitor carries the link
                self._outage(peer, "it went away during the handshake")
        if peer.carrying is not None:
            await asyncio.wait({peer.carrying})

    def _welcome_to(self, peer: Peer, application: Mapping[str, Any]) -> Welcome:
        return Welcome(
            link=peer.link_id,
            node_id=peer.node.id,
            name=peer.node.name,
            first=peer.node.block.first,
            count=peer.node.block.count,
            incarnation=self.incarnation,
            grace_s=self._grace_s,
            received=peer.link.received_count,
            application=dict(application),
        )

    def _admit(self, hello: Hello) -> Peer:
        for peer in self.peers:
            if peer.instance == hello.instance:  # it never heard that it was let in, or gave that link up
                self._forget(peer, "it joined again")
            elif peer.carrier is None and peer.namespace == hello.namespace and self._is_dead(peer, hello):
                self._forget(peer, "its process has ended")  # not after its grace: the newcomer listens in its place
        node = self._roster.join(name=hello.name, ports=hello.ports, namespace=hello.namespace, busy=hello.busy)
        link = Link(initiator=False, now=time.monotonic(), names_sources=hello.sources)
        peer = Peer(node, link, secrets.token_hex(16), hello.instance, hello.namespace)
        self._peers[node.id] = self._owners[link] = peer
        log.info("%s joined as node %d", node.name, node.id)
        self._application.node_joined(node, hello.application)
        self._reorder()
        return peer

    def _is_dead(self, peer: Peer, neighbour: Hello) -> bool:
        """Whether a peer that is away has ended: a newcomer in its namespace sees that nobody holds its listeners."""
        ports = self._roster.listened_ports(peer.node.id)
        return bool(ports) and ports.isdisjoint(neighbour.busy)

    async def _take_back(self, resume: Resume, instance: str) -> Peer:
        """The peer whose link this is, freed from the WebSocket it had."""
        if resume.link in self._dismissed:
            raise Refused("dismissed", self._dismissed.pop(resume.link))
        for peer in self.peers:
            if not secrets.compare_digest(peer.link_id.encode(), resume.link.encode()) or peer.instance != instance:
                continue
            while peer.carrying is not None and not peer.carrying.done():
                peer.carrying.cancel()
                await asyncio.wait({peer.carrying})
            if self._peers.get(peer.node.id) is peer and peer.link.lost is None and peer.over is None:
                log.info("%s is back", peer.node.name)
                return peer
        raise Refused("unknown-link", "This link is gone: the hub was restarted, or the grace period is over.")

    def _carry(self, peer: Peer, carrier: Carrier) -> None:
        if peer.expiry is not None:
            peer.expiry.cancel()
            peer.expiry = None
        peer.carrier = carrier
        peer.carrying = asyncio.create_task(carry(peer.link, carrier, peer.wake, lambda e: self._act(peer, e)))
        peer.carrying.add_done_callback(lambda task: self._carried(peer, carrier, task))

    def _carried(self, peer: Peer, carrier: Carrier, task: asyncio.Task[str]) -> None:
        """A WebSocket of a peer ended."""
        if task.cancelled():
            reason = "another WebSocket took over"
        elif (error := task.exception()) is not None:
            if not isinstance(error, RemoteProtocolError | LinkLost):
                log.error("%s: a bug", peer.node.name, exc_info=error)
            peer.link.lost = reason = peer.link.lost or str(error)
        else:
            reason = task.result()
        if peer.carrier is carrier:
            peer.past = peer.traffic
            peer.carrier = None
            self._outage(peer, reason)

    def _outage(self, peer: Peer, reason: str) -> None:
        """A peer has no WebSocket: it has the grace period to come back, unless it left on purpose."""
        if self._peers.get(peer.node.id) is not peer or peer.carrier is not None:
            return
        if peer.over is not None or peer.link.lost is not None or peer.carrying is None:
            self._forget(peer, peer.over.reason if peer.over is not None else peer.link.lost or reason)
        elif peer.expiry is None:
            log.info("%s is away: %s", peer.node.name, reason)
            text = f"it was away for {self._grace_s:.0f} s"
            peer.expiry = asyncio.get_running_loop().call_later(self._grace_s * GRACE_MARGIN, self._forget, peer, text)

    def _forget(self, peer: Peer, reason: str) -> None:
        """A node is gone for good: reset its streams and tell everybody."""
        if self._peers.get(peer.node.id) is not peer:
            return
        del self._peers[peer.node.id], self._owners[peer.link]
        if peer.expiry is not None:
            peer.expiry.cancel()
        if peer.carrying is not None:
            peer.carrying.cancel()
        log.info("%s left: %s", peer.node.name, reason)
        self._roster.leave(peer.node.id)
        for endpoint in self._router.remove(peer.link):
            self._wake(endpoint)
        self._application.node_left(peer.node, reason)
        self._reorder()

    async def _part(self, peer: Peer, reason: str, *, final: bool) -> None:
        peer.over = LinkOver(reason, final)
        peer.link.goodbye(peer.over)
        peer.wake.set()
        if final:
            self._dismissed[peer.link_id] = reason
            while len(self._dismissed) > MAX_DISMISSED:
                del self._dismissed[next(iter(self._dismissed))]
        if peer.carrying is not None:
            await asyncio.wait({peer.carrying}, timeout=PARTING_S)
            peer.carrying.cancel()
            await asyncio.wait({peer.carrying})
        self._forget(peer, reason)

    # Streams.

    def _route(self, entry: Endpoint, node: int, port: int) -> Endpoint | None:
        if node == HUB:
            return None if entry is self._local else self._local
        peer = self._peers.get(NodeId(node))
        return None if peer is None or peer.link is entry else peer.link

    def _from_sockets(self, event: StreamEvent) -> None:
        self._wake(self._router.receive(self._local, event))

    def _act(self, peer: Peer, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, RosterReceived):
                self._on_roster(peer, event.body)
            elif isinstance(event, MessageReceived):
                self._application.message(peer.node, event.body)
            elif isinstance(event, LinkOver):
                peer.over = event
            else:
                if isinstance(event, StreamOpened):
                    event = event._replace(source=peer.node.id)
                self._wake(self._router.receive(peer.link, event))

    def _wake(self, endpoint: Endpoint | None) -> None:
        peer = None if endpoint is None else self._owners.get(endpoint)
        if peer is not None:
            peer.wake.set()

    # The roster.

    def _on_roster(self, peer: Peer, body: Mapping[str, Any]) -> None:
        answer = roster_of_agent(body)
        if isinstance(answer, Taken):
            node_id, port = answer.taken.node, answer.taken.port
            if node_id in peer.ordered:
                why = f"port {port} is in use by another program where {peer.node.name} runs"
                self._unreachable(node_id, peer, why)
        else:
            for node_id in answer.listening:
                self._roster.listening(peer.node.id, node_id)
        self._announce_ready()

    def _unreachable(self, node_id: NodeId, listener: Peer | None, why: str) -> None:
        """A peer (None: the hub) cannot listen for a node: the one of them that is not ready cannot join."""
        newcomer = self._peers.get(node_id)
        if newcomer is None or newcomer.ready:
            newcomer = listener
        if newcomer is not None and newcomer.over is None:
            reason = f"{newcomer.node.name} cannot join: {why}; end that program, then join again"
            newcomer.over = LinkOver(reason, final=True, refused=not newcomer.ready)
            newcomer.link.goodbye(newcomer.over)
            newcomer.wake.set()
            newcomer.expiry = asyncio.get_running_loop().call_later(PARTING_S, self._forget, newcomer, reason)

    def _reorder(self) -> None:
        """Tell everybody for whom to listen from now on."""
        for node_id, start, stop in self._roster.orders():
            if node_id == HUB:
                self._orders.put_nowait((start, stop))
                continue
            peer = self._peers[node_id]
            peer.ordered = peer.ordered.difference(stop).union(node.id for node in start)
            peer.link.roster(Orders(tuple(map(NodePorts.of, start)), tuple(stop)).to_json())
            peer.wake.set()
        self._announce_ready()

    def _announce_ready(self) -> None:
        for node in self._roster.newly_ready():
            peer = self._peers.get(node.id)
            if peer is not None:
                peer.ready = True
                peer.link.roster(Ready().to_json())
                peer.wake.set()
                self._application.node_ready(node)

    async def _follow_orders(self) -> None:
        """Listen here for other nodes, one order after the other."""
        while True:
            start, stop = await self._orders.get()
            for node_id in stop:
                self._local.unlisten(node_id)
            for node in start:
                try:
                    await self._local.listen(node.id, node.block)
                    self._roster.listening(HUB, node.id)
                except ListenFailed as error:
                    self._unreachable(node.id, None, f"port {error.port} is {error.reason} where the hub runs")
            self._announce_ready()
