"""Sweeps, trials and attempts in a SQL database: what is committed here counts as done.

Through SQLAlchemy Core and portable SQL only, so one class serves every database. It keeps no state besides
its connections: a store may be used by several threads, several processes may open one database, and after
any of them is killed the rows are whole. It decides nothing about trials; the last row written for a number
is the one that stands.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Engine, Table, bindparam, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from raycolab.errors import RaycolabError, UnknownSweepError, UsageError
from raycolab.spelling import did_you_mean, listed
from raycolab.store import rows, tables
from raycolab.store.failures import told
from raycolab.store.opening import open_engine, shown_url, writing
from raycolab.trial import AttemptRow, SweepRow, SweepState, TrialRow, TrialState
from raycolab.utc import utc_text

__all__ = ["Store", "open_store"]

_AT_ONCE = 500  # numbers in one IN (...): SQLite before 3.32 takes at most 999 parameters


def open_store(url: str) -> Store:
    """The store at a SQLAlchemy URL, made if it is not there; UsageError says why it cannot be opened."""
    return Store(open_engine(url))


class Store:
    """Sweeps with their trials and attempts in one database; make it with `open_store`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.location = shown_url(engine)  # a file's absolute path, or the URL without its password

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Gives the connections back; nothing is pending, so nothing is lost."""
        self._engine.dispose()

    def create_sweep(
        self,
        name: str,
        spec: str,
        main: str | None,
        spec_fingerprint: str,
        code_fingerprint: str | None,
        versions: Mapping[str, str],
        trials: Sequence[TrialRow],
        now: float,
    ) -> SweepRow:
        """A new sweep, DECLARED, with its first trials, in one commit; UsageError when the name is taken."""
        if len(name) > tables.NAME_LIMIT:
            raise UsageError(f"a sweep's name has at most {tables.NAME_LIMIT} characters, this one {len(name)}.")
        columns = {
            "name": name,
            "state": SweepState.DECLARED.value,
            "spec": spec,
            "main": main,
            "spec_fingerprint": spec_fingerprint,
            "code_fingerprint": code_fingerprint,
            "created_at": utc_text(now),
            "versions": json.dumps(dict(versions)),
        }
        with self._writing() as connection:
            try:
                result = connection.execute(insert(tables.sweeps), columns)
            except IntegrityError as error:
                raise UsageError(
                    f"a sweep named '{name}' is already in {self.location}: "
                    "declare it again to go on with it, or choose another name."
                ) from error
            sweep_id = result.inserted_primary_key[0]  # type: ignore[index]  # None only for a table without key
            _put_trials(connection, sweep_id, trials)
            row = connection.execute(select(tables.sweeps).where(tables.sweeps.c.id == sweep_id)).one()
        return rows.sweep_row(row)

    def sweep(self, name: str) -> SweepRow | None:
        """The sweep of this name, or None."""
        with self._reading() as connection:
            row = connection.execute(select(tables.sweeps).where(tables.sweeps.c.name == name)).one_or_none()
        return None if row is None else rows.sweep_row(row)

    def existing_sweep(self, name: str) -> SweepRow:
        """The sweep of this name; UnknownSweepError names those there are."""
        found = self.sweep(name)
        if found is None:
            raise self._unknown(name)
        return found

    def sweeps(self) -> list[SweepRow]:
        """Every sweep, in the order they were declared."""
        with self._reading() as connection:
            found = connection.execute(select(tables.sweeps).order_by(tables.sweeps.c.id)).all()
        return [rows.sweep_row(row) for row in found]

    def update_sweep(
        self,
        sweep_id: int,
        *,
        state: SweepState | None = None,
        spec: str | None = None,
        main: str | None = None,
        spec_fingerprint: str | None = None,
        code_fingerprint: str | None = None,
        versions: Mapping[str, str] | None = None,
    ) -> None:
        """Changes what is given, leaves what is None; UnknownSweepError when the sweep was deleted."""
        given = {
            "state": None if state is None else state.value,
            "spec": spec,
            "main": main,
            "spec_fingerprint": spec_fingerprint,
            "code_fingerprint": code_fingerprint,
            "versions": None if versions is None else json.dumps(dict(versions)),
        }
        changes = {name: value for name, value in given.items() if value is not None}
        if not changes:
            return
        with self._writing() as connection:
            statement = update(tables.sweeps).where(tables.sweeps.c.id == sweep_id).values(changes)
            if connection.execute(statement).rowcount == 0:
                raise UnknownSweepError(f"the sweep is no longer in {self.location}: it was deleted.")

    def delete_sweep(self, name: str) -> None:
        """Deletes a sweep with its trials and attempts; UnknownSweepError names those there are."""
        with self._writing() as connection:
            gone = connection.execute(delete(tables.sweeps).where(tables.sweeps.c.name == name)).rowcount
        if not gone:
            raise self._unknown(name)

    def add_trials(self, sweep_id: int, trials: Sequence[TrialRow]) -> None:
        """Adds trials to a sweep; repeating it changes nothing."""
        self.write(sweep_id, trials)

    def write(self, sweep_id: int, trials: Sequence[TrialRow], attempts: Sequence[AttemptRow] = ()) -> None:
        """Writes whole rows in one transaction: all are committed when it returns, none when it raises.

        Each row replaces the one of its number, so repeating a write changes nothing. A batch costs one
        fsync: give as many rows at once as there are.
        """
        with self._writing() as connection:
            _put_trials(connection, sweep_id, trials)
            _put_attempts(connection, sweep_id, attempts)

    def trials(self, sweep_id: int) -> list[TrialRow]:
        """Every trial of a sweep, by number."""
        table = tables.trials
        statement = select(table).where(table.c.sweep_id == sweep_id).order_by(table.c.number)
        with self._reading() as connection:
            found = connection.execute(statement).all()
        return [rows.trial_row(row) for row in found]

    def attempts(self, sweep_id: int) -> list[AttemptRow]:
        """Every attempt at a sweep's trials, by trial and attempt number."""
        trials, attempts = tables.trials.c, tables.attempts.c
        statement = (
            select(tables.attempts, trials.number.label("trial"))
            .join(tables.trials, attempts.trial_id == trials.id)
            .where(trials.sweep_id == sweep_id)
            .order_by(trials.number, attempts.number)
        )
        with self._reading() as connection:
            found = connection.execute(statement).all()
        return [rows.attempt_row(row) for row in found]

    def counts(self, sweep_id: int) -> dict[TrialState, int]:
        """How many trials of a sweep are in each state, zeros included."""
        table = tables.trials.c
        statement = select(table.state, func.count()).where(table.sweep_id == sweep_id).group_by(table.state)
        with self._reading() as connection:
            found = {row[0]: row[1] for row in connection.execute(statement)}
        return {state: found.get(state.value, 0) for state in TrialState}

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with told(self.location), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with told(self.location), writing(self._engine) as connection:
            yield connection

    def _unknown(self, name: str) -> UnknownSweepError:
        with self._reading() as connection:
            names = list(connection.execute(select(tables.sweeps.c.name).order_by(tables.sweeps.c.id)).scalars())
        there = f"there is {listed(names[-10:])}" if names else "submit or declare one first"
        return UnknownSweepError(f"no sweep named {name!r} is in {self.location}{did_you_mean(name, names)}: {there}.")


