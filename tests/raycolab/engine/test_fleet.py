"""Which slots are started where, and when again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest

from raycolab.engine.fleet import (
    Fleet,
    NodeView,
    OtherWork,
    Sharing,
    SlotCpus,
    SlotShape,
    fits,
    shape_on,
)
from raycolab.spec.resources import Resources

ANY = Resources()
WORK = {ANY: 9}
GB = 10**9


def node(name: str = "head", cpus: float = 2, gpus: float = 0, memory: int | None = None, life: int = 1) -> NodeView:
    """A node in its n-th life."""
    return NodeView(name, f"{name}-{life}", cpus, gpus, memory)


class Started:
    """A fleet on these nodes whose slots start as soon as they are due."""

    def __init__(self, *nodes: NodeView) -> None:
        self.fleet = Fleet()
        self.fleet.update(nodes)
        self.slots: list[tuple[str, Resources]] = []

    def start(self, work: Mapping[Resources, int], now: float = 0.0) -> list[tuple[str, Resources]]:
        """Start what is due for this work; where, and for what."""
        due = self.fleet.due(now, work, self.slots)
        self.slots += [(each.id, asked) for each, asked in due]
        return [(each.name, asked) for each, asked in due]

    def end(self, *, worked: bool, now: float = 0.0) -> None:
        """The oldest slot ends."""
        node_id, _ = self.slots.pop(0)
        self.fleet.ended(node_id, worked, now)


@pytest.mark.parametrize(
    ("asked", "there", "room", "shape"),
    [
        (ANY, node(cpus=2), 2, SlotShape(1, 0)),
        (ANY, node(cpus=0), 0, SlotShape(1, 0)),
        (ANY, node(cpus=8, gpus=1), 1, SlotShape(1, 1)),
        (ANY, node(cpus=0, gpus=2), 2, SlotShape(0, 1)),
        (Resources(cpus=3), node(cpus=8), 2, SlotShape(3, 0)),
        (Resources(cpus=1), node(cpus=8, gpus=1), 8, SlotShape(1, 0)),
        (Resources(cpus=0.5), node(cpus=2), 4, SlotShape(0.5, 0)),
        (Resources(gpus=1 / 3), node(cpus=8, gpus=1), 3, SlotShape(0, 1 / 3)),
        (Resources(gpus=1), node(cpus=8), 0, SlotShape(0, 1)),
        (Resources(cpus=4, gpus=1), node(cpus=8, gpus=4), 2, SlotShape(4, 1)),
        (Resources(memory=3 * GB), node(cpus=8, memory=10 * GB), 3, SlotShape(1, 0, 3 * GB)),
        (Resources(memory=3 * GB), node(cpus=8, memory=2 * GB), 0, SlotShape(1, 0, 3 * GB)),
        (Resources(memory=3 * GB), node(cpus=8), 8, SlotShape(1, 0, 3 * GB)),
        (Resources(cpus=0), node(cpus=8), 0, SlotShape(0, 0)),
        (Resources(cpus=0, memory=1), node(cpus=8), 0, SlotShape(0, 0, 1)),
    ],
)
def test_a_node_has_room_by_cpus_by_gpus_or_by_what_a_trial_asks(
    asked: Resources, there: NodeView, room: int, shape: SlotShape
) -> None:
    """One slot per CPU, or per GPU where there are GPUs; the model's resources go before."""
    fleet = Started(there)
    assert shape_on(there, asked) == shape
    assert fleet.start({asked: 99}) == [("head", asked)] * room
    assert fleet.start({asked: 99}) == []
    assert fits(there, asked) == bool(room)
    assert fleet.fleet.fit_nowhere(asked) == (not room)
    assert fleet.fleet.slots_on(fleet.slots) == ({"head": f"{room} x {shape}"} if room else {})


def test_a_slot_is_due_for_each_place_that_is_free() -> None:
    """Until as many were started as there is room."""
    fleet = Fleet()
    assert fleet.update([node(), node("joiner-1", 1)]) == ([], ["head", "joiner-1"])
    assert [each.name for each, _ in fleet.due(0.0, WORK, [])] == ["head", "head", "joiner-1"]
    there = [("head-1", ANY), ("joiner-1-1", ANY)]
    assert [each.name for each, _ in fleet.due(0.0, WORK, there)] == ["head"]


def test_models_that_ask_for_different_things_share_a_node() -> None:
    """The largest has its place first; what needs no GPU goes where there is none before it takes a GPU node's CPU."""
    cnn, svc = Resources(cpus=1, gpus=1), Resources(cpus=1)
    fleet = Started(node("gpu", cpus=2, gpus=1), node("plain", cpus=1))
    assert fleet.start({svc: 50, cnn: 5}) == [("plain", svc), ("gpu", cnn), ("gpu", svc)]
    assert fleet.fleet.slots_on(fleet.slots) == {"gpu": "1 x 1 CPU, 1 GPU + 1 x 1 CPU", "plain": "1 x 1 CPU"}


def test_slots_follow_what_waits() -> None:
    """In proportion, once each kind has one."""
    small, large = Resources(cpus=1), Resources(cpus=1, memory=1)
    counts = Counter(asked for _, asked in Started(node(cpus=8)).start({small: 75, large: 25}))
    assert counts == {small: 6, large: 2}


