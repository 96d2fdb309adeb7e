"""What a hub and an agent say to each other in JSON, as values: the handshake, the roster and the goodbye. Sans-I/O.

    HELLO    agent -> hub   Hello, proves the secret for the hub's CHALLENGE
    WELCOME  hub -> agent   Welcome
    ROSTER   hub -> agent   Orders: for whom to listen from now on;  Ready: all reach this node and it reaches all
    ROSTER   agent -> hub   Listening: done, as ordered;  Taken: it cannot be done, that port is in use
    GOODBYE  both           LinkOver

Everything that `from_json` reads came from the network: what is not as declared here raises RemoteProtocolError, whose
text names the place in the message and repeats nothing of it. Unknown keys are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Self

import msgspec
from msgspec import Meta

from tunnel.errors import RemoteProtocolError
from tunnel.nodes import FIRST_PORT, LAST_PORT, MAX_NODE, Node, NodeId, PortBlock

__all__ = [
    "MAX_BUSY",
    "MAX_COUNT",
    "MAX_GRACE_S",
    "MAX_NAME",
    "MAX_REASON",
    "MAX_TEXT",
    "PROTOCOL",
    "Hello",
    "LinkOver",
    "Listening",
    "Message",
    "NodePort",
    "NodePorts",
    "Orders",
    "Ready",
    "Resume",
    "Taken",
    "Welcome",
    "roster_of_agent",
    "roster_of_hub",
]

PROTOCOL = 1
MAX_PORTS = 2000  # of a node: enough for 900 CPUs
MAX_BUSY = 4000  # ports named in a HELLO
MAX_NAME = 40  # characters
MAX_GRACE_S = 1e9
MAX_COUNT = 1 << 62  # frames
MAX_TEXT = 200  # characters of any other text in a handshake
MAX_REASON = 500  # characters of a GOODBYE that are shown

# `from_json` also checks that texts are printable, which no pattern can express.
Text = Annotated[str, Meta(max_length=MAX_TEXT)]
Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]
NodeNumber = Annotated[NodeId, Meta(ge=1, le=MAX_NODE)]
Port = Annotated[int, Meta(ge=1, le=65535)]
BlockPort = Annotated[int, Meta(ge=FIRST_PORT, le=LAST_PORT)]
Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]


class Message(msgspec.Struct, frozen=True):
    """A message, or an object in one."""

    def to_json(self) -> dict[str, Any]:
        """The object of its frame."""
        body: dict[str, Any] = msgspec.to_builtins(self)
        return body

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """The message in an object that a peer sent."""
        try:
            message = msgspec.convert(body, cls)
        except (msgspec.ValidationError, UnicodeEncodeError) as error:  # the latter for half a surrogate pair
            raise RemoteProtocolError(f"not a valid {cls.__name__}: {error}") from error
        for path, text in _texts(message, "$"):
            if not text.isprintable():
                raise RemoteProtocolError(f"not a valid {cls.__name__}: Expected printable text - at `{path}`")
        return message


class Resume(Message, frozen=True):
    """The link an agent wants to carry on, and how many sequenced frames of it have come."""

    link: Text
    received: Count


class Hello(Message, frozen=True, kw_only=True):
    """The first message of an agent; `proof` is in base64 on the wire, and never shown."""

    protocol: int = PROTOCOL
    proof: Annotated[bytes, Meta(max_length=MAX_TEXT)]
    instance: Text  # random, of one agent process
    name: Name | None = None
    ports: Annotated[int, Meta(ge=1, le=MAX_PORTS)]
    namespace: Text
    busy: Annotated[tuple[Port, ...], Meta(max_length=MAX_BUSY)]
    resume: Resume | None = None
    sources: bool = False  # whether it takes OPENs that say from which node the stream comes
    application: dict[str, Any]

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """The HELLO in an object that a stranger sent; if its protocol is another one, nothing else is looked at."""
        protocol = body.get("protocol")
        if protocol != PROTOCOL:
            raise RemoteProtocolError(f"protocol {ascii(protocol)[:MAX_NAME]} where this hub speaks {PROTOCOL}")
        return super().from_json(body)

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, getattr(self, name)) for name in self.__struct_fields__ if name != "proof"]

    def __repr__(self) -> str:
        return f"Hello({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"


class Welcome(Message, frozen=True, kw_only=True):
    """The hub's answer to a HELLO that it accepts."""

    link: Text  # random; what a resumption names
    node_id: NodeNumber = msgspec.field(name="node")
    name: Text
    first: BlockPort
    count: int
    incarnation: Text  # random, of one hub process: links of another one cannot resume
    grace_s: Annotated[float, Meta(ge=0, le=MAX_GRACE_S)]  # how long the hub keeps the link without a WebSocket
    received: Count  # sequenced frames that came from the agent so far
    application: dict[str, Any]

    def __post_init__(self) -> None:
        _check_block(self.first, self.count)

    @property
    def node(self) -> Node:
        """Who the agent is now."""
        return Node(self.node_id, self.name, PortBlock(self.first, self.count))


