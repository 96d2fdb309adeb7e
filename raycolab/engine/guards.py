"""The guards that keep one mistake from wasting a sweep.

ModelGuards: one smoke trial per model goes first; while none has succeeded, one at a time. One that takes longer than
ALONE_S is no longer waited for: what fails at once has failed by then, and an hour of every slot is too much for the
rest. The same error HOLD_AFTER times in a row without a success of the model holds it.
NodeGuards: a node whose setup fails gets no more slots; one that fails BENCH_AFTER trials in a row, of models that
finish elsewhere, gets no more trials.
Budget: failures and seconds. StartBarrier: slots wait for each other before the first trial.
They only judge; `Scheduler` acts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from raycolab.engine.messages import ScheduleOptions
from raycolab.trials import AttemptRow, ErrorIdentity, ErrorKind, Failure, Outcome, TrialRow, TrialState

__all__ = [
    "ALONE_S",
    "BENCH_AFTER",
    "HOLD_AFTER",
    "SETUP_DEATHS",
    "Budget",
    "ModelGuards",
    "NodeGuards",
    "StartBarrier",
]

# The others of a model wait this long for its smoke trial, from when that was given out.
ALONE_S = 30.0
# Equal errors of one model, with no success between them, that hold it.
HOLD_AFTER = 10
# Processes that died in setup on one node, with none that came through between them, that blame MAIN.
SETUP_DEATHS = 3
# Failures on one node, with no success between them, that bench it.
BENCH_AFTER = 5


class ModelGuards:
    """Which models may give out trials."""

    def __init__(self, proven: Iterable[str]) -> None:
        """`proven` are the models with a success in the store."""
        self._proven = set(proven)
        # The one trial out of a model that is not proven, and until when it goes alone.
        self._smoke: dict[str, tuple[int, float]] = {}
        # The models whose smoke trial is out for too long to be waited for.
        self._trusted: set[str] = set()
        # The nodes where smoke trials of the model failed: the next one goes elsewhere if it can.
        self._smoke_failed_on: dict[str, set[str]] = {}
        # The last error of each model and how often it came in a row.
        self._streak: dict[str, tuple[ErrorIdentity, int]] = {}
        # The models that are held, with the sentence that says why.
        self.held: dict[str, str] = {}

    def may_start(self, model: str) -> bool:
        """Whether one more trial of the model may be given out now."""
        return model not in self.held and (self.may_start_all(model) or model not in self._smoke)

    def may_start_all(self, model: str) -> bool:
        """Whether any number of its trials may be out: one has succeeded, or its smoke trial takes long."""
        return model in self._proven or model in self._trusted

    def is_proven(self, model: str) -> bool:
        """Whether a trial of the model has succeeded."""
        return model in self._proven

    def next_trust(self) -> float | None:
        """When the first of the smoke trials that go alone is no longer waited for; None while there are none."""
        return min((until for model, (_, until) in self._smoke.items() if not self.may_start_all(model)), default=None)

    def trust(self, now: float) -> bool:
        """Wait no longer for smoke trials that take too long; whether there were any."""
        long = {model for model, (_, until) in self._smoke.items() if now >= until} - self._trusted
        self._trusted |= long
        return bool(long)

    def avoid(self, model: str) -> frozenset[str]:
        """Nodes where the model's smoke trial should not go if another is there."""
        return frozenset() if model in self._proven else frozenset(self._smoke_failed_on.get(model, ()))

    def given_out(self, model: str, number: int, now: float) -> None:
        """The trial went to a slot."""
        if not self.may_start_all(model):
            self._smoke[model] = number, now + ALONE_S

    def came_back(self, model: str, number: int) -> None:
        """The trial is no longer out: it ended, or was given back."""
        if self._smoke.get(model, (None, 0.0))[0] == number:
            del self._smoke[model]
            self._trusted.discard(model)

    def ended(self, model: str, node: str, outcome: Outcome) -> None:
        """A trial of the model succeeded or failed."""
        if outcome.failure is None or outcome.state is not TrialState.FAILED:
            self._proven.add(model)
            self._smoke.pop(model, None)
            self._trusted.discard(model)
            self._streak.pop(model, None)
            return
        self._smoke_failed_on.setdefault(model, set()).add(node)
        error = outcome.failure.identity
        before, times = self._streak.get(model, (error, 0))
        times = times + 1 if before == error else 1
        self._streak[model] = (error, times)
        if times >= HOLD_AFTER:
            self.held[model] = f"{times} trials of {model} in a row failed with {outcome.failure.summary}"

    def sentence(self, sweep: str, waiting: Mapping[str, int]) -> str:
        """What a person is told of a sweep whose remaining trials are all of held models."""
        count = sum(waiting.values())
        trials = "1 trial is" if count == 1 else f"{count} trials are"
        why = "; ".join(self.held[model] for model in waiting)
        return f"{trials} held: {why}. To try them all the same: raycolab resume {sweep}"

    def release(self) -> None:
        """Give every held model another chance."""
        self.held.clear()
        self._streak.clear()


