"""MAIN means what it means in a notebook, on a head and two joiners in sessions that share no network and no folder."""

from __future__ import annotations

import json
from typing import Any

import pytest

import raycolab
from tests.integration.sessions import Cluster, all_slots_cell, until, write_main, write_sweep

pytestmark = [pytest.mark.ray, pytest.mark.timeout(280)]

# What a MAIN that is called WHO finds of its own doing.
CELLS = (
    "%%writefile hb_shared.py\ndef label(): return 'WHO'",
    "import os\nimport hb_shared",
    "os.makedirs('ckpt')",
    "!rm -rf ckpt && mkdir -p d && echo WHO > d/train.txt",
    "if not os.path.exists('d.csv'):\n    open('d.csv', 'w').writelines(f'{n}\\n' for n in range(20))",
    "rows = len(open('d.csv').readlines())",
)
COMPUTE = """
def compute(model, dataset, x):
    wait_for_all_slots()
    found = [hb_shared.label(), open('d/train.txt').read().strip(), str(rows), str(os.path.exists('ckpt'))]
    return {"score": x, "found": " ".join(found), "folder": os.path.basename(os.getcwd())}
"""


def submit(on: Cluster, name: str, *cells: str, jobs: int = 6) -> raycolab.Sweep:
    """A sweep of this MAIN, started."""
    sweep = raycolab.declare(
        name,
        main=write_main(on.folder, *cells),
        data_dir=on.data_dir,
        announce=lambda line: None,
        models={"a": {"x": raycolab.uniform(0, 1)}},
        datasets=["one"],
        jobs_per_pair=jobs,
        metric="score",
    )
    sweep.start()
    return sweep


def ended(on: Cluster, sweep: raycolab.Sweep, count: int) -> list[dict[str, Any]]:
    """Its rows, once all are COMPLETE."""

    def state() -> dict[str, Any]:
        return next(each for each in on.status()["sweeps"] if each["name"] == sweep.name)

    until(lambda: state()["complete"] == count and state()["state"] == "COMPLETE", 120, lambda: on.status())
    return on.rows(sweep.name)


def test_two_mains_take_turns_on_three_nodes_and_each_finds_its_own(tabs: Cluster) -> None:
    """A, B, and A with more jobs: rows of A said 'b'; commands came before the cells above them."""
    nodes = {"head", *(f"joiner-{number}" for number in range(1, len(tabs.joiners) + 1))}
    for who, jobs in (("a", 6), ("b", 6), ("a", 10)):
        waits = all_slots_cell(tabs.folder / who, len(nodes))
        (tabs.folder / who).mkdir(exist_ok=True)
        cells = [cell.replace("WHO", who) for cell in CELLS]
        rows = ended(tabs, submit(tabs, f"means-{who}", *cells, waits + COMPUTE, jobs=jobs), jobs)
        assert {row["found"] for row in rows} == {f"{who} {who} 20 False"}
        assert {row["node"] for row in rows} == nodes
        assert all(str(row["folder"]).startswith(f"means-{who}-") for row in rows)


def test_while_main_loads_the_status_says_where_and_since_when(tabs: Cluster) -> None:
    """150 s of `running 0` said nothing: of each node the cell, its first line, and when it began."""
    go = tabs.folder / "go"
    cell = f"import os, time\nwhile not os.path.exists({str(go)!r}):\n    time.sleep(0.05)"
    sweep = submit(tabs, "slow-to-load", "x = 1", cell, "def compute(model, dataset, x): return {'score': x}", jobs=3)

    def setups() -> list[dict[str, Any] | None]:
        return [node["setup"] for node in tabs.status()["nodes"]]

    until(lambda: all(setup is not None and setup["cell"] == 2 for setup in setups()), 90, setups)
    for setup in setups():
        assert setup is not None
        assert setup["line"] == "import os, time"
        assert setup["since"].endswith("+00:00")
    go.touch()
    ended(tabs, sweep, 3)
    assert setups() == [None] * (len(tabs.joiners) + 1)


def submitted(on: Cluster, name: str, cells: list[str], *lines: str, exit_code: int = 0) -> dict[str, Any]:
    """What `submit --json` says at the end of a sweep of this MAIN, and under "said" all that it printed beside."""
    write_main(on.folder, *cells)
    metric = "metric: {name: score, goal: maximize}"
    done = on.raycolab("submit", str(write_sweep(on.folder, name, [metric, *lines])), "--json")
    assert done.returncode == exit_code, done.stderr
    return {**json.loads(done.stdout), "said": done.stderr}


