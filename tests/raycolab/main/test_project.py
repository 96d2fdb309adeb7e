"""MAIN at work with what travels with it: files, its own path, what it says of a file that stayed, and its trial."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_notebook, writes

import raycolab
from raycolab.main.node_setups import SetupFailed
from raycolab.main.notebook import MainNotebook
from raycolab.main.runtime import MainRuntime
from raycolab.trials import Metric, Outcome

METRIC = Metric("score")
Load = Callable[..., MainRuntime]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with data and a module."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "data.csv").write_text("1\n2\n")
    (folder / "helpers.py").write_text("V = 7\n")
    return folder


@pytest.fixture
def load(project: Path, tmp_path: Path) -> Iterator[Load]:
    """MAIN of these cells, or of a Python file's text, on a node that has none of the project."""
    opened: list[MainRuntime] = []

    def make(*cells: str, files: tuple[str, ...] = (), script: str | None = None) -> MainRuntime:
        path = project / ("MAIN.ipynb" if script is None else "train.py")
        text = writes(new_notebook(cells=[new_code_cell(cell) for cell in cells])) if script is None else script
        path.write_text(text)
        main, archive = MainNotebook.load(path), b""
        if files:
            main, archive = main.with_files(files)
        (tmp_path / "archive").write_bytes(archive)
        opened.append(MainRuntime(main, node_dir=tmp_path / "node", archive=tmp_path / "archive", node="joiner-1"))
        return opened[-1]

    yield make
    for runtime in opened:
        runtime.close()
    sys.modules.pop("helpers", None)


def ran(runtime: MainRuntime, x: float = 1.0) -> Outcome:
    """A trial."""
    return runtime.compute("m", "d", {"x": x}, METRIC, seed=5, number=12, attempt=2)


def test_files_are_in_the_work_folder_for_setup_and_trials(load: Load) -> None:
    """Read and imported, in both."""
    runtime = load(
        "import helpers\nrows = len(open('data.csv').readlines())",
        "def compute(x):\n    return rows + helpers.V + len(open('data.csv').readlines())",
        files=("data.csv", "helpers.py"),
    )
    runtime.setup()
    assert ran(runtime).metrics == {"score": 11}


@pytest.mark.parametrize(("cell", "name"), [("import helpers", "helpers.py"), ("open('data.csv')", "data.csv")])
def test_a_file_that_lies_beside_main_is_named_with_its_cure(load: Load, cell: str, name: str) -> None:
    """In a cell and in compute, in the one line that everybody sees."""
    cure = f"`{name}` lies beside MAIN and did not travel with it: declare the sweep with files: [{name}]"
    with pytest.raises(SetupFailed) as failed:
        load(cell).setup()
    assert cure in failed.value.failure.summary
    runtime = load(f"def compute(x):\n    {cell}")
    runtime.setup()
    failure = ran(runtime).failure
    assert failure is not None
    assert cure in failure.summary


def test_a_python_file_knows_its_own_path(load: Load) -> None:
    """What lies beside it is found there, and what its guard keeps for the command line does not run."""
    runtime = load(
        script="from pathlib import Path\n"
        "HERE = Path(__file__).parent\n"
        "def compute(x):\n"
        "    return len((HERE / 'data.csv').read_text()) + Path(__file__).exists()\n"
        "if __name__ == '__main__':\n"
        "    raise SystemExit\n",
        files=("data.csv",),
    )
    runtime.setup()
    assert ran(runtime).metrics == {"score": 5}


def test_compute_knows_its_trial(load: Load) -> None:
    """All of it, and a folder of its own in the work folder; by hand it is a trial of nobody."""
    runtime = load(
        "import raycolab, os\n"
        "def compute(x):\n"
        "    t = raycolab.trial()\n"
        "    (t.folder / 'a.txt').write_text('a')\n"
        "    same = os.path.samefile(t.folder.parent.parent, os.getcwd())\n"
        "    said = f'{t} {t.config} {t.seed} {t.attempt} {t.node} {t.folder.name}'\n"
        "    return {'score': x, 'said': said, 'same': same}"
    )
    runtime.setup()
    assert ran(runtime).metrics == {"score": 1.0, "said": "#12 m x d {'x': 1.0} 5 2 joiner-1 12.2", "same": True}
    assert (raycolab.trial().number, raycolab.trial().seed) == (0, None)
