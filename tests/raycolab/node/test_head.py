"""The sentence for a sweep engine that did not start; what a head does is in `tests/integration`."""

from __future__ import annotations

from pathlib import Path

import pytest

from raycolab.node.head import engine_failure

TRACEBACK = 'Traceback (most recent call last):\n  File "x.py", line 1, in <module>\n'


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (f"{TRACEBACK}raycolab.store.failures.StoreOutageError: its disk is full.\n", "its disk is full"),
        (f"{TRACEBACK}ConnectionError: no Ray at 127.77.0.1:10000\n", "ConnectionError: no Ray at 127.77.0.1:10000"),
        ("", "it said nothing"),
    ],
)
def test_an_engine_that_did_not_start_is_told_in_its_last_words(tmp_path: Path, log: str, said: str) -> None:
    """One sentence: of an error of ours without its class, and with one full stop."""
    (tmp_path / "engine.log").write_text(log)
    sentence = engine_failure(tmp_path / "engine.log")
    assert sentence == f"The sweep engine did not start: {said}. Start the head again."
