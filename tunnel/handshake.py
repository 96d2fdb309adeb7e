"""What a hub and an agent say to each other before frames are counted: HELLO and WELCOME as values. Sans-I/O.

The hub speaks first with a CHALLENGE; the agent's HELLO proves the secret for it. Everything here came from the
network: what does not have the type it should raises RemoteProtocolError.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tunnel.errors import RemoteProtocolError
from tunnel.nodes import FIRST_PORT, LAST_PORT, MAX_NODE, Node, NodeId, PortBlock

__all__ = ["MAX_BUSY", "MAX_COUNT", "MAX_GRACE_S", "MAX_NAME", "MAX_TEXT", "PROTOCOL", "Hello", "Resume", "Welcome"]

T = TypeVar("T")

PROTOCOL = 1
MAX_PORTS = 2000  # of a node: enough for 900 CPUs
MAX_BUSY = 4000  # ports named in a HELLO
MAX_NAME = 40  # characters
MAX_GRACE_S = 1e9
MAX_COUNT = 1 << 62  # frames
MAX_TEXT = 200  # characters of any other text in a handshake


@dataclass(frozen=True, slots=True)
class Resume:
    """The link an agent wants to carry on, and how many sequenced frames of it have come."""

    link: str
    received: int


@dataclass(frozen=True, slots=True)
class Hello:
    """An agent's first word."""

    proof: bytes = field(repr=False)
    instance: str  # random, of one agent process
    name: str | None
    ports: int
    namespace: str
    busy: tuple[int, ...] = ()
    resume: Resume | None = None
    application: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The object of a HELLO frame."""
        resume = None if self.resume is None else {"link": self.resume.link, "received": self.resume.received}
        return {
            "protocol": PROTOCOL,
            "proof": base64.b64encode(self.proof).decode(),
            "instance": self.instance,
            "name": self.name,
            "ports": self.ports,
            "namespace": self.namespace,
            "busy": list(self.busy[:MAX_BUSY]),
            "resume": resume,
            "application": dict(self.application),
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Hello:
        """The HELLO in an object that a stranger sent."""
        if body.get("protocol") != PROTOCOL:
            theirs = ascii(body.get("protocol"))[:MAX_NAME]
            raise RemoteProtocolError(f"protocol {theirs} where this hub speaks {PROTOCOL}")
        name = body.get("name")
        if name is not None and (not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= MAX_NAME):
            raise RemoteProtocolError("a HELLO with an unusable name")
        busy = _typed(body, "busy", list)
        if len(busy) > MAX_BUSY or not all(isinstance(port, int) and 0 < port < 1 << 16 for port in busy):
            raise RemoteProtocolError("a HELLO with unusable ports")
        resume = body.get("resume")
        try:
            proof = base64.b64decode(_text(body, "proof"), validate=True)
        except ValueError as error:  # binascii.Error, and what is raised for letters that are not ASCII
            raise RemoteProtocolError("a HELLO with an unreadable proof") from error
        return cls(
            proof=proof,
            instance=_text(body, "instance"),
            name=name,
            ports=_within(body, "ports", 1, MAX_PORTS),
            namespace=_text(body, "namespace"),
            busy=tuple(busy),
            resume=None if resume is None else _resume(resume),
            application=_typed(body, "application", dict),
        )


@dataclass(frozen=True, slots=True)
class Welcome:
    """The hub's answer to a HELLO that it takes."""

    link: str  # random; what a resumption names
    node: Node
    incarnation: str  # random, of one hub process: links of another one cannot resume
    grace_s: float  # how long the hub keeps the link without a WebSocket
    received: int = 0  # sequenced frames that came from the agent so far
    application: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The object of a WELCOME frame."""
        return {
            "link": self.link,
            "node": self.node.id,
            "name": self.node.name,
            "first": self.node.block.first,
            "count": self.node.block.count,
            "incarnation": self.incarnation,
            "grace_s": self.grace_s,
            "received": self.received,
            "application": dict(self.application),
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any], namespace: str) -> Welcome:
        """The WELCOME in an object from the hub, for an agent in this network namespace."""
        first = _within(body, "first", FIRST_PORT, LAST_PORT)
        block = PortBlock(first, _within(body, "count", 1, LAST_PORT + 1 - first))
        node = Node(NodeId(_within(body, "node", 1, MAX_NODE)), _text(body, "name"), block, namespace)
        grace = body.get("grace_s")
        if isinstance(grace, bool) or not isinstance(grace, int | float) or not 0 <= grace <= MAX_GRACE_S:
            raise RemoteProtocolError("a WELCOME without a grace period")
        return cls(
            link=_text(body, "link"),
            node=node,
            incarnation=_text(body, "incarnation"),
            grace_s=float(grace),
            received=_within(body, "received", 0, MAX_COUNT),
            application=_typed(body, "application", dict),
        )


def _resume(body: object) -> Resume:
    if not isinstance(body, dict):
        raise RemoteProtocolError("a HELLO with an unusable resumption")
    return Resume(_text(body, "link"), _within(body, "received", 0, MAX_COUNT))


def _typed(body: Mapping[str, Any], key: str, kind: type[T]) -> T:
    value = body.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):  # a bool is an int to Python
        raise RemoteProtocolError(f"a handshake whose {key!r} is not a {kind.__name__}")
    return value


def _text(body: Mapping[str, Any], key: str) -> str:
    value = _typed(body, key, str)
    if len(value) > MAX_TEXT or not value.isprintable():  # half a surrogate pair, which JSON can spell, is neither
        raise RemoteProtocolError(f"a handshake whose {key!r} is no plain text of {MAX_TEXT} characters at most")
    return value


def _within(body: Mapping[str, Any], key: str, low: int, high: int) -> int:
    value = _typed(body, key, int)
    if not low <= value <= high:
        raise RemoteProtocolError(f"a handshake whose {key!r} is {value}")
    return value
