"""Opening and closing a database: from a URL to an engine that is ours, of our version, or a sentence why not.

SQLite is set up here for a sweep. `journal_mode=WAL`: any number of processes read while one writes.
`synchronous=FULL`: a commit is on the disk when it returns, so a committed row outlives the process (NORMAL would give
that too) and a loss of power (NORMAL would not); rows are written in batches to spread the fsync of each commit. A
write takes the lock at BEGIN, so that is where it waits for another writer, at most `LOCK_WAIT_S`, and it never fails
half-way. What WAL costs is that the newest rows are in a second file, which nobody copies: `fold_log` brings them into
the database's own file whenever something has ended, and when it is opened after a crash.
"""

from __future__ import annotations

import importlib.util
import os
import sqlite3
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Connection, Engine, Table, create_engine, event, inspect, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.schema import CreateColumn

from raycolab.errors import UsageError
from raycolab.store.failures import translated
from raycolab.store.tables import ADDED_SINCE, METADATA, SCHEMA_VERSION, schema_version

__all__ = ["LOCK_WAIT_S", "fold_log", "open_engine", "parsed_url", "shown_url", "sqlite_url", "unfolded", "writing"]

LOCK_WAIT_S = 30.0
"""How long a reader or writer waits for another process's lock before it fails."""

# Options of libpq (https://www.postgresql.org/docs/current/libpq-connect.html). A server that vanishes from the network
# during a statement is given up after half a minute, as a lock of SQLite is, and not after a quarter of an hour.
_LIBPQ_OPTIONS = {
    "connect_timeout": 10,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # ms
}
_POSTGRES_DRIVERS = ("psycopg", "psycopg2")  # SQLAlchemy's names and those of the modules
_SCHEMA_LOCK = 0x7261_7963  # "rayc": the advisory lock under which PostgreSQL's tables are made once


def sqlite_url(path: str | os.PathLike[str]) -> str:
    """The URL of the SQLite database at `path`, made absolute."""
    return URL.create("sqlite", database=os.path.abspath(path)).render_as_string()


def shown_url(engine: Engine) -> str:
    """What to call the database in a sentence: a file's absolute path, or the URL without its password."""
    url = engine.url
    if url.get_backend_name() == "sqlite":
        return os.path.abspath(url.database or "")
    return url.render_as_string(hide_password=True)


def open_engine(url: str) -> Engine:
    """An engine for `url` whose tables exist and are of this version, or one sentence as our error."""
    parsed = parsed_url(url)
    is_sqlite = parsed.get_backend_name() == "sqlite"
    options = _sqlite_options(parsed) if is_sqlite else _server_options(parsed)
    try:
        engine = create_engine(parsed, hide_parameters=True, **options)
    except NoSuchModuleError as error:
        name = parsed.drivername
        cure = "write postgresql://" if name == "postgres" else "write sqlite:/// or postgresql://"
        raise UsageError(f"'{name}://' is not a kind of database that SQLAlchemy knows here: {cure}.") from error
    except ImportError as error:
        raise UsageError(
            f"the driver of '{parsed.drivername}://' is not installed ({error}): "
            "for PostgreSQL run pip install 'psycopg[binary]', then open the store again."
        ) from error
    if is_sqlite:
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    try:
        with translated(shown_url(engine), opening=True):
            _make_tables(engine)
        fold_log(engine, 0.0)
    except BaseException:
        engine.dispose()
        raise
    return engine


def fold_log(engine: Engine, wait_s: float) -> None:
    """Bring what SQLite has in its write-ahead log into the database's own file, so that a copy of that has all.

    Another program at work on it is waited for, for `wait_s`; where that or the disk does not let us, nothing is lost
    and `unfolded` names the log.
    """
    if unfolded(engine) is None:
        return
    try:
        connection = engine.raw_connection()
    except SQLAlchemyError:
        return
    try:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={wait_s * 1000:.0f}")
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        cursor.execute(f"PRAGMA busy_timeout={LOCK_WAIT_S * 1000:.0f}")
    except sqlite3.Error:
        connection.invalidate()
    finally:
        connection.close()


def unfolded(engine: Engine) -> str | None:
    """The path of SQLite's write-ahead log where it has rows that the database's own file may lack."""
    if engine.url.get_backend_name() != "sqlite":
        return None
    log = f"{shown_url(engine)}-wal"
    try:
        return log if os.path.getsize(log) else None
    except OSError:
        return None


