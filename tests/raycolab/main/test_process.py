"""MAIN's process dies in the midst of a trial: how it ended, and what it printed last, are known all the same."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from raycolab.engine.messages import Assignment
from raycolab.main.notebook import MainNotebook
from raycolab.main.process import Load, MainDied, MainProcess
from raycolab.trials import Metric

DIES = """
import ctypes, os, signal
def compute(model, dataset, how):
    print("epoch 1 of", how)
    if how == "exits":
        os._exit(3)
    if how == "crashes":
        ctypes.string_at(0)
    os.kill(os.getpid(), getattr(signal, how))
    signal.pause()
"""


@pytest.mark.parametrize(
    ("how", "words", "has_stack"),
    [
        ("exits", "its process ended with exit code 3", False),
        ("crashes", "its process was killed (SIGSEGV)", True),
        ("SIGTERM", "its process was killed (SIGTERM)", True),
        ("SIGKILL", "its process was killed (SIGKILL, as the system does when memory runs out)", False),
    ],
)
def test_a_dead_trial_process_has_its_cause(tmp_path: Path, how: str, words: str, has_stack: bool) -> None:
    """All of them read "its process died (WorkerCrashedError)", with no output."""
    cell = nbformat.v4.new_code_cell(DIES)  # type: ignore[no-untyped-call]
    main = MainNotebook.load(nbformat.v4.new_notebook(cells=[cell]))  # type: ignore[no-untyped-call]
    process = MainProcess(Load(main.to_json(), "s", Metric("score"), str(tmp_path)))
    try:
        process.setup()
        with pytest.raises(MainDied) as died:
            process.compute(Assignment(1, 0, "m", "d", {"how": how}), lambda step, value: False)
    finally:
        process.end()
    assert str(died.value) == words
    assert died.value.output.startswith(f"epoch 1 of {how}\n")
    assert ("in compute" in died.value.output) == has_stack, died.value.output
    assert not list((tmp_path / "output").iterdir()), "nothing is left of it"
