"""The scheduler's specification: scripts of events, and the commands they lead to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from raycolab.engine.dispatch import Slot
from raycolab.engine.guards import SETUP_DEATHS
from raycolab.engine.messages import Assignment, Finished, LossCause, ScheduleOptions, State
from raycolab.engine.pace import MAX_AHEAD
from raycolab.engine.scheduler import Scheduler
from raycolab.trials import AttemptRow, Config, ErrorKind, Metric, Outcome, SweepState, TrialRow, TrialState, trial_seed
from tests.raycolab.engine.script import ROUND_TRIP_S, Script, done, error, proven, trials

# ----- a trial's way -----


def test_a_trial_is_assigned_runs_and_completes() -> None:
    """PENDING, RUNNING with an open attempt, COMPLETE with the outcome; then the sweep is finished."""
    script = Script([TrialRow(0, "svc", "iris", {"C": 1.0})])
    script.up("head.1")
    assert script.handed["head.1"] == [Assignment(1, 0, "svc", "iris", {"C": 1.0}, trial_seed(0, 0), 1)]
    script.start("head.1")
    assert script.stored[0].state is TrialState.RUNNING
    assert script.attempts[0, 1] == AttemptRow(0, 1, "head", TrialState.RUNNING, 100.0)
    script.end("head.1")
    row = script.stored[0]
    assert (row.state, row.node, row.attempts, row.duration_s) == (TrialState.COMPLETE, "head", 1, 10.0)
    assert (row.seed, row.main_version) == (trial_seed(0, 0), 1)
    assert script.attempts[0, 1].outcome == TrialState.COMPLETE
    assert script.finish == Finished(SweepState.COMPLETE)


def test_a_failed_trial_keeps_its_error_and_the_sweep_goes_on() -> None:
    """The user's exception is final; every field of it reaches the row."""
    script = proven(2)
    script.up("head.1")
    script.end("head.1", error("no such C"))
    row = script.stored[0]
    assert (row.state, row.error_kind) == (TrialState.FAILED, ErrorKind.EXCEPTION)
    assert (row.error, row.traceback, row.cell_index) == ("ValueError: no such C (cell 3)", "Traceback", 3)
    script.end("head.1")
    assert script.finish is not None


def test_it_counts_when_it_is_committed() -> None:
    """Counts and best come from committed rows, and the end waits for them."""
    script = Script(trials(1), commits=False)
    script.up("head.1")
    script.end("head.1")
    assert script.core.book.counts[TrialState.PENDING] == 1
    assert script.core.book.best is None
    assert script.finish is None
    script.core.committed(99, script.now)
    script.pump()
    assert script.core.book.counts[TrialState.COMPLETE] == 1
    assert script.core.book.best == script.stored[0]
    assert script.finish is not None


@pytest.mark.parametrize(("mode", "best"), [("max", 1), ("min", 0)])
def test_the_best_is_a_finite_number_of_a_complete_trial(mode: str, best: int) -> None:
    """NaN, infinite and missing values are never the best."""
    values: Iterable[Config] = [{"a": 1.0}, {"a": 2.0}, {"a": float("nan")}, {"a": float("inf")}, {"b": 3.0}]
    rows = [replace(done(row), metrics=metrics) for row, metrics in zip(trials(5), values, strict=True)]
    core = Scheduler(rows, [], ScheduleOptions("s", Metric("a", mode)))
    assert core.book.best == rows[best]


def test_metrics_that_no_float_can_hold_are_counted() -> None:
    """Two trials that measured 10**400 are two COMPLETE ones, neither of which is the best."""
    script = Script(trials(2))
    script.up("head.1")
    for number in range(2):
        trial = script.start("head.1")
        outcome = Outcome(TrialState.COMPLETE, {"accuracy": 10**400}, None, 1.0, 2.0)
        script.core.finished("head.1", trial.ticket, outcome, script.now)
        script.handed["head.1"].pop(0)
        script.pump()
        assert script.core.book.counts[TrialState.COMPLETE] == number + 1
    assert script.core.book.best is None
    assert script.finish == Finished(SweepState.COMPLETE)


