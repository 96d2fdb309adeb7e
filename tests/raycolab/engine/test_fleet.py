"""Which slots are started where, and when again."""

from __future__ import annotations

import pytest

from raycolab.engine.fleet import Fleet, NodeView, SlotShape


def node(name: str = "head", cpus: float = 2, gpus: float = 0, life: int = 1) -> NodeView:
    """A node in its n-th life."""
    return NodeView(name, f"{name}-{life}", cpus, gpus)


@pytest.mark.parametrize(
    ("resources", "there", "room", "shape"),
    [
        ({}, node(cpus=2), 2, SlotShape(1, 0)),
        ({}, node(cpus=0), 0, SlotShape(1, 0)),
        ({}, node(cpus=8, gpus=1), 1, SlotShape(1, 1)),
        ({"cpus": 3}, node(cpus=8), 2, SlotShape(3, 0)),
        ({"gpus": 0.5}, node(cpus=8, gpus=1), 2, SlotShape(0, 0.5)),
        ({"gpus": 1}, node(cpus=8), 0, SlotShape(0, 1)),
        ({"cpus": 4, "gpus": 1}, node(cpus=8, gpus=4), 2, SlotShape(4, 1)),
    ],
)
def test_a_node_has_room_by_cpus_by_gpus_or_by_what_a_trial_asks(
    resources: dict[str, float], there: NodeView, room: int, shape: SlotShape
) -> None:
    """One slot per CPU, or per GPU where there are GPUs; the trial's resources go before."""
    fleet = Fleet(resources)
    assert (fleet.room_on(there), fleet.shape_on(there)) == (room, shape)


def test_a_slot_is_due_for_each_place_that_is_free() -> None:
    """Until as many were started as there is room."""
    fleet = Fleet({})
    assert fleet.update([node(), node("joiner-1", 1)]) == ([], ["head", "joiner-1"])
    assert [each.name for each in fleet.due(0.0)] == ["head", "head", "joiner-1"]
    fleet.started("s1", "head")
    fleet.started("s2", "joiner-1")
    assert [each.name for each in fleet.due(0.0)] == ["head"]


def test_a_node_whose_slots_die_before_they_work_waits_longer_each_time() -> None:
    """A slot that had ended a trial is replaced at once."""
    fleet = Fleet({})
    fleet.update([node(cpus=1)])
    waits = []
    for turn in range(7):
        fleet.started(f"s{turn}", "head")
        fleet.ended(f"s{turn}", worked=False, now=0.0)
        waits.append(next(second for second in range(100) if fleet.due(second)))
    assert waits == [1, 2, 4, 8, 16, 30, 30]
    fleet.started("good", "head")
    fleet.ended("good", worked=True, now=100.0)
    assert fleet.due(100.0)


def test_a_node_that_came_again_is_lost_and_new() -> None:
    """The same name under another id: its slots are forgotten."""
    fleet = Fleet({})
    fleet.update([node(cpus=1)])
    fleet.started("s1", "head")
    assert fleet.update([node(cpus=1, life=2)]) == (["head"], ["head"])
    assert len(fleet.due(0.0)) == 1


def test_a_node_reported_lost_stays_lost_while_ray_still_believes_in_it() -> None:
    """Its next life is welcome."""
    fleet = Fleet({})
    fleet.update([node("joiner-1")])
    fleet.lose("joiner-1")
    assert fleet.update([node("joiner-1")]) == ([], [])
    assert fleet.due(0.0) == []
    assert fleet.update([node("joiner-1", life=2)]) == ([], ["joiner-1"])


def test_a_barred_node_gets_no_slots() -> None:
    """Until its next life."""
    fleet = Fleet({})
    fleet.update([node(cpus=1)])
    fleet.bar("head")
    assert fleet.due(0.0) == []
    fleet.update([node(cpus=1, life=2)])
    assert len(fleet.due(0.0)) == 1
