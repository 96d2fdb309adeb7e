"""Slots for the trials of some models: what they get, when they make room, and slots for one trial only."""

from __future__ import annotations

from raycolab.engine.dispatch import Slot
from raycolab.engine.messages import LossCause
from raycolab.trials import TrialRow, TrialState
from tests.raycolab.engine.script import Script, done, trials

SVC, CNN = frozenset({"svc"}), frozenset({"cnn"})


def proven(*rows: TrialRow, **options: object) -> Script:
    """A script of these trials; both models have succeeded before."""
    known = [done(trials(1, "svc", first=1000)[0]), done(trials(1, "cnn", first=1001)[0])]
    return Script([*rows, *known], **options)  # type: ignore[arg-type]


def up(script: Script, slot: str, models: frozenset[str] | None = None, *, for_one: bool = False) -> None:
    """A slot for trials of these models comes up."""
    script.core.slot_starting(Slot(slot, slot.split(".")[0], models=models, for_one=for_one), script.now)
    script.up(slot)


def test_a_slot_gets_trials_of_its_models_only() -> None:
    """Whatever number comes first, and whatever else is idle."""
    script = proven(*trials(3, "svc"), *trials(3, "cnn", first=3))
    up(script, "a.1", CNN)
    assert set(script.numbers("a.1")) <= {3, 4, 5}
    up(script, "a.2", SVC)
    assert script.numbers("a.2")
    assert set(script.numbers("a.2")) <= {0, 1, 2}


def test_each_kind_has_its_own_share() -> None:
    """A short queue of one model is not spread over the slots of another."""
    script = proven(*trials(40, "svc"), *trials(2, "cnn", first=40))
    for slot in ("a.1", "a.2"):
        script.core.slot_starting(Slot(slot, "a", models=CNN), script.now)
    script.up("a.1", "a.2")
    assert [len(script.numbers(slot)) for slot in ("a.1", "a.2")] == [1, 1]


def test_an_idle_slot_takes_nothing_from_another_kind() -> None:
    """It may not run it."""
    script = proven(*trials(4, "svc"), *trials(1, "cnn", first=4))
    up(script, "a.1", SVC)
    up(script, "b.1", CNN)
    script.end("b.1")
    script.now += 60.0
    script.core.tick(script.now)
    script.pump()
    assert script.asked_back("a.1") == []


def test_a_slot_with_nothing_to_come_makes_room_for_others() -> None:
    """Its models have nothing waiting and others have; one that is still needed stays."""
    script = proven(*trials(1, "svc"), *trials(9, "cnn", first=1))
    up(script, "a.1", SVC)
    up(script, "b.1", CNN)
    assert script.retired == []
    script.end("a.1")
    assert script.retired == ["a.1"]
    script.core.slot_down("a.1", LossCause.ENDED, script.now)
    for _ in range(9):
        script.end("b.1")
    assert script.retired == ["a.1"], "nothing waits for b.1's place"
    assert script.finish is not None


def test_a_lost_trial_waits_for_its_own_kind_of_slot() -> None:
    """A slot of another node that may not run it is no reason to wait."""
    script = proven(*trials(1, "cnn"), *trials(5, "svc", first=1))
    up(script, "a.1", CNN)
    up(script, "b.1", SVC)
    script.start("a.1")
    script.core.slot_down("a.1", LossCause.CRASH, script.now)
    script.handed["a.1"].clear()
    up(script, "a.2", CNN)
    assert script.numbers("a.2") == [0]


def test_a_slot_for_one_trial_leaves_with_it() -> None:
    """Nothing lies ahead of it, and it is told to end once its result is there."""
    script = proven(*trials(5))
    up(script, "a.1", for_one=True)
    assert len(script.numbers("a.1")) == 1
    assert script.retired == []
    script.end("a.1")
    assert script.numbers("a.1") == []
    assert script.retired == ["a.1"]
    up(script, "a.2", for_one=True)
    assert len(script.numbers("a.2")) == 1


def test_a_trial_in_a_process_of_its_own_has_its_time_limit_too() -> None:
    """Its slot is leaving, and is killed all the same."""
    script = proven(*trials(5), timeout_s=20.0)
    up(script, "a.1", for_one=True)
    script.start("a.1")
    assert script.core.next_deadline() == script.now + 20.0


def test_a_slot_whose_resources_nobody_asks_for_any_more_leaves() -> None:
    """After the trial it has begun; what it has not begun comes back."""
    script = proven(*trials(5))
    up(script, "a.1")
    script.start("a.1")
    script.core.slot_serves("a.1", frozenset(), script.now)
    script.pump()
    script.give_back("a.1")
    assert script.retired == []
    script.end("a.1")
    assert (script.numbers("a.1"), script.retired) == ([], ["a.1"])


def test_a_slot_gives_back_what_it_is_no_longer_for() -> None:
    """And keeps the rest."""
    script = proven(*trials(1), *trials(2, "cnn", first=1))
    up(script, "a.1")
    script.start("a.1")
    ahead = script.numbers("a.1")[1:]
    script.core.slot_serves("a.1", SVC, script.now)
    script.pump()
    assert len(script.asked_back("a.1")) == len(ahead) > 0


def test_the_eta_is_that_of_the_kind_that_takes_longest() -> None:
    """And nobody's while nothing has been measured."""
    unknown = Script([*trials(4), *trials(1, "cnn", first=4)])
    up(unknown, "a.1", SVC)
    up(unknown, "b.1", CNN)
    assert unknown.core.eta_s(unknown.now) is None
    script = proven(*trials(1, "svc"), *trials(9, "cnn", first=1))
    up(script, "a.1", SVC)
    up(script, "b.1", CNN)
    assert script.core.eta_s(script.now) == 9.0, "nine of a second each, one after the other"


def test_a_trial_whose_process_dies_has_what_it_printed_last() -> None:
    """While it waits to be tried again and once it is LOST; a try that begins has printed nothing yet."""
    script = Script(trials(1))
    for attempt in range(3):
        script.up(f"a.{attempt}")
        script.start(f"a.{attempt}")
        assert script.stored[0].output is None
        script.core.slot_down(f"a.{attempt}", LossCause.CRASH, script.now, "killed (SIGSEGV)", f"epoch {attempt}")
        script.pump()
        assert script.stored[0].output == f"epoch {attempt}"
    assert script.stored[0].state is TrialState.LOST
    assert "killed (SIGSEGV)" in (script.stored[0].error or "")
