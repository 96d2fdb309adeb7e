"""State against state: over calls that fail, repeat and overtake each other no trial is lost or doubled.

The engine's half is the scheduler's, the slot's half its own (`SlotProtocol`); between them is a network that does what
it likes, while slots begin and end trials and the engine asks back what they have not begun.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test

from raycolab.engine.dispatch import Held, Slot
from raycolab.engine.messages import ENDING, MAX_POINTS, NOTHING, Assignment, Plan, ScheduleOptions, SetupStep, State
from raycolab.engine.slot import SlotProtocol
from raycolab.trials import ErrorKind, Failure, Metric, Outcome, TrialRow, TrialState
from tests.raycolab.engine.driven import Driven

DONE = Outcome(TrialState.COMPLETE, {"accuracy": 1.0})


class ProtocolMachine(Driven):
    """Two slots that live, on a network that does what it likes."""

    @initialize(count=st.integers(2, 30))
    def declare(self, count: int) -> None:
        """A sweep of short trials, of a model that has succeeded before: much lies ahead of the slots."""
        known = TrialRow(0, "svc", "iris", {}, TrialState.COMPLETE, attempts=1, started_at=1.0, ended_at=1.001)
        self.store = {0: known} | {number: TrialRow(number, "svc", "iris", {}) for number in range(1, count + 1)}
        self.options = ScheduleOptions("s", Metric("accuracy"))
        self.take_up()
        for node in ("head", "joiner-1"):
            self.slot_comes(node)
        for slot in self.alive():
            self.exchange(slot)

    @rule(data=st.data(), ends=st.booleans())
    def a_slot_moves(self, data: st.DataObject, ends: bool) -> None:
        """A running trial completes, the next one begins, and that is on its way to the engine."""
        slot = data.draw(st.sampled_from(self.alive()))
        if ends:
            self.end(slot, None, 0.001)
        self.begin(slot)
        slot.call()

    @rule()
    def all_is_taken_back(self) -> None:
        """Somebody pauses, and goes on."""
        self.scheduler.pause(self.now)
        self.pump()
        self.scheduler.resume(self.now)
        self.pump()

    def teardown(self) -> None:
        """Every trial ran once."""
        if not hasattr(self, "scheduler"):
            return
        for _ in range(200):
            if self.finished is None:
                self.one_round()
        assert self.finished is not None, "something was lost"
        assert {row.state for row in self.store.values()} == {TrialState.COMPLETE}
        assert {row.attempts for row in self.store.values()} == {1}


TestProtocolMachine = ProtocolMachine.TestCase
TestProtocolMachine.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)


@pytest.mark.slow
def test_thousands_of_networks() -> None:
    """The same, long."""
    long = settings(max_examples=3_000, stateful_step_count=100, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(ProtocolMachine, settings=long)


# ----- the slot's half -----


def test_a_slot_that_loads_main_says_how_far_it_is() -> None:
    """In each of its states until it has loaded MAIN, so that a lost call costs nothing."""
    slot = SlotProtocol("a.1")
    said = []
    for step in (lambda: slot.sets_up(None), lambda: slot.sets_up(4), lambda: slot.loaded({4: 1.0})):
        step()
        state = slot.next_state()
        assert state is not None
        slot.failed(state)
        said.append((state.setup, state.loaded))
    assert said == [(SetupStep(None), None), (SetupStep(4), None), (None, {4: 1.0})]


def trial(ticket: int) -> Assignment:
    """A trial under this ticket."""
    return Assignment(ticket, ticket, "svc", "iris", {})


def state_of(protocol: SlotProtocol) -> State:
    """The state that is due."""
    assert protocol.is_call_due
    state = protocol.next_state()
    assert state is not None
    return state


def given(*tickets: int) -> SlotProtocol:
    """A slot that was given these trials, with no call under way."""
    protocol = SlotProtocol("head.1")
    plan = Plan(1, tickets, tuple(map(trial, tickets)))
    protocol.answered(state_of(protocol), plan, 0.1)
    return protocol


def test_a_state_says_all_there_is_to_know() -> None:
    """What it runs, holds, has ended and reported, in one call."""
    protocol = given(1, 2, 3)
    assert protocol.take() == trial(1)
    protocol.reported(0, 0.1)
    protocol.finished(DONE)
    assert protocol.take() == trial(2)
    state = state_of(protocol)
    assert (state.number, state.plan, state.may_wait) == (2, 1, False)
    assert (state.running, state.unstarted) == (2, (3,))
    assert (state.finished, state.reports) == (((1, DONE),), ((1, ((0, 0.1),)),))


def test_one_call_waits_for_work_and_one_more_brings_news() -> None:
    """No third; news that come while one with news is under way wait for its answer."""
    protocol = given(1, 2)
    waits = state_of(protocol)
    assert waits.may_wait
    assert not protocol.is_call_due
    protocol.take()
    brings = state_of(protocol)
    assert not brings.may_wait
    protocol.finished(DONE)
    assert not protocol.is_call_due
    protocol.answered(waits, NOTHING, 0.1)
    assert not protocol.is_call_due
    protocol.answered(brings, NOTHING, 0.1)
    assert state_of(protocol).finished == ((1, DONE),)


def test_what_a_failed_call_carried_is_said_again() -> None:
    """With what has come since."""
    protocol = SlotProtocol("head.1")
    failure = Failure(ErrorKind.SETUP, "ImportError", "no torch")
    protocol.setup_failed(failure)
    first = state_of(protocol)
    protocol.failed(first)
    assert state_of(protocol).setup_failure == failure
    protocol = given(1)
    protocol.take()
    protocol.reported(0, 0.1)
    first = state_of(protocol)
    protocol.reported(1, 0.2)
    protocol.finished(DONE)
    protocol.failed(first)
    again = state_of(protocol)
    assert again.number == first.number + 1
    assert (again.finished, again.reports) == (((1, DONE),), ((1, ((0, 0.1), (1, 0.2))),))


def test_an_older_plan_changes_nothing() -> None:
    """What was left out since is not taken up again, nor what was started."""
    protocol = given(1, 2, 3)
    older, newer = Plan(2, (1, 2, 3, 4), (trial(4),)), Plan(3, (1, 3))
    protocol.answered(state_of(protocol), newer, 0.1)
    state = state_of(protocol)
    assert (state.plan, state.unstarted) == (3, (1, 3))
    protocol.take()
    protocol.answered(state, older, 0.1)
    assert protocol.unstarted == (3,)


def test_a_trial_that_was_started_is_not_taken_up_again() -> None:
    """A newer plan that crossed the news of its start names it as new once more."""
    protocol = given(1)
    protocol.take()
    protocol.answered(state_of(protocol), Plan(2, (1, 2), (trial(1), trial(2))), 0.1)
    assert protocol.unstarted == (2,)


# ----- the engine's half -----


def test_what_is_asked_back_counts_as_given_back_once_the_slot_knows() -> None:
    """Not while the plan that gave it may still be on its way, nor if it was started."""
    slot = Slot("head.1", "head", plan=1, held={each: Held(trial(each), last=False) for each in (1, 2)})
    slot.revoke(slot.unstarted, 100.0)
    assert slot.plan_after(State("head.1", 1, 0, may_wait=True)) == Plan(2)
    assert slot.given_back(State("head.1", 1, 0, may_wait=True)) == []
    assert slot.given_back(State("head.1", 2, 1, may_wait=True, unstarted=(2,))) == []
    slot.held[1].started_at = 101.0
    slot.held[1].revoked_at = None
    assert slot.given_back(State("head.1", 3, 2, may_wait=True)) == [slot.held[2]]


def test_a_plan_carries_the_trials_that_the_slot_lacks() -> None:
    """And names the others; to a slot that has carried it out there is nothing to say."""
    slot = Slot("head.1", "head", plan=4, held={each: Held(trial(each), last=False) for each in (1, 2)})
    state = State("head.1", 1, 3, may_wait=True, unstarted=(1,))
    assert slot.plan_after(state) == Plan(4, (1, 2), (trial(2),))
    assert slot.plan_after(State("head.1", 2, 4, may_wait=True, unstarted=(1, 2))) is NOTHING


# ----- the end -----


def test_the_end_is_final() -> None:
    """What was given and not started is left, nothing is asked for, and the slot closes when all is said."""
    protocol = given(1, 2)
    protocol.take()
    protocol.answered(state_of(protocol), ENDING, 0.1)
    protocol.finished(DONE)
    assert protocol.take() is None
    last = state_of(protocol)
    assert last.finished == ((1, DONE),)
    protocol.answered(last, Plan(9, (2,), (trial(2),)), 0.1)
    assert protocol.take() is None
    assert not protocol.is_call_due
    protocol.close(0.0)
    assert protocol.next_state() is None


def test_the_round_trip_leaves_out_how_long_the_engine_kept_the_call() -> None:
    """It is what the next call tells the engine."""
    protocol = SlotProtocol("head.1")
    state = state_of(protocol)
    assert state.round_trip_s is None
    protocol.answered(state, Plan(0, held_s=20.0), 20.25)
    assert state_of(protocol).round_trip_s == 0.25


def test_of_a_flood_of_reports_the_latest_are_kept() -> None:
    """While the line is busy, or down."""
    protocol = given(7)
    assert not protocol.reported(0, 0.1), "nothing runs"
    protocol.take()
    for _ in range(2):
        for step in range(2 * MAX_POINTS):
            protocol.reported(step, 0.5)
        state = state_of(protocol)
        ((ticket, points),) = state.reports
        assert ticket == 7
        assert [step for step, _ in points] == list(range(MAX_POINTS, 2 * MAX_POINTS))
        protocol.failed(state)


def test_a_trial_hears_that_it_may_give_up_at_its_next_report() -> None:
    """And only the one that the plan names."""
    protocol = given(7, 8)
    protocol.take()
    protocol.answered(state_of(protocol), Plan(2, (8,), prune=6), 0.1)
    assert not protocol.reported(0, 0.1)
    protocol.answered(state_of(protocol), Plan(3, (8,), prune=7), 0.1)
    assert protocol.reported(1, 0.1)
    protocol.finished(DONE)
    protocol.take()
    assert not protocol.reported(0, 0.1)
