"""What keeps one mistake from wasting a sweep: smoke trials, held models, benched nodes, failed setups, a limit."""

from __future__ import annotations

import pytest

from raycolab.engine.dispatch import Slot
from raycolab.engine.guards import ALONE_S, BENCH_AFTER, HOLD_AFTER, SETUP_DEATHS
from raycolab.engine.messages import Bench, LossCause
from raycolab.trials import ErrorKind, Failure, SweepState, TrialState
from tests.raycolab.engine.script import Script, done, error, proven, trials


def test_a_model_sends_one_trial_ahead() -> None:
    """The others of the model wait until one has succeeded; other models do not."""
    script = Script([*trials(5), *trials(5, "forest", first=5)])
    script.up("a.1", "a.2", "b.1")
    assert sorted(script.numbers("a.1") + script.numbers("a.2") + script.numbers("b.1")) == [0, 5]
    slot = next(slot for slot in ("a.1", "a.2", "b.1") if script.numbers(slot) == [0])
    script.end(slot, error("one"))
    held = [number for slot in ("a.1", "a.2", "b.1") for number in script.numbers(slot)]
    assert sorted(held) == [1, 5], "the second configuration is tried"
    slot = next(slot for slot in ("a.1", "a.2", "b.1") if script.numbers(slot) == [1])
    script.end(slot)
    held = [number for slot in ("a.1", "a.2", "b.1") for number in script.numbers(slot)]
    assert {2, 3} <= set(held)


@pytest.mark.parametrize("started", [True, False], ids=["runs", "not heard of"])
def test_a_smoke_trial_that_takes_long_is_not_waited_for(started: bool) -> None:
    """Nobody's tabs idle for an hour because the first trial takes one, or because its slot is silent."""
    script = Script(trials(9))
    script.up("a.1", "b.1")
    smoke, other = ("a.1", "b.1") if script.numbers("a.1") else ("b.1", "a.1")
    if started:
        script.start(smoke)
    script.now += ALONE_S / 2
    script.core.tick(script.now)
    script.pump()
    assert script.numbers(other) == []
    deadline = script.core.next_deadline()
    assert deadline is not None
    script.now = deadline
    script.core.tick(script.now)
    script.pump()
    assert script.numbers(other)
    assert script.core.next_deadline() != deadline, "once is enough"


def test_after_a_long_smoke_trial_failed_one_goes_alone_again() -> None:
    """It ends in failure after all: what runs goes on, and one more is tried at a time."""
    script = Script(trials(9))
    script.up("a.1")
    script.start("a.1")
    script.now += ALONE_S
    script.core.tick(script.now)
    script.pump()
    script.end("a.1", error())
    script.up("b.1", "c.1")
    assert sum(bool(script.numbers(slot)) for slot in ("b.1", "c.1")) == 0, "a.1 has the next one"
    script.now += ALONE_S
    script.core.tick(script.now)
    script.pump()
    assert script.numbers("b.1")
    assert script.numbers("c.1")


def test_a_smoke_trial_is_not_taken_back_for_a_node_where_one_failed() -> None:
    """That slot may not run it while another node is at work: it would go back and forth."""
    forest = [*trials(4, "forest"), done(trials(1, "forest", first=6)[0])]
    script = Script([*forest, *trials(2, first=4)], wait_for_slots=2)
    script.up("a.1", "b.1")
    script.start("a.1")
    for failure in (None, None, error()):
        script.end("b.1", failure)
    script.give_back("a.1")
    assert (script.numbers("a.1"), script.numbers("b.1")) == ([0, 5], [2])
    script.end("b.1")
    assert script.asked_back("a.1") == [], "b.1 has nothing to do, and may not have 5"


