"""MAIN at work: every kind of cell once, commands once per node, failures named by cell, trials bound and caught."""

# mypy: disable-error-code="no-untyped-call"
# nbformat has no annotations.

from __future__ import annotations

import itertools
import math
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import IPython
import pytest
from nbformat import v4

from raycolab.main.roles import CellRole
from raycolab.main.runtime import SetupReport
from raycolab.trials import ErrorKind, Outcome, TrialState
from tests.raycolab.main.mains import ACCURACY, COMPUTE, Load, setup_failure


@pytest.fixture
def trial(load: Load) -> Callable[..., Outcome]:
    """Runs one trial of a MAIN that has one cell."""

    def run(cell: str, **config: float) -> Outcome:
        runtime = load(cell)
        runtime.setup()
        return runtime.compute("svc", "iris", config, ACCURACY)

    return run


def ordered(report: SetupReport) -> list[tuple[int, CellRole]]:
    """Cells in the order they ran."""
    return [(cell.index, cell.role) for cell in report.cells]


# --- cells -----------------------------------------------------------------------------------------------------------


def test_everything_a_notebook_may_hold_runs(load: Load, tmp_path: Path) -> None:
    """Shell, magics, scripts, inline plots, timing, await, parameters, classes and imports all work in one MAIN."""
    parameters = v4.new_code_cell("epochs = 3", metadata={"tags": ["parameters"]})
    runtime = load(
        v4.new_markdown_cell("# MAIN"),
        "import math, pickle\nfrom dataclasses import dataclass",
        "!echo one > shell.txt",
        "%pip --version",
        "%%bash\necho two > bash.txt",
        "%matplotlib inline\n%config InlineBackend.figure_format = 'retina'\nimport matplotlib.pyplot as plt",
        "%%time\nimport asyncio\nvalue = await asyncio.sleep(0, 'awaited')",
        parameters,
        "# raycolab: head-only\n1/0",
        "@dataclass\nclass Point:\n    x: int\ncopy = pickle.loads(pickle.dumps(Point(1)))",
        "%%capture kept\nprint('captured')",
        "assert __name__ == '__main__' and get_ipython() is not None\ndisplay(copy)\nplt.plot([1, 2])\nplt.show()",
        "def compute(model):\n    return {'accuracy': epochs, 'a': value, 'b': copy.x, 'c': kept.stdout.strip()}",
    )
    report = runtime.setup()
    assert [index for index, _ in ordered(report)] == [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12]
    assert dict(ordered(report))[7] is CellRole.PARAMETERS
    outcome = runtime.compute("svc", "iris", {}, ACCURACY)
    assert outcome.metrics == {"accuracy": 3, "a": "awaited", "b": 1, "c": "captured"}
    (folder,) = (path for path in (tmp_path / "node" / "work").iterdir() if path.is_dir())
    assert (folder / "shell.txt").read_text() == "one\n"
    assert (folder / "bash.txt").read_text() == "two\n"
    assert f"from {Path(sys.executable).parent.parent}" in report.output  # %pip of this very Python


def test_setup_is_timed_per_cell(load: Load) -> None:
    """Each cell has its seconds."""
    ticks = itertools.count(0.0, 2.0)
    report = load("x = 1", COMPUTE, clock=lambda: next(ticks)).setup()
    assert [cell.seconds for cell in report.cells] == [2.0, 2.0]


def test_setup_leaves_nothing_in_the_home(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """IPython's profile and history stay in the node's folder, and there is no history."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("IPYTHONDIR", raising=False)
    load("x = 1\nx", COMPUTE).setup()
    assert list(home.iterdir()) == []
    assert list(tmp_path.rglob("*.sqlite")) == []


def test_close_gives_the_process_back(load: Load) -> None:
    """`__main__` is MAIN's while it is loaded, so that its classes pickle, and the process's own afterwards."""
    before = sys.modules["__main__"]
    runtime = load("class A:\n    pass\na = A()", COMPUTE)
    runtime.setup()
    inside = sys.modules["__main__"]
    assert inside is not before
    assert type(pickle.loads(pickle.dumps(inside.a))) is inside.A
    assert IPython.get_ipython() is not None
    runtime.close()
    assert sys.modules["__main__"] is before
    assert IPython.get_ipython() is None


# --- failures of setup -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "ename", "line"),
    [
        ("x = 1\ny = = 2", "SyntaxError", 2),
        ("%%time\nx = 1\n1/0", "ZeroDivisionError", 3),
        ("%%capture\nx = 1\n1/0", "ZeroDivisionError", 3),
        ("import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    1/0\nawait f()", "ZeroDivisionError", 5),
        ("input()", "KernelOnlyError", 1),
        ("from google.colab import drive\ndrive.mount('/content/drive')", "KernelOnlyError", 2),
        ("import sys\nsys.exit(0)", "SystemExit", 2),
        ("raise KeyboardInterrupt", "KeyboardInterrupt", 1),
        ("%no_such_magic", "UsageError", 1),
        ("x = 1\n\n\nraise MemoryError", "MemoryError", 4),
    ],
)
def test_whatever_fails_names_cell_and_line(load: Load, cell: str, ename: str, line: int) -> None:
    """Errors of Python, of magics, of what needs a kernel: one failure of setup, with the line in the cell."""
    failure = setup_failure(load("# nothing", cell, COMPUTE))
    assert failure.cell_index == 2
    assert failure.ename == ename
    assert f"cell 2, line {line}" in failure.traceback
    assert "\x1b" not in failure.traceback
    assert "site-packages/IPython" not in failure.traceback


def test_a_script_run_by_a_cell_that_fails_fails_setup(load: Load, tmp_path: Path) -> None:
    """`%run` swallows errors in plain IPython; here the script's frame is shown."""
    (tmp_path / "script.py").write_text("x = 1\n1/0\n")
    failure = setup_failure(load(f"%run {tmp_path}/script.py", COMPUTE))
    assert failure.ename == "ZeroDivisionError"
    assert 'script.py", line 2' in failure.traceback


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        ("x = 1", "MAIN ran to its end and left no `compute` to call"),
        ("compute = 3", "left no `compute` to call"),
        ("exec('def compute(model, /): pass')", "`compute` takes `model` by position only"),
    ],
)
def test_a_main_that_leaves_no_usable_compute_fails_setup(load: Load, cell: str, sentence: str) -> None:
    """What reading MAIN could not tell is told after running it."""
    assert sentence in setup_failure(load(cell)).evalue


