"""What ROSTER frames say, as values: the hub's orders to listen, and an agent's answers. Sans-I/O.

    hub -> agent   {"listen": [{"node", "first", "count"}, ...], "unlisten": [node, ...]}     from now on
    hub -> agent   {"ready": true}                      all reach this node and it reaches all
    agent -> hub   {"listening": [node, ...]}           done, as ordered
    agent -> hub   {"taken": {"node", "port"}}          it cannot be done: that port is in use

Everything here came from the network: what does not have the type it should raises RemoteProtocolError.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunnel.errors import RemoteProtocolError
from tunnel.nodes import FIRST_PORT, LAST_PORT, MAX_NODE, Node, NodeId, PortBlock

__all__ = ["Listening", "Orders"]


@dataclass(frozen=True, slots=True)
class Orders:
    """For whom an agent is to listen from now on, for whom no more, and whether its node is ready."""

    start: tuple[tuple[NodeId, PortBlock], ...] = ()
    stop: tuple[NodeId, ...] = ()
    ready: bool = False

    @classmethod
    def for_nodes(cls, start: list[Node], stop: list[NodeId]) -> Orders:
        """The orders to begin with these nodes and to end with those."""
        return cls(tuple((node.id, node.block) for node in start), tuple(stop))

    def to_json(self) -> dict[str, Any]:
        """The object of a ROSTER frame."""
        if self.ready:
            return {"ready": True}
        blocks = [{"node": node, "first": block.first, "count": block.count} for node, block in self.start]
        return {"listen": blocks, "unlisten": list(self.stop)}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Orders:
        """The orders in an object from the hub."""
        if body.get("ready") is True:
            return cls(ready=True)
        blocks = []
        for item in _listed(body, "listen"):
            if not isinstance(item, dict):
                raise RemoteProtocolError("an order to listen that is not an object")
            first = _number(item.get("first"), FIRST_PORT, LAST_PORT)
            block = PortBlock(first, _number(item.get("count"), 1, LAST_PORT + 1 - first))
            blocks.append((_node(item.get("node")), block))
        return cls(tuple(blocks), tuple(_node(item) for item in _listed(body, "unlisten")))


@dataclass(frozen=True, slots=True)
class Listening:
    """For whom an agent now listens as ordered, or for whom it cannot."""

    nodes: tuple[NodeId, ...] = ()
    taken: tuple[NodeId, int] | None = None  # the node it cannot listen for, and the port that is in use

    def to_json(self) -> dict[str, Any]:
        """The object of a ROSTER frame."""
        if self.taken is not None:
            return {"taken": {"node": self.taken[0], "port": self.taken[1]}}
        return {"listening": list(self.nodes)}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Listening:
        """The answer in an object from an agent."""
        taken = body.get("taken")
        if taken is None:
            return cls(tuple(_node(item) for item in _listed(body, "listening")))
        if not isinstance(taken, dict):
            raise RemoteProtocolError("a port that is taken and not an object")
        return cls(taken=(_node(taken.get("node")), _number(taken.get("port"), 1, 65535)))


def _listed(body: Mapping[str, Any], key: str) -> list[Any]:
    value = body.get(key, [])
    if not isinstance(value, list) or len(value) > MAX_NODE:
        raise RemoteProtocolError(f"a ROSTER whose {key!r} is not a list")
    return value


def _node(value: object) -> NodeId:
    return NodeId(_number(value, 1, MAX_NODE))


def _number(value: object, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise RemoteProtocolError("a ROSTER with an unusable number")
    return value
