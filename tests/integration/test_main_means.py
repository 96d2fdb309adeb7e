"""MAIN means what it means in a notebook, on a head and two joiners in sessions that share no network and no folder."""

from __future__ import annotations

from typing import Any

import pytest

import raycolab
from tests.integration.sessions import Cluster, all_slots_cell, until, write_main

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