class NodeGuards:
    """Which nodes may get trials and slots."""

    def __init__(self) -> None:
        # Nodes that are there, with or without slots.
        self.present: set[str] = set()
        # Nodes where setup failed, with the failure.
        self.setup_failed: dict[str, Failure] = {}
        # Slots that died in a row while they loaded MAIN.
        self._deaths_in_setup: dict[str, int] = {}
        # Nodes that failed what others finish, with the sentence.
        self.benched: dict[str, str] = {}
        # Models that failed on the node since its last success.
        self._failed_in_a_row: dict[str, list[str]] = {}
        # Nodes where the model has succeeded.
        self._succeeded_on: dict[str, set[str]] = {}

    def set_up(self, node: str) -> None:
        """A slot has loaded MAIN on the node."""
        self._deaths_in_setup.pop(node, None)

    def died_in_setup(self, node: str, reason: str) -> Failure | None:
        """A slot's process died while it loaded MAIN; the failure when that is enough to blame MAIN's setup."""
        self._deaths_in_setup[node] = self._deaths_in_setup.get(node, 0) + 1
        if self._deaths_in_setup[node] < SETUP_DEATHS:
            return None
        return Failure(ErrorKind.SETUP, "ProcessDied", f"while it loaded MAIN, {SETUP_DEATHS} times in a row: {reason}")

    def succeeded(self, model: str, node: str) -> None:
        """A trial of the model came through on the node."""
        self._succeeded_on.setdefault(model, set()).add(node)
        self._failed_in_a_row.pop(node, None)

    def failed(self, model: str, node: str, others: Iterable[str]) -> str | None:
        """A trial failed on the node; the sentence when that benches it. `others` are the other nodes at work."""
        failed = self._failed_in_a_row.setdefault(node, [])
        failed.append(model)
        if len(failed) < BENCH_AFTER or node in self.benched:
            return None
        better = set(others).difference(self.benched)
        if not all(self._succeeded_on.get(each, set()) & better for each in failed[-BENCH_AFTER:]):
            return None
        self.benched[node] = f"{node} failed {len(failed)} trials in a row that other nodes finish"
        return self.benched[node]

    def sentence(self, sweep: str) -> str:
        """What a person is told of a MAIN that no node can set up."""
        node, failure = next(iter(self.setup_failed.items()))
        return (
            f"MAIN's setup failed on every node, so no trial can run. On {node}: {failure.summary}. "
            f"Fix MAIN and submit the sweep again, or fix the nodes and run: raycolab resume {sweep}"
        )

    def forgive(self, node: str | None = None) -> None:
        """Forget what is held against a node that is new now, or every bench for failed trials."""
        if node is None:
            self.benched.clear()
            self._failed_in_a_row.clear()
            return
        self.setup_failed.pop(node, None)
        self._deaths_in_setup.pop(node, None)
        self.benched.pop(node, None)
        self._failed_in_a_row.pop(node, None)


