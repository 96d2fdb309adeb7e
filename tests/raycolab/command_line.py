"""A command line of its own for each test: a folder with a MAIN and a sweep file, and no cluster."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from raycolab import cli
from raycolab.store import open_store, sqlite_url
from raycolab.trials import ErrorKind, TrialState
from tests.raycolab.scripted_head import declare_stored

__all__ = ["SWEEP", "Ended", "Run", "finished", "here", "run"]

SWEEP = """\
name: sample
main: MAIN.ipynb
models:
  svc: {x: {min: 0.0, max: 1.0}}
datasets: [iris]
jobs_per_pair: 3
metric: {name: score, goal: maximize}
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a MAIN and a sweep file; the data directory is a folder in it that is not there yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAYCOLAB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("RAYCOLAB_JOIN_ADDRESS", raising=False)
    for name, source in (("MAIN", "def compute(model, dataset, x):\n    return x"), ("NONE", "a = 1")):
        nbformat.write(new_notebook(cells=[new_code_cell(source)]), tmp_path / f"{name}.ipynb")
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    return tmp_path


@pytest.fixture
def run(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`raycolab ARGUMENTS` in this process; no traceback is ever shown."""

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["raycolab", *arguments])
        with pytest.raises(SystemExit) as exit_of:
            cli.main()
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        assert isinstance(exit_of.value.code, int)
        return Ended(exit_of.value.code, said.out, said.err)

    return run


@pytest.fixture
def finished(here: Path) -> None:
    """The sweep of the file, two trials complete, one failed."""
    models = {"svc": {"x": {"min": 0.0, "max": 1.0}}}
    declare_stored(
        here / "data", "sample", main="MAIN.ipynb", models=models, datasets=["iris"], jobs_per_pair=3, metric="score"
    )
    with open_store(sqlite_url(here / "data" / "raycolab.db")) as store:
        row = store.existing_sweep("sample")
        trials = [
            replace(
                trial, state=TrialState.COMPLETE, metrics={"score": 0.5 + trial.number / 4}, node="head", attempts=1
            )
            for trial in store.trials(row.id)
        ]
        failure = {"error_kind": ErrorKind.EXCEPTION, "error": "ValueError: too bad (cell 0)", "cell_index": 0}
        trials[2] = replace(trials[2], state=TrialState.FAILED, metrics={}, **failure)  # type: ignore[arg-type]
        store.write(row.id, trials)
