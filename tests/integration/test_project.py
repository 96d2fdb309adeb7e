"""A project's folder on a cluster: MAIN in each of its forms, with its data and modules, mended on the way."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.sessions import Cluster, all_slots_cell, cluster, write_main, write_sweep

pytestmark = [pytest.mark.ray, pytest.mark.timeout(200)]

COMPUTE = """
import raycolab
rows = len(open("data.csv").readlines())
def compute(x):
    wait_for_all_slots()
    trial = raycolab.trial()
    (trial.folder / "model.txt").write_text(trial.node)
    assert (trial.folder / "model.txt").read_text() == trial.node
    with open("data.csv") as data:
        assert len(data.readlines()) == rows
    return {"score": helpers.twice(scaled(x)), "rows": rows, "mine": trial.number, "drawn": trial.seed}
"""


@pytest.fixture(scope="module")
def three() -> Iterator[Cluster]:
    """A head and two joiners that share nothing."""
    with cluster() as made:
        made.start_head()
        for name in ("joiner-1", "joiner-2"):
            made.start_joiner(name)
        made.wait_up(3)
        yield made


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder that no session can see: data, a module, a package that has data too."""
    folder = tmp_path / "project"
    (folder / "pkg" / "deep").mkdir(parents=True)
    (folder / "data.csv").write_text("1\n2\n3\n")
    (folder / "helpers.py").write_text("def twice(x):\n    return 2 * x\n")
    (folder / "pkg" / "__init__.py").write_text(
        "import pathlib\n"
        "FACTOR = int((pathlib.Path(__file__).parent / 'deep' / 'factor.txt').read_text())\n"
        "def scaled(x):\n    return FACTOR * x\n"
    )
    (folder / "pkg" / "deep" / "factor.txt").write_text("10")
    return folder