# --- trials ----------------------------------------------------------------------------------------------------------


def test_a_trial_has_its_arguments_times_and_output(load: Load) -> None:
    """Arguments come by name, nested ones nested; the clock is read around compute; what was printed is kept."""
    ticks = itertools.count(0.0, 2.5)  # setup takes two for each cell
    runtime = load(
        "import logging, sys\nlogging.basicConfig(force=True)\nprint('setup')",
        "def compute(dataset, C, opt, **rest):\n"
        "    print(dataset, C, opt, sorted(rest))\n"
        "    logging.warning('careful')\n"
        "    print('err', file=sys.stderr)\n"
        "    display(C)\n"
        "    return C",
        clock=lambda: next(ticks),
    )
    runtime.setup()
    outcome = runtime.compute("svc", "iris", {"C": 0.5, "opt/lr": 1}, ACCURACY)
    assert outcome == Outcome(
        TrialState.COMPLETE,
        {"accuracy": 0.5},
        None,
        10.0,
        12.5,
        "iris 0.5 {'lr': 1} ['model']\nWARNING:root:careful\nerr\n0.5\n",
    )


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("async def compute(C):\n    import asyncio\n    await asyncio.sleep(0)\n    return C", {"accuracy": 2}),
        ("def compute(config):\n    return config['C'] + len(config['model'])", {"accuracy": 5}),
        ("compute = lambda model, C: {'accuracy': C, 'model': model}", {"accuracy": 2, "model": "svc"}),
        ("def compute(C):\n    return float('inf')", {"accuracy": math.inf}),
        ("class Job:\n    def __call__(self, C): return C\ncompute = Job()", {"accuracy": 2}),
        ("def compute(C):\n    import asyncio\n    return asyncio.run(asyncio.sleep(0, C))", {"accuracy": 2}),
    ],
)
def test_every_form_of_compute_completes(trial: Callable[..., Outcome], cell: str, expected: dict[str, object]) -> None:
    """async, one dict, a lambda, an object, an infinite result: all are results."""
    outcome = trial(cell, C=2)
    assert outcome.failure is None
    assert outcome.state is TrialState.COMPLETE
    assert outcome.metrics == expected


@pytest.mark.parametrize(
    ("body", "kind", "ename"),
    [
        ("raise ValueError('bad')", ErrorKind.EXCEPTION, "ValueError"),
        ("import sys; sys.exit(1)", ErrorKind.EXCEPTION, "SystemExit"),
        ("raise KeyboardInterrupt", ErrorKind.EXCEPTION, "KeyboardInterrupt"),
        ("raise MemoryError('no room')", ErrorKind.OOM, "MemoryError"),
        ("return None", ErrorKind.BAD_RETURN, "BadReturn"),
    ],
)
def test_every_failure_of_a_trial_is_an_outcome(
    trial: Callable[..., Outcome], body: str, kind: ErrorKind, ename: str
) -> None:
    """Nothing that compute does ends the worker; the next trial can run."""
    outcome = trial(f"def compute(C):\n    print('before')\n    {body}", C=1)
    assert outcome.state is TrialState.FAILED
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.ename) == (kind, ename)
    assert outcome.output == "before\n"
    if kind is not ErrorKind.BAD_RETURN:
        assert outcome.failure.cell_index == 1
        assert outcome.failure.traceback.startswith(
            "Traceback (most recent call last):\n  cell 1, line 3, in compute\n"
        )


def test_a_parameter_compute_does_not_take_is_a_failure(trial: Callable[..., Outcome]) -> None:
    """Nothing of a configuration is dropped in silence."""
    outcome = trial("def compute(model):\n    return 1", C=1)
    assert outcome.failure is not None
    assert "unexpected keyword argument 'C'" in outcome.failure.evalue


def test_one_trials_failure_leaves_the_next_alone(load: Load) -> None:
    """Output, figures and errors of a trial end with it."""
    runtime = load("def compute(C):\n    print(C)\n    return 1 / C")
    runtime.setup()
    outcomes = [runtime.compute("m", "d", {"C": value}, ACCURACY) for value in (0, 2)]
    assert [outcome.state for outcome in outcomes] == [TrialState.FAILED, TrialState.COMPLETE]
    assert [outcome.output for outcome in outcomes] == ["0\n", "2\n"]


def test_awaiting_uses_one_event_loop_throughout(load: Load) -> None:
    """What a cell's await made on its loop an async compute can use."""
    runtime = load(
        "import asyncio\nlock = asyncio.Lock()\nloop = asyncio.get_running_loop() if await lock.acquire() else None",
        "async def compute():\n    return asyncio.get_running_loop() is loop",
    )
    runtime.setup()
    assert runtime.compute("m", "d", {}, ACCURACY).metrics == {"accuracy": True}
