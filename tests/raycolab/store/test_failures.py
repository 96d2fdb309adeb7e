"""What a database's errors become: real ones, made by real databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, text

from raycolab.errors import RaycolabError, UsageError
from raycolab.store import StoreOutageError
from raycolab.store.failures import translated


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A SQLite database with one table, whose lock is waited for a hundredth of a second."""
    made = create_engine(f"sqlite:///{tmp_path}/r.sqlite", connect_args={"timeout": 0.01})
    with made.begin() as connection:
        connection.execute(text("CREATE TABLE kept (value TEXT UNIQUE)"))
    yield made
    made.dispose()


def insert(connection: Connection, *values: str) -> None:
    """Rows whose values must differ."""
    for value in values:
        connection.execute(text("INSERT INTO kept VALUES (:value)"), {"value": value})


def test_a_full_disk_is_an_outage(engine: Engine) -> None:
    """SQLite answers a page beyond `max_page_count` as it answers one beyond the disk."""
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA max_page_count=3"))
    engine.dispose()  # the limit is a connection's own: the next one has it
    with (
        pytest.raises(StoreOutageError, match=r"r\.sqlite cannot be used: its disk is full: free some space"),
        translated("r.sqlite"),
        engine.begin() as connection,
    ):
        insert(connection, "x" * 100_000)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM kept")).scalar_one() == 0


def test_a_lock_held_too_long_is_an_outage(engine: Engine) -> None:
    """The cure is another program's end."""
    with engine.begin() as first:
        insert(first, "a")
        with (
            pytest.raises(StoreOutageError, match="another program keeps it locked"),
            translated("r.sqlite"),
            engine.begin() as second,
        ):
            insert(second, "b")


def test_a_refused_row_is_not_an_outage(engine: Engine) -> None:
    """Repeating it would not help."""
    with (
        pytest.raises(RaycolabError, match="refused a row") as caught,
        translated("r.sqlite"),
        engine.begin() as connection,
    ):
        insert(connection, "a", "a")
    assert not isinstance(caught.value, StoreOutageError)


def test_a_damaged_file_is_said_to_be_damaged(engine: Engine, tmp_path: Path) -> None:
    """A page overwritten by somebody else."""
    with engine.begin() as connection:
        insert(connection, "x" * 50_000)
    engine.dispose()
    path = tmp_path / "r.sqlite"
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\x55" * (len(whole) - 4096))
    with pytest.raises(RaycolabError, match="is damaged"), translated("r.sqlite"), engine.connect() as connection:
        connection.execute(text("SELECT * FROM kept")).all()


def test_a_value_that_no_database_takes_is_named(engine: Engine) -> None:
    """Half a character, as a file name that is not UTF-8 gives it."""
    with (
        pytest.raises(
            RaycolabError, match=r"r\.sqlite cannot hold a value \(.*surrogates.*\), and nothing was written: use"
        ),
        translated("r.sqlite"),
        engine.begin() as connection,
    ):
        insert(connection, "\udcff")


@pytest.mark.parametrize(
    ("statement", "values"), [("INSERT INTO kept VALUES (?)", ("a", "b")), ("SELECT * FROM dropped", ())]
)
def test_what_is_no_outage_is_told_in_the_databases_words(
    engine: Engine, statement: str, values: tuple[str, ...]
) -> None:
    """A bug of ours, a server's own rule, a table that somebody dropped; repeating it would not help."""
    sentence = r"^the database r\.sqlite answered with an error \(.*\): mend that, or name another database\.$"
    with (
        pytest.raises(RaycolabError, match=sentence) as caught,
        translated("r.sqlite"),
        engine.begin() as connection,
    ):
        connection.exec_driver_sql(statement, values)
    assert not isinstance(caught.value, StoreOutageError)


def test_parameters_are_never_part_of_a_sentence(engine: Engine) -> None:
    """What trials printed stays out of errors."""
    with pytest.raises(RaycolabError) as caught, translated("r.sqlite"), engine.begin() as connection:
        insert(connection, "hunter2", "hunter2")
    assert "hunter2" not in str(caught.value)


def test_our_own_errors_pass_unchanged() -> None:
    """A sentence is said once."""
    with pytest.raises(UsageError, match=r"^mine$"), translated("r.sqlite"):
        raise UsageError("mine")