def test_stale_reports_change_nothing() -> None:
    """A repeated report, one of another slot, one of a slot that is gone, one of an old ticket."""
    script = proven(2)
    script.up("head.1", "head.2")
    trial = script.end("head.1")
    rows = dict(script.core.book.rows)
    outcome = Outcome(TrialState.FAILED, failure=error())
    for slot in ("head.1", "head.2", "nobody"):
        script.core.started(slot, trial.ticket, script.now)
        script.core.finished(slot, trial.ticket, outcome, script.now)
        script.core.hear(State(slot, 9, 9, may_wait=False, finished=((trial.ticket, outcome),)), script.now)
    script.core.slot_down("head.2", LossCause.CRASH, script.now)
    rows_after_loss = dict(script.core.book.rows)
    script.core.slot_up("head.2", script.now)
    assert [slot.id for slot in script.core.slots.values()] == ["head.1"]
    assert {number: rows_after_loss[number] for number in rows if number != 1} == {
        number: row for number, row in rows.items() if number != 1
    }


def test_a_finish_that_overtakes_its_start_counts_once() -> None:
    """The start that comes late is stale."""
    script = proven(1)
    script.up("head.1")
    trial = script.handed["head.1"][0]
    script.core.finished("head.1", trial.ticket, Outcome(TrialState.COMPLETE, {}, None, 90.0, 95.0), 100.0)
    script.core.started("head.1", trial.ticket, 101.0)
    script.pump()
    assert script.stored[0].state is TrialState.COMPLETE
    assert script.attempts[0, 1].started_at == 90.0


# ----- what lies ahead -----


def test_long_trials_have_one_ahead() -> None:
    """Of trials longer than the round trip a slot holds the one it runs and one more."""
    script = proven(20, wait_for_slots=2)
    script.up("head.1", "head.2")
    assert (script.numbers("head.1"), script.numbers("head.2")) == ([0, 2], [1, 3])


def test_short_trials_cover_the_round_trip() -> None:
    """What lies ahead lasts two round trips, with a bound."""
    script = proven(2000)
    script.up("head.1")
    for _ in range(40):
        script.end("head.1", seconds=0.05)
    ahead = len(script.numbers("head.1")) - 1
    assert 2 * ROUND_TRIP_S <= ahead * 0.05 <= 4 * ROUND_TRIP_S
    for _ in range(200):
        script.end("head.1", seconds=0.0001)
    assert len(script.numbers("head.1")) == MAX_AHEAD + 1


def test_the_end_is_shared_out() -> None:
    """No slot holds two while another has none."""
    script = proven(5, wait_for_slots=4)
    script.up("head.1", "head.2", "a.1", "a.2")
    assert [len(script.numbers(slot)) for slot in ("head.1", "head.2", "a.1", "a.2")] == [2, 1, 1, 1]


def test_an_idle_slot_takes_back_from_another_and_waits_for_the_answer() -> None:
    """A trial held ahead elsewhere is asked back, and assigned only when it was given back."""
    script = proven(2)
    script.up("head.1")
    script.start("head.1")
    assert script.numbers("head.1") == [0, 1]
    script.up("a.1")
    assert script.numbers("a.1") == []
    script.give_back("head.1")
    assert (script.numbers("head.1"), script.numbers("a.1")) == ([0], [1])


def test_a_revoke_that_comes_too_late_is_refused_by_starting() -> None:
    """The slot has started the trial: it stays there."""
    script = proven(2)
    script.up("head.1")
    script.start("head.1")
    script.up("a.1")
    script.end("head.1")
    script.start("head.1")
    assert script.numbers("a.1") == []
    assert script.stored[1].node == "head"


# ----- loss -----


def test_a_lost_node_charges_what_had_started_only() -> None:
    """The running trial is charged and goes first, elsewhere; what was held ahead goes back uncharged."""
    script = proven(6)
    script.up("a.1")
    script.start("a.1")
    script.core.node_lost("a", script.now, "a went away")
    script.pump()
    assert script.attempts == {(0, 1): AttemptRow(0, 1, "a", TrialState.LOST, 100.0, 100.0, "a went away")}
    assert (script.stored[0].state, script.stored[0].attempts) == (TrialState.PENDING, 1)
    script.up("b.1")
    assert script.numbers("b.1")[0] == 0
    assert script.stored[1].attempts == 0


