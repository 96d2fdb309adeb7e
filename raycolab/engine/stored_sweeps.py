"""What people ask of a sweep that is not at work: changes of its rows and its state, on the store alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from raycolab.engine.book import TrialBook
from raycolab.errors import UsageError
from raycolab.spec.spec import SweepSpec
from raycolab.store import Store
from raycolab.summary import SweepStatus
from raycolab.trials import FINAL_STATES, SweepRow, SweepState, TrialState

__all__ = ["cancel_rows", "has_work", "news_of", "queued_sweeps", "retried_states", "retry_rows"]

_FAILURES: dict[str | None, frozenset[TrialState]] = {
    "failed": frozenset({TrialState.FAILED}),
    "lost": frozenset({TrialState.LOST}),
    None: frozenset({TrialState.FAILED, TrialState.LOST, TrialState.CANCELLED}),
}


def retried_states(which: object) -> Collection[TrialState]:
    """The final states that `retry` takes back: "failed", "lost", or None for whatever did not complete; UsageError."""
    if which is not None and which not in ("failed", "lost"):
        raise UsageError(f"retry takes failed or lost, not {which!r}: leave it out for both.")
    return _FAILURES[which]


def retry_rows(store: Store, sweep: SweepRow, states: Iterable[TrialState]) -> int:
    """Make these final trials PENDING; how many that are."""
    book = _book(store, sweep)
    numbers = book.retry(states)
    _write(store, sweep, book)
    return len(numbers)


def cancel_rows(store: Store, sweep: SweepRow, state: SweepState, now: float) -> None:
    """Cancel every trial that is not final, and leave the sweep in this state."""
    book = _book(store, sweep)
    for number in sorted(book.unfinished):
        if number in book.unfinished and not book.is_follower(number):
            book.cancel(number, now)
    _write(store, sweep, book)
    store.update_sweep(sweep.id, state=state)


def has_work(store: Store, sweep: SweepRow) -> bool:
    """Whether any trial is not final."""
    return any(count for state, count in store.counts(sweep.id).items() if state not in FINAL_STATES)


def queued_sweeps(store: Store) -> list[str]:
    """The sweeps that were at work or waiting when the last engine stopped: the one at work first."""
    found = [sweep for sweep in store.sweeps() if sweep.state in (SweepState.RUNNING, SweepState.QUEUED)]
    return [sweep.name for sweep in sorted(found, key=lambda sweep: (sweep.state != SweepState.RUNNING, sweep.id))]


def news_of(store: Store, sweep: SweepRow, sentence: str | None) -> SweepStatus:
    """Where a resting sweep stands."""
    book = _book(store, sweep)
    metric = SweepSpec.from_json(sweep.spec).metric
    return SweepStatus.of(sweep.name, sweep.state, dict(book.counts), metric, book.best, None, sentence, book.tally)


def _book(store: Store, sweep: SweepRow) -> TrialBook:
    metric = SweepSpec.from_json(sweep.spec).metric
    return TrialBook(store.trials(sweep.id), store.attempts(sweep.id), metric)


def _write(store: Store, sweep: SweepRow, book: TrialBook) -> None:
    write = book.take_write()
    if write is not None:
        store.write(sweep.id, write.trials, write.attempts, write.reports)
