"""The rows of one sweep: every change of a trial and its attempts, and how much of it is committed.

A change makes a row *dirty*; `take_write` collects the dirty rows, the latest version of each, and `commit` counts
them. What people are told (`counts`, `best`) comes from committed rows only. The search hears of every end and every
attempt that came to nothing here, where all of them pass. It does not decide what runs: `Scheduler` does.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import replace

from raycolab.engine.messages import Assignment, StudiesLike, Write
from raycolab.summary import Curves, Tally
from raycolab.trials import (
    FINAL_STATES,
    AttemptRow,
    Config,
    ErrorKind,
    Metric,
    Outcome,
    ReportRow,
    TrialRow,
    TrialState,
)

__all__ = ["MAX_LOST_ATTEMPTS", "TrialBook"]

# A trial whose node or process was lost under it this often is LOST.
MAX_LOST_ATTEMPTS = 3
HEAD_STOPPED = "the head stopped"


class TrialBook:
    """Rows and attempts of one sweep, from the store and back to it."""

    def __init__(
        self,
        rows: Sequence[TrialRow],
        attempts: Sequence[AttemptRow],
        metric: Metric,
        studies: StudiesLike | None = None,
    ) -> None:
        """Take the store's rows; what was open when the last scheduler stopped is closed as lost."""
        # The latest version of each row, committed or not.
        self.rows: dict[int, TrialRow] = {row.number: row for row in rows}
        # Numbers of trials that are not final yet.
        self.unfinished: set[int] = {row.number for row in rows if row.state not in FINAL_STATES}
        # Committed trials per state.
        self.counts: Counter[TrialState] = Counter()
        # The best committed trial: COMPLETE with a finite metric.
        self.best: TrialRow | None = None
        # Committed trials by pair, node and cause.
        self.tally = Tally(metric)
        # What trials reported last.
        self.curves = Curves()
        # Whether configurations are proposed: some row came without one.
        self.is_proposed = any(row.config is None for row in rows)
        self._best_value = 0.0
        self._metric = metric
        self._studies = studies
        self._committed: dict[int, TrialRow] = {}
        # Trials that repeat the configuration of the one they are keyed by.
        self._followers: dict[int, list[int]] = {}
        # The first trial with each configuration of a pair, once one is proposed.
        self._first: dict[tuple[str, str, str], int] = {}
        # The attempt that is running, per trial.
        self._open: dict[int, AttemptRow] = {}
        # Infrastructure attempts charged so far, and the nodes where they were lost.
        self._charges: Counter[int] = Counter()
        self._lost_on: dict[int, set[str]] = {}
        self._dirty_trials: dict[int, TrialRow] = {}
        self._dirty_attempts: dict[tuple[int, int], AttemptRow] = {}
        self._dirty_reports: dict[tuple[int, int], ReportRow] = {}
        self._in_flight: deque[Write] = deque()
        self._last_write_id = 0
        for row in rows:
            self._count(row)
            if row.same_as is not None:
                self._followers.setdefault(row.same_as, []).append(row.number)
        self._close_what_was_open(attempts)
        for number in list(self._followers):
            if number in self.rows and self.rows[number].state in FINAL_STATES:
                self._settle_followers(self.rows[number])

    # ----- what is asked -----

    def is_follower(self, number: int) -> bool:
        """Whether the trial takes an earlier one's result and never runs."""
        return self.rows[number].same_as in self.rows

    def lost_on(self, number: int) -> frozenset[str]:
        """The nodes under which this trial was lost since it last had a full budget."""
        return frozenset(self._lost_on.get(number, ()))

    @property
    def all_committed(self) -> bool:
        """Whether the store has every row as it is here."""
        return not (self._dirty_trials or self._dirty_attempts or self._dirty_reports or self._in_flight)

    def ran_out_of_memory(self, number: int) -> bool:
        """Whether the trial is at, or waits for, the one more try that it gets for memory."""
        return self.rows[number].error_kind is ErrorKind.OOM and number in self.unfinished

    # ----- changes -----

    def propose(self, number: int, config: Config) -> bool:
        """The trial has this configuration now; whether it is an earlier trial's, whose result it takes."""
        if not self._first:
            for known in self.rows.values():
                if known.config is not None:
                    self._first.setdefault(_place(known), known.number)
        row = self.rows[number] = replace(self.rows[number], config=config)
        earlier = self._first.setdefault(_place(row), number)
        if earlier == number:
            return False  # stored with the trial's start
        self._followers.setdefault(earlier, []).append(number)
        self._put(replace(row, same_as=earlier))
        if self.rows[earlier].state in FINAL_STATES:
            self._settle_followers(self.rows[earlier])
        return True

    def start(self, trial: Assignment, node: str, at: float, main_version: int) -> None:
        """The trial runs: a new attempt on `node`, with this version of MAIN."""
        number = trial.number
        row = self.rows[number]
        attempt = AttemptRow(number, row.attempts + 1, node, TrialState.RUNNING, at)
        self._put_attempt(attempt)
        # Every trial comes by here and by `finish`: written out, this takes a quarter of what `replace` does.
        self._put(
            TrialRow(
                number=number,
                model=row.model,
                dataset=row.dataset,
                config=row.config,
                state=TrialState.RUNNING,
                node=node,
                attempts=attempt.number,
                started_at=at,
                error_kind=row.error_kind,
                error=row.error,
                same_as=row.same_as,
                seed=trial.seed,
                main_version=main_version,
            )
        )

    def report(self, number: int, step: int, value: float) -> None:
        """The running trial has this value at this step."""
        self._dirty_reports[number, step] = ReportRow(number, step, value)
        self.curves.report(number, step, value, None if self.best is None else self.best.number)

    def finish(self, number: int, node: str, outcome: Outcome, now: float) -> None:
        """The running trial ended by itself, or was ended for its own fault."""
        failure = outcome.failure
        row, attempt = self.rows[number], self._open[number]
        started_at = outcome.started_at or row.started_at or now
        ended_at = outcome.ended_at or now
        reason = None if failure is None else failure.summary
        self._put_attempt(AttemptRow(number, attempt.number, attempt.node, outcome.state, started_at, ended_at, reason))
        self._put(
            TrialRow(
                number=number,
                model=row.model,
                dataset=row.dataset,
                config=row.config,
                state=outcome.state,
                metrics=dict(outcome.metrics),
                node=node,
                attempts=row.attempts,
                started_at=started_at,
                ended_at=ended_at,
                error_kind=None if failure is None else failure.kind,
                error=reason,
                traceback=None if failure is None else failure.traceback,
                cell_index=None if failure is None else failure.cell_index,
                output=outcome.output or None,
                same_as=row.same_as,
                seed=row.seed,
                main_version=row.main_version,
            )
        )

    def lose(self, number: int, reason: str, now: float, output: str = "") -> None:
        """The running trial's node or process was lost: PENDING again, or LOST when that was the last try.

        The row has the `output` that the lost attempt left, until the next one starts.
        """
        attempt = self._open[number]
        self._charges[number] += 1
        self._lost_on.setdefault(number, set()).add(attempt.node)
        self._put_attempt(replace(attempt, outcome=TrialState.LOST, ended_at=now, reason=reason))
        row = replace(self.rows[number], output=output or None)
        if self._charges[number] < MAX_LOST_ATTEMPTS:
            self._put(replace(row, state=TrialState.PENDING, node=None, started_at=None, ended_at=None))
            return
        sentence = f"lost {MAX_LOST_ATTEMPTS} times, the last time on {attempt.node}: {reason}"
        self._put(replace(row, state=TrialState.LOST, ended_at=now, error_kind=ErrorKind.LOST, error=sentence))

    def lose_for_memory(self, number: int, reason: str, now: float) -> None:
        """The running trial ran out of memory for the first time: PENDING again, its row and its attempt say why."""
        attempt = self._open[number]
        self._lost_on.setdefault(number, set()).add(attempt.node)
        self._put_attempt(replace(attempt, outcome=TrialState.FAILED, ended_at=now, reason=reason))
        waiting = replace(self.rows[number], state=TrialState.PENDING, node=None, started_at=None, ended_at=None)
        self._put(replace(waiting, error_kind=ErrorKind.OOM, error=reason))

    def put_down(self, number: int, reason: str, now: float) -> None:
        """The running trial is to run again, and nobody is to blame: PENDING, with what it was charged before."""
        self._put_attempt(replace(self._open[number], outcome=TrialState.CANCELLED, ended_at=now, reason=reason))
        row = self.rows[number]
        self._put(replace(row, state=TrialState.PENDING, node=None, started_at=None, ended_at=None))

    def cancel(self, number: int, now: float) -> None:
        """Nobody wants the trial any more, whether it waits or runs."""
        attempt = self._open.get(number)
        row = self.rows[number]
        if attempt is not None:
            self._put_attempt(replace(attempt, outcome=TrialState.CANCELLED, ended_at=now, reason="cancelled"))
        ended_at = None if row.started_at is None else now
        self._put(replace(row, state=TrialState.CANCELLED, ended_at=ended_at, error_kind=None, error=None))

    def cancel_all(self, now: float) -> None:
        """Nobody wants any of those that are not final; repeats follow the trial they repeat."""
        for number in sorted(self.unfinished):
            if number in self.unfinished and not self.is_follower(number):
                self.cancel(number, now)

    def retry(self, states: Iterable[TrialState]) -> list[int]:
        """Make the trials in these final states PENDING again, with a full budget; return their numbers."""
        wanted = FINAL_STATES.intersection(states)
        numbers = [row.number for row in self.rows.values() if row.state in wanted]
        for number in numbers:
            self._charges.pop(number, None)
            self._lost_on.pop(number, None)
            self._put(_pristine(self.rows[number]))
        for number in numbers:  # a repeat of a trial that keeps its result takes that result again
            source = self.rows[number].same_as
            if source in self.rows and self.rows[source].state in FINAL_STATES:
                self._settle_followers(self.rows[source])
        return [number for number in numbers if number in self.unfinished]

    def add(self, rows: Iterable[TrialRow]) -> list[int]:
        """Take in rows that are in the store and not here yet; return the numbers of those to run."""
        new = [row for row in rows if row.number not in self.rows]
        self.is_proposed = self.is_proposed or any(row.config is None for row in new)
        for row in new:
            self.rows[row.number] = row
            self._count(row)
            if row.state not in FINAL_STATES:
                self.unfinished.add(row.number)
            if row.same_as is not None:
                self._followers.setdefault(row.same_as, []).append(row.number)
        for row in new:
            source = self.rows.get(row.same_as) if row.same_as is not None else None
            if source is not None and source.state in FINAL_STATES:
                self._settle_followers(source)
        return [row.number for row in new if row.number in self.unfinished]

    # ----- the store's side -----

    def take_write(self) -> Write | None:
        """The dirty rows as one write, or None when there are none."""
        dirty = (self._dirty_trials, self._dirty_attempts, self._dirty_reports)
        if not any(dirty):
            return None
        self._last_write_id += 1
        trials, attempts, reports = dirty
        write = Write(self._last_write_id, tuple(trials.values()), tuple(attempts.values()), tuple(reports.values()))
        self._dirty_trials, self._dirty_attempts, self._dirty_reports = {}, {}, {}
        self._in_flight.append(write)
        return write

    def commit(self, write_id: int) -> None:
        """Everything up to this write is in the store; a write that is already counted changes nothing."""
        while self._in_flight and self._in_flight[0].write_id <= write_id:
            for row in self._in_flight.popleft().trials:
                self._count(row)

    # ----- inside -----

    def _put(self, row: TrialRow) -> None:
        ran = self.rows[row.number].attempts > 0
        if row.started_at is not None and row.ended_at is not None and row.ended_at < row.started_at:
            row = replace(row, ended_at=row.started_at)  # by clocks of two machines, or of two heads
        self.rows[row.number] = row
        self._dirty_trials[row.number] = row
        if ran:  # what never ran is nothing to the search
            self._tell(row)
        if row.state in FINAL_STATES:
            self.unfinished.discard(row.number)
            if row.number in self._followers:
                self._settle_followers(row)
        else:
            self.unfinished.add(row.number)

    def _tell(self, row: TrialRow) -> None:
        """Let the search know when a trial that ran has ended, or is to run again."""
        if row.state is TrialState.PENDING:
            self.curves.forget(row.number)
            for key in [key for key in self._dirty_reports if key[0] == row.number]:
                del self._dirty_reports[key]
            if self._studies is not None:
                self._studies.requeued(row.number)
        elif row.state in FINAL_STATES and self._studies is not None:
            self._studies.ended(row)

    def _put_attempt(self, attempt: AttemptRow) -> None:
        if attempt.ended_at is not None and attempt.ended_at < attempt.started_at:
            attempt = replace(attempt, ended_at=attempt.started_at)
        self._dirty_attempts[attempt.trial, attempt.number] = attempt
        if attempt.outcome == TrialState.RUNNING:
            self._open[attempt.trial] = attempt
        else:
            self._open.pop(attempt.trial, None)

    def _settle_followers(self, source: TrialRow) -> None:
        for number in self._followers[source.number]:
            row = self.rows[number]
            if row.state in FINAL_STATES:
                continue
            copied = replace(source, number=number, attempts=0, same_as=row.same_as)
            self._put(replace(copied, model=row.model, dataset=row.dataset, config=row.config))

    def _close_what_was_open(self, attempts: Sequence[AttemptRow]) -> None:
        """Charge what ran when the last scheduler stopped; a LOST that was retried starts a new budget."""
        for attempt in attempts:
            number = attempt.trial
            if number not in self.unfinished:
                continue
            if attempt.outcome == TrialState.LOST:
                self._charges[number] = (self._charges[number] + 1) % MAX_LOST_ATTEMPTS
                self._lost_on.setdefault(number, set()).add(attempt.node)
            elif attempt.outcome == TrialState.RUNNING:
                self._open[number] = attempt
            elif attempt.outcome == TrialState.FAILED and self.ran_out_of_memory(number):
                self._lost_on.setdefault(number, set()).add(attempt.node)
        for number in sorted(self.unfinished):
            row = self.rows[number]
            if number in self._open:
                self.lose(number, HEAD_STOPPED, row.started_at or self._open[number].started_at)
            elif row.state is TrialState.RUNNING:
                self._put(replace(row, state=TrialState.PENDING, node=None, started_at=None))

    def _count(self, row: TrialRow) -> None:
        """The store has this row, for the first time or anew."""
        before = self._committed.get(row.number)
        if before is not None:
            self.counts[before.state] -= 1
        self.counts[row.state] += 1
        self._committed[row.number] = row
        value = self._metric.objective(row)
        self.tally.moved(before, row)
        if value is not None and (self.best is None or self._metric.is_better(value, self._best_value)):
            self.best, self._best_value = row, value


def _place(row: TrialRow) -> tuple[str, str, str]:
    """What tells a configuration of a pair from all others."""
    return row.model, row.dataset, json.dumps(row.config, sort_keys=True)


def _pristine(row: TrialRow) -> TrialRow:
    """The trial as if it had never run, but for the count of its attempts."""
    return TrialRow(row.number, row.model, row.dataset, row.config, attempts=row.attempts, same_as=row.same_as)
