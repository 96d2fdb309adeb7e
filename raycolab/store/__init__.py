"""Where sweeps live: one SQL database for all of them, SQLite on a local disk by default.

The only door to SQLAlchemy. `tables` holds the shape, `rows` the translation of values, `opening` the way
from a URL to a database that is ours, `failures` the sentences, `writes` and `claims` what happens inside a
transaction, `sql` the store itself, `snapshots` copies of a SQLite store in a folder that is not to be trusted,
`sqlite_file` what is asked of such a store's file.
"""

from __future__ import annotations

from raycolab.store.claims import ClaimLostError
from raycolab.store.failures import StoreOutageError
from raycolab.store.opening import sqlite_url
from raycolab.store.sql import Store, open_store

__all__ = ["ClaimLostError", "Store", "StoreOutageError", "open_store", "sqlite_url"]
