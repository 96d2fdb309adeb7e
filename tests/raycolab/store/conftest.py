"""Databases of both kinds for the tests of the store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from raycolab.store import sqlite_url
from raycolab.store.opening import open_engine
from raycolab.store.tables import METADATA
from tests.raycolab.store.postgres import PostgresServer, postgres_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One PostgreSQL server for all tests of this run."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> str:
    """The URL of its database, emptied."""
    engine = open_engine(postgres.url)
    METADATA.drop_all(engine)
    engine.dispose()
    return postgres.url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of each kind in turn."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "results.sqlite")
    found = request.getfixturevalue("postgres_url")
    assert isinstance(found, str)
    return found
