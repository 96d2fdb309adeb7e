"""The file of a SQLite store, as who keeps copies of it sees it: where it is, whether it changed, whose it is.

Reads and writes past SQLAlchemy, in a process that has no store open. What rows mean is not known here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from pathlib import Path

from raycolab.store.failures import StoreOutageError
from raycolab.store.opening import parsed_url

__all__ = ["drop_claims", "sqlite_path", "worth_keeping"]

_LOCK_WAIT_S = 5.0
# What a snapshot is taken for: sweeps, trials that changed their state for good, attempts that ended. RUNNING counts as
# PENDING, and neither a claim's renewal nor a report is in it: they change all the time and cost nobody a result.
_LOOKS = (
    "select id, name, state, spec_fingerprint, code_fingerprint from sweeps order by id",
    "select sweep_id, case state when 'RUNNING' then 'PENDING' else state end as settled, count(*) from trials "
    "group by sweep_id, settled order by sweep_id, settled",
    "select count(*) from attempts where ended_at is not null",
)


def sqlite_path(url: str) -> Path | None:
    """Where the database of a store's URL lies; None when it is no SQLite file. UsageError for what is no URL."""
    parsed = parsed_url(url)
    return Path(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None


def worth_keeping(database: Path) -> str:
    """A text that differs when the database has something that a former snapshot of it lacks. StoreOutageError."""
    try:
        with contextlib.closing(_opened(database, "ro")) as base:
            found = [base.execute(look).fetchall() for look in _LOOKS]
    except sqlite3.Error as error:
        raise StoreOutageError(
            f"the database {database} cannot be looked at ({error}): put it back, or go on from a copy of it."
        ) from error
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def drop_claims(database: Path) -> None:
    """Forget which heads ran the sweeps of a copy: they ran them in the database it was copied from."""
    try:
        with contextlib.closing(_opened(database, "rw")) as base, base:
            if base.execute("select 1 from sqlite_master where type = 'table' and name = 'heads'").fetchone():
                base.execute("delete from heads")
    except sqlite3.Error as error:
        raise StoreOutageError(
            f"the database {database} cannot be written ({error}): mend that, then start the head again."
        ) from error


def _opened(database: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{database.absolute().as_uri()}?mode={mode}", uri=True, timeout=_LOCK_WAIT_S)
