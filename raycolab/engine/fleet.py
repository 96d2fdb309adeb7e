"""Which slots to start on which node, and when again after one died. Sans-I/O: nodes and `now` in, answers out.

A node gets one slot per CPU, or one per GPU where it has GPUs, unless the models' resources say otherwise. Models that
ask for the same share their slots. Where they ask for different things, each kind that has trials waiting gets a slot
first, the largest before the others, then they get them in proportion to what waits; nodes without a GPU are filled
first, so that what needs none leaves GPUs to those who do. A slot that died before it ended a trial makes its node
wait, longer each time; one that had worked is replaced at once. `Sharing` is about the CPUs that other Ray programs
have, or want.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from raycolab.spec.resources import Resources
from raycolab.text import counted

__all__ = [
    "Fleet",
    "NodeSlots",
    "NodeView",
    "OtherWork",
    "Sharing",
    "SlotCpus",
    "SlotShape",
    "fits",
    "shape_on",
]

_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 30.0
_WAITS_S = 5.0  # a slot that has not called by then, or other work that has not begun, waits for a CPU
_MOST_DRIVERS = 3  # that are named
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

    def fits_in(self, cpus: float, gpus: float, memory_bytes: float) -> bool:
        """Whether there is room for it in this; what takes nothing that is counted fits nowhere."""
        pairs = ((cpus, self.cpus), (gpus, self.gpus), (memory_bytes, self.memory_bytes))
        counted = [has + _ROUNDING >= takes for has, takes in pairs if takes > 0 and has != float("inf")]
        return bool(counted) and all(counted)


def shape_on(node: NodeView, asked: Resources) -> SlotShape:
    """What a slot takes on this node."""
    memory_bytes = asked.memory or 0
    if asked.cpus is None and asked.gpus is None and node.gpus >= 1:
        return SlotShape(min(1.0, node.cpus), 1.0, memory_bytes)
    gpus = asked.gpus or 0.0
    cpus = (0.0 if gpus else 1.0) if asked.cpus is None else asked.cpus
    return SlotShape(cpus, gpus, memory_bytes)


@dataclass(slots=True)
class NodeSlots:
    """What the fleet keeps of one node."""

    node: NodeView
    deaths: int = 0  # of slots in a row, none of which had ended a trial
    wait_until: float = 0.0
    is_barred: bool = False  # it gets no more slots


class Fleet:
    """The nodes there are, and the slots that fit on them.

    The slots there are already are passed in: for each the id of its node (Ray's), and what its trials ask for.
    """

    def __init__(self) -> None:
        self._nodes: dict[str, NodeSlots] = {}
        # Ray's ids of nodes that were reported lost while Ray still believed in them.
        self._condemned: set[str] = set()

    @property
    def nodes(self) -> list[NodeView]:
        """The nodes that are there."""
        return [slots.node for slots in self._nodes.values()]

    def update(self, nodes: Iterable[NodeView]) -> tuple[list[str], list[str]]:
        """These are Ray's live nodes now; return the names of those lost and those new since the last time."""
        there = {node.name: node for node in nodes if node.id not in self._condemned}
        lost = [node.name for node in self.nodes if node.name not in there or there[node.name].id != node.id]
        for name in lost:
            self.lose(name)
        new = [name for name in there if name not in self._nodes]
        for name in new:
            self._nodes[name] = NodeSlots(there[name])
        return lost, new

    def lose(self, name: str) -> None:
        """The node is gone, whatever Ray still says of it; its name starts anew under another id."""
        slots = self._nodes.pop(name, None)
        if slots is not None:
            self._condemned.add(slots.node.id)

    def bar(self, name: str) -> None:
        """Start no more slots on the node."""
        if name in self._nodes:
            self._nodes[name].is_barred = True

    def forgive(self) -> None:
        """Start slots again on every node that is there."""
        for slots in self._nodes.values():
            slots.deaths, slots.wait_until, slots.is_barred = 0, 0.0, False

    def fit_nowhere(self, asked: Resources) -> bool:
        """Whether no node that is there has room for such a trial; while none is there nobody knows."""
        return bool(self._nodes) and not any(fits(node, asked) for node in self.nodes)

    def slots_on(self, slots: Iterable[tuple[str, Resources]]) -> dict[str, str]:
        """The slots of each node that has any, in words: `2 x 1 CPU`."""
        have = _by_node(slots)
        found: dict[str, str] = {}
        for node in self.nodes:
            counts = Counter(shape_on(node, asked) for asked in have.get(node.id, ()))
            if counts:
                found[node.name] = " + ".join(f"{count} x {shape}" for shape, count in counts.items())
        return found

    def due(
        self, now: float, work: Mapping[Resources, int], slots: Iterable[tuple[str, Resources]]
    ) -> list[tuple[NodeView, Resources]]:
        """The slots to start now: the node of each, and for trials that ask for what.

        `work` has what the sweep's models ask for, with how many such trials wait. While some have none waiting, the
        room is for the others.
        """
        wanted = {asked: count for asked, count in work.items() if count} or dict(work)
        there = _by_node(slots)
        have = Counter(asked for node in self.nodes for asked in there.get(node.id, ()))
        found: list[tuple[NodeView, Resources]] = []
        for each in sorted(self._nodes.values(), key=lambda each: each.node.gpus):
            if each.is_barred or now < each.wait_until:
                continue
            taken = there.get(each.node.id, [])
            while fitting := [asked for asked in wanted if fits(each.node, asked, taken)]:
                asked = min(fitting, key=lambda each: _rank(each, have[each], wanted[each]))
                have[asked] += 1
                taken.append(asked)
                found.append((each.node, asked))
        return found

    def ended(self, node_id: str, worked: bool, now: float) -> None:
        """A slot of the node is gone; `worked` when it had ended a trial."""
        for slots in self._nodes.values():
            if slots.node.id == node_id:
                slots.deaths = 0 if worked else slots.deaths + 1
                if slots.deaths:
                    slots.wait_until = now + min(_FIRST_WAIT_S * 2 ** (slots.deaths - 1), _LONGEST_WAIT_S)


@dataclass(frozen=True, slots=True)
class OtherWork:
    """What Ray says of the CPUs, and of those who want them beside the sweep; nodes by Ray's id."""

    free_cpus: Mapping[str, float]
    queued: Mapping[str, int]  # tasks and actors that wait for CPUs alone; no slots, which are bound to their node
    drivers: tuple[str, ...]  # the programs that are connected, in words


@dataclass(frozen=True, slots=True)
class SlotCpus:
    """A slot as one of those who share the CPUs."""

    id: str
    node: NodeView
    cpus: float
    started_at: float
    runs: bool  # it has a CPU; another one may still wait for it


class Sharing:
    """Who has the CPUs, the sweep or other Ray programs, and who makes room for whom.

    Other work that has waited for some seconds gets a CPU of the sweep between two trials, from one slot at a time. The
    slot in that one's place waits in Ray's queue behind the work, and no other makes room meanwhile: so one program
    does not take everything.
    """

    def __init__(self) -> None:
        # What a person should read: the slots that wait for CPUs.
        self.sentences: list[str] = []
        self._queued_since: float | None = None
        self._giver: str | None = None  # it has been told to end

    def giver(self, now: float, seen: OtherWork, slots: Collection[SlotCpus]) -> str | None:
        """The slot that is to end after the trial it runs, if one is."""
        starting = [slot for slot in slots if not slot.runs]
        late = [slot for slot in starting if now - slot.started_at >= _WAITS_S]
        late = [slot for slot in late if seen.free_cpus.get(slot.node.id, 0.0) + _ROUNDING < slot.cpus]
        self.sentences = [_kept_out(late, seen.drivers)] if late and seen.drivers else []
        if not any(seen.queued.values()):
            self._queued_since = None
            return None
        self._queued_since = now if self._queued_since is None else self._queued_since
        able = [slot for slot in slots if slot.runs and slot.cpus]
        if starting or not able or now - self._queued_since < _WAITS_S or self._giver in {slot.id for slot in slots}:
            return None
        self._giver = max(able, key=lambda slot: seen.queued.get(slot.node.id, 0)).id
        return self._giver


def _kept_out(slots: Collection[SlotCpus], drivers: Sequence[str]) -> str:
    """The sentence for slots whose CPUs others have; drivers that are connected are all that Ray tells of who."""
    nodes = ", ".join(sorted({slot.node.name for slot in slots}))
    return (
        f"other Ray work has the CPUs on {nodes} for which {counted(len(slots), 'slot')} of this sweep would start;"
        f" connected {'is' if len(drivers) == 1 else 'are'} {', '.join(drivers[:_MOST_DRIVERS])}"
    )


def fits(node: NodeView, asked: Resources, beside: Iterable[Resources] = ()) -> bool:
    """Whether the node has room for one more such slot beside these."""
    taken = [shape_on(node, each) for each in beside]
    memory_bytes = float("inf") if node.memory_bytes is None else node.memory_bytes
    return shape_on(node, asked).fits_in(
        node.cpus - sum(shape.cpus for shape in taken),
        node.gpus - sum(shape.gpus for shape in taken),
        memory_bytes - sum(shape.memory_bytes for shape in taken),
    )


def _by_node(slots: Iterable[tuple[str, Resources]]) -> dict[str, list[Resources]]:
    found: dict[str, list[Resources]] = {}
    for node_id, asked in slots:
        found.setdefault(node_id, []).append(asked)
    return found


def _rank(asked: Resources, slots: int, waiting: int) -> tuple[float, ...]:
    """The kind that gets the next slot has the least of these: it has none yet, much waits for each, it is large."""
    size = (-(asked.gpus or 0), -(asked.memory or 0), -(asked.cpus or 0))
    return (1, -waiting / (slots + 1), *size) if slots else (0, *size)
