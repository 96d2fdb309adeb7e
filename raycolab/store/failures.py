"""What a database's errors mean to a person, as our errors.

SQLite's are recognised by their result codes (https://www.sqlite.org/rescode.html), PostgreSQL's by their SQLSTATE
(https://www.postgresql.org/docs/current/errcodes-appendix.html), those without one and those of other servers by their
DB-API class; never by their text.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError, SQLAlchemyError

from raycolab.errors import ClusterError, RaycolabError, UsageError

__all__ = ["ClaimLostError", "DamagedRowError", "StoreOutageError", "translated"]


class StoreOutageError(RaycolabError):
    """The database cannot be reached or written just now; nothing was written, and the call may be repeated."""

    exit_code = 3


class ClaimLostError(ClusterError):
    """Another head runs this sweep now, or its claim was released; nothing was written, and repeating does not help."""


class DamagedRowError(RaycolabError):
    """A row holds what raycolab never wrote there; the text names sweep, row and column."""


_NOT_OPENED = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH})
_OUTAGES = {
    sqlite3.SQLITE_FULL: "its disk is full: free some space",
    sqlite3.SQLITE_BUSY: "another program keeps it locked: end that program",
    sqlite3.SQLITE_LOCKED: "another program keeps it locked: end that program",
    sqlite3.SQLITE_IOERR: "its disk fails to read or write: keep the database on a local disk",
    sqlite3.SQLITE_CANTOPEN: "its file or folder is gone: put it back",
    sqlite3.SQLITE_READONLY: "its file was moved, deleted or made read-only: put it back",
}
_OUTAGE_STATES = {
    "25006": "it takes no writes at present",  # a standby, or a server that ran out of transaction ids
    "53100": "its server's disk is full: free some space there",
}
_OUTAGE_CLASSES = frozenset({"08", "40", "53", "55", "57", "58"})
"""SQLSTATE classes: connection, rollback, out of resources, locked or not ready, shut down, the system below."""


@contextmanager
def translated(where: str, *, opening: bool = False) -> Iterator[None]:
    """Raise what SQLAlchemy raises in the block as a RaycolabError about the database `where`."""
    try:
        yield
    except SQLAlchemyError as error:
        raise _meaning(error, where, opening) from error
    except (OverflowError, UnicodeError) as error:  # a driver's, for an integer or a text that it cannot send
        raise RaycolabError(
            f"the database {where} cannot hold a value ({error}), and nothing was written: use plain text and numbers."
        ) from error


def _meaning(error: SQLAlchemyError, where: str, opening: bool) -> RaycolabError:
    cause = error.orig if isinstance(error, DBAPIError) else error
    reason = " ".join(str(cause).split())
    code = getattr(cause, "sqlite_errorcode", None)
    if code is not None:
        code &= 0xFF  # the primary code; the upper bits only refine it
    if code == sqlite3.SQLITE_NOTADB:
        return UsageError(f"{where} is not a SQLite database: name another file, or move this one away.")
    if code == sqlite3.SQLITE_CORRUPT:
        return RaycolabError(f"the database {where} is damaged ({reason}): go on from a copy of it.")
    if opening and code in _NOT_OPENED:
        return UsageError(
            f"cannot open the database {where}: {reason}; choose a file you may write to with --data-dir or store=."
        )
    if code in _OUTAGES:
        return StoreOutageError(f"the database {where} cannot be used: {_OUTAGES[code]}.")
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None) or ""
    if state in _OUTAGE_STATES:
        return StoreOutageError(f"the database {where} cannot be used: {_OUTAGE_STATES[state]}.")
    if isinstance(error, IntegrityError):
        return RaycolabError(
            f"the database {where} refused a row ({reason}): its sweep was deleted, or another head writes it too. "
            "Declare it again, or end that head."
        )
    is_outage = isinstance(error, (OperationalError, InterfaceError)) and code != sqlite3.SQLITE_ERROR
    if state[:2] in _OUTAGE_CLASSES or is_outage:
        return StoreOutageError(f"the database {where} cannot be reached: {reason}")
    return RaycolabError(
        f"the database {where} answered with an error ({reason}): mend that, or name another database."
    )
