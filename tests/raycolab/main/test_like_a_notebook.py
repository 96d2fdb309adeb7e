"""MAIN means what it means in a notebook: a table of cells, what their names hold afterwards, what lies in the folder.

Each row was run in a fresh kernel too (`test_a_fresh_kernel_says_the_same`), so that what workers are held to is what
Jupyter does, and not what somebody thinks that it does.
"""

# mypy: disable-error-code="no-untyped-call"
# nbformat and nbclient have no annotations.

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from IPython import version_info
from nbformat import v4

from raycolab.engine.messages import Assignment
from raycolab.main.notebook import MainNotebook
from raycolab.main.process import Load, MainProcess
from raycolab.trials import Metric
from tests.raycolab.main.mains import ACCURACY
from tests.raycolab.main.mains import Load as LoadHere


@dataclass(frozen=True)
class Row:
    """Cells, an expression over the names that they leave, its value, and the files in the folder."""

    name: str
    cells: tuple[str, ...]
    probe: str
    value: object
    files: tuple[str, ...] = ()


def row(name: str, *cells: str, probe: str = "found", value: object, files: tuple[str, ...] = ()) -> Row:
    """A row of the table."""
    return Row(name, cells, probe, value, files)


LOOP = "import os\nif not os.path.exists('d.csv'):\n    open('d.csv', 'w').write('1\\n2\\n')"

TABLE = (
    # Python
    row("names", "a = 1", "b = a + 1", probe="(a, b)", value=(1, 2)),
    row("main", "found = __name__", value="__main__"),
    row("class", "class A:\n    x = 1", "found = A.__module__, A().x", value=("__main__", 1)),
    row("pickle", "import pickle\nclass P: pass", "found = type(pickle.loads(pickle.dumps(P()))) is P", value=True),
    row("last-value", "1 + 1", "found = _", value=2),
    row("semicolon", "found = 3;", value=3),
    row("question-mark", "import math\nmath.pi?\nfound = 4", value=4),
    row("await", "import asyncio\nfound = await asyncio.sleep(0, 5)", value=5),
    row("await-in-loop", "import asyncio\nfound = [await asyncio.sleep(0, i) for i in range(3)]", value=[0, 1, 2]),
    row("future", "from __future__ import annotations", "def f(x: nowhere): return x\nfound = f(6)", value=6),
    row("doctest-prompt", ">>> found = 7", value=7),
    row("display", "from IPython.display import display, HTML\ndisplay(HTML('x'))\nfound = 8", value=8),
    row("display-builtin", "display(1)\nfound = 9", value=9),
    row(
        "matplotlib",
        "%matplotlib inline",
        "import matplotlib.pyplot as plt\nplt.plot([1])\nplt.show()\nfound = 1",
        value=1,
    ),
    row("warnings", "import warnings\nwarnings.warn('x')\nfound = 2", value=2),
    row(
        "fork",
        "import os\npid = os.fork()\nif pid == 0: os._exit(3)",
        "found = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])",
        value=3,
    ),
    row(
        "subprocess",
        "import subprocess\nfound = subprocess.run(['echo', 'x'], capture_output=True, text=True).stdout",
        value="x\n",
    ),
    row(
        "pool",
        "from multiprocessing import get_context\ndef double(x): return 2 * x",
        "with get_context('fork').Pool(2) as pool:\n    found = pool.map(double, [1, 2])",
        value=[2, 4],
    ),
    row(
        "thread",
        "import threading\nseen = []\nthread = threading.Thread(target=seen.append, args=(1,))\nthread.start()",
        "thread.join()",
        probe="seen",
        value=[1],
    ),
    # magics
    row("time-line", "%time found = 1", value=1),
    row("time-cell", "%%time\nfound = 2", value=2),
    row("capture", "%%capture kept\nprint('x')", "found = kept.stdout", value="x\n"),
    row("env", "%env RC_TABLE=3", "import os\nfound = os.environ['RC_TABLE']", value="3"),
    row("env-in-command", "%env RC_TABLE=4", "found = %sx echo $RC_TABLE", probe="list(found)", value=["4"]),
    row("config", "%config InlineBackend.figure_format = 'retina'\nfound = 5", value=5),
    row("load-ext", "%load_ext storemagic\nfound = 6", value=6),
    row("param-form", "#@title Numbers\nepochs = 3 #@param {type:'integer'}", probe="epochs", value=3),
    row("run", "%%writefile script.py\nfound = 7", "%run script.py", value=7, files=("script.py",)),
    row("sx", "found = %sx echo a", probe="list(found)", value=["a"]),
    row("cell-in-html", "%%html\n<b>x</b>", "found = 8", value=8),
    # commands
    row("exclamation", "!echo one > a.txt", "found = open('a.txt').read()", value="one\n", files=("a.txt",)),
    row("order", "import os\nos.makedirs('ckpt')", "!rm -rf ckpt", "found = os.path.exists('ckpt')", value=False),
    row(
        "variable",
        "name = 'x'",
        "!echo {name} > {name}.txt",
        "found = open('x.txt').read()",
        value="x\n",
        files=("x.txt",),
    ),
    row(
        "loop",
        "for i in range(2):\n    !echo $i >> l.txt",
        "found = open('l.txt').read()",
        value="0\n1\n",
        files=("l.txt",),
    ),
    # IPython 7, which Colab has, does not read it under Python 3.12 and later, in no kernel either.
    *(
        [row("captured", "found = !printf 'a\\nb'", probe="list(found)", value=["a", "b"])]
        if version_info >= (8,)
        else []
    ),
    row("exit-code", "!exit 0", probe="_exit_code", value=0),
    row("bash", "%%bash\necho two > b.txt", "found = open('b.txt').read()", value="two\n", files=("b.txt",)),
    row("sh", "%%sh\nmkdir d && touch d/x", "import os\nfound = os.listdir('d')", value=["x"], files=("d",)),
    row("pip", "%pip --version", "found = 1", value=1),
    # files
    row(
        "writefile-import",
        "%%writefile wm_table.py\nV = 1",
        "import wm_table\nfound = wm_table.V",
        value=1,
        files=("wm_table.py",),
    ),
    row(
        "writefile-twice",
        "%%writefile wt_table.py\nV = 1",
        "import importlib, wt_table\na = wt_table.V",
        "import time\ntime.sleep(1.1)",
        "%%writefile wt_table.py\nV = 2",
        "b = importlib.reload(wt_table).V",
        probe="(a, b)",
        value=(1, 2),
        files=("wt_table.py",),
    ),
    row(
        "writefile-append",
        "%%writefile w.txt\na",
        "%%writefile -a w.txt\nb",
        "found = open('w.txt').read()",
        value="a\nb\n",
        files=("w.txt",),
    ),
    row("not-there-yet", LOOP, "found = len(open('d.csv').readlines())", value=2, files=("d.csv",)),
    row("append", "open('log', 'a').write('x')", "found = open('log').read()", value="x", files=("log",)),
    row("mkdir", "import os\nos.mkdir('out')", "found = os.listdir()", value=["out"], files=("out",)),
    row(
        "rewritten",
        "!printf '1\\n2\\n3\\n' > r.csv",
        "rows = open('r.csv').readlines()\nopen('r.csv', 'w').writelines(rows[1:])",
        "found = len(open('r.csv').readlines())",
        value=2,
        files=("r.csv",),
    ),
    row(
        "cd",
        "!mkdir repo && echo 'V = 5' > repo/cd_table.py",
        "%cd -q repo",
        "import cd_table\nfound = cd_table.V",
        value=5,
        files=("repo",),
    ),
    row(
        "chdir",
        "import os\nos.mkdir('in')\nos.chdir('in')",
        "!touch here",
        "found = os.listdir()",
        value=["here"],
        files=("in",),
    ),
    row(
        "sys-path",
        "import os, sys\nos.mkdir('lib')\nopen('lib/sp_table.py', 'w').write('V = 6')\nsys.path.append('lib')",
        "import sp_table\nfound = sp_table.V",
        value=6,
        files=("lib",),
    ),
    row(
        "module-beside",
        "open('mb_table.py', 'w').write('V = 7')",
        "from mb_table import V",
        probe="V",
        value=7,
        files=("mb_table.py",),
    ),
)

