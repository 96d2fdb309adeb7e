"""An error belongs to one sweep: what goes wrong with it holds it, with its sentence, and the others go on."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Container
from typing import Any

import psutil
import pytest

from tests.integration.sessions import Cluster, until, words_of, write_main, write_sweep

pytestmark = [pytest.mark.ray, pytest.mark.timeout(280)]

MAIN = "def compute(model, dataset, x):\n    return {'score': x}"
LINES = ["models: {a: {x: {min: 0.0, max: 1.0}}}", "jobs_per_pair: 4", "metric: {name: score, goal: maximize}"]


def submitted(on: Cluster, name: str, *more: str, main: str = MAIN) -> None:
    """A sweep of this name is in the queue."""
    write_main(on.folder, main)
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


def test_a_file_beside_the_head_is_not_imported(lone_head: Cluster) -> None:
    """The engine's Optuna is the package, wherever the head was started."""
    submitted(lone_head, "learns", "method: bayes")
    assert wait_state(lone_head, "learns", "COMPLETE")["complete"] == 4


@pytest.mark.parametrize("method", ["bayes", "random"])
@pytest.mark.parametrize(
    "parameter",
    ["{distribution: log_normal, mu: 1000, sigma: 100}", "{distribution: uniform, min: -1e308, max: 1e308}"],
)
def test_a_distribution_that_no_float_can_hold_is_refused(lone_head: Cluster, method: str, parameter: str) -> None:
    """By name and before anything is written, whatever the method; it ran for ever, with slots dying."""
    write_main(lone_head.folder, MAIN)
    lines = [f"models: {{a: {{x: {parameter}}}}}", f"method: {method}", LINES[2]]
    refused = lone_head.raycolab("submit", str(write_sweep(lone_head.folder, "endless", lines)), "--no-wait")
    assert (refused.returncode, "'x'" in refused.stderr) == (2, True), refused.stderr
    assert "bug" not in refused.stderr
    assert sweep(lone_head, "endless") == {}


def test_trials_whose_metric_no_float_can_hold_are_complete(lone_head: Cluster) -> None:
    """Both count, neither is the best one, and the sweep behind them runs."""
    submitted(lone_head, "beyond", main="def compute(model, dataset, x):\n    return {'score': 10**400}")
    submitted(lone_head, "next")
    beyond = wait_state(lone_head, "beyond", "COMPLETE")
    assert (beyond["complete"], beyond["pending"], beyond["best"]) == (4, 0, None)
    assert wait_state(lone_head, "next", "COMPLETE")["complete"] == 4


def test_a_sweep_that_cannot_be_taken_up_is_held_and_the_next_one_runs(lone_head: Cluster) -> None:
    """It says why; orders for it are answered, and it can be deleted."""
    submitted(lone_head, "spoilt")
    wait_state(lone_head, "spoilt", "COMPLETE")
    spoil(
        lone_head, "update trials set state = 'PENDING' where sweep_id = (select id from sweeps where name = 'spoilt')"
    )
    spoil(lone_head, "update sweeps set spec = '{\"name\": 1}' where name = 'spoilt'")
    started = lone_head.raycolab("resume", "spoilt")
    submitted(lone_head, "behind")
    held = wait_state(lone_head, "spoilt", "HELD")
    assert started.returncode in (0, 1, 2), started.stderr
    assert held["sentence"]
    assert wait_state(lone_head, "behind", "COMPLETE")["complete"] == 4
    assert lone_head.raycolab("delete", "spoilt").returncode == 0
    assert sweep(lone_head, "spoilt") == {}


def test_poisoned_sweeps_between_good_ones_are_held_alone(lone_head: Cluster) -> None:
    """The good ones COMPLETE, the others are HELD with their reason, and can be deleted."""
    go = lone_head.folder / "poisoned"
    waits = (
        "import pathlib, time\ndef compute(model, dataset, x):\n"
        f"    while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.05)\n    return {{'score': x}}"
    )
    submitted(lone_head, "good-0", main=waits)
    wait_state(lone_head, "good-0", "RUNNING")
    poison = {
        "a trial": "trials set metrics = 'x' where number = 1 and sweep_id = (select id from sweeps where name = ?)",
        "its state": "sweeps set state = 'nonsense' where name = ?",
        "its MAIN": "sweeps set main = 'nonsense' where name = ?",
    }
    for number, what in enumerate(poison, 1):
        submitted(lone_head, f"bad-{number}")
        submitted(lone_head, f"good-{number}")
        spoil(lone_head, f"update {poison[what]}".replace("?", f"'bad-{number}'"))
    assert sweep(lone_head, "good-0")["complete"] == 0, "it waits for the others to be poisoned"
    go.touch()
    for number in range(1, 4):
        assert wait_state(lone_head, f"good-{number}", "COMPLETE")["complete"] == 4
        held = wait_state(lone_head, f"bad-{number}", "HELD")
        assert "damaged" in held["sentence"] or "cannot be read" in held["sentence"]
        assert lone_head.raycolab("delete", f"bad-{number}").returncode == 0


def test_an_engine_that_ends_again_and_again_is_not_started_for_ever(lone_head: Cluster) -> None:
    """It is restarted three times within ten minutes; then the head says so, at once and in its status."""
    assert lone_head.head is not None
    killed: set[int] = set()
    for _ in range(4):
        until(lambda: new_engine(lone_head, killed), 60, lone_head.status)
        engine = new_engine(lone_head, killed)
        assert engine is not None
        until(lambda: lone_head.raycolab("results", "behind", "--best").returncode == 0, 60, lone_head.status)
        killed.add(engine.pid)
        engine.kill()
    until(lambda: lone_head.status()["nodes"][0]["warning"], 60, lone_head.status)
    warning = lone_head.status()["nodes"][0]["warning"]
    assert warning.startswith("The sweep engine has ended again and again and is not started any more: ")
    began = time.monotonic()
    asked = lone_head.raycolab("results", "behind")
    assert (asked.returncode, asked.stderr.strip()) == (3, warning)
    assert time.monotonic() - began < 15
    assert json.loads(lone_head.raycolab("status", "--json").stdout)["nodes"][0]["warning"] == warning
