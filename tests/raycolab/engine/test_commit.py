"""The committer: groups, order, and what becomes of a database that refuses."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path

import pytest

from raycolab.engine.commit import Committer
from raycolab.engine.messages import Write
from raycolab.errors import RaycolabError, UnknownSweepError
from raycolab.store import Store, open_store, sqlite_url
from raycolab.trials import AttemptRow, ReportRow, TrialRow, TrialState

Done = tuple[int, RaycolabError | None]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store with one sweep of two trials."""
    with open_store(sqlite_url(tmp_path / "a.db")) as opened:
        rows = [TrialRow(number, "svc", "iris", {}) for number in range(2)]
        opened.create_sweep("s", "{}", None, "f", None, {}, rows, 0.0)
        yield opened


def write(write_id: int, state: TrialState) -> Write:
    """Trial 0 in this state, with its attempt."""
    row = TrialRow(0, "svc", "iris", {}, state, attempts=1)
    return Write(write_id, (row,), (AttemptRow(0, 1, "head", state, 1.0),))


def test_writes_of_one_moment_share_a_transaction_and_the_last_row_stands(store: Store) -> None:
    """One answer for all of them, with the last write's number."""
    answers: queue.Queue[Done] = queue.Queue()
    committer = Committer(store, lambda sentence: None)
    sweep = store.existing_sweep("s")
    for number, state in enumerate((TrialState.RUNNING, TrialState.COMPLETE), start=1):
        committer.write(sweep.id, write(number, state), lambda *done: answers.put(done))
    assert committer.call(lambda opened: opened.trials(sweep.id)[0].state).result(10) is TrialState.COMPLETE
    told = [answers.get(timeout=10)]
    while not answers.empty():
        told.append(answers.get())
    assert told[-1] == (2, None)
    assert [attempt.outcome for attempt in store.attempts(sweep.id)] == ["COMPLETE"]


def test_what_a_lost_attempt_reported_is_not_stored(store: Store) -> None:
    """Also where its report, its loss and the next attempt share a transaction."""
    committer = Committer(store, lambda sentence: None)
    sweep = store.existing_sweep("s")
    again = TrialRow(0, "svc", "iris", {}, TrialState.RUNNING, attempts=2)
    writes = [
        Write(1, (), (), (ReportRow(0, 1, 0.1),)),
        write(2, TrialState.PENDING),
        Write(3, (again,), (), (ReportRow(0, 2, 0.2),)),
    ]
    for each in writes:
        committer.write(sweep.id, each, lambda *done: None)
    assert committer.call(lambda opened: opened.reports(sweep.id)).result(10) == {0: {2: 0.2}}


def test_what_the_store_refuses_is_told_and_the_thread_goes_on(store: Store) -> None:
    """Rows of a sweep that was deleted never get in; a failing call is its caller's."""
    answers: queue.Queue[Done] = queue.Queue()
    committer = Committer(store, lambda sentence: None)
    committer.write(99, write(1, TrialState.RUNNING), lambda *done: answers.put(done))
    write_id, error = answers.get(timeout=10)
    assert write_id == 1
    assert isinstance(error, RaycolabError)
    with pytest.raises(UnknownSweepError):
        committer.call(lambda opened: opened.existing_sweep("nobody")).result(10)
    assert committer.call(lambda opened: opened.sweeps()).result(10) == store.sweeps()
