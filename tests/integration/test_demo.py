"""`raycolab demo`, the first command that anybody runs: the contract's JSON, with namespaces and without."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from raycolab.simulate import probe
from tests.integration.sessions import RAYCOLAB

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]

PAIRS = 16  # of the example: models x datasets


@pytest.fixture
def temporary() -> Iterator[Path]:
    """The folder for temporary files; the demo makes its data directory in it. Its path is short, for sockets."""
    path = Path(tempfile.mkdtemp(prefix="rct-"))
    yield path
    shutil.rmtree(path)


def demo(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`raycolab demo ARGUMENTS` to its end."""
    return subprocess.run(
        [*RAYCOLAB, "demo", *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=150,
    )


def test_it_ends_with_the_contract_s_json(temporary: Path) -> None:
    """Three nodes that share no network, trials on each, none failed; stdout is that object alone."""
    assert probe().kind is not None
    ended = demo("--json", "--joiners", "2", "--jobs-per-pair", "2", TMPDIR=str(temporary))
    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout)
    assert list(said) == ["trials", "complete", "failed", "nodes", "seconds", "database"]
    assert (said["trials"], said["complete"], said["failed"]) == (2 * PAIRS, 2 * PAIRS, 0)
    assert list(said["nodes"]) == ["head", "joiner-1", "joiner-2"]
    assert all(count > 0 for count in said["nodes"].values())
    assert 0 < said["seconds"] < 150
    database = Path(said["database"])
    assert (database.is_absolute(), database.is_file()) == (True, True)
    assert "Traceback" not in ended.stderr
    assert "starting a head and 2 joiners, each in a session without a network" in ended.stderr.splitlines()
    assert [path.name for path in temporary.iterdir()] == [database.parent.name]


def test_without_namespaces_it_says_so_and_completes(temporary: Path) -> None:
    """The joiner runs as a plain process; the note stands before the work and in the result."""
    data_dir = temporary / "data"
    command = ("--joiners", "1", "--jobs-per-pair", "1", "--data-dir", str(data_dir))
    ended = demo(*command, RAYCOLAB_NO_NAMESPACES="1", TMPDIR=str(temporary))
    assert ended.returncode == 0, ended.stderr
    note = (
        "RAYCOLAB_NO_NAMESPACES is set, so no simulated sessions are made; unset it to allow them. "
        "The joiners ran as plain processes on this machine."
    )
    assert ended.stderr.splitlines()[:2] == [note, "starting a head and 1 joiner"]
    lines = ended.stdout.splitlines()
    assert lines[0] == f"sample_experiment: {PAIRS}/{PAIRS}  ok {PAIRS}  failed 0  running 0"
    assert lines[-2:] == [f"database: {data_dir / 'raycolab.db'}", note]
    rows = subprocess.run(
        [*RAYCOLAB, "results", "sample_experiment", "--format", "json", "--data-dir", str(data_dir)],
        capture_output=True,
        text=True,
    )
    assert {row["node"] for row in json.loads(rows.stdout)} == {"head", "joiner-1"}
    assert [path.name for path in temporary.iterdir()] == ["data"]


def test_what_it_cannot_do_is_told_at_once(temporary: Path) -> None:
    """Exit code 2, and nothing was started."""
    ended = demo("--data-dir", "/proc/data", TMPDIR=str(temporary))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("/proc/data cannot be the data directory (No such file or directory): give")
    assert list(temporary.iterdir()) == []
