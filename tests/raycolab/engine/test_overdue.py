"""What takes too long: trials past `timeout_s`, setups past `setup_timeout_s`."""

from __future__ import annotations

from raycolab.engine.dispatch import Slot
from raycolab.engine.messages import Bench, Kill, LossCause, SetupStep, State
from raycolab.trials import ErrorKind, SweepState, TrialState
from tests.raycolab.engine.script import Script, proven, trials


def test_a_trial_that_runs_too_long_fails_and_its_slot_is_killed() -> None:
    """FAILED at once; what its slot held ahead waits until the slot is gone."""
    script = proven(2, timeout_s=5.0)
    script.up("a.1", "b.1")
    script.start("a.1")
    held = script.numbers("a.1")
    assert script.core.next_deadline() == 105.0
    script.now = 105.0
    script.core.tick(script.now)
    script.pump()
    row = script.stored[held[0]]
    assert (row.state, row.error_kind) == (TrialState.FAILED, ErrorKind.TIMEOUT)
    assert script.last(Kill) == Kill("a.1", "the trial ran longer than timeout_s = 5 s and was killed", held[0])
    script.core.slot_down("a.1", LossCause.KILLED, script.now)
    script.pump()
    assert script.stored[held[0]].state is TrialState.FAILED
    assert all(script.stored[number].attempts == 0 for number in held[1:])


def test_a_setup_that_hangs_is_killed_and_its_node_blamed() -> None:
    """After setup_timeout_s, with a sentence that names it; the other nodes go on, and no trial is charged."""
    script = proven(4, setup_timeout_s=600.0)
    script.core.slot_starting(Slot("bad.1", "bad"), script.now)
    script.up("good.1")
    assert script.core.next_deadline() == 700.0
    script.now = 699.9
    script.core.tick(script.now)
    assert script.pump() == []
    script.now = 700.0
    script.core.tick(script.now)
    told = "MAIN's cells had not finished after setup_timeout_s = 600 s"
    blamed = f"MAIN's setup failed on bad: TimeoutError: {told}"
    assert script.pump() == [Bench("bad", blamed, setup=True), Kill("bad.1", told)]
    script.core.slot_up("bad.1", script.now)
    script.core.slot_down("bad.1", LossCause.KILLED, script.now)
    script.pump()
    assert script.numbers("bad.1") == []
    assert script.finish is None
    assert script.attempts == {}
    assert script.core.next_deadline() is None


def test_the_time_of_a_setup_begins_when_its_slot_has_its_turn() -> None:
    """A node's second slot waits for the first one; what that took is not held against it."""
    script = proven(4, setup_timeout_s=600.0)
    script.core.slot_starting(Slot("a.2", "a"), script.now)
    waits = State(slot="a.2", number=1, plan=0, may_wait=False, setup=SetupStep(None))
    script.core.hear(waits, script.now)
    script.now += 500.0
    begins = State(slot="a.2", number=2, plan=0, may_wait=False, setup=SetupStep(0))
    script.core.hear(begins, script.now)
    assert script.core.next_deadline() == script.now + 600.0
    script.now += 100.0
    script.core.hear(State(slot="a.2", number=3, plan=0, may_wait=False, setup=SetupStep(1)), script.now)
    assert script.core.next_deadline() == script.now + 500.0
    assert script.core.slots["a.2"].setup_since == script.now


def test_a_setup_that_hangs_everywhere_ends_the_sweep() -> None:
    """HELD with the setup failure, once the last slot is gone."""
    script = Script(trials(2))
    script.core.slot_starting(Slot("a.1", "a"), script.now)
    script.now += 1800
    script.core.tick(script.now)
    script.pump()
    assert script.finish is None
    script.core.slot_down("a.1", LossCause.KILLED, script.now)
    script.pump()
    assert script.finish is not None
    assert script.finish.state is SweepState.HELD
    cure = "Fix MAIN and submit the sweep again, or fix the nodes and run: raycolab resume s"
    assert f"after setup_timeout_s = 1800 s. {cure}" in (script.finish.sentence or "")


def test_a_setup_may_take_for_ever_when_that_is_asked_for() -> None:
    """With None nothing waits for time."""
    script = Script(trials(2), setup_timeout_s=None)
    script.core.slot_starting(Slot("a.1", "a"), script.now)
    assert script.core.next_deadline() is None
    script.now += 1e6
    script.core.tick(script.now)
    assert script.pump() == []


def test_a_slot_that_still_loads_main_is_left_alone_when_the_sweep_is_over() -> None:
    """Nothing is commanded after Finished."""
    script = proven(1)
    script.core.slot_starting(Slot("late.1", "late"), script.now)
    script.up("a.1")
    script.end("a.1")
    assert script.finish is not None
    script.now += 1e6
    script.core.tick(script.now)
    assert script.pump() == []
