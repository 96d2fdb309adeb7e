"""`raycolab demo`, the first command that anybody runs: the contract's JSON, with namespaces and without."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import uuid
from pathlib import Path

import pytest

from raycolab.sandbox.sessions import probe
from raycolab.sweep import find
from tests.integration.sessions import RAYCOLAB, processes_with, until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]

PAIRS = 16  # of the example: models x datasets
MARK = "RAYCOLAB_TEST_DEMO"  # in the environment of every process of a demo


def demo(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`raycolab demo ARGUMENTS` to its end, after which no process of it is left."""
    mark = str(uuid.uuid4())
    ended = subprocess.run(
        [*RAYCOLAB, "demo", *arguments],
        env={**os.environ, **environment, MARK: mark},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert processes_with(MARK, mark) == []
    assert "Traceback" not in ended.stderr
    return ended


@pytest.mark.slow
def test_it_ends_with_the_contract_s_json() -> None:
    """Three nodes that share no network, trials on each, none failed; stdout is that object alone."""
    assert probe().kind is not None
    ended = demo("--json", "--joiners", "2", "--jobs-per-pair", "2")
    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout)
    database = Path(said["database"])
    assert (database.is_absolute(), database.is_file()) == (True, True)
    shutil.rmtree(database.parent)
    assert list(said) == ["trials", "complete", "failed", "nodes", "seconds", "database"]
    assert (said["trials"], said["complete"], said["failed"]) == (2 * PAIRS, 2 * PAIRS, 0)
    assert list(said["nodes"]) == ["head", "joiner-1", "joiner-2"]
    assert 0 < sum(said["nodes"].values()) <= said["trials"]  # a configuration drawn again is not run again
    assert said["seconds"] > 0
    assert "starting a head and 2 joiners, each in a session without a network" in ended.stderr.splitlines()


@pytest.mark.slow
def test_without_namespaces_it_says_so_and_completes(tmp_path: Path) -> None:
    """The joiner runs as a plain process; the note stands before the work and in the result."""
    command = ("--joiners", "1", "--jobs-per-pair", "1", "--data-dir", str(tmp_path))
    ended = demo(*command, RAYCOLAB_NO_NAMESPACES="1")
    assert ended.returncode == 0, ended.stderr
    note = (
        "RAYCOLAB_NO_NAMESPACES is set, so no simulated sessions are made; unset it to allow them. "
        "The joiners ran as plain processes on this machine."
    )
    assert ended.stderr.splitlines()[:2] == [note, "starting a head and 1 joiner"]
    lines = ended.stdout.splitlines()
    assert lines[0] == f"sample_experiment: {PAIRS}/{PAIRS}  ok {PAIRS}  failed 0  running 0"
    report = f"A page about it, with pictures: raycolab report sample_experiment --data-dir {tmp_path}"
    assert lines[-3:] == [f"database: {tmp_path / 'raycolab.db'}", report, note]
    assert {row.node for row in find("sample_experiment", data_dir=tmp_path).results.rows if row.attempts} <= {
        "head",
        "joiner-1",
    }


def test_what_it_cannot_do_is_told_at_once() -> None:
    """Exit code 2, and nothing was started."""
    ended = demo("--data-dir", "/proc/data")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("/proc/data cannot be the data directory (No such file or directory): give")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_killed_it_leaves_nothing(tmp_path: Path, number: int) -> None:
    """Without namespaces too, where only its processes' own lifelines can tell them; here while Ray starts."""
    mark = str(uuid.uuid4())
    process = subprocess.Popen(
        [*RAYCOLAB, "demo", "--joiners", "1", "--data-dir", str(tmp_path)],
        env={**os.environ, MARK: mark, "RAYCOLAB_NO_NAMESPACES": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until(lambda: any("ray.scripts" in each for each in processes_with(MARK, mark)), 60, lambda: "Ray does not start")
    process.send_signal(number)
    assert process.wait(60) == (128 + number if number == signal.SIGTERM else -number)
    until(lambda: not processes_with(MARK, mark), 30, lambda: processes_with(MARK, mark))
