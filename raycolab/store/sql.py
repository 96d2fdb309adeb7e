"""Sweeps, trials, attempts and reports in a SQL database: what is committed here counts as done.

Through SQLAlchemy Core and portable SQL only, so one class serves every database. It keeps no state besides
its connections, the sweeps it has claimed and the names of those it has seen: a store may be used by several
threads, several processes may open one database, and after any of them is killed the rows are whole. It decides
nothing about trials; the last row written for a number is the one that stands.

At most one head runs a sweep: it claims it, by a row that it renews and that another head may take over once it is
stale. The claim is also a fence: each write locks its row until the commit, so a head that slept through the end of its
claim cannot write over the one that took over.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

from sqlalchemy import ColumnElement, Connection, Engine, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from raycolab.errors import UnknownSweepError, UsageError
from raycolab.store import tables
from raycolab.store.failures import ClaimLostError, DamagedRowError, translated
from raycolab.store.opening import fold_log, open_engine, shown_url, unfolded, writing
from raycolab.store.rows import ATTEMPTS, REPORTS, SWEEPS, TRIALS, Shape, put_of_trials, put_trials
from raycolab.store.tables import heads
from raycolab.text import did_you_mean, duration_text, listed, utc_seconds, utc_text
from raycolab.trials import AttemptRow, ReportRow, SetupFailure, SweepRow, SweepState, TrialRow, TrialState

__all__ = ["Store", "open_store"]

R = TypeVar("R", TrialRow, AttemptRow, ReportRow)

_AT_ONCE = 2_000  # rows read and decoded together
_FOLD_WAIT_S = 5.0  # for other programs that are at work on the same file


def open_store(url: str) -> Store:
    """The store at a SQLAlchemy URL, made if it is not there; UsageError says why it cannot be opened."""
    return Store(open_engine(url))


class Store:
    """Sweeps with their trials, attempts and reports in one database; make it with `open_store`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.location = shown_url(engine)  # a file's absolute path, or the URL without its password
        self._claimed: dict[int, str] = {}  # sweep id: the owner for whom this store has claimed it
        self._names: dict[int, str] = {}  # of every sweep it has read, to name it when it is gone

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back; nothing is pending, so nothing is lost, and a database in a file is whole."""
        self.fold()
        self._engine.dispose()

    def fold(self) -> None:
        """Bring all that is committed into the database's own file, for whoever copies that."""
        fold_log(self._engine, _FOLD_WAIT_S)

    @property
    def beside(self) -> str | None:
        """A file that belongs to the database at this moment and has to be copied with it; None where there is none."""
        return unfolded(self._engine)

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
        sweep = SweepRow(0, name, SweepState.DECLARED, spec, main, spec_fingerprint, code_fingerprint, now, versions)
        (columns,) = SWEEPS.columns([sweep])
        del columns["id"]  # which the database gives
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
            (row,) = self._sweeps(connection, tables.sweeps.c.id == sweep_id)
        return row

    def sweep(self, name: str) -> SweepRow | None:
        """The sweep of this name, or None."""
        with self._reading() as connection:
            found = self._sweeps(connection, tables.sweeps.c.name == name)
        return found[0] if found else None

    def existing_sweep(self, name: str) -> SweepRow:
        """The sweep of this name; UnknownSweepError names the sweeps there are."""
        found = self.sweep(name)
        if found is None:
            raise self._unknown(name)
        return found

    def sweeps(self) -> list[SweepRow]:
        """Every sweep that can be read, in the order they were declared; the others are `damaged_sweeps`."""
        return self._looked_at()[0]

    def damaged_sweeps(self) -> dict[str, DamagedRowError]:
        """The sweeps whose own row holds nonsense, by name, with what is wrong; `delete_sweep` takes them."""
        return self._looked_at()[1]

    def _looked_at(self) -> tuple[list[SweepRow], dict[str, DamagedRowError]]:
        with self._reading() as connection:
            found = connection.execute(SWEEPS.select().order_by(tables.sweeps.c.id)).all()
        rows: list[SweepRow] = []
        damaged: dict[str, DamagedRowError] = {}
        for columns in found:
            try:
                rows += self._noted([columns])
            except DamagedRowError as error:
                damaged[_shown_name(columns[1])] = error
        return rows, damaged

    def update_sweep(
        self,
        sweep_id: int,
        *,
        state: SweepState | None = None,
        spec: str | None = None,
        main: str | None = None,
        spec_fingerprint: str | None = None,
        code_fingerprint: str | None = None,
        main_version: int | None = None,
        setup_failures: tuple[SetupFailure, ...] | None = None,
    ) -> None:
        """Change what is given, leave what is None; UnknownSweepError when the sweep was deleted.

        As with `write`, nothing of a claimed sweep is changed once another head has it.
        """
        given = {
            "state": state,
            "spec": spec,
            "main": main,
            "spec_fingerprint": spec_fingerprint,
            "code_fingerprint": code_fingerprint,
            "main_version": main_version,
            "setup_failures": setup_failures,
        }
        changes = SWEEPS.encode({name: value for name, value in given.items() if value is not None})
        if not changes:
            return
        with self._writing() as connection:
            self._hold(connection, sweep_id)
            statement = update(tables.sweeps).where(tables.sweeps.c.id == sweep_id).values(changes)
            if connection.execute(statement).rowcount == 0:
                raise self._deleted(sweep_id)

    def delete_sweep(self, name: str) -> None:
        """Delete a sweep with its trials, attempts and reports; UnknownSweepError names the sweeps there are."""
        sweep_id = self.id_of(name)
        with self._writing() as connection:
            connection.execute(delete(tables.sweeps).where(tables.sweeps.c.id == sweep_id))

    def id_of(self, name: str) -> int:
        """The id of the sweep of this name, be its row damaged; UnknownSweepError names the sweeps there are."""
        columns = tables.sweeps.c
        with self._reading() as connection:
            found = connection.execute(select(columns.id).where(columns.name == name)).scalars().first()
            if found is None:  # a name that is no text is found by how it is shown
                every = connection.execute(select(columns.id, columns.name)).all()
                found = next((row.id for row in every if _shown_name(row.name) == name), None)
        if found is None:
            raise self._unknown(name)
        sweep_id: int = found
        return sweep_id

    def write(
        self,
        sweep_id: int,
        trials: Sequence[TrialRow],
        attempts: Sequence[AttemptRow] = (),
        reports: Sequence[ReportRow] = (),
        *,
        now: float | None = None,
    ) -> None:
        """Write whole rows in one transaction: all are committed when it returns, none when it raises.

        Each row replaces the one of its number (a report the one of its step), so repeating a write changes nothing. A
        batch costs one fsync: give all the rows there are at once. When another head has a sweep that this store had
        claimed, nothing is written: ClaimLostError. `now` renews the claim.
        """
        with self._writing() as connection:
            self._hold(connection, sweep_id, now)
            put_trials(connection, sweep_id, trials)
            put_of_trials(connection, sweep_id, ATTEMPTS, "number", attempts)
            put_of_trials(connection, sweep_id, REPORTS, "step", reports)

    def trials(self, sweep_id: int, *, after: int = -1, limit: int | None = None) -> list[TrialRow]:
        """A sweep's trials by number, those behind `after`; no more than `limit` of them."""
        return self._rows(sweep_id, TRIALS, None, (after, 0), limit)

    def attempts(
        self, sweep_id: int, *, after: tuple[int, int] | None = None, limit: int | None = None
    ) -> list[AttemptRow]:
        """Attempts at a sweep's trials by trial and attempt number, those behind `after`; at most `limit` of them."""
        return self._rows(sweep_id, ATTEMPTS, tables.attempts.c.number, after, limit)

    def reports(self, sweep_id: int) -> dict[int, dict[int, float]]:
        """The intermediate values of every trial that has some: trial number -> step -> value, both in order."""
        found: dict[int, dict[int, float]] = {}
        for report in self.report_rows(sweep_id):
            found.setdefault(report.trial, {})[report.step] = report.value
        return found

    def report_rows(
        self, sweep_id: int, *, after: tuple[int, int] | None = None, limit: int | None = None
    ) -> list[ReportRow]:
        """Intermediate values by trial number and step, those behind `after`; no more than `limit` of them."""
        return self._rows(sweep_id, REPORTS, tables.reports.c.step, after, limit)

    def counts(self, sweep_id: int) -> dict[TrialState, int]:
        """How many trials of a sweep are in each state, zeros included; what is no state counts as PENDING."""
        table = tables.trials.c
        statement = select(table.state, func.count()).where(table.sweep_id == sweep_id).group_by(table.state)
        with self._reading() as connection:
            found = {row[0]: row[1] for row in connection.execute(statement)}
        counts = {state: found.pop(state.value, 0) for state in TrialState}
        counts[TrialState.PENDING] += sum(found.values())
        return counts

    def claim(self, sweep_id: int, owner: str, now: float, stale_s: float, *, machine: str | None = None) -> str | None:
        """None when the sweep is `owner`'s to run until it is silent for `stale_s`; else a sentence about who has it.

        The owner claims again at least every third of `stale_s`, or passes its time to `write`. `machine` is where the
        sentence says that the owner runs, this host's name unless given. Clocks of machines that share a database may
        differ by less than `stale_s`.
        """
        with self._writing() as connection:
            sentence = self._take(connection, sweep_id, owner, machine or socket.gethostname(), now, stale_s)
        if sentence is None:
            self._claimed[sweep_id] = owner
        else:
            self._claimed.pop(sweep_id, None)
        return sentence

    def release(self, sweep_id: int, owner: str) -> None:
        """Let another head run the sweep at once; nothing happens when it is not the owner's."""
        with self._writing() as connection:
            connection.execute(delete(heads).where(heads.c.sweep_id == sweep_id, heads.c.owner == owner))
        self._claimed.pop(sweep_id, None)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with translated(self.location), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with translated(self.location), writing(self._engine) as connection:
            yield connection

    def _sweeps(self, connection: Connection, *conditions: ColumnElement[bool]) -> list[SweepRow]:
        return self._noted(connection.execute(SWEEPS.select().where(*conditions).order_by(tables.sweeps.c.id)).all())

    def _noted(self, found: Sequence[Sequence[Any]]) -> list[SweepRow]:
        rows = SWEEPS.rows(found, f"the sweeps in {self.location}")
        self._names.update((row.id, row.name) for row in rows)
        return rows

    def _rows(
        self,
        sweep_id: int,
        shape: Shape[R],
        key: ColumnElement[Any] | None,
        after: tuple[int, int] | None,
        limit: int | None,
    ) -> list[R]:
        """A sweep's trials, or what belongs to them by trial and then `key`; those behind `after`, at most `limit`."""
        trials = tables.trials.c
        order = [trials.number] if key is None else [trials.number, key]
        statement = shape.select().where(trials.sweep_id == sweep_id).order_by(*order).limit(limit)
        if after is not None and key is not None:
            # Both bounds: the first one alone is what an index can find.
            statement = statement.where(trials.number >= after[0], (trials.number > after[0]) | (key > after[1]))
        elif after is not None:
            statement = statement.where(trials.number > after[0])
        with self._reading() as connection:
            parts = connection.execute(statement).partitions(_AT_ONCE)
            return [row for part in parts for row in shape.rows(part, self._called(sweep_id))]

    def _take(
        self, connection: Connection, sweep_id: int, owner: str, machine: str, now: float, stale_s: float
    ) -> str | None:
        """None once the sweep is `owner`'s at `now`, else a sentence about who has it."""
        mine = {"owner": owner, "machine": machine, "heartbeat": utc_text(now)}
        is_stale = heads.c.heartbeat < utc_text(now - stale_s)
        free = (heads.c.owner == owner) | is_stale
        for _ in range(2):  # the second time, the head that was faster stands there
            if connection.execute(update(heads).where(heads.c.sweep_id == sweep_id, free).values(mine)).rowcount:
                return None
            if not self._exists(connection, sweep_id):
                break
            found = connection.execute(select(heads).where(heads.c.sweep_id == sweep_id)).one_or_none()
            heard_at = None if found is None else _heard_at(found.heartbeat)
            if found is not None and heard_at is None:  # nonsense: nobody can be at work behind it
                connection.execute(delete(heads).where(heads.c.sweep_id == sweep_id))
            elif found is not None and heard_at is not None:
                heard_s = max(now - heard_at, 0.0)
                return (
                    f"{self._called(sweep_id)} is being run by the head on {found.machine}, last heard of "
                    f"{duration_text(heard_s)} ago: stop it there, or wait until it has been silent for "
                    f"{duration_text(stale_s)}."
                )
            try:
                with connection.begin_nested():
                    connection.execute(insert(heads), {"sweep_id": sweep_id, **mine})
            except IntegrityError:
                continue
            return None
        raise self._deleted(sweep_id)

    def _hold(self, connection: Connection, sweep_id: int, now: float | None = None) -> None:
        """Lock this store's claim, renewed at `now`, until the transaction ends; ClaimLostError when it has none now.

        Nothing is asked of a store that never claimed the sweep.
        """
        if (owner := self._claimed.get(sweep_id)) is None:
            return
        mine = (heads.c.sweep_id == sweep_id) & (heads.c.owner == owner)
        if now is None:
            if connection.execute(select(heads.c.owner).where(mine).with_for_update()).one_or_none() is not None:
                return
        elif connection.execute(update(heads).where(mine).values(heartbeat=utc_text(now))).rowcount:
            return
        if not self._exists(connection, sweep_id):
            raise self._deleted(sweep_id)
        machine = connection.execute(select(heads.c.machine).where(heads.c.sweep_id == sweep_id)).scalar_one_or_none()
        by = "it was released" if machine is None else f"the head on {machine} has taken it over"
        raise ClaimLostError(f"this head no longer runs the sweep: {by}. What was committed before stands.")

    def _exists(self, connection: Connection, sweep_id: int) -> bool:
        found = connection.execute(select(tables.sweeps.c.name).where(tables.sweeps.c.id == sweep_id)).one_or_none()
        if found is not None:
            self._names[sweep_id] = found.name
        return found is not None

    def _called(self, sweep_id: int) -> str:
        return f"the sweep {self._names[sweep_id]!r}" if sweep_id in self._names else f"the sweep with id {sweep_id}"

    def _deleted(self, sweep_id: int) -> UnknownSweepError:
        name = self._names.get(sweep_id, "")
        return UnknownSweepError(
            f"the sweep {name!r} is no longer in {self.location}: it was deleted. Declare it again to start anew."
        )

    def _unknown(self, name: str) -> UnknownSweepError:
        with self._reading() as connection:
            found = connection.execute(select(tables.sweeps.c.name).order_by(tables.sweeps.c.id)).scalars()
            names = [_shown_name(name) for name in found]
        there = f"there is {listed(names[-10:])}" if names else "submit or declare one first"
        return UnknownSweepError(f"no sweep named {name!r} is in {self.location}{did_you_mean(name, names)}: {there}.")


def _shown_name(name: object) -> str:
    """A sweep's name as it is told and asked for, whatever the database holds."""
    return name if isinstance(name, str) else repr(name)


def _heard_at(heartbeat: object) -> float | None:
    """The time in a claim; None for nonsense."""
    try:
        return utc_seconds(str(heartbeat))
    except (ValueError, OverflowError):
        return None
