"""Where sweeps live: one SQL database for all of them, SQLite on a local disk by default.

The only door to SQLAlchemy.

sql        the store: what a head reads, writes and claims
tables     the shape of the database
rows       the values of `raycolab.trials` as rows of it
opening    from a URL to a database that is ours
failures   what a database's errors mean to a person
snapshots  copies of a SQLite store in a folder that is not to be trusted
"""

from __future__ import annotations

from raycolab.store.failures import ClaimLostError, DamagedRowError, StoreOutageError
from raycolab.store.opening import sqlite_url
from raycolab.store.sql import Store, open_store

__all__ = ["ClaimLostError", "DamagedRowError", "Store", "StoreOutageError", "open_store", "sqlite_url"]
