"""Rows into their tables, inside a transaction that somebody else began: insert what is new, replace what is there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Table, bindparam, delete, insert, select, update

from raycolab.errors import RaycolabError
from raycolab.store import rows, tables
from raycolab.trials import AttemptRow, ReportRow, TrialRow, TrialState

__all__ = ["put_attempts", "put_reports", "put_trials"]

_AT_ONCE = 500  # numbers in one IN (...): SQLite before 3.32 takes at most 999 parameters


def put_trials(connection: Connection, sweep_id: int, trials: Sequence[TrialRow]) -> None:
    """Writes trials; of two rows of one number the later stands. One that starts again has reported nothing yet."""
    wanted = {trial.number: trial for trial in trials}
    ids = _trial_ids(connection, sweep_id, wanted)
    old = [{**rows.trial_columns(trial), "row_id": ids[n]} for n, trial in wanted.items() if n in ids]
    new = [{**rows.trial_columns(trial), "sweep_id": sweep_id} for n, trial in wanted.items() if n not in ids]
    _put(connection, tables.trials, old, new)
    again = sorted(ids[n] for n, trial in wanted.items() if n in ids and _starts_again(trial))
    for some in _chunks(again):
        connection.execute(delete(tables.reports).where(tables.reports.c.trial_id.in_(some)))


def _starts_again(trial: TrialRow) -> bool:
    return trial.state is TrialState.PENDING or (trial.state is TrialState.RUNNING and trial.attempts > 1)


def put_attempts(connection: Connection, sweep_id: int, attempts: Sequence[AttemptRow]) -> None:
    """Writes attempts at trials that are there."""
    wanted = {(attempt.trial, attempt.number): rows.attempt_columns(attempt) for attempt in attempts}
    _put_of_trials(connection, tables.attempts, "number", sweep_id, wanted, "an attempt at")


def put_reports(connection: Connection, sweep_id: int, reports: Sequence[ReportRow]) -> None:
    """Writes intermediate values of trials that are there; a step reported again replaces its value."""
    wanted = {
        (report.trial, report.step): {"step": report.step, "value": rows.reported_value(report.value)}
        for report in reports
    }
    _put_of_trials(connection, tables.reports, "step", sweep_id, wanted, "a report of")


def _put_of_trials(
    connection: Connection,
    table: Table,
    key: str,
    sweep_id: int,
    wanted: dict[tuple[int, int], dict[str, Any]],
    what: str,
) -> None:
    """Writes rows that belong to trials: `wanted` is their columns by trial number and the column `key`."""
    ids = _trial_ids(connection, sweep_id, {trial for trial, _ in wanted})
    if missing := sorted({trial for trial, _ in wanted if trial not in ids}):
        raise RaycolabError(f"{what} trial {missing[0]} cannot be stored: the sweep has no such trial.")
    statement = select(table.c.id, table.c.trial_id, table.c[key])
    present = {
        (trial_id, number): row_id
        for some in _chunks(sorted(ids.values()))
        for row_id, trial_id, number in connection.execute(statement.where(table.c.trial_id.in_(some)))
    }
    old, new = [], []
    for (trial, number), columns in wanted.items():
        if (row_id := present.get((ids[trial], number))) is not None:
            old.append({**columns, "row_id": row_id})
        else:
            new.append({**columns, "trial_id": ids[trial]})
    _put(connection, table, old, new)


def _put(connection: Connection, table: Table, old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]) -> None:
    """Updates `old` rows by their "row_id" and inserts `new` ones, each with one executemany."""
    if old:
        connection.execute(update(table).where(table.c.id == bindparam("row_id")), old)
    if new:
        connection.execute(insert(table), new)


def _trial_ids(connection: Connection, sweep_id: int, numbers: Iterable[int]) -> dict[int, int]:
    """The id of each trial number that is in the database."""
    table = tables.trials.c
    statement = select(table.number, table.id).where(table.sweep_id == sweep_id)
    return {
        number: row_id
        for some in _chunks(sorted(numbers))
        for number, row_id in connection.execute(statement.where(table.number.in_(some)))
    }


def _chunks(values: Sequence[int]) -> Iterator[Sequence[int]]:
    return (values[start : start + _AT_ONCE] for start in range(0, len(values), _AT_ONCE))