def writing(engine: Engine) -> AbstractContextManager[Connection]:
    """One write transaction: committed whole at the end of the block, or not at all."""
    return engine.execution_options(raycolab_writes=True).begin()


def parsed_url(url: str) -> URL:
    """The parts of a database URL, with the driver that is installed; UsageError when it is not such a URL."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        shown = "this" if "@" in url else repr(url)  # what has an @ may hold a password
        raise UsageError(
            f"{shown} is not a database URL: write sqlite:///results.sqlite or postgresql://USER@HOST/NAME."
        ) from error
    if parsed.drivername == "postgresql":
        found = [driver for driver in _POSTGRES_DRIVERS if importlib.util.find_spec(driver)]
        if found:
            parsed = parsed.set(drivername=f"postgresql+{found[0]}")
    return parsed


def _sqlite_options(url: URL) -> dict[str, Any]:
    path = url.database or ":memory:"
    if path == ":memory:" or path.startswith("file:"):
        raise UsageError(f"results must outlive the process, '{path}' would not: write sqlite:///results.sqlite.")
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        # Ours alone from its first byte; -wal and -shm beside it get the same mode from SQLite.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError as error:
        if not os.path.exists(path):  # the folder's own name is taken by a file
            raise UsageError(
                f"cannot make the folder of {path}: a file is in its place; "
                "choose another folder with --data-dir or store=."
            ) from error
    except OSError as error:
        raise UsageError(
            f"cannot create the database {os.path.abspath(path)}: {error.strerror}; "
            "choose a folder you may write to with --data-dir or store=."
        ) from error
    return {"connect_args": {"timeout": LOCK_WAIT_S}}


def _server_options(url: URL) -> dict[str, Any]:
    # A connection that died while idle (the database restarted, a firewall) is replaced unnoticed.
    options: dict[str, Any] = {"pool_pre_ping": True}
    if url.get_backend_name() == "postgresql" and url.get_driver_name() in _POSTGRES_DRIVERS:
        options["connect_args"] = dict(_LIBPQ_OPTIONS)
    return options


def _set_up_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver must not begin transactions by itself, `_begin_sqlite` does
    # A text that is no UTF-8 belongs to one row; the driver's own error would be the whole table's.
    connection.text_factory = partial(bytes.decode, encoding="utf-8", errors="replace")
    for pragma in ("foreign_keys=ON", "journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("raycolab_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _make_tables(engine: Engine) -> None:
    with engine.connect() as connection:  # reading first: to look at results never waits for a writer
        if _version(connection) == SCHEMA_VERSION:
            return
    with writing(engine) as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _SCHEMA_LOCK})
        version = _version(connection)  # somebody may have been faster
        if version < SCHEMA_VERSION:
            _upgrade(connection, version)


def _upgrade(connection: Connection, version: int) -> None:
    """Bring a database of this version to ours, in one transaction; what its rows hold stays as it is."""
    lacking = [each for older in range(version, SCHEMA_VERSION) for each in ADDED_SINCE[older]]
    added = [each for each in lacking if isinstance(each, Table)]
    if taken := {table.name for table in added}.intersection(inspect(connection).get_table_names()):
        raise UsageError(
            f"the database {shown_url(connection.engine)} already has a table '{min(taken)}' of another program: "
            "give raycolab a database of its own."
        )
    METADATA.create_all(connection, tables=added, checkfirst=False)
    for column in (each for each in lacking if isinstance(each, Column) and each.table not in added):
        definition = CreateColumn(column).compile(dialect=connection.dialect)
        connection.execute(text(f"ALTER TABLE {column.table.name} ADD COLUMN {definition}"))
    connection.execute(schema_version.delete())
    connection.execute(schema_version.insert(), {"version": SCHEMA_VERSION})


def _version(connection: Connection) -> int:
    """The version of our tables, 0 where there are none; UsageError for a newer one than we know."""
    if schema_version.name not in inspect(connection).get_table_names():
        return 0
    version = connection.execute(select(schema_version.c.version)).scalars().first()
    if type(version) is not int or version < 0:
        raise UsageError(
            f"the database {shown_url(connection.engine)} is damaged: its table {schema_version.name} has "
            f"{str(version)[:80]!r} in place of its version. Correct it there, or go on from a copy of the database."
        )
    if version > SCHEMA_VERSION:
        raise UsageError(
            f"the database {shown_url(connection.engine)} is of a newer raycolab "
            f"(its tables are version {version}, this one knows {SCHEMA_VERSION}): "
            "run pip install --upgrade raycolab, or name another database."
        )
    return version