def test_a_lost_trial_goes_to_another_node_if_there_is_one() -> None:
    """Its own node is avoided while another is at work, and taken when it is alone."""
    script = proven(1)
    script.up("a.1")
    script.start("a.1")
    script.up("b.1")
    script.core.slot_down("a.1", LossCause.CRASH, script.now)
    script.up("a.2")
    assert (script.numbers("a.2"), script.numbers("b.1")) == ([], [0])
    script.start("b.1")
    script.core.node_lost("b", script.now)
    script.pump()
    assert script.numbers("a.2") == [0]


def test_a_lost_trial_waits_for_another_node_that_is_busy() -> None:
    """A free slot of the node where it was lost runs others meanwhile."""
    script = proven(9)
    script.up("b.1", "a.1")
    script.start("b.1")
    lost = script.start("a.1").number
    script.core.slot_down("a.1", LossCause.CRASH, script.now)
    script.up("a.2")
    assert lost not in script.numbers("a.2")
    script.end("b.1")
    assert script.numbers("b.1")[-1] == lost


def test_a_trial_that_waits_for_another_node_is_not_taken_back_for_this_one() -> None:
    """A slot that may not run it leaves it where it is, though it has nothing to do: it would go back and forth."""
    script = proven(2)
    script.up("a.1", "b.1")
    lost = script.start("a.1").number
    script.start("b.1")
    script.core.slot_down("a.1", LossCause.CRASH, script.now)
    script.pump()
    assert script.numbers("b.1")[-1] == lost
    script.up("a.2")
    script.now += 60.0
    script.pump()
    assert script.asked_back("b.1") == []
    script.up("c.1")
    assert script.asked_back("b.1") == [script.handed["b.1"][-1].ticket]


def test_the_third_loss_is_final() -> None:
    """Three infrastructure attempts, then LOST with its kind and a sentence."""
    script = proven(1)
    for node in ("a", "b", "c"):
        script.up(f"{node}.1")
        script.start(f"{node}.1")
        script.core.node_lost(node, script.now, f"{node} went away")
        script.pump()
    row = script.stored[0]
    assert (row.state, row.error_kind, row.attempts) == (TrialState.LOST, ErrorKind.LOST, 3)
    assert row.error == "lost 3 times, the last time on c: c went away"
    assert script.finish is not None


def test_a_process_that_dies_without_a_word_charges_the_first_in_line() -> None:
    """A trial that kills its process at once is not tried for ever; a lost node leaves it uncharged."""
    script = proven(3)
    script.up("a.1")
    script.core.slot_down("a.1", LossCause.CRASH, script.now)
    script.pump()
    assert [attempt.trial for attempt in script.attempts.values()] == [0]
    script.up("a.2")
    script.core.slot_down("a.2", LossCause.NODE, script.now)
    script.pump()
    assert [attempt.trial for attempt in script.attempts.values()] == [0]


def test_nothing_is_queued_behind_a_trial_that_was_lost() -> None:
    """Should its slot die again there is no doubt which one ran."""
    script = proven(99)
    script.up("a.1")
    script.start("a.1")
    script.core.slot_down("a.1", LossCause.CRASH, script.now)
    script.up("a.2")
    assert script.numbers("a.2") == [0]
    script.end("a.2", seconds=0.01)
    for _ in range(20):
        script.end("a.2", seconds=0.01)
    ahead = script.numbers("a.2")
    script.up("b.1")
    script.start("b.1")
    script.core.slot_down("b.1", LossCause.CRASH, script.now)
    lost = script.attempts[max(script.attempts)].trial
    for trial in script.handed["a.2"][:3]:  # three reports in one call, and room for three more
        script.core.finished("a.2", trial.ticket, Outcome(TrialState.COMPLETE), script.now)
    script.pump()
    assert script.numbers("a.2") == [*ahead, lost]


# ----- time -----


