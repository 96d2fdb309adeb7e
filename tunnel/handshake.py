"""What a hub and an agent say to each other before frames are counted: HELLO and WELCOME as values. Sans-I/O.

The hub speaks first with a CHALLENGE; the agent's HELLO proves the secret for it. Everything here came from the
network: what does not have the type it should raises RemoteProtocolError.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tunnel.errors import RemoteProtocolError
from tunnel.nodes import FIRST_PORT, LAST_PORT, Node, NodeId, PortBlock

__all__ = ["PROTOCOL", "Hello", "Resume", "Welcome"]

T = TypeVar("T")

PROTOCOL = 1
MAX_BUSY = 4000  # ports named in a HELLO
MAX_NAME = 40


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
            raise RemoteProtocolError(f"protocol {body.get('protocol')!r} where this hub speaks {PROTOCOL}")
        name = body.get("name")
        if name is not None and (not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= MAX_NAME):
            raise RemoteProtocolError("a HELLO with an unusable name")
        busy = _typed(body, "busy", list)
        if len(busy) > MAX_BUSY or not all(isinstance(port, int) for port in busy):
            raise RemoteProtocolError("a HELLO with unusable ports")
        resume = body.get("resume")
        try:
            proof = base64.b64decode(_typed(body, "proof", str), validate=True)
        except binascii.Error as error:
            raise RemoteProtocolError("a HELLO with an unreadable proof") from error
        return cls(
            proof=proof,
            instance=_typed(body, "instance", str),
            name=name,
            ports=_within(body, "ports", 1, LAST_PORT - FIRST_PORT),
            namespace=_typed(body, "namespace", str),
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
        block = PortBlock(_within(body, "first", FIRST_PORT, LAST_PORT), _within(body, "count", 1, LAST_PORT))
        node = Node(NodeId(_within(body, "node", 1, 254)), _typed(body, "name", str), block, namespace)
        grace = body.get("grace_s")
        if not isinstance(grace, int | float) or grace < 0:
            raise RemoteProtocolError("a WELCOME without a grace period")
        return cls(
            link=_typed(body, "link", str),
            node=node,
            incarnation=_typed(body, "incarnation", str),
            grace_s=float(grace),
            received=_within(body, "received", 0, 1 << 62),
            application=_typed(body, "application", dict),
        )


def _resume(body: object) -> Resume:
    if not isinstance(body, dict):
        raise RemoteProtocolError("a HELLO with an unusable resumption")
    return Resume(_typed(body, "link", str), _within(body, "received", 0, 1 << 62))


def _typed(body: Mapping[str, Any], key: str, kind: type[T]) -> T:
    value = body.get(key)
    if not isinstance(value, kind):
        raise RemoteProtocolError(f"a handshake whose {key!r} is not a {kind.__name__}")
    return value


def _within(body: Mapping[str, Any], key: str, low: int, high: int) -> int:
    value = _typed(body, key, int)
    if not low <= value <= high:
        raise RemoteProtocolError(f"a handshake whose {key!r} is {value}")
    return value
