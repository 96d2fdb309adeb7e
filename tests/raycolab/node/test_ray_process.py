"""What Ray printed, what of it a person is shown, and when it is started again; real Ray is in tests/integration."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from raycolab.errors import ClusterError
from raycolab.node.ray_command import RayPorts, ports_needed
from raycolab.node.ray_process import RayProcess, decisive_line
from tunnel.nodes import PortBlock

TRACEBACK = """\
2026-11-22 20:46:30,013 INFO scripts.py:1043 -- Local node IP: 127.77.0.1
Traceback (most recent call last):
  File "scripts.py", line 1074, in start
    node = ray._private.node.Node(
           ^^^^^^^^^^^^^^^^^^^^^^^
RuntimeError: Version mismatch: The cluster was started with:
    Ray: 2.60.0
    Python: 3.11.7
This process on node 127.77.0.2 was started with:
    Ray: 2.61.0
    Python: 3.11.7
"""
NESTED = """\
Traceback (most recent call last):
  File "node.py", line 1033, in _init_gcs_client
    raise RuntimeError(
RuntimeError: Failed to connect to GCS. Last connection error: Traceback (most recent call last):
  File "node.py", line 996, in _init_gcs_client
    client = GcsClient(
ray.exceptions.AuthenticationError: RPC error: InvalidAuthToken: Authentication token is missing or incorrect.
"""
ENDED = (
    "2026-11-22 20:48:54,774\tERR scripts.py:1311 -- Some Ray subprocesses exited unexpectedly:\n"
    "2026-11-22 20:48:54,774\tERR scripts.py:1315 --   raylet [exit code=-9]\n"
    "2026-11-22 20:48:54,774\tERR scripts.py:1321 -- Remaining processes will be killed.\n"
)


def test_the_exception_is_what_counts() -> None:
    """Of a traceback the exception is shown, on one line with all it says."""
    assert decisive_line(TRACEBACK) == (
        "RuntimeError: Version mismatch: The cluster was started with: Ray: 2.60.0 Python: 3.11.7 "
        "This process on node 127.77.0.2 was started with: Ray: 2.61.0 Python: 3.11.7"
    )


def test_the_innermost_exception_is_what_counts() -> None:
    """Of a traceback quoted by another one the quoted exception is shown, which is the cause."""
    assert decisive_line(NESTED) == (
        "ray.exceptions.AuthenticationError: RPC error: InvalidAuthToken: Authentication token is missing or incorrect"
    )


def test_errors_count_where_there_is_no_exception() -> None:
    """A part of Ray that ended is named with its exit code."""
    assert decisive_line(ENDED) == (
        "Some Ray subprocesses exited unexpectedly: raylet [exit code=-9] Remaining processes will be killed"
    )


def test_the_last_line_counts_where_there_is_nothing_else() -> None:
    """Any output is better than none."""
    assert decisive_line("one\ntwo\n\n") == "two"
    assert decisive_line("") == ""


def test_a_long_line_is_cut() -> None:
    """Ray's advice can be pages long; a sentence for a person is not."""
    assert len(decisive_line("x" * 5_000)) == 602


# A program in Ray's place: it fails so often with these words, then comes up.
STAND_IN = """
import sys, time
from pathlib import Path
folder, failures, words = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
count = folder.with_name("count")
with count.open("a") as file:
    file.write("x")
if count.stat().st_size <= failures:
    sys.exit("Traceback (most recent call last):\\nException: " + words)
(folder / "ray_current_cluster").write_text("127.77.0.1:10002")
time.sleep(1000)
"""
GAVE_UP = "The current node timed out during startup. This could happen because the GCS has become overloaded"


def stand_in(folder: Path, failures: int, words: str) -> RayProcess:
    """Not Ray, but started and ended as Ray is."""
    command = [sys.executable, "-c", STAND_IN, str(folder / "ray"), str(failures), words]
    ports = RayPorts.of(PortBlock(20_300, ports_needed(1)))
    return RayProcess(command, dict(os.environ), ports=ports, temp_dir=folder / "ray")


def start(ray: RayProcess) -> None:
    """Have it come up, and end it."""

    async def run() -> None:
        await ray.start()
        await ray.stop()

    asyncio.run(run())


def test_ray_that_gave_up_is_started_again(tmp_path: Path) -> None:
    """On a machine that is too busy for the 30 s that Ray gives itself."""
    start(stand_in(tmp_path, 2, GAVE_UP))
    assert (tmp_path / "count").read_text() == "xxx"


def test_ray_that_gives_up_time_and_again_is_said(tmp_path: Path) -> None:
    """With what Ray said; nothing of it is left."""
    with pytest.raises(ClusterError, match="Ray did not start on this node: Exception: The current node timed out"):
        start(stand_in(tmp_path, 9, GAVE_UP))
    assert (tmp_path / "count").read_text() == "xxx"
    assert not (tmp_path / "ray").exists()


def test_ray_that_neither_starts_nor_ends_is_given_up(tmp_path: Path) -> None:
    """After the time it is given; nothing of it is left."""
    silent = [sys.executable, "-c", "import time; time.sleep(1000)"]
    ports = RayPorts.of(PortBlock(20_300, ports_needed(1)))
    ray = RayProcess(silent, dict(os.environ), ports=ports, temp_dir=tmp_path / "ray")
    sentence = r"^Ray was not up after 0 s on this node: it printed nothing\. Start the node again\.$"
    with pytest.raises(ClusterError, match=sentence):
        asyncio.run(ray.start(timeout_s=0.2))
    assert not (tmp_path / "ray").exists()


def test_ray_that_fails_otherwise_is_not_started_again(tmp_path: Path) -> None:
    """The next time would be no better."""
    with pytest.raises(ClusterError, match="Version mismatch"):
        start(stand_in(tmp_path, 9, "Version mismatch"))
    assert (tmp_path / "count").read_text() == "x"
