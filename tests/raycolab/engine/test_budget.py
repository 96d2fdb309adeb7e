"""What a sweep may use up: failed trials and time; and how many trials may run at once."""

from __future__ import annotations

from dataclasses import replace

from raycolab.engine.messages import LossCause
from raycolab.trials import Outcome, SweepState, TrialState
from tests.raycolab.engine.script import Script, error, proven


def test_max_failures_ends_the_sweep_held() -> None:
    """Nothing more is given out, what runs finishes, what lay ahead comes back; one sentence says how to go on."""
    script = proven(20, max_failures=2)
    script.up("a.1", "b.1")
    script.end("a.1", error("one"))
    script.start("b.1")
    script.end("a.1", error("two"))
    for slot in ("a.1", "b.1"):
        if script.asked_back(slot):
            script.give_back(slot)
    assert script.numbers("a.1") == []
    assert script.finish is None, "b.1 runs one"
    script.end("b.1")
    assert script.numbers("b.1") == []
    assert script.finish is not None
    assert (script.finish.state, script.finish.traceback) == (SweepState.HELD, None)
    assert script.finish.sentence == (
        "2 trials have failed (max_failures = 2); 17 trials did not run. To go on all the same: raycolab resume s"
    )
    states = [row.state for row in script.stored.values()]
    assert (states.count(TrialState.FAILED), states.count(TrialState.PENDING)) == (2, 17)


def test_failures_are_counted_anew_after_resume() -> None:
    """Both in the sweep at work and in one that was taken up again."""
    script = proven(20, max_failures=2, commits=False)
    script.up("a.1")
    for _ in range(2):
        script.end("a.1", error())
    script.give_back("a.1")
    assert script.numbers("a.1") == []
    script.core.resume(script.now)
    script.pump()
    script.end("a.1", error())
    assert script.numbers("a.1"), "one more may fail"
    again = Script(list(script.stored.values()), list(script.attempts.values()), max_failures=2)
    again.up("a.1")
    assert again.numbers("a.1")


def test_a_sweep_whose_last_trials_fail_is_complete() -> None:
    """Nothing is left that a resume could run, whatever max_failures says."""
    script = proven(1, max_failures=1)
    script.up("a.1")
    script.end("a.1", error())
    assert script.finish is not None
    assert script.finish.state is SweepState.COMPLETE


def test_a_trial_that_ran_out_of_memory_once_is_not_a_failure_yet() -> None:
    """It counts when it is FAILED."""
    script = proven(3, max_failures=1)
    script.up("a.1")
    script.start("a.1")
    script.core.slot_down("a.1", LossCause.OOM, script.now)
    script.up("a.2")
    assert script.numbers("a.2") == [0]
    script.start("a.2")
    script.core.slot_down("a.2", LossCause.OOM, script.now)
    script.pump()
    assert script.finish is not None
    assert script.finish.state is SweepState.HELD
    assert script.finish.sentence is not None
    assert script.finish.sentence.startswith("1 trial has failed (max_failures = 1); 2 trials did not run.")


def test_a_sweep_whose_time_is_over_is_held() -> None:
    """Counted from its first trial: what runs finishes, what lay ahead comes back, the rest waits for a person."""
    script = proven(20, time_budget_s=25.0)
    script.now += 1000.0
    script.up("a.1")
    for _ in range(2):
        script.end("a.1")
    running = script.start("a.1")
    assert script.core.next_deadline() == script.now + 5.0
    script.now += 5.0
    script.core.tick(script.now)
    script.pump()
    script.give_back("a.1")
    assert script.finish is None
    assert script.core.next_deadline() is None, "it is noticed once"
    script.core.finished("a.1", running.ticket, Outcome(TrialState.COMPLETE, {"accuracy": 0.1}), script.now)
    script.pump()
    assert script.finish is not None
    assert script.finish.state is SweepState.HELD
    assert script.finish.sentence == (
        "The time budget of 25 s is used up; 17 trials did not run. To run for another 25 s: raycolab resume s"
    )


def test_a_person_who_resumes_grants_the_time_again() -> None:
    """From the next trial on."""
    script = proven(20, time_budget_s=25.0, commits=False)
    script.up("a.1")
    script.end("a.1", seconds=30.0)
    script.core.tick(script.now)
    script.pump()
    script.give_back("a.1")
    assert script.numbers("a.1") == []
    script.core.resume(script.now)
    script.pump()
    assert script.numbers("a.1")
    assert script.core.next_deadline() == script.now + 25.0


def test_an_engine_that_takes_up_a_sweep_at_work_counts_on() -> None:
    """Failures and time that the store knows of; a person who starts the sweep begins anew."""
    script = proven(20)
    script.up("a.1")
    script.end("a.1", error())
    script.end("a.1", error())
    left, begun = list(script.stored.values()), list(script.attempts.values())
    for limit in ({"max_failures": 2}, {"time_budget_s": 20.0}):
        again = Script(left, begun, goes_on=True, **limit)  # type: ignore[arg-type]
        again.now = script.now
        again.up("a.1")
        assert again.numbers("a.1") == []
        anew = Script(left, begun, **limit)  # type: ignore[arg-type]
        anew.now = script.now
        anew.up("a.1")
        assert anew.numbers("a.1")


def test_so_many_slots_have_trials_at_the_same_time() -> None:
    """As one has nothing left another one begins, and one whose slot died makes room."""
    script = proven(20, max_concurrent=2)
    script.up("a.1", "b.1", "c.1")
    busy = [slot for slot in ("a.1", "b.1", "c.1") if script.numbers(slot)]
    assert len(busy) == 2
    (idle,) = {"a.1", "b.1", "c.1"} - set(busy)
    script.end(busy[0])
    assert not script.numbers(idle)
    script.core.slot_down(busy[1], LossCause.CRASH, script.now)
    script.handed[busy[1]].clear()
    script.pump()
    assert script.numbers(idle)


def test_the_limit_can_be_changed_while_it_runs() -> None:
    """More slots begin at once."""
    script = proven(20, max_concurrent=1)
    script.up("a.1", "b.1")
    script.core.change(replace(script.options, max_concurrent=None))
    script.pump()
    assert script.numbers("a.1")
    assert script.numbers("b.1")
