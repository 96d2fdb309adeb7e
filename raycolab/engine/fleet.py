"""Which slots to start on which node, and when again after one died. Sans-I/O: nodes and `now` in, answers out.

A node gets one slot per CPU, or one per GPU where it has GPUs, unless the models' resources say otherwise. Models that
ask for the same share their slots. Where they ask for different things, each kind that has trials waiting gets a slot
first, the largest before the others, then they get them in proportion to what waits; nodes without a GPU are filled
first, so that what needs none leaves GPUs to those who do. A slot that died before it ended a trial makes its node
wait, longer each time; one that had worked is replaced at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from raycolab.spec.resources import Resources

__all__ = ["Fleet", "NodeView", "SlotShape", "shape_on"]

_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 30.0
_ROUNDING = 1e-9  # three slots of a third of a GPU fit on one


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
    memory_bytes: int = 0

    def __str__(self) -> str:
        """`1 CPU, 1 GPU`."""
        return str(Resources(self.cpus, self.gpus, self.memory_bytes))

    def times_in(self, cpus: float, gpus: float, memory_bytes: float) -> int:
        """How many fit beside each other."""
        pairs = ((cpus, self.cpus), (gpus, self.gpus), (memory_bytes, self.memory_bytes))
        times = (int(has / takes + _ROUNDING) for has, takes in pairs if takes > 0 and has != float("inf"))
        return max(min(times, default=0), 0)


def shape_on(node: NodeView, asked: Resources) -> SlotShape:
    """What a slot takes on this node."""
    memory_bytes = asked.memory or 0
    if asked.cpus is None and asked.gpus is None and node.gpus >= 1:
        return SlotShape(min(1.0, node.cpus), 1.0, memory_bytes)
    gpus = asked.gpus or 0.0
    cpus = (0.0 if gpus else 1.0) if asked.cpus is None else asked.cpus
    return SlotShape(cpus, gpus, memory_bytes)


@dataclass(slots=True)
class _Berth:
    """One node's slots, and what each takes."""

    node: NodeView
    slots: dict[str, tuple[Resources, SlotShape]] = field(default_factory=dict)
    deaths: int = 0  # running, none of which had ended a trial
    wait_until: float = 0.0

    def room_for(self, asked: Resources, more: Iterable[SlotShape]) -> int:
        """How many more slots of this kind fit beside those there are, and these."""
        taken = [*(shape for _, shape in self.slots.values()), *more]
        node = self.node
        return shape_on(node, asked).times_in(
            node.cpus - sum(shape.cpus for shape in taken),
            node.gpus - sum(shape.gpus for shape in taken),
            _memory(node) - sum(shape.memory_bytes for shape in taken),
        )


class Fleet:
    """The slots of one sweep on the nodes there are."""

    def __init__(self) -> None:
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

    def bar(self, name: str) -> None:
        """Start no more slots on the node."""
        self._barred.add(name)

    def fits(self, node: NodeView, asked: Resources) -> bool:
        """Whether the node, empty, has room for a trial that asks for this."""
        return _Berth(node).room_for(asked, ()) > 0

    def fit_nowhere(self, asked: Resources) -> bool:
        """Whether no node that is there has room for such a trial; while none is there nobody knows."""
        return bool(self._berths) and not any(self.fits(node, asked) for node in self.nodes)

    def slots_on(self) -> dict[str, str]:
        """The slots of each node that has any, in words: `2 x 1 CPU`."""
        found: dict[str, str] = {}
        for name, berth in self._berths.items():
            counts = Counter(shape for _, shape in berth.slots.values())
            found |= {name: " + ".join(f"{count} x {shape}" for shape, count in counts.items())} if counts else {}
        return found

    def due(self, now: float, work: Mapping[Resources, int]) -> list[tuple[NodeView, Resources]]:
        """The slots to start now: the node of each, and for trials that ask for what.

        `work` has what the sweep's models ask for, with how many such trials wait. While some have none waiting, the
        room is for the others.
        """
        wanted = {asked: count for asked, count in work.items() if count} or dict(work)
        have = Counter(asked for berth in self._berths.values() for asked, _ in berth.slots.values())
        found: list[tuple[NodeView, Resources]] = []
        for berth in sorted(self._berths.values(), key=lambda berth: berth.node.gpus):
            if berth.node.name in self._barred or now < berth.wait_until:
                continue
            new: list[SlotShape] = []
            while fitting := [asked for asked in wanted if berth.room_for(asked, new)]:
                asked = min(fitting, key=lambda each: _rank(each, have[each], wanted[each]))
                have[asked] += 1
                new.append(shape_on(berth.node, asked))
                found.append((berth.node, asked))
        return found

    def started(self, slot: str, node: str, asked: Resources) -> SlotShape:
        """A slot was started on the node for such trials; what it takes there."""
        berth = self._berths[node]
        shape = shape_on(berth.node, asked)
        berth.slots[slot] = asked, shape
        return shape

    def ended(self, slot: str, worked: bool, now: float) -> None:
        """The slot is gone; `worked` when it had ended a trial."""
        berth = next((each for each in self._berths.values() if slot in each.slots), None)
        if berth is None:
            return
        del berth.slots[slot]
        berth.deaths = 0 if worked else berth.deaths + 1
        if berth.deaths:
            berth.wait_until = now + min(_FIRST_WAIT_S * 2 ** (berth.deaths - 1), _LONGEST_WAIT_S)


def _memory(node: NodeView) -> float:
    return float("inf") if node.memory_bytes is None else node.memory_bytes


def _rank(asked: Resources, slots: int, waiting: int) -> tuple[float, ...]:
    """The kind that gets the next slot has the least of these: it has none yet, much waits for each, it is large."""
    size = (-(asked.gpus or 0), -(asked.memory or 0), -(asked.cpus or 0))
    return (1, -waiting / (slots + 1), *size) if slots else (0, *size)
