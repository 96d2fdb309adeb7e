"""What people ask of a sweep at work: pause, resume, stop, cancel, retry."""

from __future__ import annotations

from dataclasses import replace

from raycolab.engine.messages import Kill
from raycolab.trials import ErrorKind, SweepState, TrialState
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