def _put_trials(connection: Connection, sweep_id: int, trials: Sequence[TrialRow]) -> None:
    wanted = {trial.number: trial for trial in trials}  # of two rows of one number the later stands
    ids = _trial_ids(connection, sweep_id, wanted)
    table = tables.trials
    old = [{**rows.trial_columns(trial), "row_id": ids[n]} for n, trial in wanted.items() if n in ids]
    new = [{**rows.trial_columns(trial), "sweep_id": sweep_id} for n, trial in wanted.items() if n not in ids]
    _put(connection, table, old, new)


def _put_attempts(connection: Connection, sweep_id: int, attempts: Sequence[AttemptRow]) -> None:
    wanted = {(attempt.trial, attempt.number): attempt for attempt in attempts}
    ids = _trial_ids(connection, sweep_id, {trial for trial, _ in wanted})
    if missing := sorted({trial for trial, _ in wanted if trial not in ids}):
        raise RaycolabError(f"an attempt at trial {missing[0]} cannot be stored: the sweep has no such trial.")
    table = tables.attempts
    statement = select(table.c.id, table.c.trial_id, table.c.number)
    present = {
        (row.trial_id, row.number): row.id
        for some in _chunks(sorted(ids.values()))
        for row in connection.execute(statement.where(table.c.trial_id.in_(some)))
    }
    old, new = [], []
    for (trial, number), attempt in wanted.items():
        columns = rows.attempt_columns(attempt)
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
        row.number: row.id
        for some in _chunks(sorted(numbers))
        for row in connection.execute(statement.where(table.number.in_(some)))
    }


def _chunks(values: Sequence[int]) -> Iterator[Sequence[int]]:
    return (values[start : start + _AT_ONCE] for start in range(0, len(values), _AT_ONCE))