def test_room_is_for_those_who_have_work() -> None:
    """Of two kinds the one with nothing waiting gets none; a sweep of one kind has its slots all the same."""
    small, large = Resources(cpus=1), Resources(cpus=2)
    fleet = Started(node(cpus=3))
    assert fleet.start({small: 0, large: 4}) == [("head", large)]
    assert fleet.start({small: 1, large: 4}) == [("head", small)]
    assert Started(node(cpus=1)).start({small: 0}) == [("head", small)]


def test_a_slot_that_ended_makes_room_for_another_kind() -> None:
    """As soon as it is gone."""
    small, large = Resources(cpus=1), Resources(cpus=2)
    fleet = Started(node(cpus=2))
    assert len(fleet.start({small: 2, large: 0})) == 2
    assert fleet.start({small: 0, large: 1}) == []
    fleet.end(worked=True)
    assert fleet.start({small: 0, large: 1}) == []
    fleet.end(worked=True)
    assert fleet.start({small: 0, large: 1}) == [("head", large)]


def test_while_no_node_is_there_nobody_knows_what_fits() -> None:
    """And nothing is said of it."""
    assert not Fleet().fit_nowhere(Resources(gpus=1))


def test_a_node_whose_slots_die_before_they_work_waits_longer_each_time() -> None:
    """A slot that had ended a trial is replaced at once."""
    fleet = Started(node(cpus=1))
    assert fleet.start(WORK)
    waits = []
    for _ in range(7):
        fleet.end(worked=False)
        waits.append(next(second for second in range(100) if fleet.start(WORK, second)))
    assert waits == [1, 2, 4, 8, 16, 30, 30]
    fleet.end(worked=True, now=100.0)
    assert fleet.start(WORK, 100.0)


def test_a_node_that_came_again_is_lost_and_new() -> None:
    """The same name under another id: its slots are forgotten."""
    fleet = Started(node(cpus=1))
    assert fleet.start(WORK)
    assert fleet.fleet.update([node(cpus=1, life=2)]) == (["head"], ["head"])
    assert len(fleet.start(WORK)) == 1


def test_a_node_reported_lost_stays_lost_while_ray_still_believes_in_it() -> None:
    """Its next life is welcome."""
    fleet = Started(node("joiner-1"))
    fleet.fleet.lose("joiner-1")
    assert fleet.fleet.update([node("joiner-1")]) == ([], [])
    assert fleet.start(WORK) == []
    assert fleet.fleet.update([node("joiner-1", life=2)]) == ([], ["joiner-1"])


def test_a_barred_node_gets_no_slots() -> None:
    """Until its next life."""
    fleet = Started(node(cpus=1))
    fleet.fleet.bar("head")
    assert fleet.start(WORK) == []
    fleet.fleet.update([node(cpus=1, life=2)])
    assert len(fleet.start(WORK)) == 1


def sharing_slot(name: str, *, runs: bool, started_at: float = 0.0) -> SlotCpus:
    """A slot of one CPU on the node of that name."""
    return SlotCpus(f"{name}.1", NodeView(name, name, 1.0, 0.0), 1.0, started_at, runs)


def other(*, free: float = 0.0, queued: Mapping[str, int] | None = None, drivers: int = 1) -> OtherWork:
    """What Ray says of the nodes head and j-1."""
    words = tuple(f"`python {number}.py`" for number in range(drivers))
    return OtherWork({"head": free, "j-1": free}, queued or {}, words)


def test_slots_that_wait_for_other_programs_are_told_of() -> None:
    """After some seconds, where no CPU is free and somebody else is connected; no more once they run."""
    sharing = Sharing()
    slots = [sharing_slot("head", runs=False), sharing_slot("j-1", runs=False)]
    for now, seen in ((4.9, other()), (6.0, other(free=1.0)), (6.0, other(drivers=0))):
        assert sharing.giver(now, seen, slots) is None
        assert sharing.sentences == []
    sharing.giver(6.0, other(drivers=2), slots)
    assert sharing.sentences == [
        "other Ray work has the CPUs on head, j-1 for which 2 slots of this sweep would start; connected are"
        " `python 0.py`, `python 1.py`"
    ]
    sharing.giver(7.0, other(), [sharing_slot("head", runs=True)])
    assert sharing.sentences == []


def test_work_that_waits_gets_one_cpu_of_the_sweep() -> None:
    """From the node where most waits, after some seconds; the next when that slot and its successor have settled."""
    sharing = Sharing()
    slots = [sharing_slot("head", runs=True), sharing_slot("j-1", runs=True)]
    waiting = other(queued={"j-1": 3, "head": 1})
    assert [sharing.giver(now, waiting, slots) for now in (10.0, 14.9, 15.0, 16.0)] == [None, None, "j-1.1", None]
    successor = replace(sharing_slot("j-1", runs=False, started_at=17.0), id="j-1.2")
    assert sharing.giver(30.0, waiting, [slots[0], successor]) is None
    assert sharing.giver(40.0, waiting, [slots[0], replace(successor, runs=True)]) == "j-1.2"


def test_work_that_waits_for_a_moment_gets_nothing() -> None:
    """Nor does any from slots that hold no CPU."""
    sharing = Sharing()
    slots = [sharing_slot("head", runs=True)]
    waiting = other(queued={"head": 1})
    for now, seen in ((10.0, waiting), (14.0, other()), (16.0, waiting), (20.0, waiting)):
        assert sharing.giver(now, seen, slots) is None
    assert sharing.giver(30.0, waiting, [replace(slots[0], cpus=0.0)]) is None
