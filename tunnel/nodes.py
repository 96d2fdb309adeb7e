"""Who is in the mesh: node numbers, addresses, port blocks, and who listens for whom. Sans-I/O.

Node k is 127.77.0.k and owns a block of ports that nobody else uses. The hub is node 1. A program on node k reaches
node m at 127.77.0.m: there the agent of k listens on m's whole block and relays. Nodes in one network namespace see
each other's real ports, so they need no listeners for each other, and only the first of them, the namespace's
*listener*, listens for the nodes elsewhere; when it leaves, the next in order of joining takes over.

`Roster` is the hub's book: it gives out names, numbers and blocks, says which listeners each agent must have, and
knows when a newcomer is ready because everyone listens for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NewType

from tunnel.errors import Refused

__all__ = [
    "FIRST_PORT",
    "GRAIN",
    "HUB",
    "LAST_PORT",
    "MAX_NODE",
    "RESERVED",
    "Node",
    "NodeId",
    "PortBlock",
    "Roster",
    "address_of",
    "block_size",
    "usable_ports",
]

NodeId = NewType("NodeId", int)

HUB = NodeId(1)
MAX_NODE = 254  # the last octet of an address
GRAIN = 8  # the number of ports of a block is a multiple of this

# Below Linux's ephemeral ports (32768-60999, ip_local_port_range), above those that programs commonly use.
FIRST_PORT = 10000
LAST_PORT = 32767
# Ray uses these on every node whatever its flags say; the second range is for Ray Client's servers.
RESERVED = (range(10001, 10002), range(23000, 24000))


def address_of(node: int) -> str:
    """The loopback address that stands for a node on every machine of the mesh."""
    return f"127.77.0.{node}"


@dataclass(frozen=True, slots=True)
class PortBlock:
    """`count` consecutive TCP ports from `first` on."""

    first: int
    count: int

    @property
    def ports(self) -> range:
        """Every port of the block."""
        return range(self.first, self.first + self.count)


@dataclass(frozen=True, slots=True)
class Node:
    """A member of the mesh."""

    id: NodeId
    name: str
    block: PortBlock

    @property
    def address(self) -> str:
        """127.77.0.k."""
        return address_of(self.id)


def block_size(ports: int) -> int:
    """`ports`, rounded up to a size that a block can have."""
    return max(GRAIN, -(-ports // GRAIN) * GRAIN)


def usable_ports() -> Iterator[range]:
    """The ranges of ports from which blocks may be cut."""
    at = FIRST_PORT
    for reserved in RESERVED:
        yield range(at, reserved.start)
        at = reserved.stop
    yield range(at, LAST_PORT + 1)


@dataclass(slots=True)
class _Member:
    node: Node
    namespace: str  # equal for nodes that see each other's ports
    busy: frozenset[int]  # ports that other programs use where the node runs
    wanted: dict[NodeId, Node] = field(default_factory=dict)  # nodes for which it was told to listen
    listening: set[NodeId] = field(default_factory=set)  # nodes for which it said that it listens
    ready: bool = False


class Roster:
    """The hub's book of nodes."""

    def __init__(self, *, prefix: str = "node") -> None:
        self._prefix = prefix
        self._members: dict[NodeId, _Member] = {}
        self._joined = 0  # counts the nodes that we named
        self._last = 0  # the latest number given out

    @property
    def nodes(self) -> list[Node]:
        """All present nodes, the hub first."""
        return [member.node for member in self._members.values()]

    def join(self, *, name: str | None, ports: int, namespace: str, busy: Iterable[int]) -> Node:
        """Give a newcomer a number, a name and a block; Refused("full") when there is no room."""
        taken = frozenset(busy)
        node_id = self._number()
        block = self._cut(block_size(ports), taken)
        node = Node(node_id, self._name(name), block)
        self._members[node_id] = _Member(node, namespace, taken)
        self._last = node_id
        return node

    def leave(self, node_id: NodeId) -> None:
        """Forget a node; its number, name and block are free again."""
        self._members.pop(node_id, None)
        for other in self._members.values():
            other.listening.discard(node_id)

    def orders(self) -> list[tuple[NodeId, list[Node], list[NodeId]]]:
        """What changed since the last call: (who, for which nodes to listen from now on, for which no more).

        Whoever gets both stops first: a number may have passed to another node.
        """
        hosts = self._listeners()
        orders = []
        for node_id, member in self._members.items():
            space = member.namespace
            wanted: dict[NodeId, Node] = {}
            if hosts[space] == node_id:
                wanted = {of: other.node for of, other in self._members.items() if other.namespace != space}
            start = [node for of, node in wanted.items() if member.wanted.get(of) != node]
            stop = [of for of, node in member.wanted.items() if wanted.get(of) != node]
            member.wanted = wanted
            if start or stop:
                orders.append((node_id, start, stop))
        return orders

    def listening(self, node_id: NodeId, of: int) -> None:
        """`node_id` says that it listens for node `of`."""
        member = self._members.get(node_id)
        if member is not None and of in member.wanted:
            member.listening.add(NodeId(of))

    def listened_ports(self, node_id: NodeId) -> frozenset[int]:
        """Ports on which this node listens for others, and which are in use where it runs while its process lives."""
        member = self._members.get(node_id)
        if member is None:
            return frozenset()
        return frozenset(port for of in member.listening for port in member.wanted[of].block.ports)

    def newly_ready(self) -> list[Node]:
        """Nodes that became ready since the last call: they can reach all others, and all others can reach them."""
        nodes = []
        for member in self._members.values():
            if not member.ready and self._reachable(member):
                member.ready = True
                nodes.append(member.node)
        return nodes

    def _reachable(self, member: _Member) -> bool:
        """Every other namespace listens for the member, and the member's namespace for every node elsewhere."""
        hosts = self._listeners()
        mine = self._members[hosts[member.namespace]]
        for other in self._members.values():
            if other.namespace == member.namespace:
                continue
            theirs = self._members[hosts[other.namespace]]
            if member.node.id not in theirs.listening or other.node.id not in mine.listening:
                return False
        return True

    def _listeners(self) -> dict[str, NodeId]:
        """The node of each namespace that listens there for all: the first to join, so a newcomer never takes over."""
        hosts: dict[str, NodeId] = {}
        for node_id, member in self._members.items():
            hosts.setdefault(member.namespace, node_id)
        return hosts

    def _number(self) -> NodeId:
        """The next number in turn, so that a late word about a node that left is not taken for one about a newcomer."""
        for step in range(MAX_NODE):
            node_id = NodeId((self._last + step) % MAX_NODE + 1)
            if node_id not in self._members:
                return node_id
        raise Refused("full", f"There is no room: a hub has {MAX_NODE} nodes at most. Remove one first.")

    def _name(self, wanted: str | None) -> str:
        names = {node.name for node in self.nodes}
        if wanted is not None and wanted not in names:
            return wanted
        while True:
            self._joined += 1
            name = f"{self._prefix}-{self._joined}"
            if name not in names:
                return name

    def _cut(self, count: int, busy: frozenset[int]) -> PortBlock:
        """The lowest free block of `count` ports that no node and no program on any node uses."""
        used = set(busy)
        for member in self._members.values():
            used.update(member.busy)
            used.update(member.node.block.ports)
        for usable in usable_ports():
            free = 0
            for port in usable:
                free = 0 if port in used else free + 1
                if free == count:
                    return PortBlock(port - count + 1, count)
        raise Refused("full", f"There is no room for {count} more ports. Remove a node, or join with fewer CPUs.")
