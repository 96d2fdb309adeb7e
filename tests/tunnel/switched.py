"""A hub without sockets: roster, router and the links of its agents, driven as `tunnel.hub` drives them, for tests.

Each member is both ends of a link and a small program: it listens as it is ordered, echoes what comes on streams that
others open, and keeps what comes back on its own.
"""

from __future__ import annotations

import math

from tests.tunnel.joined import Joined
from tunnel.link import Event, Link, MessageReceived, RosterReceived
from tunnel.messages import LinkOver, Listening, NodePorts, Orders, Ready, roster_of_agent, roster_of_hub
from tunnel.nodes import NodeId, Roster
from tunnel.router import Endpoint, Router
from tunnel.stream import StreamData, StreamFinished, StreamId, StreamOpened, StreamReset

__all__ = ["Member", "Switched"]


class Member:
    """An agent: both ends of its link and what its program has."""

    def __init__(self, now: float) -> None:
        self.joined = Joined(now)
        self.up = True  # a WebSocket carries the link
        self.stalled = False  # and nothing on it arrives for now
        self.ready = False
        self.answers: dict[StreamId, bytearray] = {}  # what came back on streams of our own that are open
        self.resets = 0  # of our own streams
        self.seen: list[bytes] | None = None  # every batch that came to the hub, when somebody wants them

    @property
    def link(self) -> Link:
        """The agent's end."""
        return self.joined.agent.link

    def open(self, node: int, port: int) -> StreamId:
        """A stream of our own."""
        stream_id = self.link.open(node, port)
        assert stream_id is not None
        self.answers[stream_id] = bytearray()
        return stream_id

    def see(self, events: list[Event]) -> None:
        """Do what an agent does with what its link tells it."""
        link = self.link
        for event in events:
            match event:
                case RosterReceived(body):
                    orders = roster_of_hub(body)
                    if isinstance(orders, Ready):
                        self.ready = True
                    elif orders.listen:
                        link.roster(Listening(tuple(wanted.node for wanted in orders.listen)).to_json())
                case StreamOpened(stream_id, _, _):
                    link.opened(stream_id)
                case StreamData(stream_id, data):
                    link.delivered(stream_id, len(data))
                    if stream_id in self.answers:
                        self.answers[stream_id] += data
                    else:
                        link.send(stream_id, data)
                case StreamFinished(stream_id):
                    if self.answers.pop(stream_id, None) is None:
                        link.finish(stream_id)
                case StreamReset(stream_id, _):
                    self.resets += self.answers.pop(stream_id, None) is not None


class Switched:
    """The hub's book, its switch and its members."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.roster = Roster()
        self.roster.join(name="hub", ports=8, namespace="hub", busy=())
        self.router = Router(self._route)
        self.members: dict[NodeId, Member] = {}
        self.messages = 0  # of the members' applications

    def join(self) -> NodeId:
        """A new member on a machine of its own."""
        node = self.roster.join(name=None, ports=8, namespace=f"machine {len(self.members)}", busy=())
        self.members[node.id] = Member(self.now)
        self._reorder()
        return node.id

    def leave(self, node_id: NodeId) -> None:
        """Forget a member and reset its streams."""
        member = self.members.pop(node_id)
        self.roster.leave(node_id)
        self.router.remove(member.joined.hub.link)
        self._reorder()

    def act(self, node_id: NodeId, events: list[Event]) -> LinkOver | None:
        """Do what a hub does with what the link of a member tells it; the GOODBYE, if there is one."""
        for event in events:
            if isinstance(event, RosterReceived):
                answer = roster_of_agent(event.body)
                for of in answer.listening if isinstance(answer, Listening) else ():
                    self.roster.listening(node_id, of)
                self._announce_ready()
            elif isinstance(event, MessageReceived):
                self.messages += 1
            elif isinstance(event, LinkOver):
                return event
            else:
                self.router.receive(self.members[node_id].joined.hub.link, event)
        return None

    def cut(self, node_id: NodeId) -> None:
        """The WebSocket of a member ends, with what is under way."""
        member = self.members[node_id]
        member.up = member.stalled = False
        member.joined.cut()

    def resume(self, node_id: NodeId) -> None:
        """A new WebSocket carries a member's link on."""
        member = self.members[node_id]
        member.joined.now = self.now
        member.joined.resume()
        member.up = True
        self.act(node_id, member.joined.hub.take())
        member.see(member.joined.agent.take())
        self.settle()

    def wait(self, seconds: float) -> None:
        """Let time pass as the drivers do; a WebSocket whose other end is silent for too long is cut."""
        self.settle()
        until = self.now + seconds
        while (due := min((self._due(node_id) for node_id in self.members), default=math.inf)) <= until:
            self.now = max(self.now, due)
            for node_id, member in self.members.items():
                if member.up and not all(end.link.tick(self.now) for end in member.joined.ends):
                    self.cut(node_id)
            self.settle()
        self.now = until

    def _due(self, node_id: NodeId) -> float:
        member = self.members[node_id]
        return min(end.link.next_deadline() for end in member.joined.ends) if member.up else math.inf

    def settle(self) -> None:
        """Let everything be said and heard on the links that are up."""
        while any(self._exchange(node_id, member) for node_id, member in self.members.items() if member.up):
            pass

    def _exchange(self, node_id: NodeId, member: Member) -> bool:
        joined = member.joined
        joined.now = self.now
        said = False
        for end in joined.ends:
            while joined.say(end):
                said = True
        if member.stalled:
            return False
        if member.seen is not None:
            member.seen += joined.hub.coming
        while joined.hub.coming:
            self.act(node_id, joined.hear(joined.hub))
        while joined.agent.coming:
            member.see(joined.hear(joined.agent))
        joined.hub.events.clear()
        joined.agent.events.clear()
        return said

    def _route(self, entry: Endpoint, node: int, port: int) -> Endpoint | None:
        member = self.members.get(NodeId(node))
        return None if member is None or member.joined.hub.link is entry else member.joined.hub.link

    def _reorder(self) -> None:
        for node_id, start, stop in self.roster.orders():
            if node_id in self.members:
                self.members[node_id].joined.hub.link.roster(
                    Orders(tuple(map(NodePorts.of, start)), tuple(stop)).to_json()
                )
            else:
                for node in start:
                    self.roster.listening(node_id, node.id)
        self._announce_ready()

    def _announce_ready(self) -> None:
        for node in self.roster.newly_ready():
            if node.id in self.members:
                self.members[node.id].joined.hub.link.roster(Ready().to_json())
