"""However a head ends, the one file that people copy has every row, and the next head goes on from there."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable

import pytest

from raycolab.store import open_store, sqlite_url
from raycolab.trials import SweepState, TrialState
from tests.integration.sessions import Cluster, cluster, until, write_main, write_sweep

pytestmark = [pytest.mark.ray, pytest.mark.timeout(280)]

MAIN = """
import os, pathlib, time
def compute(model, dataset, x):
    while x > 2 and not pathlib.Path({go!r}).exists():
        time.sleep(0.05)
    return x
"""


def complete_in_a_copy(on: Cluster, name: str) -> int:
    """How many trials are COMPLETE in a copy of the database's one file, opened elsewhere."""
    elsewhere = on.folder / "elsewhere"
    shutil.rmtree(elsewhere, ignore_errors=True)
    elsewhere.mkdir()
    copy = shutil.copy(on.data_dir / "raycolab.db", elsewhere)
    with open_store(sqlite_url(copy)) as store:
        return store.counts(store.existing_sweep(name).id)[TrialState.COMPLETE]


def down(on: Cluster) -> None:
    """As a person ends it."""
    assert on.raycolab("down").returncode == 0


def terminated(on: Cluster) -> None:
    """As a service manager ends it."""
    assert on.head is not None
    on.head.guard().terminate()


def interrupted(on: Cluster) -> None:
    """As Ctrl-C ends it."""
    assert on.head is not None
    on.head.guard().send_signal(signal.SIGINT)


def killed(on: Cluster) -> None:
    """As the out-of-memory killer ends it."""
    assert on.head is not None
    on.head.supervisor().kill()


def without_its_guard(on: Cluster) -> None:
    """The process around it is killed, and it ends in order by itself."""
    assert on.head is not None
    on.head.guard().kill()


@pytest.mark.parametrize(
    "ends", [(down, interrupted, killed), pytest.param((terminated, without_its_guard), marks=pytest.mark.slow)]
)
def test_the_one_file_is_whole_after_every_kind_of_end(ends: tuple[Callable[[Cluster], None], ...]) -> None:
    """After a sweep's end and each orderly end of a head; after a kill once somebody has looked.

    What ran at an orderly end is not charged for it; no end leaves anything in the folder for temporary files.
    """
    with cluster() as on:
        go = on.folder / "go"
        write_main(on.folder, MAIN.format(go=str(go)))
        lines = ["models: {m: {x: [0, 1, 2, 3, 4]}}", "method: grid"]
        on.start_head()
        assert on.raycolab("submit", str(write_sweep(on.folder, "first", [*lines[1:], "models: {m: {x: [1, 2]}}"])))
        assert complete_in_a_copy(on, "first") == 2
        submitted = on.raycolab("submit", str(write_sweep(on.folder, "long", lines)), "--no-wait")
        assert submitted.returncode == 0, submitted.stderr
        for number, end in enumerate(ends):
            head = on.head if number == 0 else on.start_head(f"head-{number}")
            assert head is not None
            assert head.process is not None
            until(lambda: counts(on).get("running") == 1 and counts(on)["complete"] == 3, 60, on.status)
            end(on)
            head.process.wait(60)
            if end is killed:
                assert on.raycolab("status").returncode != 0
                assert on.raycolab("results", "long").returncode == 0
            else:
                assert not os.path.exists(f"{on.data_dir}/raycolab.db-wal"), head.said()
            assert complete_in_a_copy(on, "long") == 3
            until(lambda: not list(on.folder.glob("rc-*")), 30, head.said)
            head.end()
        go.touch()
        on.start_head("head-last")
        until(lambda: counts(on).get("state") == SweepState.COMPLETE, 60, on.status)
        with open_store(sqlite_url(on.data_dir / "raycolab.db")) as store:
            tries = [each.outcome for each in store.attempts(store.existing_sweep("long").id) if each.trial == 3]
        assert tries == [*("LOST" if end is killed else "CANCELLED" for end in ends), "COMPLETE"]


def counts(on: Cluster) -> dict[str, object]:
    """What the head says of the long sweep."""
    return next((each for each in on.status()["sweeps"] if each["name"] == "long"), {})
