"""MAIN as a Python file and as a function: the notebook that it becomes."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from raycolab.errors import MainError
from raycolab.main.notebook import CellRole, MainNotebook

SCRIPT = '''\
"""Trains."""
import argparse

def compute(model, dataset, C=1.0):
    return C

if __name__ == "__main__":
    import raycolab
    raycolab.declare("s", main=__file__)

after = 1
'''


def sources(path: Path) -> list[tuple[str, CellRole]]:
    """The code cells of a MAIN."""
    return [(cell.source, cell.role) for cell in MainNotebook.load(path).cells]


def test_a_python_file_is_one_cell_and_its_main_guard_is_for_the_head(tmp_path: Path) -> None:
    """What stands below the guard does not run on workers, and does not keep the rest from running."""
    path = tmp_path / "train.py"
    path.write_text(SCRIPT)
    main = MainNotebook.load(path)
    assert (main.name, main.signature().names) == ("train.py", ("model", "dataset", "C"))
    before, guard, after = sources(path)
    assert before == (SCRIPT.split("if __name__")[0], CellRole.RUN)
    assert guard[1] is CellRole.SKIP
    assert after[0].strip() == "after = 1"
    fingerprint = main.code_fingerprint()
    path.write_text(SCRIPT.replace('"s"', '"other"') + "# a comment\n")
    assert MainNotebook.load(path).code_fingerprint() == fingerprint
    path.write_text(SCRIPT.replace("return C", "return 2 * C"))
    assert MainNotebook.load(path).code_fingerprint() != fingerprint


def test_a_python_file_in_cells(tmp_path: Path) -> None:
    """As VS Code, Spyder and Jupytext write them; magics work, text is text, tags count."""
    path = tmp_path / "cells.py"
    path.write_text(
        "import os\n# %% Install\n!echo hello\n# %% [markdown]\n# Words\n#%%\ndef compute(x):\n    return x\n"
        '# %% tags=["head-only"]\nraise SystemExit\n#%%%% no mark\n'
    )
    assert sources(path) == [
        ("import os\n", CellRole.RUN),
        ("!echo hello\n", CellRole.RUN),
        ("def compute(x):\n    return x\n", CellRole.RUN),
        ("raise SystemExit\n#%%%% no mark\n", CellRole.SKIP),
    ]


def test_a_python_file_without_compute_is_refused(tmp_path: Path) -> None:
    """As a W&B program that trains when it is run."""
    path = tmp_path / "train.py"
    path.write_text("import os\nlr = float(os.environ.get('LR', 1))\n")
    with pytest.raises(MainError) as refused:
        MainNotebook.load(path).signature()
    assert str(refused.value) == (
        "train.py defines no `compute`: add `def compute(model, dataset, ...):` that returns the number to optimise."
    )
    path.write_text('import raycolab\ndef compute(x):\n    return x\nraycolab.declare("s")\n')
    with pytest.raises(MainError, match="to a cell of its own, which begins with a line `# %%`"):
        MainNotebook.load(path).signature()


SCALE = 3


def scaled(x: float) -> float:
    return SCALE * x


def train(x: float, *, model: str = "svc") -> dict[str, float]:
    """A function with a helper and a value of its module."""
    return {"metric": scaled(x)}


def ran(main: MainNotebook, folder: Path, call: str) -> str:
    """What a fresh Python, which has none of our modules, makes of MAIN's cell."""
    cell = main.cells[0].source
    code = f"{cell}\nprint({call})"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


def test_a_function_is_sent_with_what_it_uses(tmp_path: Path) -> None:
    """Its helper and its module's values; it is compared by its source, and by what it takes."""
    main = MainNotebook.load(train)
    assert (main.name, main.signature().names) == ("train", ("x", "model"))
    assert main.origin.folder == str(Path(__file__).parent)
    assert ran(main, tmp_path, "compute(x=2)") == "{'metric': 6}"
    again = MainNotebook.from_json(main.to_json())
    assert again == main
    assert again.code_fingerprint() == MainNotebook.load(train).code_fingerprint()


def test_a_changed_helper_or_value_is_another_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the function itself stays as it is."""
    before = MainNotebook.load(train).code_fingerprint()
    monkeypatch.setitem(globals(), "SCALE", 4)
    value = MainNotebook.load(train).code_fingerprint()
    monkeypatch.undo()
    monkeypatch.setitem(globals(), "scaled", lambda x: x)
    assert len({before, value, MainNotebook.load(train).code_fingerprint()}) == 3


def test_a_function_is_the_same_in_the_next_process(tmp_path: Path) -> None:
    """Whatever its pickle is: sets, line numbers and the names of temporary files differ from kernel to kernel."""
    script = tmp_path / "study.py"
    text = textwrap.dedent(
        """
        NAMES = {"a", "b", "c", "d"}
        class Model:
            def fit(self, x):
                return x
        def train(x, names=frozenset("abcdef")):
            inner = lambda y: y in {"u", "v"} and NAMES
            return Model().fit(x)
        from raycolab.main.notebook import MainNotebook
        print(MainNotebook.load(train).code_fingerprint())
        """
    )

    def fingerprint(source: str, seed: int) -> str:
        script.write_text(source)
        environment = {"PYTHONHASHSEED": str(seed), "PYTHONPATH": str(Path(__file__).parents[3])}
        done = subprocess.run(
            [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    first = fingerprint(text, 1)
    assert fingerprint("# a line above\n\n" + text, 2) == first
    assert fingerprint(text.replace("return x\n", "return x + 1\n"), 1) != first


def test_a_function_that_cannot_be_pickled_says_so() -> None:
    """With what is in its way."""
    lock: Any = sys.stdout

    def closing(x: float) -> float:
        lock.write("x")
        return x

    with pytest.raises(
        MainError, match=r"The function 'closing' cannot be sent to workers \(TypeError: .*\): make what"
    ):
        MainNotebook.load(closing)
    data = b"x" * 9_000_000

    def large(x: float) -> float:
        return len(data)

    with pytest.raises(MainError, match=r"The function 'large' takes 9.0 MB .*: load the data inside it, and name its"):
        MainNotebook.load(large)
