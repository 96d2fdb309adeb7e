"""The agent: one node's end of its link. It dials the hub, keeps the link through outages, and relays.

`run` goes on until the hub sends the node away, or gives up. In between the node may be lost and join anew under
another number: the application hears `left`, then `joined` again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Mapping
from typing import Any, Protocol

from tunnel.address import JoinAddress
from tunnel.backoff import Backoff
from tunnel.dial import Transient, dial
from tunnel.errors import HubUnreachable, PinMismatch, PortTaken, Refused, RemoteProtocolError, TunnelError
from tunnel.events import Event, LinkOver, MessageReceived, RosterReceived
from tunnel.frames import ResetCode
from tunnel.handshake import Hello, Resume, Welcome
from tunnel.link import Link
from tunnel.machine import busy_ports, namespace_id, raise_file_limit
from tunnel.nodes import Node, NodeId, PortBlock
from tunnel.router import Port, Router, StreamEvent
from tunnel.sockets import LocalPort
from tunnel.transport import Carrier, Wake, carry

__all__ = ["GIVE_UP_S", "REACH_S", "Agent", "AgentApplication"]

REACH_S = 60.0  # the first time, a hub that is not reached for so long is not there
GIVE_UP_S = 1800.0

log = logging.getLogger("tunnel.agent")


class AgentApplication(Protocol):
    """What the program around an agent is told; all calls are on the agent's event loop and return at once."""

    def joined(self, welcome: Welcome) -> None:
        """This machine is a node now; others may not reach it yet."""

    def ready(self) -> None:
        """Every node can reach this one and this one every node."""

    def message(self, body: Mapping[str, Any]) -> None:
        """The hub's application sent this."""

    def link(self, up: bool, reason: str) -> None:
        """The WebSocket came or went; the node is still a node."""

    def left(self, reason: str) -> None:
        """The node is lost for good; the agent tries to join anew unless `run` ends."""


