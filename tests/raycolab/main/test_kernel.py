"""`run_main` in real shells: a plain process, IPython, and a kernel whose cells run within its event loop."""

# mypy: disable-error-code="no-untyped-call"
# nbformat and nbclient have no annotations.

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest
from nbformat import NotebookNode, v4

ROOT = Path(__file__).resolve().parents[3]


def write_main(folder: Path, *cells: str | NotebookNode) -> Path:
    """MAIN.ipynb of these cells."""
    made = [v4.new_code_cell(cell) if isinstance(cell, str) else cell for cell in cells]
    path = folder / "MAIN.ipynb"
    nbformat.write(v4.new_notebook(cells=made), path)
    return path


def tagged(source: str, tag: str) -> NotebookNode:
    """A code cell with a tag."""
    return v4.new_code_cell(source, metadata={"tags": [tag]})  # type: ignore[no-any-return]


def environment(folder: Path) -> dict[str, str]:
    """With a home of its own, this repository first on the path, and no colours."""
    return os.environ | {"HOME": str(folder), "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}


def in_process(folder: Path, code: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Code in a fresh Python, in this folder."""
    command = [sys.executable, *options, "-c", code]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment(folder), timeout=120, check=False
    )


def in_kernel(folder: Path, monkeypatch: pytest.MonkeyPatch, *cells: str) -> tuple[list[NotebookNode], str]:
    """What the cells of a notebook put out in a real kernel in this folder, up to the first error; all and as text."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in cells])
    client = nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    with contextlib.suppress(nbclient.exceptions.CellExecutionError):
        client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return outputs, "".join(output.get("text", "") for output in outputs)


MANY_KINDS = (
    v4.new_markdown_cell("# MAIN"),
    "import asyncio\nvalue = 40",
    "!echo from the shell",
    "%%time\nvalue += 1",
    "value += await asyncio.sleep(0, 1)\ntask = asyncio.ensure_future(asyncio.sleep(0, 'later'))",
    "print(await task)",
    "%%capture kept\nprint('captured')",
    "%%bash\necho from a script",
    tagged("1 / 0", "skip-execution"),
    tagged("1 / 0", "head-only"),
    "# raycolab: head-only\n1 / 0",
    "",
    "import raycolab\nmade = [raycolab.uniform(0, 1)]",
    "print('value', value, kept.stdout.strip(), __name__)",
)
RUN = "import raycolab; raycolab.run_main('MAIN.ipynb'); print('after', value)"


def test_a_kernel_runs_every_kind_of_cell_in_its_own_namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Magics, commands, scripts and awaits, also across cells, though a kernel's cell runs within its event loop."""
    write_main(tmp_path, *MANY_KINDS)
    outputs, printed = in_kernel(tmp_path, monkeypatch, RUN, "print('await', await asyncio.sleep(0, value))")
    assert [output for output in outputs if output.output_type == "error"] == []
    for line in ("from the shell", "Wall time: ", "later", "from a script", "value 42 captured __main__", "after 42"):
        assert line in printed
    assert "await 42" in printed


def test_a_plain_process_runs_every_kind_of_cell_too(tmp_path: Path) -> None:
    """It gets a shell for it, which leaves nothing in the home."""
    write_main(tmp_path, *MANY_KINDS)
    done = in_process(tmp_path, RUN)
    assert (done.returncode, done.stderr) == (0, "")
    for line in ("from the shell", "Wall time: ", "later", "from a script", "value 42 captured __main__", "after 42"):
        assert line in done.stdout
    assert [item.name for item in tmp_path.iterdir()] == ["MAIN.ipynb"]


FAILING = (
    v4.new_markdown_cell("# MAIN"),
    "def half(x):\n    return x / 0",
    "print('before')\nhalf(\n    1)\nprint('never')",
    "print('never')",
)
SHOWN = """cell 2 of MAIN.ipynb failed with ZeroDivisionError: division by zero

            1 print('before')
    ---->   2 half(
            3     1)
            4 print('never')

Traceback (most recent call last):
  cell 2 of MAIN.ipynb, line 2
            1 print('before')
    ---->   2 half(
            3     1)
            4 print('never')
  cell 1 of MAIN.ipynb, line 2, in half
            1 def half(x):
    ---->   2     return x / 0
ZeroDivisionError: division by zero

Mend it there, save the notebook, and call run_main again."""


def test_a_failing_cell_ends_the_run_and_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, by its number among the code cells, with its source, the line marked and the traceback."""
    write_main(tmp_path, *FAILING)
    outputs, printed = in_kernel(tmp_path, monkeypatch, RUN)
    assert printed == "before\n"
    (error,) = [output for output in outputs if output.output_type == "error"]
    assert error.ename == "CellError"
    assert error.evalue == SHOWN
    assert error.traceback == [f"\x1b[31mCellError\x1b[0m: {SHOWN}"]


@pytest.mark.parametrize(
    ("cell", "name", "line"),
    [
        ("x = 1\ny = = 2", "SyntaxError", 2),
        ("%%capture\nx = 1\n1 / 0", "ZeroDivisionError", 3),
        ("import asyncio\nawait asyncio.sleep(0)\n1 / 0", "ZeroDivisionError", 3),
        ("%no_such_magic", "UsageError", 1),
    ],
)
def test_whatever_fails_has_its_line_marked(tmp_path: Path, cell: str, name: str, line: int) -> None:
    """The line is the one that a person counts in the cell, and the shell is as before afterwards."""
    write_main(tmp_path, cell)
    code = (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "import raycolab\n"
        "shell = InteractiveShell.instance()\n"
        "try:\n    raycolab.run_main('MAIN.ipynb')\n"
        "except raycolab.RaycolabError as error:\n    print(error)\n"
        "left = {'showtraceback', 'showsyntaxerror'} & vars(shell).keys()\n"
        "assert not left and 'get_code_name' not in vars(shell.compile)\n"
    )
    done = in_process(tmp_path, code)
    assert done.returncode == 0, done.stderr
    assert f"cell 1 of MAIN.ipynb failed with {name}" in done.stdout
    assert f"    ----> {line:>3} {cell.splitlines()[line - 1]}\n" in done.stdout


def test_a_run_that_a_person_stops_is_a_keyboard_interrupt(tmp_path: Path) -> None:
    """With the sentence of whatever was interrupted, not as a fault of a cell."""
    write_main(tmp_path, "raise KeyboardInterrupt('it is still yours')", "print('never')")
    code = (
        "import raycolab\n"
        "try:\n    raycolab.run_main('MAIN.ipynb')\n"
        "except KeyboardInterrupt as error:\n    print(error)\n"
    )
    assert in_process(tmp_path, code).stdout == "it is still yours\n"


def test_the_notebook_that_runs_is_known_to_its_cells(tmp_path: Path) -> None:
    """By its absolute path, wherever a cell goes; it is nobody's afterwards, also when a cell failed."""
    (tmp_path / "elsewhere").mkdir()
    cell = "from raycolab.main.kernel import current_main\n%cd -q elsewhere\nprint(current_main())"
    write_main(tmp_path, cell, "1 / 0")
    code = (
        "import raycolab\n"
        "try:\n    raycolab.run_main('MAIN.ipynb')\n"
        "except raycolab.RaycolabError:\n    print(current_main())\n"
    )
    assert in_process(tmp_path, code).stdout == f"{tmp_path}/MAIN.ipynb\nNone\n"


PULLING = """
from pathlib import Path
from raycolab.main.notebook import MainNotebook
from raycolab.main.runtime import MainRuntime
from raycolab.trials import Metric

runtime = MainRuntime(MainNotebook.load('MAIN.ipynb'), node_dir=Path('node'), in_worker=False)
runtime.setup()
print('computed', runtime.compute('m', 'd', {}, Metric('accuracy')).metrics)
runtime.close()
"""


def test_a_kernel_that_pulls_can_load_a_main_that_awaits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In setup and in `compute`, though the cell that pulls runs within the kernel's own event loop."""
    main = "import asyncio\nvalue = await asyncio.sleep(0, 2)"
    write_main(tmp_path, main, "async def compute():\n    return value + await asyncio.sleep(0, 1)")
    outputs, printed = in_kernel(tmp_path, monkeypatch, PULLING, "print(await __import__('asyncio').sleep(0, 'on'))")
    assert printed == "computed {'accuracy': 3}\non\n", outputs
