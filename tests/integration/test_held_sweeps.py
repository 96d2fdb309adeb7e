"""An error belongs to one sweep: what goes wrong with it holds it, with its sentence, and the others go on."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Container, Iterator
from typing import Any

import psutil
import pytest

from tests.integration.sessions import Cluster, cluster, until, words_of, write_main, write_sweep

pytestmark = [pytest.mark.ray, pytest.mark.timeout(280)]

MAIN = "def compute(model, dataset, x):\n    return {'score': x}"
LINES = ["models: {a: {x: {min: 0.0, max: 1.0}}}", "jobs_per_pair: 4", "metric: {name: score, goal: maximize}"]


@pytest.fixture(scope="module")
def beside() -> Iterator[Cluster]:
    """A head that was started in a folder with a file called as a package that it needs, which raises."""
    with cluster() as made:
        (made.folder / "work").mkdir()
        (made.folder / "work" / "optuna.py").write_text("raise RuntimeError('not the optuna you are looking for')\n")
        made.start_head(cwd=made.folder / "work")
        write_main(made.folder, MAIN)
        yield made


def submitted(on: Cluster, name: str, *more: str) -> None:
    """A sweep of this name is in the queue."""
    done = on.raycolab("submit", str(write_sweep(on.folder, name, [*LINES, *more])), "--no-wait")
    assert done.returncode == 0, done.stderr


def spoil(on: Cluster, statement: str) -> None:
    """Another program writes to the database."""
    with contextlib.closing(sqlite3.connect(on.data_dir / "raycolab.db", timeout=30)) as base:
        base.execute(statement)
        base.commit()


def sweep(on: Cluster, name: str) -> dict[str, Any]:
    """What the head says of a sweep."""
    found: dict[str, Any] = next((each for each in on.status()["sweeps"] if each["name"] == name), {})
    return found


def wait_state(on: Cluster, name: str, state: str) -> dict[str, Any]:
    """What is said of it once it is in this state."""
    until(lambda: sweep(on, name).get("state") == state, 90, lambda: on.status()["sweeps"])
    return sweep(on, name)


def new_engine(on: Cluster, killed: Container[int]) -> psutil.Process | None:
    """The engine's process, once it is another one than these."""
    assert on.head is not None
    engines = [each for each in on.head.processes() if words_of(each).startswith("ray::Engine")]
    return next((each for each in engines if each.pid not in killed), None)


def test_a_file_beside_the_head_is_not_imported(beside: Cluster) -> None:
    """The engine's Optuna is the package, wherever the head was started."""
    submitted(beside, "learns", "method: bayes")
    assert wait_state(beside, "learns", "COMPLETE")["complete"] == 4


@pytest.mark.parametrize("method", ["bayes", "random"])
@pytest.mark.parametrize(
    "parameter",
    ["{distribution: log_normal, mu: 1000, sigma: 100}", "{distribution: uniform, min: -1e308, max: 1e308}"],
)
def test_a_distribution_that_no_float_can_hold_is_refused(beside: Cluster, method: str, parameter: str) -> None:
    """By name and before anything is written, whatever the method; it ran for ever, with slots dying."""
    lines = [f"models: {{a: {{x: {parameter}}}}}", f"method: {method}", LINES[2]]
    refused = beside.raycolab("submit", str(write_sweep(beside.folder, "endless", lines)), "--no-wait")
    assert (refused.returncode, "'x'" in refused.stderr) == (2, True), refused.stderr
    assert "bug" not in refused.stderr
    assert sweep(beside, "endless") == {}


def test_trials_whose_metric_no_float_can_hold_are_complete(beside: Cluster) -> None:
    """Both count, neither is the best one, and the sweep behind them runs."""
    write_main(beside.folder, "def compute(model, dataset, x):\n    return {'score': 10**400}")
    submitted(beside, "beyond")
    write_main(beside.folder, MAIN)
    submitted(beside, "next")
    beyond = wait_state(beside, "beyond", "COMPLETE")
    assert (beyond["complete"], beyond["pending"], beyond["best"]) == (4, 0, None)
    assert wait_state(beside, "next", "COMPLETE")["complete"] == 4


def test_a_sweep_that_cannot_be_taken_up_is_held_and_the_next_one_runs(beside: Cluster) -> None:
    """It says why; orders for it are answered, and it can be deleted."""
    submitted(beside, "spoilt")
    wait_state(beside, "spoilt", "COMPLETE")
    spoil(beside, "update trials set state = 'PENDING' where sweep_id = (select id from sweeps where name = 'spoilt')")
    spoil(beside, "update sweeps set spec = '{\"name\": 1}' where name = 'spoilt'")
    started = beside.raycolab("resume", "spoilt")
    submitted(beside, "behind")
    held = wait_state(beside, "spoilt", "HELD")
    assert started.returncode in (0, 1, 2), started.stderr
    assert held["sentence"]
    assert wait_state(beside, "behind", "COMPLETE")["complete"] == 4
    assert beside.raycolab("delete", "spoilt").returncode == 0
    assert sweep(beside, "spoilt") == {}


def test_an_engine_that_ends_again_and_again_is_not_started_for_ever(beside: Cluster) -> None:
    """It is restarted three times within ten minutes; then the head says so, at once and in its status."""
    assert beside.head is not None
    killed: set[int] = set()
    for _ in range(4):
        until(lambda: new_engine(beside, killed), 60, beside.status)
        engine = new_engine(beside, killed)
        assert engine is not None
        until(lambda: beside.raycolab("results", "behind", "--best").returncode == 0, 60, beside.status)
        killed.add(engine.pid)
        engine.kill()
    until(lambda: beside.status()["nodes"][0]["warning"], 60, beside.status)
    warning = beside.status()["nodes"][0]["warning"]
    assert warning.startswith("The sweep engine has ended again and again and is not started any more: ")
    began = time.monotonic()
    asked = beside.raycolab("results", "behind")
    assert (asked.returncode, asked.stderr.strip()) == (3, warning)
    assert time.monotonic() - began < 15
    assert json.loads(beside.raycolab("status", "--json").stdout)["nodes"][0]["warning"] == warning
