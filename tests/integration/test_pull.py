"""Pull style, the seed's own loop: processes that ask for one trial after another, beside a head that runs none."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.outage_stage import Sweep
from tests.integration.sessions import Cluster, until, write_main

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]

_DECLARE = """
import os, sys, time
import raycolab
exp = raycolab.declare("pulled", main=sys.argv[2], data_dir=sys.argv[1], announce=lambda line: None, seed=1,
    models={"a": {"x": raycolab.uniform(0, 1)}}, datasets=["one"], jobs_per_pair=8, metric="score")
"""
_LOOP = (
    _DECLARE
    + """
while exp.not_done():
    task = exp.get_task()
    print("got", task.number, flush=True)
    task.compute()
    task.send_data()
    task.done()
print("over", len(exp.results.dataframe), flush=True)
"""
)
_BY_HAND = (
    _DECLARE
    + """
task = exp.get_task()
print("got", task.number, flush=True)
time.sleep(1000)
"""
)
_MAIN = """
import os, time
def compute(model, dataset, x):
    while not os.path.exists(GO):
        time.sleep(0.05)
    raycolab_pid = os.getpid()
    if x > 0.9:
        raise ValueError("too large")
    return {"score": x, "pid": raycolab_pid}
"""


@pytest.fixture
def stage(lone_head: Cluster) -> Cluster:
    """A head in a session; whoever pulls is a process outside, with the same data directory."""
    write_main(lone_head.folder, _MAIN.replace("GO", repr(str(lone_head.folder / "go"))))
    return lone_head


def puller(on: Cluster, name: str, script: str) -> tuple[subprocess.Popen[bytes], Path]:
    """A process that pulls, and what it says."""
    log = on.folder / f"{name}.said"
    with log.open("wb") as output:
        arguments = [sys.executable, "-P", "-c", script, str(on.data_dir), str(on.folder / "MAIN.ipynb")]
        return subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=output), log


def test_several_pull_and_one_is_stopped(stage: Cluster) -> None:
    """The one that is stopped gives its task back; two others finish the sweep, each trial once, in their processes."""
    held, said = puller(stage, "held", _BY_HAND)
    until(lambda: b"got 0" in said.read_bytes(), 60, said.read_text)
    loops = [puller(stage, name, _LOOP) for name in ("one", "two")]
    until(lambda: all("got" in log.read_text() for _, log in loops), 60, lambda: [log.read_text() for _, log in loops])
    (stage.folder / "go").touch()  # each of them has a task
    held.send_signal(signal.SIGINT)
    held.wait(30)
    for process, log in loops:
        assert process.wait(90) == 0, log.read_text()
        assert "over 8" in log.read_text()
    rows = stage.rows("pulled")
    assert [row["number"] for row in rows] == list(range(8))
    failed = [row for row in rows if row["config/x"] > 0.9]
    assert all(row["state"] == ("FAILED" if row in failed else "COMPLETE") for row in rows)
    assert {row["node"] for row in rows} == {"head"}
    assert {row["pid"] for row in rows if row not in failed} <= {process.pid for process, _ in loops}
    assert [row["attempts"] for row in rows] == [2] + [1] * 7
    got = "".join(log.read_text() for _, log in loops).count("got")
    assert got == 8


def test_the_workers_help_those_who_pull(stage: Cluster) -> None:
    """A sweep that is started runs on the cluster's slots too, and what is sent by hand counts."""
    sweep = Sweep(stage, "helped", trials=6, trial_s=0.1, held=5)
    script = "\n".join(
        [
            "import sys, raycolab",
            "exp = raycolab.find('helped', data_dir=sys.argv[1])",
            "while exp.not_done():",
            "    task = exp.get_task()",
            "    print('got', task.number, flush=True)",
            "    task.send_data({'score': task.config['x']})",
            "    task.done()",
        ]
    )
    until(lambda: sweep.complete >= 1, 60, sweep.attempts)
    process, log = puller(stage, "helping", script)
    until(lambda: "got" in log.read_text(), 60, log.read_text)
    sweep.release()
    assert process.wait(60) == 0, log.read_text()
    sweep.wait(60)
    rows = stage.rows("helped")
    assert {row["state"] for row in rows} == {"COMPLETE"}
    assert all(row["score"] == row["config/x"] for row in rows)
    assert 1 <= len(sweep.runs()) < 6


@pytest.mark.slow
def test_a_killed_puller_loses_its_task_after_the_lease(stage: Cluster) -> None:
    """It says nothing any more; whoever pulls next waits for no more than the lease."""
    script = _BY_HAND.replace("pulled", "leased")
    held, said = puller(stage, "killed", script)
    until(lambda: b"got 0" in said.read_bytes(), 60, said.read_text)
    held.kill()
    held.wait(30)
    process, log = puller(stage, "after", _LOOP.replace("pulled", "leased"))
    assert process.wait(120) == 0, log.read_text()
    assert [row["attempts"] for row in stage.rows("leased")] == [2] + [1] * 7
