"""The API from every node: sessions that share no network declare, pull, read and order through the mesh."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.integration.sessions import RAYCOLAB, Cluster, Tab, cluster, until, write_main, write_sweep

pytestmark = [pytest.mark.ray, pytest.mark.timeout(280)]

LEASE_S = 15
# Shortens the lease in the engine's process; a puller says every 10 s that it lives.
SHORT_LEASE = f"""
import sys
if "default_worker" in " ".join(sys.orig_argv):
    import raycolab.engine.pull
    raycolab.engine.pull.LEASE_S = {LEASE_S}
"""
# The last cell of a MAIN with the article's loop. After its first task each session waits until all have one.
LOOP_CELL = """
import os, pathlib, time
import raycolab
name, marks = os.environ["SESSION"], pathlib.Path(os.environ["MARKS"])
exp = raycolab.declare("everywhere", main=os.environ.get("MAIN"), announce=lambda line: None,
    models={"a": {"x": raycolab.uniform(0, 1)}}, datasets=["one"], jobs_per_pair=24, metric="score")
def wait_for(what):
    (marks / f"{what}.{name}").touch()
    while len(list(marks.glob(f"{what}.*"))) < 3:
        time.sleep(0.05)
wait_for("declared")
count = 0
while exp.not_done():
    task = exp.get_task()
    count += 1
    if count > 1:
        wait_for("got")
    else:
        (marks / f"got.{name}").touch()
    task.compute()
    task.send_data()
    task.done()
print("over", count, len(exp.results.dataframe), flush=True)
"""
# The article's worker notebook: it reads MAIN, and executes cell after cell.
WORKER = """
import os, sys
import nbformat
main_file = sys.argv[1]
for cell in nbformat.read(main_file, as_version=4).cells:
    if cell["cell_type"] == "code":
        if len(cell["source"]):
            src = cell["source"]
            if src[0] == "!":
                os.system(src[1:])
            else:
                try:
                    exec(src)
                except Exception as e:
                    print("---------")
                    print(src)
                    print("---------")
                    raise e
"""
RUN_MAIN = "import sys, raycolab; raycolab.run_main(sys.argv[1])"
HOLD = """
import sys, time
import raycolab
exp = raycolab.declare("leased", main=sys.argv[2], data_dir=sys.argv[1], announce=lambda line: None,
    models={"a": {"x": [1.0, 2.0]}}, datasets=["one"], method="grid", metric="score")
task = exp.get_task()
print("got", task.number, flush=True)
if sys.argv[3:]:
    time.sleep(1000)
while True:
    task.compute()
    task.send_data()
    task.done()
    if not exp.not_done():
        break
    task = exp.get_task()
print("over", flush=True)
"""
MAIN = "def compute(model, dataset, x):\n    return {'score': x}"
SLOW = "import time\ndef compute(model, dataset, x):\n    time.sleep(0.5)\n    return {'score': x}"
TABS = ("tab-1", "tab-2")


@pytest.fixture(scope="module")
def mesh() -> Iterator[Cluster]:
    """A head with one CPU and two joiners that only pull, each with a data directory of its own."""
    with cluster() as made:
        (made.folder / "site").mkdir()
        (made.folder / "site" / "sitecustomize.py").write_text(SHORT_LEASE)
        made.env["PYTHONPATH"] = str(made.folder / "site")
        made.start_head()
        for name in TABS:
            tab = Tab(made.folder, name)
            tab.start("join", f"@{made.address_file}", "--num-cpus", "0", "--data-dir", str(made.folder / name))
            made.joiners[name] = tab
            until(lambda name=name: len(made.status()["nodes"]) == 2 + TABS.index(name), 60, tab.said)
        made.wait_up(3)
        yield made


def data_dir(mesh: Cluster, tab: Tab) -> Path:
    """The data directory of what runs in a session."""
    return mesh.data_dir if tab is mesh.head else mesh.folder / tab.name


def python(
    mesh: Cluster, tab: Tab, name: str, script: str, *arguments: str, environ: Sequence[str] = ()
) -> tuple[subprocess.Popen[bytes], Path]:
    """A program in a session, and what it says."""
    log = mesh.folder / f"{name}.said"
    with log.open("wb") as output:
        command = tab.command("env", *environ, sys.executable, "-P", "-c", script, *arguments)
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output), log


def typed(mesh: Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command typed in a session that has joined."""
    tab = mesh.joiners["tab-1"]
    return tab.run(*RAYCOLAB, *arguments, "--data-dir", str(data_dir(mesh, tab)))