def test_nothing_is_given_out_before_the_expected_slots_are_up() -> None:
    """They wait for each other, but not for ever."""
    script = proven(9, wait_for_slots=2)
    script.up("a.1")
    assert script.numbers("a.1") == []
    script.up("b.1")
    assert script.numbers("a.1")
    late = proven(9, wait_for_slots=2)
    late.up("a.1")
    deadline = late.core.next_deadline()
    assert deadline is not None
    late.now = deadline
    late.core.tick(late.now)
    late.pump()
    assert late.numbers("a.1")


def test_the_eta_is_the_work_left_over_the_slots() -> None:
    """It is None while nothing is measured, and drops as slots come."""
    script = Script(trials(9))
    script.up("a.1")
    assert script.core.eta_s(script.now) is None
    script.end("a.1")
    assert script.core.eta_s(script.now) == pytest.approx(80)
    script.up("b.1")
    assert script.core.eta_s(script.now) == pytest.approx(40)


def test_the_status_names_the_trial_each_node_runs() -> None:
    """One per node, the one that started last."""
    script = proven(9)
    script.up("a.1", "a.2", "b.1")
    script.start("a.1")
    script.now += 1
    second = script.start("a.2")
    assert {node: row.number for node, row in script.core.running_on().items()} == {"a": second.number}


# ----- duplicates -----


def test_a_repeated_configuration_takes_the_first_ones_result() -> None:
    """Its own row, the same state and metrics, no attempt of its own."""
    rows = [*trials(1), replace(trials(1, first=1)[0], same_as=0)]
    script = Script(rows)
    script.up("a.1")
    assert script.numbers("a.1") == [0]
    script.end("a.1")
    twin = script.stored[1]
    assert (twin.state, twin.metrics, twin.attempts, twin.same_as) == (TrialState.COMPLETE, {"accuracy": 0.5}, 0, 0)
    assert script.finish is not None
    assert list(script.attempts) == [(0, 1)]


# ----- resume -----


def test_what_was_open_when_the_head_stopped_is_lost_and_runs_again() -> None:
    """Final rows are kept as they are, an open attempt is closed with its reason, the trial goes first."""
    final = done(trials(1)[0])
    running = replace(trials(1, first=1)[0], state=TrialState.RUNNING, node="a", attempts=1, started_at=50.0)
    script = Script([final, running, *trials(2, first=2)], [AttemptRow(1, 1, "a", TrialState.RUNNING, 50.0)])
    assert script.stored[0] == final
    assert script.attempts[1, 1].outcome == TrialState.LOST
    assert script.attempts[1, 1].reason == "the head stopped"
    script.up("b.1")
    assert script.numbers("b.1")[0] == 1
    script.start("b.1")
    assert script.attempts[1, 2].node == "b"


def test_a_lost_trial_that_is_tried_again_has_a_full_budget() -> None:
    """Also after another start of the head: its three lost attempts are not counted on."""
    lost = [AttemptRow(0, number, "a", TrialState.LOST, 1.0, 2.0) for number in (1, 2, 3)]
    script = Script([replace(trials(1)[0], attempts=3)], lost)
    for turn, state in ((1, TrialState.PENDING), (2, TrialState.PENDING), (3, TrialState.LOST)):
        script.up(f"b.{turn}")
        script.start(f"b.{turn}")
        script.core.slot_down(f"b.{turn}", LossCause.NODE, script.now)
        script.pump()
        assert script.stored[0].state is state


def test_a_sweep_that_is_extended_runs_what_is_new() -> None:
    """New rows count and run; a new repeat of a finished trial is settled at once."""
    script = proven(1, commits=False)
    script.up("a.1")
    twin = replace(trials(1, first=3)[0], same_as=1)
    script.core.add([*script.stored.values(), trials(1, first=2)[0], twin], script.now)
    script.pump()
    assert script.core.book.rows[3].state is TrialState.COMPLETE
    assert script.core.book.counts.total() == 4
    assert {0, 2} == script.core.book.unfinished


def test_nothing_is_commanded_after_the_end() -> None:
    """Slots that die while they load MAIN once the sweep is over bench no node."""
    script = proven(1)
    script.up("a.1")
    script.end("a.1")
    for turn in range(SETUP_DEATHS):
        script.core.slot_starting(Slot(f"b.{turn}", "b"), script.now)
        script.core.slot_down(f"b.{turn}", LossCause.CRASH, script.now)
    assert script.pump() == []