def test_a_seed_in_a_cell_held_for_the_first_trial_of_a_slot_only(tabs: Cluster) -> None:
    """20 trials of random and numpy, once on one slot and once on every node: the same numbers, trial by trial."""
    (tabs.folder / "seeded").mkdir()
    cells = [
        "import random\nimport numpy as np\nrandom.seed(0)\nnp.random.seed(0)",
        all_slots_cell(tabs.folder / "seeded", 1 + len(tabs.joiners)),
        "def compute(x, wait):\n"
        "    if wait: wait_for_all_slots()\n"
        "    return {'score': random.random() + np.random.rand(), 'x': x}",
    ]
    space = "parameters: {{x: {{min: 0.0, max: 1.0}}, wait: {}}}"
    submitted(tabs, "one-slot", cells, space.format("false"), "jobs_per_pair: 20", "max_concurrent_trials: 1")
    submitted(tabs, "all-nodes", cells, space.format("true"), "jobs_per_pair: 20")
    alone, together = tabs.rows("one-slot"), tabs.rows("all-nodes")
    assert len({row["node"] for row in together}) == 1 + len(tabs.joiners)
    found = [[(row["number"], row["seed"], row["x"], row["score"]) for row in rows] for rows in (alone, together)]
    assert found[0] == found[1]
    assert len({score for _, _, _, score in found[0]}) == 20

    best = max(alone, key=lambda row: row["score"])
    line = raycolab.find("one-slot", data_dir=tabs.data_dir).speedup([]).splitlines()[-1]
    notebook: dict[str, Any] = {}
    for cell in cells:
        exec(cell, notebook)
    exec(line.replace("compute(", "found = compute("), notebook)
    assert notebook["found"]["score"] == best["score"]


def test_mains_own_classes_and_what_one_trial_does_cost_no_trial(tabs: Cluster) -> None:
    """A string enumeration was three dead processes, a closed stdout the next trial's failure."""
    cells = [
        "%%writefile statuses.py\nfrom enum import Enum\nclass Status(str, Enum):\n    OK = 'ok'\n"
        "class Text(str):\n    pass\nclass Loud(Exception):\n    def __str__(self): return Text('too loud')",
        "import os, sys\nfrom statuses import Loud, Status",
        "def compute(x):\n"
        "    here = os.getcwd()\n"
        "    print('here', x)\n"
        "    if x == 1: raise Loud\n"
        "    if x == 2: sys.stdout.close(); os.chdir('/')\n"
        "    if x == 3: exit()\n"
        "    return {'score': x, Status.OK: Status.OK, 'here': here}",
    ]
    submitted(tabs, "own-classes", cells, "method: grid", "parameters: {x: [0, 1, 2, 3, 4, 5]}", exit_code=1)
    rows = {row["config/x"]: row for row in tabs.rows("own-classes")}
    assert [row["state"][0] for row in rows.values()] == ["C", "F", "C", "F", "C", "C"]
    assert {row["ok"] for row in rows.values() if row["state"] == "COMPLETE"} == {"ok"}
    assert rows[1]["error"] == "Loud: too loud (cell 3)"
    assert "the code called exit()" in rows[3]["error"]
    for node in {row["node"] for row in rows.values()}:
        assert len({row["here"] for row in rows.values() if row["node"] == node and row["here"]}) <= 1
    assert {row["attempts"] for row in rows.values()} == {1}


def test_why_setup_failed_was_thrown_away(tabs: Cluster) -> None:
    """A command that fails offline: its cell, its line and what it printed, wherever the sweep is shown."""
    cells = ["import os", "#@title Data\n!echo unable to resolve host; exit 4", "def compute(x): return {'score': x}"]
    status = submitted(tabs, "offline", cells, "parameters: {x: {min: 0.0, max: 1.0}}", "jobs_per_pair: 2", exit_code=1)
    errors = raycolab.find("offline", data_dir=tabs.data_dir).results.errors
    assert (errors["count"][0], errors["error_kind"][0], errors["cell"][0]) == (1 + len(tabs.joiners), "setup", 2)
    [failure] = status["setup_failures"]
    assert sorted(failure["nodes"])[:3] == ["head", "joiner-1", "joiner-2"]
    in_status = failure["failure"]["traceback"] + failure["failure"]["output"]
    in_errors = errors["traceback"][0] + errors["output"][0]
    table = tabs.raycolab("results", "offline").stdout
    for told in (status["said"], in_status, in_errors, table):
        assert "!echo unable to resolve host; exit 4" in told
        assert "\n    unable to resolve host\n" in f"{told}\n" or "unable to resolve host\n" in told


def test_a_cell_that_kills_its_process_is_named(tabs: Cluster) -> None:
    """`os.kill(os.getpid(), 9)`: no word was left, and no cell was named."""
    cells = ["import os", "os.kill(os.getpid(), 9)", "def compute(x): return {'score': x}"]
    status = submitted(tabs, "killed", cells, "parameters: {x: {min: 0.0, max: 1.0}}", "jobs_per_pair: 2", exit_code=1)
    assert "SIGKILL" in status["sentence"]
    assert "in cell 2" in status["sentence"]
