"""The API from every node: sessions that share no network declare, pull, read and order through the tabs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.integration.sessions import RAYCOLAB, Cluster, Tab, until, write_main, write_sweep

pytestmark = [pytest.mark.ray, pytest.mark.timeout(280)]

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
TWO = ("tab-1", "tab-2")


def data_dir(tabs: Cluster, tab: Tab) -> Path:
    """The data directory of what runs in a session."""
    return tabs.data_dir if tab is tabs.head else tabs.folder / tab.name


def python(
    tabs: Cluster, tab: Tab, name: str, script: str, *arguments: str, environ: Sequence[str] = ()
) -> tuple[subprocess.Popen[bytes], Path]:
    """A program in a session, and what it says."""
    log = tabs.folder / f"{name}.said"
    with log.open("wb") as output:
        command = tab.command("env", *environ, sys.executable, "-P", "-c", script, *arguments)
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output), log


def typed(tabs: Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command typed in a session that has joined."""
    tab = tabs.joiners["tab-1"]
    return tab.run(*RAYCOLAB, *arguments, "--data-dir", str(data_dir(tabs, tab)))


def test_the_article_s_worker_in_three_sessions_at_once(tabs: Cluster) -> None:
    """Its own code at the head and in a tab, `run_main` in another; each computes some trials, none is run twice."""
    main, marks = write_main(tabs.folder, MAIN, LOOP_CELL), tabs.folder / "marks"
    marks.mkdir()
    assert tabs.head is not None
    sessions = {"head": tabs.head, "joiner-1": tabs.joiners["tab-1"], "joiner-2": tabs.joiners["tab-2"]}
    loops = []
    for name, tab in sessions.items():
        environ = [f"SESSION={name}", f"MARKS={marks}", f"RAYCOLAB_DATA_DIR={data_dir(tabs, tab)}"]
        by_article = name != "joiner-2"
        environ += [f"MAIN={main}"] if by_article else []
        loops.append(python(tabs, tab, name, WORKER if by_article else RUN_MAIN, str(main), environ=environ))
    for process, log in loops:
        assert process.wait(200) == 0, log.read_text()
    rows = tabs.rows("everywhere")
    assert [row["number"] for row in rows] == list(range(24))
    assert {row["state"] for row in rows} == {"COMPLETE"}
    assert {row["attempts"] for row in rows} == {1}
    assert {row["node"] for row in rows} == set(sessions)
    for name, (_, log) in zip(sessions, loops, strict=True):
        assert f"over {sum(row['node'] == name for row in rows)} 24" in log.read_text()
    assert [tab for tab in TWO if (tabs.folder / tab / "raycolab.db").exists()] == []


def test_every_command_works_in_a_joined_session(tabs: Cluster) -> None:
    """A sweep is submitted, paused, resumed and read there; what is not known is told as on the head."""
    write_main(tabs.folder, SLOW)
    lines = ["models: {a: {x: {min: 0.0, max: 1.0}}}", "jobs_per_pair: 12", "metric: {name: score, goal: maximize}"]
    file = write_sweep(tabs.folder, "typed", lines)
    submitted = typed(tabs, "submit", str(file), "--no-wait", "--json")
    assert submitted.returncode == 0, submitted.stderr
    assert json.loads(submitted.stdout) == {"name": "typed", "database": str(tabs.data_dir / "raycolab.db")}
    paused = typed(tabs, "pause", "typed")
    assert (paused.returncode, paused.stderr.startswith("The sweep 'typed' pauses")) == (0, True), paused.stderr
    seen = json.loads(typed(tabs, "status", "--json").stdout)
    assert [node["name"] for node in seen["nodes"]] == ["head", "joiner-1", "joiner-2"]
    assert {sweep["name"]: sweep["state"] for sweep in seen["sweeps"]}["typed"] == "PAUSED"
    assert typed(tabs, "resume", "typed").returncode == 0

    def is_over() -> bool:
        rows = json.loads(typed(tabs, "results", "typed", "--format", "json").stdout)
        return {row["state"] for row in rows} == {"COMPLETE"}

    until(is_over, 120, tabs.status)
    unknown = typed(tabs, "results", "typd")
    assert (unknown.returncode, "did you mean 'typed'?" in unknown.stderr) == (2, True)
    assert typed(tabs, "delete", "typed").returncode == 0
    assert typed(tabs, "results", "typed").returncode == 2


def test_a_joined_session_is_a_driver_of_ray_and_no_head(tabs: Cluster) -> None:
    """`attach` gives the cluster; a second head on that machine is refused with the ways to what is meant."""
    tab = tabs.joiners["tab-2"]
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
    process, log = python(tabs, tab, "driver", script, str(data_dir(tabs, tab)))
    assert process.wait(120) == 0, log.read_text()
    where, refusal = log.read_text().splitlines()[-2:]
    assert where in ("127.77.0.1", "127.77.0.2", "127.77.0.3")
    assert refusal == (
        "This machine is part of a cluster already, as joiner-2: raycolab.attach() gives its head, and raycolab.leave()"
        " leaves it. For a head of its own give start_head another data_dir."
    )


def test_a_killed_puller_s_task_runs_elsewhere(tabs: Cluster) -> None:
    """After the lease, in another session; the result of nobody is lost."""
    main = write_main(tabs.folder, MAIN)
    first, second = (tabs.joiners[name] for name in TWO)
    held, said = python(tabs, first, "held", HOLD, str(data_dir(tabs, first)), str(main), "hold")
    until(lambda: b"got 0" in said.read_bytes(), 60, said.read_text)
    held.kill()
    for process in first.processes():
        if "raycolab.declare" in " ".join(process.cmdline()):
            process.kill()
    held.wait(30)
    process, log = python(tabs, second, "after", HOLD, str(data_dir(tabs, second)), str(main))
    assert process.wait(150) == 0, log.read_text()
    rows = tabs.rows("leased")
    assert [(row["state"], row["node"], row["attempts"]) for row in rows] == [
        ("COMPLETE", "joiner-2", 2),
        ("COMPLETE", "joiner-2", 1),
    ]
