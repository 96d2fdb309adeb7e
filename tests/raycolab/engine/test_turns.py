"""The queue of sweeps: order, places kept, and what was to be pulled."""

from __future__ import annotations

from raycolab.engine.sweep_queue import Turn, Turns
from tests.in_loop import in_loop


@in_loop
async def test_sweeps_come_in_the_order_they_were_added() -> None:
    """One that is added again keeps its place; one that was dropped has none."""
    turns = Turns()
    for name in ("a", "b", "c", "a"):
        turns.add(name, Turn())
    assert turns.drop("b")
    assert not turns.drop("b")
    assert "b" not in turns
    assert [turns.take(), turns.take(), turns.take()] == [("a", Turn()), ("c", Turn()), None]


@in_loop
async def test_a_sweep_that_is_started_is_not_left_to_those_who_pull() -> None:
    """Starting one that waits to be pulled has slots run it; pulling one that was started changes nothing."""
    turns = Turns()
    turns.add("pulled", Turn(pulled=True))
    turns.add("pulled", Turn(4))
    turns.add("pulled", Turn(pulled=True))
    await turns.wait()
    assert turns.take() == ("pulled", Turn(4))
