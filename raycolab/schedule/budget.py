"""What a sweep may use up before it is held: FAILED trials (`max_failures`) and time (`time_budget_s`).

Both count from the moment a person started the sweep or told it to go on. An engine that takes up a sweep at work
counts from the first trial that the store has. It judges; `Scheduler` acts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from raycolab.schedule.commands import ScheduleOptions
from raycolab.trial import AttemptRow, TrialRow, TrialState

__all__ = ["Budget"]


class Budget:
    """Failures and seconds; nothing is given out once either is used up."""

    def __init__(self, options: ScheduleOptions, rows: Iterable[TrialRow], attempts: Sequence[AttemptRow]) -> None:
        """Of a sweep that `goes_on` what it has used before counts."""
        self.options = options
        # Repeats that copy a failure do not count: they never ran.
        self.failures = 0
        self._begun_at: float | None = None  # when the first trial was given out
        self._is_over = False  # the time, as was noticed
        if options.goes_on:
            self.failures = sum(row.state is TrialState.FAILED and row.attempts > 0 for row in rows)
            self._begun_at = min((attempt.started_at for attempt in attempts), default=None)

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
        self._is_over = False

    @property
    def until(self) -> float | None:
        """When the time will be used up, as far as that is known; None once it is."""
        seconds = self.options.time_budget_s
        return None if seconds is None or self._begun_at is None or self._is_over else self._begun_at + seconds

    def is_spent(self, now: float) -> bool:
        """Whether nothing more may be given out."""
        most = self.options.max_failures
        self._is_over = self._is_over or (self.until is not None and now >= self.until)
        return self._is_over or (most is not None and self.failures >= most)

    def sentence(self, left: int) -> str:
        """What a person is told of a sweep that ended for it with so many trials not run."""
        rest = "1 was" if left == 1 else f"{left} were"
        most, name = self.options.max_failures, self.options.name
        if most is not None and self.failures >= most:
            failed = "1 trial has failed" if self.failures == 1 else f"{self.failures} trials have failed"
            return f"{failed} (max_failures = {most}) and {rest} not run. To go on all the same: raycolab resume {name}"
        seconds = f"{self.options.time_budget_s:g} s"
        return f"time_budget_s = {seconds} are over and {rest} not run. For as long again: raycolab resume {name}"