def test_the_same_error_again_and_again_holds_the_model_only() -> None:
    """Its trials stay PENDING; the others run; then the sweep is HELD with a sentence that names resume."""
    script = Script([*trials(20), *trials(2, "forest", first=20)])
    script.up("a.1")
    failures = 0
    while script.finish is None and script.numbers("a.1"):
        svc = script.handed["a.1"][0].model == "svc"
        failures += svc
        script.end("a.1", error(f"C = {script.now} is bad") if svc else None)
    assert failures == HOLD_AFTER
    assert script.core.eta_s(script.now) == 0, "held trials are not waited for"
    assert script.finish is not None
    assert script.finish.state is SweepState.HELD
    assert script.finish.sentence is not None
    assert script.finish.sentence.startswith("10 trials are held: 10 trials of svc in a row failed with ValueError")
    assert script.finish.sentence.endswith("raycolab resume s")
    assert [row.state for row in script.stored.values()].count(TrialState.PENDING) == 10
    assert script.stored[21].state is TrialState.COMPLETE


@pytest.mark.parametrize("between", [None, error(ename="KeyError")])
def test_a_success_or_another_error_between_them_starts_the_count_again(between: Failure | None) -> None:
    """Only the same error, running, holds a model."""
    script = proven(60)
    script.up("a.1")
    for turn in range(1, 3 * HOLD_AFTER):
        script.end("a.1", between if turn % HOLD_AFTER == 0 else error())
    assert script.core.models.held == {}


def test_resume_gives_a_held_model_another_chance() -> None:
    """Its trials go out again."""
    script = proven(30, commits=False)
    script.up("a.1")
    for _ in range(HOLD_AFTER):
        script.end("a.1", error())
    assert script.core.models.held
    script.give_back("a.1")
    assert script.numbers("a.1") == []
    script.core.resume(script.now)
    script.pump()
    assert script.numbers("a.1")


def test_a_node_that_fails_what_others_finish_gets_no_more() -> None:
    """It is benched with a sentence; when it is the last one left it is used again."""
    script = proven(60)
    script.up("good.1", "bad.1")
    script.end("good.1")
    for turn in range(BENCH_AFTER):
        script.end("bad.1", error(f"no GPU {turn}"))
    bench = script.last(Bench)
    assert bench == Bench("bad", "bad failed 5 trials in a row that other nodes finish", setup=False)
    script.give_back("bad.1")
    assert script.numbers("bad.1") == []
    assert script.core.models.held == {}
    script.core.node_lost("good", script.now)
    script.pump()
    assert script.numbers("bad.1")


def test_a_setup_that_fails_blames_the_node_and_no_trial() -> None:
    """The node gets no more slots, the others go on."""
    script = proven(4)
    script.core.slot_starting(Slot("bad.1", "bad"), script.now)
    script.up("good.1")
    script.core.setup_failed("bad.1", Failure(ErrorKind.SETUP, "ImportError", "no torch", cell_index=2), script.now)
    script.pump()
    assert script.last(Bench) == Bench("bad", "MAIN's setup failed on bad: ImportError: no torch (cell 2)", setup=True)
    assert script.finish is None
    assert script.attempts == {}


def test_a_setup_that_fails_on_every_node_ends_the_sweep() -> None:
    """HELD with the failure; a node whose setup is not over is waited for."""
    failure = Failure(ErrorKind.SETUP, "ImportError", "no torch", cell_index=2)
    script = Script(trials(2))
    script.core.slot_starting(Slot("a.1", "a"), script.now)
    script.core.slot_starting(Slot("b.1", "b"), script.now)
    script.core.setup_failed("a.1", failure, script.now)
    script.pump()
    assert script.finish is None
    script.core.setup_failed("b.1", failure, script.now)
    script.pump()
    assert script.finish is not None
    assert script.finish.state is SweepState.HELD
    assert "On a: ImportError: no torch (cell 2)" in script.finish.sentence
    assert {row.state for row in script.stored.values()} == {TrialState.PENDING}


def test_a_process_that_dies_in_setup_is_a_failed_setup_in_the_end() -> None:
    """A MAIN that kills its process while it loads does not go on for ever."""
    script = Script(trials(2))
    for turn in range(SETUP_DEATHS):
        script.core.slot_starting(Slot(f"a.{turn}", "a"), script.now)
        assert script.finish is None
        script.core.slot_down(f"a.{turn}", LossCause.CRASH, script.now, "its process died")
        script.pump()
    assert script.finish is not None
    assert script.finish.sentence is not None
    assert "ProcessDied: while it loaded MAIN, 3 times in a row: its process died" in script.finish.sentence
