"""The scheduler under random events: slots come, go and stall, reports are late, repeated and out of order.

The model beside it is the world: slots that really hold and run trials, a store that really commits, a search that
proposes and prunes. Whatever happens, no trial is lost, none runs in two places, none that is final runs again, the
search hears of each end once, and the sweep ends when slots work, each trial in one final state.
"""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from raycolab.engine.messages import LossCause, ScheduleOptions
from raycolab.trials import FINAL_STATES, ErrorKind, Failure, Metric, SweepState, TrialRow, TrialState
from tests.raycolab.engine.driven import Driven
from tests.raycolab.engine.world import MODELS, NODES, SERVED, assert_within_budgets

STEPS = [3600.0, -3600.0, 86400.0, -86400.0]  # of a clock that is set


class SchedulerMachine(Driven):
    """Random events against one sweep, with restarts of the scheduler in between."""

    @initialize(
        count=st.integers(1, 25),
        twins=st.integers(0, 4),
        timeout=st.booleans(),
        proposed=st.booleans(),
        max_failures=st.sampled_from([None, None, 1, 3]),
        max_concurrent=st.sampled_from([None, None, 1, 2]),
    )
    def declare(
        self,
        count: int,
        twins: int,
        timeout: bool,
        proposed: bool,
        max_failures: int | None,
        max_concurrent: int | None,
    ) -> None:
        """A sweep of `count` trials: some repeat an earlier configuration, or all are yet to be proposed."""
        self.store = {
            number: TrialRow(number, MODELS[number % 2], "iris", None if proposed else {"C": number})
            for number in range(count)
        }
        for extra in range(0 if proposed else min(twins, count)):
            number = count + extra
            self.store[number] = TrialRow(number, MODELS[extra % 2], "iris", {"C": extra}, same_as=extra)
        self.options = ScheduleOptions(
            "s",
            Metric("accuracy"),
            timeout_s=50.0 if timeout else None,
            max_failures=max_failures,
            max_concurrent=max_concurrent,
            setup_timeout_s=300.0 if timeout else None,
        )
        self.take_up()

    # ----- slots -----

    @rule(node=st.sampled_from(NODES), models=st.sampled_from(SERVED), for_one=st.booleans())
    def slot_comes(self, node: str, models: frozenset[str] | None = None, for_one: bool = False) -> None:
        """A slot starts and loads MAIN; it may be for some models only, or for one trial."""
        super().slot_comes(node, models, for_one)

    @precondition(lambda self: self.alive())
    @rule(data=st.data(), cause=st.sampled_from([LossCause.CRASH, LossCause.NODE, LossCause.OOM, LossCause.ENDED]))
    def slot_dies(self, data: st.DataObject, cause: LossCause) -> None:
        """A slot's process dies with all that it has not said."""
        slot = data.draw(st.sampled_from(self.alive()))
        slot.die(cause)
        self.tell_end(slot)

    @precondition(lambda self: any(slot.down for slot in self.slots.values()))
    @rule(data=st.data())
    def an_end_is_told(self, data: st.DataObject) -> None:
        """The driver hears that a slot was killed, or has ended as it was told."""
        self.tell_end(data.draw(st.sampled_from([slot for slot in self.slots.values() if slot.down])))

    @precondition(lambda self: self.alive())
    @rule(data=st.data(), models=st.sampled_from([*SERVED, frozenset()]))
    def slot_is_for_others(self, data: st.DataObject, models: frozenset[str] | None) -> None:
        """The models' resources changed: the slot is for other models from now on, or for none."""
        slot = data.draw(st.sampled_from(self.alive()))
        slot.models = models
        self.scheduler.slot_serves(slot.id, models, self.now)
        self.pump()

    @precondition(lambda self: self.alive())
    @rule(node=st.sampled_from(NODES))
    def node_dies(self, node: str) -> None:
        """A node dies with all its slots."""
        for slot in self.slots.values():
            if slot.node == node:
                slot.die()
        self.scheduler.node_lost(node, self.now)
        self.pump()

    @precondition(lambda self: any(slot.running for slot in self.alive()))
    @rule(data=st.data(), step=st.integers(0, 3), value=st.floats(0, 1))
    def trial_reports(self, data: st.DataObject, step: int, value: float) -> None:
        """A running trial reports an intermediate value."""
        slot = data.draw(st.sampled_from([slot for slot in self.alive() if slot.running]))
        slot.may_give_up |= slot.protocol.reported(step, value)

    @precondition(lambda self: any(slot.running for slot in self.alive()))
    @rule(data=st.data(), good=st.integers(0, 4), seconds=st.floats(0, 5))
    def trial_ends(self, data: st.DataObject, good: int, seconds: float) -> None:
        """A running trial completes, gives up where it was told to, fails, or has no memory."""
        slot = data.draw(st.sampled_from([slot for slot in self.alive() if slot.running]))
        kind = {0: ErrorKind.EXCEPTION, 1: ErrorKind.OOM}.get(good)
        self.end(slot, None if kind is None else Failure(kind, "Error", "no"), seconds)

    @rule(kind=st.sampled_from([None, None, ErrorKind.EXCEPTION, ErrorKind.OOM]), value=st.floats(0, 1))
    def all_work_for_a_while(self, kind: ErrorKind | None, value: float) -> None:
        """Every slot is heard, reports, ends its trial and begins the next; without this few sweeps get far."""
        for slot in self.alive():
            if slot.running is not None:
                for step in (0, 1):
                    slot.may_give_up |= slot.protocol.reported(step, value)
        self.one_round(None if kind is None else Failure(kind, "Error", "no"))

    # ----- people and time -----

    @rule(seconds=st.floats(0.1, 60))
    def time_passes(self, seconds: float) -> None:
        """A while goes by."""
        self.now += seconds
        self.scheduler.tick(self.now)
        self.pump()

    @rule()
    def somebody_pauses(self) -> None:
        """Pause."""
        self.scheduler.pause(self.now)
        self.pump()

    @rule()
    def somebody_resumes(self) -> None:
        """Resume."""
        self.scheduler.resume(self.now)
        self.pump()

    @precondition(lambda self: self.finished is None and not self.asked_to_end)
    @rule(states=st.sampled_from([{TrialState.FAILED}, {TrialState.LOST}, {TrialState.FAILED, TrialState.LOST}]))
    def somebody_retries(self, states: set[TrialState]) -> None:
        """Retry what failed or was lost."""
        rows = self.scheduler.book.rows.values()
        self.reopened.update(row.number for row in rows if row.state in states)
        self.scheduler.retry(states, self.now)
        self.pump()

    @rule(dice=st.integers(0, 19))
    def somebody_ends_it(self, dice: int) -> None:
        """Stop or cancel, rarely."""
        if dice not in (13, 17):  # 0 and 1 come far more often than the others
            return
        self.asked_to_end = True
        (self.scheduler.stop if dice == 13 else self.scheduler.cancel)(self.now)
        self.pump()

    @precondition(lambda self: self.alive())
    @rule(data=st.data(), seconds=st.sampled_from(STEPS))
    def a_node_has_its_clock_set(self, data: st.DataObject, seconds: float) -> None:
        """In the midst of a trial, by an hour or a day; the engine reckons by a clock that nobody sets."""
        data.draw(st.sampled_from(self.alive())).next_clock += seconds

    @precondition(lambda self: self.finished is None)
    @rule(dice=st.integers(0, 9), seconds=st.sampled_from([0.0, *STEPS]))
    def the_head_restarts(self, dice: int, seconds: float) -> None:
        """The engine dies, its slots with it, and a new one takes up what the store has, by the clock as it is then."""
        if dice:
            return
        self.now += seconds
        self.slots.clear()
        self.writes.clear()
        self.asked_to_end = False
        self.take_up()

    # ----- what always holds -----

    @invariant()
    def counts_are_the_stores(self) -> None:
        """What people are told is what is committed, and totals are totals."""
        if not hasattr(self, "scheduler"):
            return
        told = Counter({state: count for state, count in self.scheduler.book.counts.items() if count})
        assert told == Counter(row.state for row in self.store.values())
        assert set(self.scheduler.book.rows) == set(self.store)

    @invariant()
    def no_end_is_before_its_start(self) -> None:
        """Whatever clocks were set to, of every trial and attempt that is stored."""
        for each in (*self.store.values(), *self.stored_attempts.values()):
            assert each.started_at is None or each.ended_at is None or each.started_at <= each.ended_at

    @invariant()
    def no_more_run_at_once_than_may(self) -> None:
        """Whatever else is given out."""
        if hasattr(self, "scheduler") and self.options.max_concurrent is not None:
            assert sum(bool(slot.held) for slot in self.scheduler.slots.values()) <= self.options.max_concurrent

    def teardown(self) -> None:
        """With slots that work the sweep ends, and every trial has one final state."""
        if not hasattr(self, "scheduler"):
            return
        self.scheduler.resume(self.now)
        for slot in self.alive()[1:]:
            slot.die(LossCause.NODE)
        for _ in range(500):
            self.pump()
            if self.finished is not None and self.finished.state is SweepState.HELD:
                self.start_again()
            if self.finished is not None:
                break
            self.one_round()
        assert self.finished is not None, "the sweep never ended"
        assert {row.state for row in self.store.values()} <= FINAL_STATES
        assert all(row.config is not None for row in self.store.values() if row.attempts), "no configuration"
        ran = {key[0] for key in self.stored_attempts}
        assert {number for number, _ in self.stored_reports} <= ran, "a report of a trial that never ran"
        still_open = [attempt for attempt in self.stored_attempts.values() if attempt.outcome == TrialState.RUNNING]
        assert not still_open, "an attempt was left open"
        for number, row in self.store.items():
            mine = [attempt for key, attempt in self.stored_attempts.items() if key[0] == number]
            assert_within_budgets(row, mine, was_reopened=number in self.reopened)
            told = row.attempts == 0 or number in self.search.over
            assert told, "the search never heard of the end"
        if not self.asked_to_end:
            assert self.finished.state is SweepState.COMPLETE


TestSchedulerMachine = SchedulerMachine.TestCase
TestSchedulerMachine.settings = settings(max_examples=120, stateful_step_count=60, deadline=None)


@pytest.mark.slow
def test_thousands_of_runs() -> None:
    """The same, long: 3,000 sweeps of up to 100 events."""
    long = settings(max_examples=3_000, stateful_step_count=100, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(SchedulerMachine, settings=long)