class NodePorts(Message, frozen=True):
    """A node to listen for, and on which ports."""

    node: NodeNumber
    first: BlockPort
    count: int

    def __post_init__(self) -> None:
        _check_block(self.first, self.count)

    @classmethod
    def of(cls, node: Node) -> Self:
        """The node's block."""
        return cls(node.id, node.block.first, node.block.count)

    @property
    def block(self) -> PortBlock:
        """All of them."""
        return PortBlock(self.first, self.count)


class Orders(Message, frozen=True):
    """For whom an agent is to listen from now on, and for whom no more."""

    listen: Annotated[tuple[NodePorts, ...], Meta(max_length=MAX_NODE)]
    unlisten: Annotated[tuple[NodeNumber, ...], Meta(max_length=MAX_NODE)]


class Ready(Message, frozen=True):
    """Every node can reach the agent's, and it can reach every node."""

    ready: bool = True


class Listening(Message, frozen=True):
    """For whom an agent now listens, as ordered."""

    listening: Annotated[tuple[NodeNumber, ...], Meta(max_length=MAX_NODE)]


class NodePort(Message, frozen=True):
    """A node that cannot be listened for, and the port that is in use."""

    node: NodeNumber
    port: Port


class Taken(Message, frozen=True):
    """An order cannot be followed."""

    taken: NodePort


class LinkOver(Message, frozen=True, omit_defaults=True):
    """The link is over; `final`: the other end does not want us back, `refused`: we were never part of the mesh."""

    reason: str
    final: bool
    refused: bool = False

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """The goodbye in an object that a peer sent; a reason too long or not printable is made fit to show."""
        reason = body.get("reason")
        if isinstance(reason, str):
            reason = "".join(c if c.isprintable() else " " for c in reason[:MAX_REASON])
        return super().from_json({**body, "reason": reason})


def roster_of_hub(body: Mapping[str, Any]) -> Orders | Ready:
    """What a ROSTER from the hub says."""
    return Ready.from_json(body) if body.get("ready") is True else Orders.from_json(body)


def roster_of_agent(body: Mapping[str, Any]) -> Listening | Taken:
    """What a ROSTER from an agent says."""
    return Listening.from_json(body) if body.get("taken") is None else Taken.from_json(body)


def _check_block(first: int, count: int) -> None:
    most = LAST_PORT + 1 - first
    if not 1 <= count <= most:
        raise ValueError(f"Expected `count` of 1 to {most} ports from {first} on")


def _texts(message: Message, path: str) -> Iterator[tuple[str, str]]:
    """Every text of a message and where it stands; the application checks its own object."""
    for name in message.__struct_fields__:
        value = getattr(message, name)
        if isinstance(value, str):
            yield f"{path}.{name}", value
        elif isinstance(value, Message):
            yield from _texts(value, f"{path}.{name}")