class Agent:
    """One node of a hub's mesh."""

    def __init__(
        self,
        address: JoinAddress,
        application: AgentApplication,
        *,
        ports: int,
        name: str | None = None,
        hello: Mapping[str, Any] | None = None,
        reach_s: float = REACH_S,
        give_up_s: float = GIVE_UP_S,
    ) -> None:
        self.node: Node | None = None
        self._address = address
        self._application = application
        self._ports = ports
        self._name = name
        self._hello = dict(hello or {})
        self._reach_s = reach_s
        self._give_up_s = give_up_s
        self._instance = secrets.token_hex(8)
        self._namespace = namespace_id()
        self._backoff = Backoff(0.2, 10.0)
        self._local = LocalPort(self._from_sockets)
        self._router = Router(self._route)
        self._link: Link | None = None
        self._wake = Wake()
        self._over: LinkOver | None = None
        self._is_ready = False
        self._orders: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        self._leaving = asyncio.Event()

    # For the application.

    @property
    def round_trip_s(self) -> float | None:
        """Seconds to the hub and back, None before it was measured."""
        return None if self._link is None else self._link.round_trip_s

    def message(self, body: Mapping[str, Any]) -> None:
        """Send an object to the hub's application; nothing happens while there is no link."""
        if self._link is not None:
            self._link.message(body)
            self._wake.set()

    async def probe(self, node_id: int, port: int, timeout_s: float = 10.0) -> ResetCode | None:
        """Dial another node's port from here, through the mesh; None when it accepted."""
        return await self._local.probe(node_id, port, timeout_s)

    def leave(self) -> None:
        """Say goodbye; `run` returns soon."""
        self._leaving.set()

    async def run(self) -> str:
        """Be a node until the hub sends us away or we leave; returns the reason.

        Raises Refused, PinMismatch, HubUnreachable (nothing reached, or given up), PortTaken.
        """
        raise_file_limit()
        patience_s = self._reach_s
        try:
            while True:
                welcome, carrier = await self._reach(None, patience_s)
                patience_s = self._give_up_s
                over = await self._live(welcome, carrier)
                if over.final:
                    return over.reason
        finally:
            await self._local.close()

    # One life as a node.

    async def _live(self, welcome: Welcome, carrier: Carrier) -> LinkOver:
        """Be the node that `welcome` says, through any number of WebSockets."""
        self.node = welcome.node
        self._name = welcome.node.name
        self._link = Link(initiator=True, now=time.monotonic())
        self._over = None
        self._is_ready = False
        self._orders = asyncio.Queue()
        self._local.become(welcome.node)
        self._application.joined(welcome)
        following = asyncio.create_task(self._follow_orders(self._link))
        try:
            over = await self._keep(self._link, welcome, carrier, following)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            self._router.remove(self._link)
            await self._local.close()
            self._link = None
        self._application.left(over.reason)
        return over

    async def _keep(self, link: Link, welcome: Welcome, carrier: Carrier, following: asyncio.Task[None]) -> LinkOver:
        while True:
            over = await self._carry(link, carrier, following)
            if over is not None:
                return over
            try:
                resume = Resume(welcome.link, link.received_count)
                resumed, carrier = await self._reach(resume, welcome.grace_s)
            except (Refused, HubUnreachable) as error:
                if isinstance(error, Refused) and error.code != "unknown-link":
                    raise
                return LinkOver(str(error), final=False)
            self._act(link.resume(resumed.received, time.monotonic()))
            self._application.link(True, "")

    async def _carry(self, link: Link, carrier: Carrier, following: asyncio.Task[None]) -> LinkOver | None:
        """Use one WebSocket until it ends; the LinkOver when the link ended with it."""
        carrying = asyncio.create_task(carry(link, carrier, self._wake, self._act))
        leaving = asyncio.create_task(self._leaving.wait())
        try:
            await asyncio.wait({carrying, leaving, following}, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                following.result()  # raises PortTaken
            if leaving.done() and not carrying.done():
                link.goodbye("it left", final=True)
                self._wake.set()
                await asyncio.wait({carrying}, timeout=1.0)
                return LinkOver("it left", final=True)
            reason = carrying.result()
        except TunnelError as error:
            if isinstance(error, PortTaken):
                raise
            return LinkOver(str(error), final=False)
        finally:
            for task in (carrying, leaving):
                task.cancel()
            await asyncio.gather(carrying, leaving, return_exceptions=True)
            await carrier.close()
        if self._over is not None:
            return self._over
        log.info("the link is down: %s", reason)
        self._application.link(False, reason)
        return None

    async def _reach(self, resume: Resume | None, patience_s: float) -> tuple[Welcome, Carrier]:
        """Dial until the hub answers; HubUnreachable when it did not within `patience_s`."""
        deadline = time.monotonic() + patience_s
        hello = Hello(
            proof=b"",
            instance=self._instance,
            name=self._name,
            ports=self._ports,
            namespace=self._namespace,
            busy=tuple(sorted(busy_ports())),
            resume=resume,
            application=self._hello,
        )
        while True:
            try:
                reached = await dial(self._address, hello, max(deadline - time.monotonic(), 1.0))
                self._backoff.reset()
                return reached
            except (Transient, PinMismatch) as error:
                if isinstance(error, PinMismatch) and self.node is None:
                    raise
                why = str(error)
            delay_s = self._backoff.next(random.random())
            if time.monotonic() + delay_s > deadline:
                raise HubUnreachable(self._address.url, why)
            await asyncio.sleep(delay_s)

    # Streams.

    def _route(self, entry: Port, node: int, port: int) -> Port | None:
        return self._link if entry is self._local else self._local

    def _from_sockets(self, event: StreamEvent) -> None:
        self._router.receive(self._local, event)
        self._wake.set()

    def _act(self, events: list[Event]) -> None:
        assert self._link is not None
        for event in events:
            if isinstance(event, RosterReceived):
                self._on_roster(event.body)
            elif isinstance(event, MessageReceived):
                self._application.message(event.body)
            elif isinstance(event, LinkOver):
                self._over = event
            else:
                self._router.receive(self._link, event)
        self._wake.set()

    # The roster.

    def _on_roster(self, body: Mapping[str, Any]) -> None:
        if body.get("ready") is True:
            self._is_ready = True
            self._application.ready()
        else:
            self._orders.put_nowait(body)

    async def _follow_orders(self, link: Link) -> None:
        """Listen as the hub says, one order after the other; PortTaken when that cannot be from the start."""
        while True:
            body = await self._orders.get()
            for node_id in body.get("unlisten", ()):
                self._local.unlisten(NodeId(node_id))
            listening = []
            for order in body.get("listen", ()):
                try:
                    node_id, first, count = NodeId(order["node"]), int(order["first"]), int(order["count"])
                except (KeyError, TypeError, ValueError) as error:
                    raise RemoteProtocolError("an order to listen that cannot be read") from error
                try:
                    await self._local.listen(node_id, PortBlock(first, count))
                    listening.append(node_id)
                except PortTaken as error:
                    if not self._is_ready:
                        raise
                    link.roster({"taken": {"node": node_id, "port": error.port}})
            link.roster({"listening": listening})
            self._wake.set()
