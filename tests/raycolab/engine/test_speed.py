"""What the scheduler itself costs: a sweep of trials that take no time, in this process, no engine and no store."""

from __future__ import annotations

import time

import pytest

from raycolab.engine.dispatch import Slot
from raycolab.engine.messages import Assignment, Finished, ScheduleOptions, State, Write
from raycolab.engine.scheduler import Scheduler
from raycolab.trials import Metric, Outcome, TrialRow, TrialState
from tests.bench.measure import report

SLOTS = ("head.1", "head.2")
TRIAL_S = 1e-5


def sweep(count: int, batch: int) -> tuple[float, Scheduler]:
    """CPU seconds until two slots that report in batches have ended so many trials, and the scheduler."""
    rows = [TrialRow(number, "svc", "iris", {"x": number}) for number in range(count)]
    begun = time.process_time()
    core = Scheduler(rows, [], ScheduleOptions("s", Metric("accuracy")))
    held: dict[str, list[Assignment]] = {slot: [] for slot in SLOTS}
    plans = dict.fromkeys(SLOTS, 0)
    now, over, states = 100.0, False, 1
    for slot in SLOTS:
        core.slot_starting(Slot(slot, "head"), now)
        core.hear(State(slot, 1, 0, may_wait=False, round_trip_s=0.01, loaded={}), now)
    while not over:
        for slot in SLOTS:
            taken, held[slot] = held[slot][:batch], held[slot][batch:]
            now += TRIAL_S * len(taken)
            ended = tuple(
                (trial.ticket, Outcome(TrialState.COMPLETE, {"accuracy": 1.0}, None, now - TRIAL_S, now))
                for trial in taken
            )
            states += 1
            unstarted = tuple(trial.ticket for trial in held[slot])
            state = State(slot, states, plans[slot], may_wait=not ended, unstarted=unstarted, finished=ended)
            core.hear(state, now)
            while commands := core.commands(now):
                for command in commands:
                    match command:
                        case Write(write_id):
                            core.committed(write_id, now)
                        case Finished():
                            over = True
            plan = core.plan(state)
            if plan.number > plans[slot]:
                plans[slot] = plan.number
                known = {trial.ticket: trial for trial in (*held[slot], *plan.new)}
                held[slot] = [known[ticket] for ticket in plan.hold]
    return time.process_time() - begun, core


def test_a_sweep_in_batches_and_one_by_one_ends() -> None:
    """Every trial is COMPLETE, whatever the slots report at once."""
    for batch in (1, 32):
        _, core = sweep(200, batch)
        assert core.book.counts[TrialState.COMPLETE] == 200


@pytest.mark.bench
def test_microseconds_per_trial() -> None:
    """Two slots, batches of 32 and single reports, up to 100,000 trials; the cost of a trial must not grow."""
    sweep(2_000, 32)
    counts = (1_000, 10_000, 100_000)
    batched = {count: min(sweep(count, 32)[0] for _ in range(3)) / count * 1e6 for count in counts}
    single = min(sweep(10_000, 1)[0] for _ in range(3)) / 10_000 * 1e6
    report(
        "scheduler",
        batched_us={str(count): cost for count, cost in batched.items()},
        single_us=single,
        growth=batched[100_000] / batched[1_000],
    )
    assert batched[100_000] < 2 * batched[1_000]