LISTING = "sorted(name for name in __import__('os').listdir(HERE) if not name.startswith(('.', '__')))"
FIRST = "HERE = __import__('os').getcwd()"


def _by_id(rows: tuple[Row, ...]) -> Any:
    return pytest.mark.parametrize("case", rows, ids=[each.name for each in rows])


def _worker_cells(case: Row) -> tuple[str, ...]:
    """The row's cells, with a `compute` that says what they left."""
    says = f"def compute():\n    return {{'accuracy': 1, 'value': repr({case.probe}), 'files': repr({LISTING})}}"
    return (FIRST, *case.cells, says)


def _expected(case: Row) -> tuple[object, list[str]]:
    return case.value, sorted(case.files)


@_by_id(TABLE)
def test_a_worker_makes_of_cells_what_a_notebook_does(load: LoadHere, case: Row) -> None:
    """What names hold, and what lies in the folder."""
    runtime = load(*_worker_cells(case))
    runtime.setup()
    outcome = runtime.compute("m", "d", {}, ACCURACY)
    assert outcome.failure is None, outcome.failure
    found = {name: ast.literal_eval(str(outcome.metrics[name])) for name in ("value", "files")}
    assert (found["value"], found["files"]) == _expected(case)


@pytest.mark.slow
@_by_id(TABLE)
def test_a_fresh_kernel_says_the_same(tmp_path: Path, case: Row) -> None:
    """As `jupyter nbconvert --execute` runs it, in an empty folder; and both slots of a node, in fresh processes."""
    from nbclient import NotebookClient

    says = f"print(repr(({case.probe}, {LISTING})))"
    notebook = v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in (FIRST, *case.cells, says)])
    folder = tmp_path / "folder"
    folder.mkdir()
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    text = "".join(output.get("text", "") for output in notebook.cells[-1].outputs)
    assert ast.literal_eval(text.strip()) == _expected(case)
    main = MainNotebook.load(v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in _worker_cells(case)]))
    for _ in range(2):
        process = MainProcess(Load(main.to_json(), "s", Metric("accuracy"), str(tmp_path / "node"), node="head"))
        process.setup()
        outcome = process.compute(Assignment(1, 0, "m", "d", {}), lambda step, value: False)
        process.end()
        assert outcome.failure is None, outcome.failure
        found = [ast.literal_eval(str(outcome.metrics[name])) for name in ("value", "files")]
        assert tuple(found) == _expected(case)
