"""What a sweep survives: a joiner's session ended, the head killed and started again. Real Ray, short grace."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.sessions import RAYCOLAB, Cluster, cluster, until, write_main, write_sweep

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(300)]

GRACE_S = 3
MAIN = """
import time
def compute(model, dataset, x):
    time.sleep(0.4)
    return {"score": x}
"""
SWEEP = (
    "models: {a: {x: {min: 0.0, max: 1.0}}}",
    "datasets: [one, two]",
    "jobs_per_pair: 40",
    "metric: {name: score, goal: maximize}",
)


@pytest.fixture(scope="module")
def three() -> Iterator[Cluster]:
    """A head and two joiners with a short grace period, all up; the tests lose parts of it, in their order."""
    with cluster({"RAYCOLAB_GRACE_S": str(GRACE_S)}) as made:
        made.start_head()
        for number in (1, 2):
            made.start_joiner(f"tab-{number}")
        made.wait_up(3)
        yield made


def submit(three: Cluster, name: str) -> subprocess.Popen[str]:
    """`raycolab submit` in the background."""
    write_main(three.folder, MAIN)
    sweep = write_sweep(three.folder, name, SWEEP)
    return subprocess.Popen(
        [*RAYCOLAB, "submit", str(sweep), "--json", "--data-dir", str(three.data_dir)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def complete(three: Cluster, name: str) -> int:
    """Committed COMPLETE rows of a sweep."""
    with sqlite3.connect(three.data_dir / "raycolab.db") as database:
        query = "select count(*) from trials join sweeps on sweep_id = sweeps.id where name = ? and trials.state = ?"
        return int(database.execute(query, (name, "COMPLETE")).fetchone()[0])


def attempts(three: Cluster, name: str) -> list[tuple[int, int, str, str]]:
    """Every attempt of a sweep: trial number, attempt number, node, outcome."""
    with sqlite3.connect(three.data_dir / "raycolab.db") as database:
        columns = "trials.number, attempts.number, attempts.node, outcome"
        joined = "attempts join trials on trial_id = trials.id join sweeps on sweep_id = sweeps.id"
        return database.execute(f"select {columns} from {joined} where name = ?", (name,)).fetchall()


def test_ray_that_dies_on_a_joiner_is_started_again(three: Cluster) -> None:
    """The raylet is killed, as when the cluster had declared the node dead: the joiner comes back by itself."""
    tab = three.joiners["tab-1"]
    raylet = next(each for each in tab.processes() if each.name() == "raylet")
    raylet.kill()
    until(lambda: "Ray ended" in tab.said(), 30, tab.said)
    nodes = three.wait_up(3)
    assert [node["name"] for node in nodes] == ["head", "joiner-1", "joiner-2"]
    assert raylet.pid not in {each.pid for each in tab.processes()}


def test_a_head_that_is_killed_goes_on_where_it_was(three: Cluster) -> None:
    """Its session ends in mid-sweep; one with the same data directory has the same address and finishes the rest."""
    address = three.address_file.read_text()
    running = submit(three, "again")
    until(lambda: complete(three, "again") >= 15, 60, lambda: "the sweep does not start")
    assert three.head is not None
    three.head.end()
    running.communicate(timeout=60)
    assert running.returncode == 3
    before = complete(three, "again")
    three.start_head("head-again")
    assert three.address_file.read_text() == address
    three.wait_up(3)
    running = submit(three, "again")
    out, err = running.communicate(timeout=120)
    assert running.returncode == 0, err
    assert json.loads(out)["total"] == 80
    tries = Counter(trial for trial, _, _, outcome in attempts(three, "again") if outcome == "COMPLETE")
    assert tries == Counter(range(80))
    kept = [row for row in three.rows("again") if row["attempts"] == 1]
    assert len(kept) >= before


def test_a_joiner_that_dies_costs_no_trial(three: Cluster) -> None:
    """Its session ends in mid-sweep: every trial ends COMPLETE once, and the attempts tell the story."""
    running = submit(three, "loss")
    until(lambda: complete(three, "loss") >= 15, 60, lambda: "the sweep does not start")
    three.joiners["tab-1"].end()
    out, err = running.communicate(timeout=120)
    assert running.returncode == 0, err
    assert json.loads(out)["complete"] == 80
    rows = three.rows("loss")
    assert len(rows) == 80
    assert {row["state"] for row in rows} == {"COMPLETE"}
    tries = attempts(three, "loss")
    finished = Counter(trial for trial, _, _, outcome in tries if outcome == "COMPLETE")
    assert set(finished.values()) == {1}
    assert set(finished) == set(range(80))
    lost = [(trial, node) for trial, _, node, outcome in tries if outcome == "LOST"]
    assert len({node for _, node in lost}) <= 1
    assert all(row["attempts"] == 2 for row in rows if row["number"] in {trial for trial, _ in lost})
    names = [node["name"] for node in three.status()["nodes"]]
    assert len(names) == 2


def test_the_head_s_supervisor_killed_leaves_nothing(three: Cluster) -> None:
    """SIGKILL of the head's supervisor: no process, no socket; another head can start at once."""
    assert three.head is not None
    assert three.head.process is not None
    supervisor = three.head.supervisor()
    run_dir = Path(supervisor.cmdline()[4])
    supervisor.kill()
    assert three.head.process.wait(30) == 128 + 9
    assert three.head.processes() == []
    assert not run_dir.exists()
    three.head.end()
    three.start_head("head-again")
    three.wait_up(2)  # tab-1 ended in the test before
