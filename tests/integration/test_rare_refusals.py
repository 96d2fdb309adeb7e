"""Failures of a cluster that are slow to make, run by hand: each ends with its exit code, and leaves no process."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.integration.sessions import RAYCOLAB, Tab, cluster, words_of

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(180)]

# What becomes of the process that starts the engine, as on a machine that is out of memory or too busy.
ENGINE = """
import os, sys, time
if sys.orig_argv[1:4] == ["-P", "-m", "raycolab.engine"]:
    FATE
"""
# A joiner's own process is killed.
DYING_JOINER = """
import json, os, pathlib, sys
if sys.orig_argv[1:4] == ["-P", "-m", "raycolab.node.supervisor"]:
    if json.loads((pathlib.Path(sys.orig_argv[4]) / "task.json").read_text())["role"] == "joiner":
        os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("fate", ["os.kill(os.getpid(), 9)", "time.sleep(1000)"], ids=["killed", "hangs"])
def test_a_head_whose_engine_does_not_start(fate: str) -> None:
    """At once, or after the minute that it is given, the head ends with 3, and Ray with it."""
    with cluster() as made:
        (made.folder / "sitecustomize.py").write_text(ENGINE.replace("FATE", fate))
        tab = made.head = Tab(made.folder, "head")
        tab.start(
            *("head", "--provider", "unix", "--num-cpus", "1", "--data-dir", str(made.data_dir)),
            env={"PYTHONPATH": str(made.folder)},
        )
        assert tab.process is not None
        assert tab.process.wait(90) == 3
        assert tab.said() == "The sweep engine did not start: it said nothing. Start the head again.\n"
        assert tab.processes() == []


def test_a_head_whose_ray_ends() -> None:
    """What Ray said of it, and what to do."""
    with cluster() as made:
        tab = made.start_head()
        assert tab.process is not None
        next(each for each in tab.processes() if "/gcs_server " in words_of(each)[:200]).kill()
        assert tab.process.wait(60) == 3
        last = tab.said().splitlines()[-1]
        assert re.fullmatch(r"Ray's head process ended \(.*gcs_server.*\)\. Start the head again\.", last), last
        assert tab.processes() == []


def test_a_joiner_without_files_left() -> None:
    """It cannot stand for the other nodes; what it opened is told apart from a port that is taken."""
    with cluster() as made:
        made.start_head()
        tab = Tab(made.folder, "narrow")
        with tab.session:
            joins = ("join", f"@{made.address_file}", "--num-cpus", "1")
            ended = tab.run("sh", "-c", 'ulimit -n 40; exec "$@"', "sh", *RAYCOLAB, *joins)
    assert (ended.returncode, ended.stdout.count("\n")) == (3, 2)
    assert ended.stderr.startswith("This machine cannot listen at 127.77.0.1:")
    assert ended.stderr.endswith(": Too many open files; `ulimit -n` raises the limit. Fix that, then try again.\n")


def test_a_demo_whose_joiner_does_not_come_up(tmp_path: Path) -> None:
    """It is not waited for: what it said is told, and nothing is left."""
    (tmp_path / "sitecustomize.py").write_text(DYING_JOINER)
    ended = subprocess.run(
        [*RAYCOLAB, "demo", "--joiners", "1", "--data-dir", str(tmp_path / "data")],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "RAYCOLAB_NO_NAMESPACES": "1"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr.splitlines()[-1] == "Only 0 of 1 joiners came up: no output"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a /tmp of its own")
def test_a_demo_in_the_folder_that_sessions_have_for_themselves() -> None:
    """What it wrote there before goes with this test's own /tmp."""
    demo = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /tmp && exec "$@"', "sh", *RAYCOLAB, "demo"]
    ended = subprocess.run([*demo, "--data-dir", "/tmp"], capture_output=True, text=True, timeout=100)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.splitlines()[-1] == (
        "/tmp cannot be shared with a session: it must be a directory below /tmp; give --data-dir another one."
    )
