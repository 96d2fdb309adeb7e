"""Sweeps, trials, attempts and reports in a SQL database: what is committed here counts as done.

Through SQLAlchemy Core and portable SQL only, so one class serves every database. It keeps no state besides
its connections, the sweeps it has claimed and the names of those it has seen: a store may be used by several
threads, several processes may open one database, and after any of them is killed the rows are whole. It decides
nothing about trials; the last row written for a number is the one that stands.
"""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Engine, Row, Table, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from raycolab.errors import UnknownSweepError, UsageError
from raycolab.store import claims, rows, tables
from raycolab.store.failures import told
from raycolab.store.opening import open_engine, shown_url, writing
from raycolab.store.writes import put_attempts, put_reports, put_trials
from raycolab.text import did_you_mean, listed, utc_text
from raycolab.trials import AttemptRow, ReportRow, SweepRow, SweepState, TrialRow, TrialState

__all__ = ["Store", "open_store"]

_AT_ONCE = 2_000  # trials read and decoded together


def open_store(url: str) -> Store:
    """The store at a SQLAlchemy URL, made if it is not there; UsageError says why it cannot be opened."""
    return Store(open_engine(url))


class Store:
    """Sweeps with their trials, attempts and reports in one database; make it with `open_store`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.location = shown_url(engine)  # a file's absolute path, or the URL without its password
        self._claimed: dict[int, str] = {}  # sweep id: the owner for whom this store has claimed it
        self._names: dict[int, str] = {}  # of every sweep it has read, to name one that is gone

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
            raise UsageError(
                f"a sweep's name has at most {tables.NAME_LIMIT} characters, this one {len(name)}: shorten it."
            )
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
            put_trials(connection, sweep_id, trials)
            row = connection.execute(select(tables.sweeps).where(tables.sweeps.c.id == sweep_id)).one()
        return self._seen(row)

    def sweep(self, name: str) -> SweepRow | None:
        """The sweep of this name, or None."""
        with self._reading() as connection:
            row = connection.execute(select(tables.sweeps).where(tables.sweeps.c.name == name)).one_or_none()
        return None if row is None else self._seen(row)

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
        return [self._seen(row) for row in found]

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
        """Changes what is given, leaves what is None; UnknownSweepError when the sweep was deleted.

        Of a claimed sweep nothing is changed once another head has it, as with `write`.
        """
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
            self._hold(connection, sweep_id)
            statement = update(tables.sweeps).where(tables.sweeps.c.id == sweep_id).values(changes)
            if connection.execute(statement).rowcount == 0:
                raise self._deleted(sweep_id)

    def delete_sweep(self, name: str) -> None:
        """Deletes a sweep with its trials, attempts and reports; UnknownSweepError names those there are."""
        with self._writing() as connection:
            gone = connection.execute(delete(tables.sweeps).where(tables.sweeps.c.name == name)).rowcount
        if not gone:
            raise self._unknown(name)

    def add_trials(self, sweep_id: int, trials: Sequence[TrialRow]) -> None:
        """Adds trials to a sweep; repeating it changes nothing."""
        self.write(sweep_id, trials)

    def write(
        self,
        sweep_id: int,
        trials: Sequence[TrialRow],
        attempts: Sequence[AttemptRow] = (),
        reports: Sequence[ReportRow] = (),
        *,
        now: float | None = None,
    ) -> None:
        """Writes whole rows in one transaction: all are committed when it returns, none when it raises.

        Each row replaces the one of its number (a report the one of its step), so repeating a write changes
        nothing. A batch costs one fsync: give as many rows at once as there are. Of a sweep that this store has
        claimed nothing is written once another head has it: ClaimLostError; `now` renews the claim.
        """
        with self._writing() as connection:
            self._hold(connection, sweep_id, now)
            put_trials(connection, sweep_id, trials)
            put_attempts(connection, sweep_id, attempts)
            put_reports(connection, sweep_id, reports)

    def trials(self, sweep_id: int, *, after: int = -1, limit: int | None = None) -> list[TrialRow]:
        """A sweep's trials by number, those behind `after`; no more than `limit` of them."""
        table = tables.trials.c
        statement = select(*(table[name] for name in rows.TRIAL_COLUMNS)).where(table.sweep_id == sweep_id)
        statement = statement.where(table.number > after).order_by(table.number).limit(limit)
        with self._reading() as connection:
            parts = connection.execute(statement).partitions(_AT_ONCE)
            return [trial for part in parts for trial in rows.trial_rows(part)]

    def attempts(
        self, sweep_id: int, *, after: tuple[int, int] | None = None, limit: int | None = None
    ) -> list[AttemptRow]:
        """Attempts at a sweep's trials by trial and attempt number, those behind `after`; at most `limit` of them."""
        columns = ("number", "node", "outcome", "started_at", "ended_at", "reason")
        return [rows.attempt_row(row) for row in self._of_trials(tables.attempts, columns, sweep_id, after, limit)]

    def reports(self, sweep_id: int) -> dict[int, dict[int, float]]:
        """The intermediate values of every trial that has some: trial number -> step -> value, both in order."""
        found: dict[int, dict[int, float]] = {}
        for row in self.report_rows(sweep_id):
            found.setdefault(row.trial, {})[row.step] = row.value
        return found

    def report_rows(
        self, sweep_id: int, *, after: tuple[int, int] | None = None, limit: int | None = None
    ) -> list[ReportRow]:
        """Intermediate values by trial number and step, those behind `after`; no more than `limit` of them."""
        found = self._of_trials(tables.reports, ("step", "value"), sweep_id, after, limit)
        return [ReportRow(trial, step, math.nan if value is None else value) for trial, step, value in found]

    def _of_trials(
        self, table: Table, columns: Sequence[str], sweep_id: int, after: tuple[int, int] | None, limit: int | None
    ) -> Sequence[Any]:
        """Rows that belong to a sweep's trials, by trial number and the first of `columns`, behind `after`."""
        number, key = tables.trials.c.number, table.c[columns[0]]
        statement = (
            select(number.label("trial"), *(table.c[name] for name in columns))
            .join(tables.trials, table.c.trial_id == tables.trials.c.id)
            .where(tables.trials.c.sweep_id == sweep_id)
            .order_by(number, key)
            .limit(limit)
        )
        if after is not None:
            statement = statement.where(number >= after[0], (number > after[0]) | (key > after[1]))
        with self._reading() as connection:
            return connection.execute(statement).all()

    def counts(self, sweep_id: int) -> dict[TrialState, int]:
        """How many trials of a sweep are in each state, zeros included."""
        table = tables.trials.c
        statement = select(table.state, func.count()).where(table.sweep_id == sweep_id).group_by(table.state)
        with self._reading() as connection:
            found = {row[0]: row[1] for row in connection.execute(statement)}
        return {state: found.get(state.value, 0) for state in TrialState}

    def claim(self, sweep_id: int, owner: str, now: float, stale_s: float, *, machine: str | None = None) -> str | None:
        """None when the sweep is `owner`'s to run, from now on and until it is silent for `stale_s`; else who has it.

        The owner claims again, at least every third of `stale_s`, to be heard of; so does `write` with its time.
        `machine` is what others are told to look for, this host's name unless given. Clocks of machines that share
        a database may differ by less than `stale_s`.
        """
        with self._writing() as connection:
            host = machine or socket.gethostname()
            sentence = claims.take(connection, sweep_id, owner, host, now, stale_s, self._deleted)
        if sentence is None:
            self._claimed[sweep_id] = owner
        else:
            self._claimed.pop(sweep_id, None)
        return sentence

    def release(self, sweep_id: int, owner: str) -> None:
        """Lets another head run the sweep at once; nothing happens when it is not the owner's."""
        with self._writing() as connection:
            claims.leave(connection, sweep_id, owner)
        self._claimed.pop(sweep_id, None)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with told(self.location), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with told(self.location), writing(self._engine) as connection:
            yield connection

    def _hold(self, connection: Connection, sweep_id: int, now: float | None = None) -> None:
        if (owner := self._claimed.get(sweep_id)) is not None:
            claims.hold(connection, sweep_id, owner, now, self._deleted)

    def _seen(self, row: Row[Any]) -> SweepRow:
        found = rows.sweep_row(row)
        self._names[found.id] = found.name
        return found

    def _deleted(self, sweep_id: int) -> UnknownSweepError:
        name = self._names.get(sweep_id, "")
        return UnknownSweepError(
            f"the sweep {name!r} is no longer in {self.location}: it was deleted. Declare it again to start anew."
        )

    def _unknown(self, name: str) -> UnknownSweepError:
        with self._reading() as connection:
            names = list(connection.execute(select(tables.sweeps.c.name).order_by(tables.sweeps.c.id)).scalars())
        there = f"there is {listed(names[-10:])}" if names else "submit or declare one first"
        return UnknownSweepError(f"no sweep named {name!r} is in {self.location}{did_you_mean(name, names)}: {there}.")
