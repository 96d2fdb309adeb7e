"""The runtimes of MAIN that several test files load."""

# mypy: disable-error-code="no-untyped-call"
# nbformat has no annotations.

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nbformat import NotebookNode, v4

from raycolab.main.notebook import MainNotebook
from raycolab.main.runtime import MainRuntime
from tests.raycolab.main.mains import Load


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Makes runtimes of one node, in a directory of their own, and closes them."""
    monkeypatch.chdir(tmp_path)
    opened: list[MainRuntime] = []

    def make(*cells: str | NotebookNode, clock: Callable[[], float] | None = None) -> MainRuntime:
        for runtime in opened:
            runtime.close()  # one MAIN per process at a time, as in workers
        made = [v4.new_code_cell(cell) if isinstance(cell, str) else cell for cell in cells]
        main = MainNotebook.load(v4.new_notebook(cells=made))
        timing = {} if clock is None else {"clock": clock}
        opened.append(MainRuntime(main, node_dir=tmp_path / "node", **timing))
        return opened[-1]

    yield make
    for runtime in opened:
        runtime.close()