def test_the_article_s_worker_in_three_sessions_at_once(mesh: Cluster) -> None:
    """Its own code at the head and in a tab, `run_main` in another; each computes some trials, none is run twice."""
    main, marks = write_main(mesh.folder, MAIN, LOOP_CELL), mesh.folder / "marks"
    marks.mkdir()
    assert mesh.head is not None
    sessions = {"head": mesh.head, "joiner-1": mesh.joiners["tab-1"], "joiner-2": mesh.joiners["tab-2"]}
    loops = []
    for name, tab in sessions.items():
        environ = [f"SESSION={name}", f"MARKS={marks}", f"RAYCOLAB_DATA_DIR={data_dir(mesh, tab)}"]
        by_article = name != "joiner-2"
        environ += [f"MAIN={main}"] if by_article else []
        loops.append(python(mesh, tab, name, WORKER if by_article else RUN_MAIN, str(main), environ=environ))
    for process, log in loops:
        assert process.wait(200) == 0, log.read_text()
    rows = mesh.rows("everywhere")
    assert [row["number"] for row in rows] == list(range(24))
    assert {row["state"] for row in rows} == {"COMPLETE"}
    assert {row["attempts"] for row in rows} == {1}
    assert {row["node"] for row in rows} == set(sessions)
    for name, (_, log) in zip(sessions, loops, strict=True):
        assert f"over {sum(row['node'] == name for row in rows)} 24" in log.read_text()
    assert [tab for tab in TABS if (mesh.folder / tab / "raycolab.db").exists()] == []


def test_every_command_works_in_a_joined_session(mesh: Cluster) -> None:
    """A sweep is submitted, paused, resumed and read there; what is not known is told as on the head."""
    write_main(mesh.folder, SLOW)
    lines = ["models: {a: {x: {min: 0.0, max: 1.0}}}", "jobs_per_pair: 12", "metric: {name: score, goal: maximize}"]
    file = write_sweep(mesh.folder, "typed", lines)
    submitted = typed(mesh, "submit", str(file), "--no-wait", "--json")
    assert submitted.returncode == 0, submitted.stderr
    assert json.loads(submitted.stdout) == {"name": "typed", "database": str(mesh.data_dir / "raycolab.db")}
    paused = typed(mesh, "pause", "typed")
    assert (paused.returncode, paused.stderr.startswith("The sweep 'typed' pauses")) == (0, True), paused.stderr
    seen = json.loads(typed(mesh, "status", "--json").stdout)
    assert [node["name"] for node in seen["nodes"]] == ["head", "joiner-1", "joiner-2"]
    assert {sweep["name"]: sweep["state"] for sweep in seen["sweeps"]}["typed"] == "PAUSED"
    assert typed(mesh, "resume", "typed").returncode == 0

    def is_over() -> bool:
        rows = json.loads(typed(mesh, "results", "typed", "--format", "json").stdout)
        return {row["state"] for row in rows} == {"COMPLETE"}

    until(is_over, 120, mesh.status)
    unknown = typed(mesh, "results", "typd")
    assert (unknown.returncode, "did you mean 'typed'?" in unknown.stderr) == (2, True)
    assert typed(mesh, "delete", "typed").returncode == 0
    assert typed(mesh, "results", "typed").returncode == 2


def test_a_joined_session_is_a_driver_of_ray_and_no_head(mesh: Cluster) -> None:
    """`attach` gives the cluster; a second head on that machine is refused with the ways to what is meant."""
    tab = mesh.joiners["tab-2"]
    script = (
        "import sys, raycolab\n"
        "head = raycolab.attach(sys.argv[1])\n"
        "head.connect_ray()\n"
        "import ray\n"
        "where = ray.remote(lambda: ray.util.get_node_ip_address())\n"
        "print(ray.get(where.remote()), flush=True)\n"
        "ray.shutdown()\n"
        "try:\n"
        "    raycolab.start_head('direct', data_dir=sys.argv[1])\n"
        "except raycolab.RaycolabError as error:\n"
        "    print(error)\n"
    )
    process, log = python(mesh, tab, "driver", script, str(data_dir(mesh, tab)))
    assert process.wait(120) == 0, log.read_text()
    assert log.read_text().splitlines()[-2:] == [
        "127.77.0.1",
        "This machine is part of a cluster already, as joiner-2: raycolab.attach() gives its head, and raycolab.leave()"
        " leaves it. For a head of its own give start_head another data_dir.",
    ]


def test_a_killed_puller_s_task_runs_elsewhere(mesh: Cluster) -> None:
    """After the lease, in another session; the result of nobody is lost."""
    main = write_main(mesh.folder, MAIN)
    first, second = (mesh.joiners[name] for name in TABS)
    held, said = python(mesh, first, "held", HOLD, str(data_dir(mesh, first)), str(main), "hold")
    until(lambda: b"got 0" in said.read_bytes(), 60, said.read_text)
    held.kill()
    for process in first.processes():
        if "raycolab.declare" in " ".join(process.cmdline()):
            process.kill()
    held.wait(30)
    process, log = python(mesh, second, "after", HOLD, str(data_dir(mesh, second)), str(main))
    assert process.wait(150) == 0, log.read_text()
    rows = mesh.rows("leased")
    assert [(row["state"], row["node"], row["attempts"]) for row in rows] == [
        ("COMPLETE", "joiner-2", 2),
        ("COMPLETE", "joiner-2", 1),
    ]
