"""The search beside the schedule: when it proposes, what it is told, and what becomes of its word to prune."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raycolab.engine.messages import LossCause, State
from raycolab.engine.pace import MAX_AHEAD
from raycolab.trials import AttemptRow, Outcome, TrialState
from tests.raycolab.engine.script import Script, Search, done, error, open_trials, proven, trials


def searched(count: int, search: Search, **options: object) -> Script:
    """A script of `count` trials to be proposed, of a model that has succeeded before."""
    first = replace(done(open_trials(1, first=count)[0]), config={"x": -1}, started_at=0.0, ended_at=10.0)
    return Script([*open_trials(count), first], studies=search, **options)  # type: ignore[arg-type]


# ----- proposals -----


def test_a_repeated_proposal_takes_the_first_one_s_result() -> None:
    """Whether that has ended or still runs; it never runs itself, and the search is told not to wait for it."""
    search = Search(of=3)
    script = searched(20, search)
    script.up("a.1")
    for _ in range(3):
        script.end("a.1")
    assert script.finish is not None
    assert {row.state for row in script.stored.values()} == {TrialState.COMPLETE}
    ran = [row.number for row in script.stored.values() if row.attempts]
    assert set(ran) - {20} == {0, 1, 2}
    repeats = {row.number: row.same_as for row in script.stored.values() if row.same_as is not None}
    assert repeats == {number: number % 3 for number in range(3, 20)}
    assert [number for kind, number, _ in search.told if kind == "repeated"] == list(range(3, 20))


def test_a_repeat_of_what_ran_before_the_restart_is_known() -> None:
    """What was proposed to an earlier scheduler counts."""
    first = replace(done(open_trials(1)[0]), config={"x": 0}, started_at=0.0, ended_at=10.0)
    script = Script([first, *open_trials(2, first=1)], studies=Search(of=2))
    script.up("a.1")
    assert script.numbers("a.1") == [2]
    assert script.stored[1].same_as == 0


def test_a_configuration_is_proposed_when_the_trial_is_handed_out() -> None:
    """Not before; it is stored with the start."""
    search = Search()
    script = searched(9, search)
    assert search.proposals == {}
    script.up("a.1")
    assert [dict(each.config) for each in script.handed["a.1"]] == [{"x": 0}, {"x": 1}]
    assert script.stored[1].config is None
    script.start("a.1")
    assert script.stored[0].config == {"x": 0}
    assert script.stored[1].config is None


def test_one_proposal_lies_ahead_however_short_the_trials_are() -> None:
    """Where configurations are given a slot holds as many as cover its round trip."""
    for script, most in ((searched(500, Search()), 1), (proven(500), MAX_AHEAD)):
        script.up("a.1")
        for _ in range(40):
            script.end("a.1", seconds=0.001)
        assert len(script.numbers("a.1")) == 1 + most


def test_one_proposal_lies_ahead_in_a_sweep_that_was_extended() -> None:
    """Also where it began with configurations."""
    script = Script([*trials(1), done(trials(1, first=1)[0])], studies=Search())
    script.core.add(open_trials(99, first=2), script.now)
    script.up("a.1")
    for _ in range(40):
        script.end("a.1", seconds=0.001)
    assert len(script.numbers("a.1")) == 2


def test_what_is_taken_back_unstarted_keeps_its_proposal() -> None:
    """The next slot gets the same configuration, and the search hears nothing of it."""
    search = Search()
    script = searched(2, search)
    script.up("a.1")
    script.start("a.1")
    script.up("b.1")
    script.give_back("a.1")
    assert [(each.number, dict(each.config)) for each in script.handed["b.1"]] == [(1, {"x": 1})]
    assert search.told == []


def test_a_lost_trial_keeps_its_proposal() -> None:
    """Also when the head has started again since."""
    script = searched(1, Search())
    script.up("a.1")
    script.start("a.1")
    search = Search()
    again = Script(list(script.stored.values()), list(script.attempts.values()), studies=search)
    assert search.told == [("requeued", 0, None)]
    again.up("b.1")
    assert dict(again.handed["b.1"][0].config) == {"x": 0}


def test_the_search_hears_of_trials_that_have_a_configuration() -> None:
    """Those of a sweep that was extended too, so that it can prune them."""
    search = Search()
    script = Script(trials(1), studies=search)
    script.core.add([*trials(1), *trials(1, first=1)], script.now)
    script.up("a.1")
    script.end("a.1")
    assert search.proposals == {0: {"x": 0}, 1: {"x": 1}}


# ----- reports -----


def test_a_report_is_stored_and_the_latest_of_a_step_stands() -> None:
    """The search hears of each."""
    search = Search()
    script = searched(1, search, commits=False)
    script.up("a.1")
    script.start("a.1")
    for step, value in ((0, 0.1), (1, 0.3), (1, 0.2)):
        script.report("a.1", step, value)
    assert script.reports == {(0, 0): 0.1, (0, 1): 0.2}
    assert search.reports == {0: {0: 0.1, 1: 0.2}}
    assert not script.core.book.all_committed


def test_a_plan_says_which_trial_may_give_up() -> None:
    """One new plan says it, whatever the trial reports after that."""
    script = searched(2, Search(bar=0.5))
    script.up("a.1")
    ticket = script.start("a.1").ticket
    plans = []
    for step, value in ((0, 0.9), (1, 0.1), (2, 0.0)):
        script.report("a.1", step, value)
        plan = script.core.plan(State("a.1", 0, -1, may_wait=True))
        plans.append((plan.prune, plan.number))
    assert plans == [(None, 2), (ticket, 3), (ticket, 3)]


def test_a_pruned_trial_is_final_and_its_model_has_succeeded() -> None:
    """PRUNED with its metrics; the others of the model go out."""
    search = Search(bar=0.5)
    script = Script(open_trials(5), studies=search)
    script.up("a.1", "b.1")
    slot = next(slot for slot in ("a.1", "b.1") if script.numbers(slot))
    script.start(slot)
    script.report(slot, 0, 0.1)
    script.end(slot, state=TrialState.PRUNED)
    assert (script.stored[0].state, script.stored[0].metrics) == (TrialState.PRUNED, {"accuracy": 0.5})
    assert script.attempts[0, 1].outcome == TrialState.PRUNED
    assert script.core.book.best is None
    assert script.numbers("a.1")
    assert script.numbers("b.1")


def test_a_report_that_comes_before_the_start_says_that_it_started() -> None:
    """The start that follows is the same one."""
    script = searched(1, Search())
    script.up("a.1")
    ticket = script.handed["a.1"][0].ticket
    script.report("a.1", 0, 0.1)
    assert script.stored[0].state is TrialState.RUNNING
    script.core.started("a.1", ticket, script.now)
    script.pump()
    assert list(script.attempts) == [(0, 1)]


def test_a_stale_report_changes_nothing() -> None:
    """Of a trial that ended, or that another slot has now."""
    search = Search()
    script = searched(3, search)
    script.up("a.1")
    ticket = script.start("a.1").ticket
    script.end("a.1")
    script.core.reported("a.1", ticket, 0, 0.1, script.now)
    script.core.reported("b.1", ticket, 0, 0.1, script.now)
    assert script.pump() == []
    assert search.reports == {}


def test_what_a_lost_attempt_reported_does_not_count() -> None:
    """What the store does not have yet is dropped, and the search is told."""
    search = Search()
    script = searched(1, search)
    script.up("a.1")
    ticket = script.start("a.1").ticket
    script.core.reported("a.1", ticket, 0, 0.1, script.now)
    script.core.node_lost("a", script.now)
    script.pump()
    assert script.reports == {}
    assert search.reports == {}
    assert search.told == [("requeued", 0, None)]


# ----- ends -----


@pytest.mark.parametrize("state", [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED])
def test_every_end_is_told_once(state: TrialState) -> None:
    """However often it is reported; a repeat of the trial is not told, it never ran."""
    search = Search()
    rows = [*trials(1), replace(trials(1, first=1)[0], same_as=0)]
    script = Script(rows, studies=search)
    script.up("a.1")
    trial = script.end("a.1", error() if state is TrialState.FAILED else None, state=state)
    script.core.finished("a.1", trial.ticket, Outcome(TrialState.COMPLETE), script.now)
    assert search.told == [("ended", 0, state)]
    assert script.stored[1].state is state


def test_a_trial_that_is_lost_for_good_is_told_as_that() -> None:
    """Requeued twice, then LOST."""
    search = Search()
    script = searched(1, search)
    for node in ("a", "b", "c"):
        script.up(f"{node}.1")
        script.start(f"{node}.1")
        script.core.node_lost(node, script.now)
        script.pump()
    assert search.told == [("requeued", 0, None), ("requeued", 0, None), ("ended", 0, TrialState.LOST)]


def test_a_cancelled_trial_is_told_if_it_had_run() -> None:
    """What never started was nothing to the search."""
    search = Search()
    script = searched(3, search)
    script.up("a.1")
    script.start("a.1")
    script.core.cancel(script.now)
    assert search.told == [("ended", 0, TrialState.CANCELLED)]


def test_a_retried_trial_runs_with_its_configuration_and_is_told_again() -> None:
    """FAILED, requeued, then what it comes to."""
    search = Search()
    script = searched(2, search)
    script.up("a.1")
    script.end("a.1", error())
    script.core.retry({TrialState.FAILED}, script.now)
    script.pump()
    script.end("a.1")
    script.end("a.1")
    assert [entry for entry in search.told if entry[1] == 0] == [
        ("ended", 0, TrialState.FAILED),
        ("requeued", 0, None),
        ("ended", 0, TrialState.COMPLETE),
    ]
    assert script.stored[0].config == {"x": 0}


def test_an_attempt_that_was_open_when_the_head_stopped_is_told_in_the_end() -> None:
    """The search was made from rows that say RUNNING; its third loss ends it."""
    running = replace(trials(1)[0], state=TrialState.RUNNING, node="a", attempts=3, started_at=50.0)
    lost = [AttemptRow(0, number, "a", TrialState.LOST, 1.0, 2.0) for number in (1, 2)]
    search = Search()
    Script([running], [*lost, AttemptRow(0, 3, "a", TrialState.RUNNING, 50.0)], studies=search)
    assert search.told == [("ended", 0, TrialState.LOST)]


def test_prune_is_not_said_to_a_slot_that_is_killed() -> None:
    """A report that was under way when its trial timed out finds nobody."""
    script = proven(2, timeout_s=5.0, studies=Search(bar=0.5))
    script.up("a.1")
    script.start("a.1")
    script.now += 5.0
    script.core.tick(script.now)
    script.pump()
    assert script.report("a.1", 0, 0.1) == []
    script.core.slot_down("a.1", LossCause.KILLED, script.now)
