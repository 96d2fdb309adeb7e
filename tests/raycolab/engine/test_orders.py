"""What people ask of a sweep at work: pause, resume, stop, cancel, retry."""

from __future__ import annotations

from dataclasses import replace

from raycolab.engine.dispatch import Slot
from raycolab.engine.messages import Finished, Kill, LossCause
from raycolab.trials import FINAL_STATES, ErrorKind, SweepState, TrialState
from tests.raycolab.engine.script import Script, done, proven, trials


def test_pause_lets_what_runs_go_on_and_gives_out_nothing() -> None:
    """What lies ahead is taken back; resume gives out again."""
    script = proven(6)
    script.up("a.1")
    script.start("a.1")
    script.core.pause(script.now)
    script.pump()
    script.give_back("a.1")
    script.end("a.1")
    assert script.numbers("a.1") == []
    assert script.finish is None
    script.core.resume(script.now)
    script.pump()
    assert script.numbers("a.1") == [1, 2]


def test_stop_ends_when_what_runs_has_ended() -> None:
    """What waits is CANCELLED at once, what lies ahead when it is given back."""
    script = proven(6)
    script.up("a.1")
    script.start("a.1")
    script.core.stop(script.now)
    script.pump()
    assert script.stored[5].state is TrialState.CANCELLED
    assert script.stored[1].state is TrialState.PENDING
    script.give_back("a.1")
    script.end("a.1")
    assert (script.stored[0].state, script.stored[1].state) == (TrialState.COMPLETE, TrialState.CANCELLED)
    assert script.finish is not None
    assert script.finish.state is SweepState.STOPPED


def test_cancel_kills_what_runs() -> None:
    """Everything that is not final is CANCELLED at once, its attempt closed, its slot killed."""
    script = proven(6)
    script.up("a.1")
    script.start("a.1")
    script.core.cancel(script.now)
    script.pump()
    assert script.last(Kill) == Kill("a.1", "the sweep was cancelled", None)
    assert script.attempts[0, 1].outcome == TrialState.CANCELLED
    assert {row.state for row in script.stored.values()} == {TrialState.CANCELLED, TrialState.COMPLETE}
    assert script.finish is not None
    assert script.finish.state is SweepState.CANCELLED


def test_retry_runs_final_trials_again_with_a_full_budget() -> None:
    """Only those of the states asked for; attempt numbers go on."""
    failed = replace(trials(1)[0], state=TrialState.FAILED, attempts=1, error="bad", error_kind=ErrorKind.EXCEPTION)
    lost = replace(trials(1, first=1)[0], state=TrialState.LOST, attempts=3)
    script = Script([failed, lost, done(trials(1, first=2)[0]), *trials(1, first=3)])
    assert script.core.retry({TrialState.FAILED}, script.now) == 1
    script.up("a.1")
    assert (script.stored[0].state, script.stored[0].error) == (TrialState.PENDING, None)
    assert script.stored[1].state is TrialState.LOST
    script.start("a.1")
    assert script.attempts[0, 2].outcome == TrialState.RUNNING


def test_a_changed_main_is_run_by_new_slots_while_old_ones_end_what_they_run() -> None:
    """Keep: what failed waits again, what is finished stays, and each row says which version it ran."""
    failed = replace(trials(1)[0], state=TrialState.FAILED, attempts=1, error="bad", error_kind=ErrorKind.EXCEPTION)
    script = Script([failed, done(trials(1, first=1)[0]), *trials(3, first=2)])
    script.up("a.1")
    running = script.start("a.1").number
    script.core.slot_starting(Slot("b.1", "b"), script.now)
    script.core.change_main({TrialState.FAILED}, script.now)
    script.pump()
    assert script.last(Kill) == Kill("b.1", "MAIN has changed", None)
    if script.asked_back("a.1"):
        script.give_back("a.1")
    assert script.numbers("a.1") == [running]
    script.end("a.1")
    assert "a.1" in script.retired
    script.core.slot_down("a.1", LossCause.ENDED, script.now)
    script.core.slot_down("b.1", LossCause.KILLED, script.now)
    script.core.slot_starting(Slot("a.2", "a", main_version=2), script.now)
    script.up("a.2")
    while script.numbers("a.2"):
        script.end("a.2")
    assert {row.number: row.main_version for row in script.stored.values()} == {
        1: None,
        running: 1,
        **dict.fromkeys({0, 2, 3, 4} - {running}, 2),
    }
    assert script.finish == Finished(SweepState.COMPLETE)


def test_a_changed_main_may_have_all_rows_run_again() -> None:
    """Rerun: what runs is put back too, and nobody is charged for it."""
    script = Script([done(trials(1)[0]), *trials(1, first=1)])
    script.up("a.1")
    assert script.start("a.1").number == 1
    script.core.change_main(FINAL_STATES, script.now)
    script.pump()
    assert script.last(Kill) == Kill("a.1", "MAIN has changed", 1)
    assert {row.state for row in script.stored.values()} == {TrialState.PENDING}
    assert script.attempts[1, 1].outcome == TrialState.CANCELLED
    script.core.slot_down("a.1", LossCause.KILLED, script.now)
    script.core.slot_starting(Slot("a.2", "a", main_version=2), script.now)
    script.up("a.2")
    for _ in range(2):
        script.end("a.2")
    assert [row.main_version for row in script.stored.values()] == [2, 2]
    assert script.finish == Finished(SweepState.COMPLETE)