class Budget:
    """Failures and seconds; nothing is given out once either is used up."""

    def __init__(self, options: ScheduleOptions, rows: Iterable[TrialRow], attempts: Sequence[AttemptRow]) -> None:
        """Of a sweep that `goes_on` what it has used before counts."""
        self.options = options
        # Repeats that copy a failure do not count: they never ran.
        self.failures = 0
        self._begun_at: float | None = None  # when the first trial was given out
        self._used_s = 0.0  # before that
        self._is_over = False  # the time, as was noticed
        if options.goes_on:
            self.failures = sum(row.state is TrialState.FAILED and row.attempts > 0 for row in rows)
            self._used_s = _worked_s(attempts)

    def failed(self) -> None:
        """One more trial is FAILED."""
        self.failures += 1

    def begun(self, now: float) -> None:
        """A trial was given out."""
        if self._begun_at is None:
            self._begun_at = now

    def change(self, options: ScheduleOptions) -> None:
        """These hold from now on: a longer time may not be over."""
        self.options = options
        self._is_over = False

    def renew(self) -> None:
        """A person says to go on: begin to count again."""
        self.failures = 0
        self._begun_at = None
        self._used_s = 0.0
        self._is_over = False

    @property
    def until(self) -> float | None:
        """When the time will be used up, as far as that is known; None once it is."""
        left_s = self._left_s
        return None if left_s is None or self._begun_at is None or self._is_over else self._begun_at + left_s

    @property
    def _left_s(self) -> float | None:
        """What was left of the time when `_begun_at` was noted."""
        seconds = self.options.time_budget_s
        return None if seconds is None else max(seconds - self._used_s, 0.0)

    def is_spent(self, now: float) -> bool:
        """Whether nothing more may be given out."""
        most = self.options.max_failures
        self._is_over = self._is_over or self._left_s == 0 or (self.until is not None and now >= self.until)
        return self._is_over or (most is not None and self.failures >= most)

    def sentence(self, left: int) -> str:
        """What a person is told of a sweep that ended for it with this many trials left."""
        most, seconds, resume = (
            self.options.max_failures,
            self.options.time_budget_s,
            f"raycolab resume {self.options.name}",
        )
        rest = f"{left} trial{'' if left == 1 else 's'} did not run"
        if most is not None and self.failures >= most:
            failed = "1 trial has failed" if self.failures == 1 else f"{self.failures} trials have failed"
            return f"{failed} (max_failures = {most}); {rest}. To go on all the same: {resume}"
        return f"The time budget of {seconds:g} s is used up; {rest}. To run for another {seconds:g} s: {resume}"


def _worked_s(attempts: Iterable[AttemptRow]) -> float:
    """For how long any of these ran: neither the time between two heads nor a clock that was set counts."""
    used_s = until = 0.0
    for started_at, ended_at in sorted((each.started_at, each.ended_at or each.started_at) for each in attempts):
        used_s += max(ended_at - max(started_at, until), 0.0)
        until = max(until, ended_at)
    return used_s


class StartBarrier:
    """Nothing is given out while it lasts: until enough slots are up, or it took too long."""

    def __init__(self, wait_for_slots: int | None, within_s: float) -> None:
        """None waits for no slots at all."""
        self.lasts = wait_for_slots is not None
        # When it ends at the latest.
        self.until: float | None = None
        self._wait_for_slots = wait_for_slots or 0
        self._within_s = within_s

    def see(self, slots_up: int, now: float) -> bool:
        """This many slots are up now; whether that ended the wait."""
        if not self.lasts:
            return False
        if self.until is None:
            self.until = now + self._within_s
        if slots_up < self._wait_for_slots and now < self.until:
            return False
        self.lasts = False
        self.until = None
        return True
