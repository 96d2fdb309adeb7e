"""What Ray printed, and what of it a person is shown; the process itself is in tests/integration."""

from __future__ import annotations

from raycolab.node.ray_process import decisive_line

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
