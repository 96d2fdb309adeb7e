"""Which slots to start on which node, and when again after one died. Sans-I/O: nodes and `now` in, answers out.

A node gets one slot per CPU, or one per GPU where it has GPUs, unless the trial's resources say otherwise. A slot that
died before it ended a trial makes its node wait, longer each time; one that had worked is replaced at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

__all__ = ["Fleet", "NodeView", "SlotShape"]

_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node that is there, as Ray sees it."""

    name: str
    id: str  # Ray's, new each time the node starts
    cpus: float
    gpus: float
    memory_bytes: int | None = None  # for trials, as Ray counts it


@dataclass(frozen=True, slots=True)
class SlotShape:
    """What one slot takes of a node."""

    cpus: float
    gpus: float


@dataclass(slots=True)
class _Berth:
    """One node's slots."""

    node: NodeView
    slots: set[str] = field(default_factory=set)
    deaths: int = 0  # running, none of which had ended a trial
    wait_until: float = 0.0


class Fleet:
    """The slots of one sweep on the nodes there are."""

    def __init__(self, resources: Mapping[str, float]) -> None:
        """`resources` of one trial, as the sweep declares them: cpus, gpus."""
        self._resources = dict(resources)
        self._berths: dict[str, _Berth] = {}
        # Ray's ids of nodes that were reported lost while Ray still believed in them.
        self._condemned: set[str] = set()
        self._barred: set[str] = set()

    @property
    def nodes(self) -> list[NodeView]:
        """The nodes that are there, by name."""
        return [berth.node for berth in self._berths.values()]

    def update(self, nodes: Iterable[NodeView]) -> tuple[list[str], list[str]]:
        """These are Ray's live nodes now; return the names of those lost and those new since the last time."""
        there = {node.name: node for node in nodes if node.id not in self._condemned}
        before = {name: berth.node.id for name, berth in self._berths.items()}
        lost = [name for name, node_id in before.items() if name not in there or there[name].id != node_id]
        for name in lost:
            self.lose(name)
        new = [name for name in there if name not in self._berths]
        for name in new:
            self._berths[name] = _Berth(there[name])
        return lost, new

    def lose(self, name: str) -> None:
        """The node is gone, whatever Ray still says of it; its name starts anew under another id."""
        berth = self._berths.pop(name, None)
        if berth is not None:
            self._condemned.add(berth.node.id)
            self._barred.discard(name)

    def ask_for(self, resources: Mapping[str, float]) -> None:
        """Slots that are started from now on take these."""
        self._resources = dict(resources)

    def bar(self, name: str) -> None:
        """Start no more slots on the node."""
        self._barred.add(name)

    def shape_on(self, node: NodeView) -> SlotShape:
        """What a slot takes on this node."""
        asked = self._resources
        if not asked and node.gpus >= 1:
            return SlotShape(min(1.0, node.cpus), 1.0)
        return SlotShape(asked.get("cpus", 0.0 if asked.get("gpus") else 1.0), asked.get("gpus", 0.0))

    def room_on(self, node: NodeView) -> int:
        """How many slots the node has room for."""
        shape = self.shape_on(node)
        rooms = [
            math.floor(has / takes + 1e-9)
            for has, takes in ((node.cpus, shape.cpus), (node.gpus, shape.gpus))
            if takes > 0
        ]
        return min(rooms, default=0)

    def due(self, now: float) -> list[NodeView]:
        """The nodes to start a slot on now, each as often as it has room."""
        return [
            berth.node
            for berth in self._berths.values()
            if berth.node.name not in self._barred and now >= berth.wait_until
            for _ in range(self.room_on(berth.node) - len(berth.slots))
        ]

    def started(self, slot: str, node: str) -> None:
        """A slot was started on the node."""
        self._berths[node].slots.add(slot)

    def ended(self, slot: str, worked: bool, now: float) -> None:
        """The slot is gone; `worked` when it had ended a trial."""
        berth = next((each for each in self._berths.values() if slot in each.slots), None)
        if berth is None:
            return
        berth.slots.discard(slot)
        berth.deaths = 0 if worked else berth.deaths + 1
        if berth.deaths:
            berth.wait_until = now + min(_FIRST_WAIT_S * 2 ** (berth.deaths - 1), _LONGEST_WAIT_S)
