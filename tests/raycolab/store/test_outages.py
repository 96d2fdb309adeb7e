"""Outages made for real: a disk that is full, a server that is away. Nothing is lost, and the same call works later."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from raycolab.sandbox.sessions import probe
from raycolab.store import StoreOutageError, open_store
from raycolab.trials import AttemptRow, TrialRow, TrialState
from tests.raycolab.store.postgres import PostgresServer

NOW = 1_795_379_400.25
TRIALS = [TrialRow(number, "svc", "iris", {"C": number / 8}) for number in range(4)]

# Runs where the folder is a disk of 1 MB. A filler leaves no page free, then makes room again.
ON_A_SMALL_DISK = """
import dataclasses, json, os, sys
from raycolab.errors import RaycolabError
from raycolab.store import open_store, sqlite_url
from raycolab.trials import TrialRow, TrialState

folder = sys.argv[1]
filler = os.path.join(folder, "filler")

def fill():
    with open(filler, "ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            assert error.errno == 28, error

def said(call):
    try:
        call()
    except RaycolabError as error:
        return [type(error).__name__, str(error)]
    return None

trials = [TrialRow(number, "svc", "iris", {"C": 1.0}) for number in range(4)]
done = [dataclasses.replace(row, state=TrialState.COMPLETE, output="x" * 60_000) for row in trials]
store = open_store(sqlite_url(os.path.join(folder, "r.db")))
sweep = store.create_sweep("digits", "{}", None, "aa", None, {}, trials, 0.0)
store.write(sweep.id, done[:1])
fill()
full = [said(lambda: store.write(sweep.id, done)) for _ in range(2)]
while_full = store.trials(sweep.id) == [done[0], *trials[1:]]
other = said(lambda: open_store(sqlite_url(os.path.join(folder, "other.db"))))
os.unlink(filler)
store.write(sweep.id, done)
again = store.trials(sweep.id) == done
store.close()
with open_store(sqlite_url(os.path.join(folder, "r.db"))) as store:
    print(json.dumps([full, while_full, other, again, store.trials(sweep.id) == done]))
"""


@pytest.mark.skipif(probe().kind is None, reason=probe().reason or "disks can be mounted")
def test_a_full_disk_is_an_outage_and_no_loss(tmp_path: Path) -> None:
    """What was committed is read meanwhile; with room again the same write succeeds; a new database waits too."""
    user = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    mount = 'mount -t tmpfs -o size=1m none "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", *user, "--mount", "sh", "-c", mount, "sh", str(tmp_path), sys.executable, ON_A_SMALL_DISK]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    full, while_full, other, again, reopened = json.loads(done.stdout)
    outage = ["StoreOutageError", f"the database {tmp_path}/r.db cannot be used: its disk is full: free some space."]
    assert full == [outage, outage]
    assert other == [outage[0], outage[1].replace("r.db", "other.db")]
    assert (while_full, again, reopened) == (True, True, True)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
def test_a_server_that_is_away_is_an_outage_and_no_loss(
    postgres: PostgresServer, postgres_url: str, how: signal.Signals
) -> None:
    """Ended or crashed: the open store says so at each call, and goes on by itself when the server is back."""
    done = [dataclasses.replace(row, state=TrialState.COMPLETE) for row in TRIALS]
    tries = [AttemptRow(row.number, 1, "head", "COMPLETE", NOW, NOW) for row in TRIALS]
    with open_store(postgres_url) as store:
        sweep = store.create_sweep("digits", "{}", None, "aa", None, {}, TRIALS, NOW)
        store.write(sweep.id, done[:1], tries[:1])
        postgres.stop(how)
        try:
            for _ in range(2):
                with pytest.raises(StoreOutageError, match=r"the database postgresql.* cannot be reached"):
                    store.write(sweep.id, done, tries)
            with pytest.raises(StoreOutageError, match="cannot be reached"):
                open_store(postgres_url)
        finally:
            postgres.start()
        assert store.trials(sweep.id) == [done[0], *TRIALS[1:]]
        store.write(sweep.id, done, tries)
        assert (store.trials(sweep.id), store.attempts(sweep.id)) == (done, tries)


def test_a_server_that_ends_within_a_write_commits_none_of_it(postgres: PostgresServer, postgres_url: str) -> None:
    """The transaction was under way; the rows are as before, and the outage may be repeated."""

    class Rows(list[TrialRow]):
        """Trials during whose reading the server ends."""

        def __iter__(self):  # type: ignore[no-untyped-def]
            postgres.stop(signal.SIGQUIT)
            return super().__iter__()

    done = Rows(dataclasses.replace(row, state=TrialState.COMPLETE) for row in TRIALS)
    with open_store(postgres_url) as store:
        sweep = store.create_sweep("digits", "{}", None, "aa", None, {}, TRIALS, NOW)
        store.claim(sweep.id, "a", NOW, 60.0)
        try:
            with pytest.raises(StoreOutageError, match="cannot be reached"):
                store.write(sweep.id, done)
        finally:
            postgres.start()
        assert store.trials(sweep.id) == TRIALS
        assert store.counts(sweep.id)[TrialState.COMPLETE] == 0


def test_a_server_that_takes_no_writes_is_an_outage(postgres_url: str) -> None:
    """As after a switch to a standby; what is there can be read."""
    with open_store(postgres_url) as store:
        store.create_sweep("digits", "{}", None, "aa", None, {}, TRIALS, NOW)
    with (
        open_store(f"{postgres_url}&options=-cdefault_transaction_read_only%3Don") as store,
        pytest.raises(StoreOutageError, match="it takes no writes at present"),
    ):
        store.write(store.existing_sweep("digits").id, TRIALS)
