"""The agent: one node's end of its link. It dials the hub, keeps the link through outages, and relays.

`run` goes on until the hub sends the node away or cannot be reached any more. In between the node may be lost and join
again under another number: the application hears `left`, then `joined`.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from tunnel.address import JoinAddress
from tunnel.dial import Backoff, Transient, dial
from tunnel.errors import HubUnreachable, LinkLost, ListenFailed, PinMismatch, Refused, RemoteProtocolError
from tunnel.frames import ResetCode
from tunnel.link import Event, Link, MessageReceived, RosterReceived
from tunnel.machine import Machine, busy_ports, keep_freed_memory, raise_file_limit
from tunnel.messages import (
    MAX_BUSY,
    Hello,
    LinkOver,
    Listening,
    NodePort,
    Orders,
    Ready,
    Resume,
    Taken,
    Welcome,
    roster_of_hub,
)
from tunnel.nodes import Node, NodeId, PortBlock
from tunnel.router import Endpoint, Router
from tunnel.sockets import LocalEndpoint
from tunnel.stream import StreamEvent
from tunnel.transport import Carrier, Wake, carry

__all__ = ["GIVE_UP_S", "REACH_S", "Agent", "AgentApplication"]

REACH_S = 60.0  # how long to try to reach the hub the first time
GIVE_UP_S = 1800.0  # how long to try to join again after the node was lost
FIRST_PAUSE_S = 0.2  # before another attempt to reach the hub; it doubles
LONGEST_PAUSE_S = 10.0
LEFT = "it left"
PARTING_S = 1.0  # how long the hub may take to close the WebSocket after our goodbye
STEADY_S = 1.0  # after a WebSocket that lasted this long the next one is dialed at once
HAND_OVER_S = 2.0  # how long another agent on this machine may take to stop listening when we take over from it

log = logging.getLogger("tunnel.agent")


class AgentApplication(Protocol):
    """What the program around an agent is told, on the agent's event loop; all calls but `left` return at once.

    What the hub's application says may have any form: `message` raises RemoteProtocolError for what it cannot use, and
    this life as a node ends. Nothing else may be raised.
    """

    def joined(self, welcome: Welcome) -> None:
        """This machine is a node now; others may not reach it yet."""

    def ready(self) -> None:
        """Every node can reach this one, and this one can reach every node."""

    def message(self, body: Mapping[str, Any]) -> None:
        """The hub's application sent this."""

    def link(self, up: bool, reason: str) -> None:
        """The WebSocket came or went; the node is still a node."""

    async def left(self, reason: str) -> None:
        """The node is lost for good; the agent tries to join again once this returns, unless `run` ends."""


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
        machine: Machine | None = None,
        turned_away: Callable[[Mapping[str, str]], None] | None = None,
    ) -> None:
        machine = machine or Machine.here()
        # Called with the headers of each HTTP response that comes in the hub's place, from whatever stands before it.
        self._turned_away = turned_away
        # The node that we are, or were last; None before we first join.
        self.node: Node | None = None
        self._address = address
        self._application = application
        self._ports = ports
        self._name = name
        self._hello = dict(hello or {})
        self._reach_s = reach_s
        self._give_up_s = give_up_s
        self._instance = secrets.token_hex(8)
        self._namespace = machine.namespace
        self._backoff = Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        self._pause = False  # whether the last WebSocket ended too soon to dial the next at once
        self._local = LocalEndpoint(self._from_sockets, machine.address_of)
        self._router = Router(self._route)
        self._link: Link | None = None
        self._wake = Wake()
        self._over: LinkOver | None = None
        self._is_ready = False
        self._orders: asyncio.Queue[Orders] = asyncio.Queue()
        self._leaving = asyncio.Event()
        self._reaching: asyncio.Timeout | None = None  # while no WebSocket is up

    # For the application.

    def message(self, body: Mapping[str, Any]) -> None:
        """Send an object to the hub's application; nothing happens while there is no link."""
        if self._link is not None:
            self._link.message(body)
            self._wake.set()

    async def probe(self, node_id: int, port: int, timeout_s: float = 10.0) -> ResetCode | None:
        """Dial another node's port from here, through the mesh; None when it accepted, else why not."""
        return await self._local.probe(node_id, port, timeout_s)

    async def listen_unix(self, path: Path, *, node: int, port: int) -> None:
        """Accept connections at `path`, a unix socket of mode 0600, and relay each to `node`:`port`, until `run` ends.

        The socket stays while this node is lost and joins again; without a link each connection is closed at once.
        Raises ListenFailed when this machine cannot listen at the path.
        """
        await self._local.listen_unix(path, node, port)

    def leave(self) -> None:
        """Say goodbye; `run` returns within PARTING_S. Without a WebSocket the hub only learns it after the grace."""
        if not self._leaving.is_set():
            self._leaving.set()
            if self._reaching is not None:
                self._reaching.reschedule(0)  # long ago: now

    async def run(self) -> str:
        """Be a node until the hub sends us away or we leave; returns the reason.

        Raises Refused, PinMismatch, HubUnreachable (nothing reached, or given up), ListenFailed.
        """
        raise_file_limit()
        keep_freed_memory()
        patience_s = self._reach_s
        try:
            while True:
                reached = await self._reach(None, patience_s)
                if reached is None:
                    return LEFT
                patience_s = self._give_up_s
                over = await self._live(*reached)
                if over.final and over.refused:
                    raise Refused("unreachable", over.reason)
                if over.final:
                    return over.reason
        finally:
            await self._local.close()

    # One life as a node.

    async def _live(self, welcome: Welcome, carrier: Carrier) -> LinkOver:
        """Be the node that `welcome` says, through any number of WebSockets."""
        self.node = welcome.node
        self._name = welcome.node.name
        self._link = link = Link(initiator=True, now=time.monotonic())
        self._over = None
        self._is_ready = False
        self._orders = asyncio.Queue()
        self._local.become(welcome.node)
        following = asyncio.create_task(self._follow_orders(link))
        try:
            self._application.joined(welcome)
            over = await self._keep(link, welcome, carrier, following)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            self._router.remove(link)
            self._link = None  # from here on unix sockets lead nowhere
            await self._local.leave()
        log.info("%s is no longer a node: %s", welcome.node.name, over.reason)
        await self._application.left(over.reason)
        return over

    async def _keep(self, link: Link, welcome: Welcome, carrier: Carrier, following: asyncio.Task[None]) -> LinkOver:
        received = None  # how many of our frames the hub has, when it resumes the link
        while True:
            over = await self._carry(link, carrier, received, following)
            if over is not None:
                return over
            try:
                reached = await self._reach(Resume(welcome.link, link.received_count), welcome.grace_s)
            except (Refused, HubUnreachable) as error:
                if isinstance(error, Refused) and error.code not in ("unknown-link", "dismissed"):
                    raise
                return LinkOver(str(error), final=isinstance(error, Refused) and error.code == "dismissed")
            if reached is None:
                return LinkOver(LEFT, final=True)
            resumed, carrier = reached
            received = resumed.received

    async def _carry(
        self, link: Link, carrier: Carrier, received: int | None, following: asyncio.Task[None]
    ) -> LinkOver | None:
        """Use one WebSocket until it ends; returns the LinkOver when the link ended with it."""
        began = time.monotonic()
        try:
            if received is not None:
                self._act(link.resume(received, began))
                self._application.link(True, "")
            reason = await self._use(link, carrier, following)
        except (RemoteProtocolError, LinkLost) as error:
            return LinkOver(str(error), final=False)
        except ListenFailed:
            raise
        except Exception as error:  # a bug, ours or the application's, ends this life as a node, not the process
            log.exception("a bug")
            return LinkOver(f"a bug at this node ({type(error).__name__})", final=False)
        finally:
            self._pause = time.monotonic() - began < STEADY_S
            await carrier.close()
        if self._over is None:
            log.info("the link is down: %s", reason)
            self._application.link(False, reason)
        return self._over

    async def _use(self, link: Link, carrier: Carrier, following: asyncio.Task[None]) -> str:
        """Carry the link until the WebSocket ends, or we have said goodbye; returns why. ListenFailed is a goodbye."""
        carrying = asyncio.create_task(carry(link, carrier, self._wake, self._act))
        leaving = asyncio.create_task(self._leaving.wait())
        try:
            await asyncio.wait({carrying, leaving, following}, return_when=asyncio.FIRST_COMPLETED)
            if carrying.done():
                return carrying.result()
            failure = following.exception() if following.done() else None
            self._over = LinkOver(LEFT if failure is None else str(failure), final=True)
            link.goodbye(self._over)
            self._wake.set()
            await asyncio.wait({carrying}, timeout=PARTING_S)
            if failure is not None:
                raise failure
            return LEFT
        finally:
            for task in (carrying, leaving):
                task.cancel()
            await asyncio.gather(carrying, leaving, return_exceptions=True)

    async def _reach(self, resume: Resume | None, patience_s: float) -> tuple[Welcome, Carrier] | None:
        """Dial until the hub answers; HubUnreachable when it does not within `patience_s`, None when we leave."""
        if self._leaving.is_set():
            return None
        hello = Hello(
            proof=b"",
            instance=self._instance,
            name=self._name,
            ports=self._ports,
            namespace=self._namespace,
            busy=tuple(sorted(busy_ports())[:MAX_BUSY]),
            resume=resume,
            sources=True,
            application=self._hello,
        )
        try:
            async with asyncio.timeout(None) as self._reaching:
                return await self._dial(hello, time.monotonic() + patience_s)
        except TimeoutError:  # `leave` causes one, and nothing else in there lets one out
            return None
        finally:
            self._reaching = None

    async def _dial(self, hello: Hello, deadline: float) -> tuple[Welcome, Carrier]:
        if not self._pause:
            self._backoff.reset()
        else:
            await asyncio.sleep(self._backoff.next(random.random()))
        while True:
            try:
                return await dial(self._address, hello, max(deadline - time.monotonic(), 1.0))
            except (Transient, PinMismatch) as error:
                if isinstance(error, PinMismatch) and self.node is None:
                    raise
                why, headers = str(error), error.headers if isinstance(error, Transient) else {}
            if headers and self._turned_away is not None:
                self._turned_away(headers)
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise HubUnreachable(self._address.url, why, headers)
            # Toward the end more often: a network that returns in the last seconds should still save the link.
            await asyncio.sleep(min(self._backoff.next(random.random()), max(left_s / 8, FIRST_PAUSE_S), left_s))

    # Streams.

    def _route(self, entry: Endpoint, node: int, port: int) -> Endpoint | None:
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

    # The roster.

    def _on_roster(self, body: Mapping[str, Any]) -> None:
        orders = roster_of_hub(body)
        if isinstance(orders, Ready):
            self._is_ready = True
            self._application.ready()
        else:
            self._orders.put_nowait(orders)

    async def _follow_orders(self, link: Link) -> None:
        """Listen as the hub says, one order after the other; ListenFailed when the first ones cannot be followed."""
        while True:
            orders = await self._orders.get()
            for node_id in orders.unlisten:
                self._local.unlisten(node_id)
            listening = []
            for wanted in orders.listen:
                try:
                    await self._listen(wanted.node, wanted.block)
                    listening.append(wanted.node)
                except ListenFailed as error:
                    if not self._is_ready:
                        raise
                    link.roster(Taken(NodePort(wanted.node, error.port)).to_json())
            link.roster(Listening(tuple(listening)).to_json())
            self._wake.set()

    async def _listen(self, node_id: NodeId, block: PortBlock) -> None:
        """Listen for a node; another agent of this machine that we take over from gets time to let go."""
        patience_s = HAND_OVER_S if self._is_ready else 0.0
        while True:
            try:
                return await self._local.listen(node_id, block)
            except ListenFailed:
                if patience_s <= 0:
                    raise
            patience_s -= 0.1
            await asyncio.sleep(0.1)
