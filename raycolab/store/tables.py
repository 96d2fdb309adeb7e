"""The tables of a store, and the version they carry.

Only the shape: what a row means is in `raycolab.trials`, how it is written as columns in `store.rows`. The
unique keys (sweep, number), (trial, number) and (trial, step) are what makes "no trial has two finished rows"
true in the database itself. Times are UTC ISO 8601 text of one width, so sorting text sorts time; `config` and
`metrics` are JSON in TEXT, which every database takes. Both read the same in `sqlite3`, `psql` and a data
frame.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

__all__ = [
    "ADDED_SINCE",
    "METADATA",
    "NAME_LIMIT",
    "SCHEMA_VERSION",
    "attempts",
    "heads",
    "reports",
    "schema_version",
    "sweeps",
    "trials",
]

SCHEMA_VERSION = 3
"""Raised with every change of a table; a database of a newer version is refused, never guessed at."""

NAME_LIMIT = 255
"""Longest name of a sweep: databases other than SQLite need a bound to index a text."""

METADATA = MetaData()

# SQLite makes an id by itself only for a column declared exactly INTEGER.
_Id = BigInteger().with_variant(Integer(), "sqlite")
_Time = String(27)  # 2026-11-22T20:30:00.000000Z

schema_version = Table("raycolab_schema", METADATA, Column("version", Integer, nullable=False))

sweeps = Table(
    "sweeps",
    METADATA,
    Column("id", _Id, primary_key=True),
    Column("name", String(NAME_LIMIT), nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("spec", Text, nullable=False),
    Column("main", Text),
    Column("spec_fingerprint", String(128), nullable=False),
    Column("code_fingerprint", String(128)),
    Column("created_at", _Time, nullable=False),
    Column("versions", Text, nullable=False),
    Column("main_version", Integer, nullable=False, server_default="1"),
    Column("setup_failures", Text, nullable=False, server_default="[]"),
    # A deleted sweep's id is never given again: whoever still holds it must fail, not write into another.
    sqlite_autoincrement=True,
)

trials = Table(
    "trials",
    METADATA,
    Column("id", _Id, primary_key=True),
    Column("sweep_id", _Id, ForeignKey("sweeps.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("model", Text, nullable=False),
    Column("dataset", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("config", Text),
    Column("metrics", Text, nullable=False),
    Column("node", Text),
    Column("attempts", Integer, nullable=False),
    Column("started_at", _Time),
    Column("ended_at", _Time),
    Column("error_kind", String(16)),
    Column("error", Text),
    Column("traceback", Text),
    Column("cell_index", Integer),
    Column("output", Text),
    Column("same_as", Integer),
    Column("seed", BigInteger),
    Column("main_version", Integer),
    UniqueConstraint("sweep_id", "number"),
    # `counts` reads this alone, not rows with their outputs. `number` stands in it so that PostgreSQL, while it has no
    # statistics of a new sweep, cannot take this index for a look-up by number and read the whole sweep.
    Index("trials_states", "sweep_id", "number", "state"),
)

attempts = Table(
    "attempts",
    METADATA,
    Column("id", _Id, primary_key=True),
    Column("trial_id", _Id, ForeignKey("trials.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("node", Text, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("started_at", _Time, nullable=False),
    Column("ended_at", _Time),
    Column("reason", Text),
    UniqueConstraint("trial_id", "number"),
)

reports = Table(
    "reports",
    METADATA,
    Column("id", _Id, primary_key=True),
    Column("trial_id", _Id, ForeignKey("trials.id", ondelete="CASCADE"), nullable=False),
    Column("step", BigInteger, nullable=False),
    # Both SQLite and PostgreSQL would keep a NaN otherwise: the one as NULL, the other as a number equal to itself.
    Column("value", Float(53)),  # NULL is NaN
    UniqueConstraint("trial_id", "step"),
)

heads = Table(
    "heads",
    METADATA,
    Column("sweep_id", _Id, ForeignKey("sweeps.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("owner", Text, nullable=False),
    Column("machine", Text, nullable=False),
    Column("heartbeat", _Time, nullable=False),
)

ADDED_SINCE: dict[int, tuple[Table | Column[Any], ...]] = {
    0: (schema_version, sweeps, trials, attempts),
    1: (reports, heads),
    2: (sweeps.c.main_version, sweeps.c.setup_failures, trials.c.seed, trials.c.main_version),
}
"""What each version lacks and the next one has; a new database starts from version 0, with no tables."""