def typed(code: str, *arguments: str, cwd: Path) -> str:
    """What a Python program prints that somebody runs in this folder."""
    program = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    done = subprocess.run(program, cwd=cwd, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_projects_data_modules_and_package_are_there_on_every_node(three: Cluster, project: Path) -> None:
    """12 of 12, on all three nodes, and each trial knows itself."""
    write_main(project, all_slots_cell(Path("/tmp"), 1), "import helpers\nfrom pkg import scaled", COMPUTE)
    lines = ["files: [data.csv, helpers.py, pkg]", "parameters: {x: {min: 0.0, max: 1.0}}", "jobs_per_pair: 12"]
    path = write_sweep(project, "project", [*lines, "metric: {name: score, goal: maximize}"])
    done = three.raycolab("submit", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 files, " in done.stderr
    assert "travel with MAIN, once to each node" in done.stderr
    rows = three.rows("project")
    assert [row["state"] for row in rows] == ["COMPLETE"] * 12
    for row in rows:
        assert row["score"] == pytest.approx(20 * row["config/x"])
        assert (row["rows"], row["mine"], row["drawn"]) == (3, row["number"], row["seed"])
        assert row["main_version"] == 1


def test_what_lies_beside_main_and_did_not_travel_is_named(three: Cluster, project: Path) -> None:
    """With the key that brings it, in what submit says."""
    write_main(project, "import helpers", "def compute(x):\n    return x")
    path = write_sweep(project, "lacking", ["parameters: {x: [1, 2]}", "method: grid"])
    done = three.raycolab("submit", str(path))
    assert done.returncode == 1
    said = "`helpers.py` lies beside MAIN and did not travel with it: declare the sweep with files: [helpers.py]"
    assert said in " ".join((done.stdout + done.stderr).split())


def test_a_wandb_program_with_compute_runs(three: Cluster, project: Path) -> None:
    """Its own path is in the work folder, and what stands below the main guard does not run."""
    (project / "train.py").write_text(
        textwrap.dedent(
            """
            from pathlib import Path
            HERE = Path(__file__).parent
            def compute(x):
                return x + len((HERE / "data.csv").read_text().split())
            if __name__ == "__main__":
                raise SystemExit("for the command line")
            """
        )
    )
    path = project / "wandb.yaml"
    path.write_text(
        "program: train.py\nmethod: grid\nfiles: data.csv\nparameters: {x: {values: [1, 2]}}\n"
        "metric: {name: score, goal: maximize}\n"
    )
    done = three.raycolab("submit", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert [row["score"] for row in three.rows("wandb")] == [4, 5]


DECLARE = """
import sys
import raycolab
import helpers
FACTOR = 10
def train(x, *, model):
    return FACTOR * helpers.twice(x) + len(open("data.csv").readlines())
sweep = raycolab.declare("function", main=train, files=["*.py", "data.csv"], models={"m": {"x": [1, 2, 3]}},
    method="grid", data_dir=sys.argv[1])
print(sweep.run(progress=lambda *_: None).dataframe["metric"].tolist())
"""


def test_a_function_runs_with_the_modules_of_its_folder(three: Cluster, project: Path) -> None:
    """Declared by a program that no node can see."""
    (project / "study.py").write_text(DECLARE)
    said = typed("import runpy; runpy.run_path('study.py', run_name='__main__')", str(three.data_dir), cwd=project)
    assert "[23.0, 43.0, 63.0]" in said or "[23, 43, 63]" in said


def test_a_tab_that_joined_declares_its_own_files(three: Cluster, project: Path) -> None:
    """They reach the head through the mesh, in more than one message."""
    tab = three.joiners["joiner-1"]
    code = """
import os, pathlib
folder = pathlib.Path("/tmp/mine"); folder.mkdir(exist_ok=True); os.chdir(folder)
(folder / "data.bin").write_bytes(os.urandom(20_000_000))
(folder / "MAIN.py").write_text("size = len(open('data.bin', 'rb').read())\\ndef compute(x):\\n    return x + size\\n")
import raycolab
sweep = raycolab.declare("from a tab", main="MAIN.py", files=["data.bin"], parameters={"x": [0, 1]}, method="grid")
print(sweep.run(progress=lambda *_: None).dataframe["metric"].tolist())
"""
    done = tab.run(sys.executable, "-c", code, timeout_s=150)
    assert "[20000000" in done.stdout, done.stdout + done.stderr


def test_a_mended_main_goes_on_with_what_had_failed(three: Cluster, project: Path) -> None:
    """One model's bug holds it while the other finishes: the ways are told, and keep leaves what was finished."""
    code = "def compute(model, x):\n    if model == 'bad' and {}:\n        raise ValueError('a bug')\n    return x"
    lines = ["models: {good: {x: {min: 0, max: 9.0}}, bad: {x: {min: 0, max: 9.0}}}", "jobs_per_pair: 12"]
    path = write_sweep(project, "mended", lines)
    write_main(project, code.format(True))
    assert three.raycolab("submit", str(path)).returncode == 1
    before = three.rows("mended")
    write_main(project, code.format(False))
    refused = three.raycolab("submit", str(path))
    assert refused.returncode == 2
    assert "The sweep 'mended' has 12 finished rows, and the code or the files of MAIN have changed" in refused.stderr
    kept = three.raycolab("submit", str(path), "--main-changed", "keep")
    assert kept.returncode == 0, kept.stdout + kept.stderr
    rows = three.rows("mended")
    assert {row["state"] for row in rows} == {"COMPLETE"}
    assert {row["model"]: row["main_version"] for row in rows} == {"good": 1, "bad": 2}
    assert [row for row in rows if row["model"] == "good"] == [row for row in before if row["model"] == "good"]
    again = three.raycolab("submit", str(path), "--set", "jobs_per_pair=12", "--main-changed", "rerun")
    assert again.returncode == 0, again.stdout + again.stderr
    assert {row["main_version"] for row in three.rows("mended") if row["model"] == "good"} == {1}
