"""MAIN's shell: commands once per node, what a failing one says, matplotlib without a screen."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import IPython
import pytest

from raycolab.trials import TrialState
from tests.raycolab.main.mains import ACCURACY, COMPUTE, Load, setup_failure


def test_shell_commands_run_once_per_node(load: Load, tmp_path: Path) -> None:
    """The second worker runs the Python of MAIN and none of its commands, wherever they stand."""
    cells = (
        f"log = {str(tmp_path / 'log.txt')!r}",
        "!echo pure >> {log}",
        f"%%bash\necho script >> {tmp_path / 'log.txt'}",
        "name = 'mixed'\n!echo {name} >> {log}\nfor i in range(2):\n    !echo loop >> {log}",
        f"%%writefile -a {tmp_path / 'written.txt'}\nline",
        COMPUTE,
    )
    for _ in range(2):
        runtime = load(*cells)
        runtime.setup()
        assert runtime.compute("m", "d", {}, ACCURACY).state is TrialState.COMPLETE
    assert (tmp_path / "log.txt").read_text().split() == ["pure", "script", "mixed", "loop", "loop"]
    assert (tmp_path / "written.txt").read_text() == "line\n"


@pytest.mark.parametrize(
    ("cell", "command", "status"),
    [
        ("!echo some output; false", "echo some output; false", 1),
        ("x = 1\n!echo some output; exit 3", "echo some output; exit 3", 3),
        ("%%bash\necho some output >&2\nexit 4", "%%bash", 4),
        ("%%sh\necho some output\nfalse", "%%sh", 1),
        ("%%capture\n!echo some output; false", "echo some output; false", 1),
    ],
)
def test_a_command_that_fails_fails_setup(load: Load, cell: str, command: str, status: int) -> None:
    """Plain IPython lets `!false` pass; here cell, command, status, cure and its last lines are told."""
    failure = setup_failure(load(COMPUTE, cell))
    assert failure.cell_index == 2
    assert failure.ename == "ShellCommandError"
    assert failure.evalue.startswith(f"`{command}")
    assert f"ended with status {status}; if that is no reason to stop, add `|| true`" in failure.evalue
    assert "some output\n" in failure.output
    assert failure.summary.endswith("(cell 2)")


def test_a_pip_that_fails_fails_setup(load: Load) -> None:
    """`%pip` runs with this Python, and its failure is one of MAIN."""
    failure = setup_failure(load("%pip no-such-command", COMPUTE))
    assert f"`{sys.executable} -m pip no-such-command` ended with status 1" in failure.evalue


def test_commands_find_this_python_first(load: Load) -> None:
    """`!python` and `!pip` are those of the worker, whatever the node's PATH says."""
    runtime = load("import subprocess", "!command -v python", COMPUTE)
    assert runtime.setup().output.strip() == str(Path(sys.executable).parent / "python")


def test_a_server_left_running_does_not_hold_setup(load: Load, tmp_path: Path) -> None:
    """A command put into the background ends its line, though it keeps the output open."""
    load(f"!(until [ -e {tmp_path}/stop ]; do sleep 0.05; done) &", COMPUTE).setup()
    (tmp_path / "stop").touch()


def test_a_command_in_a_trial_runs_each_time_and_may_fail(load: Load) -> None:
    """In `compute`, `!` is what it is in a notebook."""
    runtime = load("def compute():\n    for i in range(2):\n        !echo $i; false\n    return _exit_code")
    runtime.setup()
    outcome = runtime.compute("m", "d", {}, ACCURACY)
    assert outcome.metrics == {"accuracy": 1}
    assert outcome.output == "0\n1\n"


@pytest.mark.skipif(
    IPython.version_info[0] < 8 and sys.version_info >= (3, 12),
    reason="IPython 7 itself cannot read `x = !y` on Python 3.12 and later",
)
def test_a_command_whose_output_is_used_runs_in_every_worker(load: Load) -> None:
    """`found = !command` is the program's own business, its status too."""
    for _ in range(2):
        runtime = load("found = !echo three; false", "def compute():\n    return {'accuracy': 1, 'found': found[0]}")
        runtime.setup()
        assert runtime.compute("m", "d", {}, ACCURACY).metrics["found"] == "three"


def _without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a fresh process."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ("matplotlib", "matplotlib_inline")]:
        monkeypatch.delitem(sys.modules, name)


def test_matplotlib_is_loaded_by_those_who_use_it(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """A MAIN without pictures does not pay for it; `%config InlineBackend` works in any cell, before `%matplotlib`."""
    _without_matplotlib(monkeypatch)
    load("x = 1", COMPUTE).setup()
    assert "matplotlib" not in sys.modules
    monkeypatch.undo()
    config = "%config InlineBackend.figure_format = 'retina'"
    load(config, "%matplotlib inline", config, "import matplotlib.pyplot", COMPUTE).setup()


def test_matplotlib_inline_is_nothing_where_matplotlib_is_missing(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bare magic passes on such a node, which may have matplotlib_inline; using matplotlib says what to install."""
    _without_matplotlib(monkeypatch)
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # importing it fails now
    load("%matplotlib inline", COMPUTE).setup()
    failure = setup_failure(load("%matplotlib inline\nimport matplotlib_is_not_here.pyplot", COMPUTE))
    assert failure.ename == "ModuleNotFoundError"
    assert "install it in a cell of MAIN (`%pip install matplotlib_is_not_here`)" in failure.evalue


def test_a_kernels_matplotlib_backend_does_no_harm(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """MPLBACKEND of a kernel whose backend this worker lacks is replaced; one that is there stays."""
    monkeypatch.setenv("MPLBACKEND", "module://not_there.backend")
    load(COMPUTE).setup()
    assert os.environ["MPLBACKEND"] == "agg"
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    load("import matplotlib.pyplot as plt\nplt.figure()", COMPUTE).setup()
    assert os.environ["MPLBACKEND"] == "module://matplotlib_inline.backend_inline"


def test_figures_of_a_trial_are_closed(load: Load) -> None:
    """A hundred trials that plot do not keep a hundred figures."""
    runtime = load(
        "%matplotlib inline\nimport matplotlib.pyplot as plt", "def compute():\n    plt.figure()\n    return 1"
    )
    runtime.setup()
    runtime.compute("m", "d", {}, ACCURACY)
    assert sys.modules["matplotlib.pyplot"].get_fignums() == []


@pytest.mark.parametrize(
    ("cell", "left"),
    [
        ("%%script false --no-raise-error\necho never", ""),
        ("%%script --no-raise-error false\necho never", ""),
        ("%%script bash --no-raise-error\necho once > left.txt; exit 3", "once\n"),
        ("%%bash --no-raise-error\necho once > left.txt; exit 3", "once\n"),
        ("%%script bash --raise-error\necho once > left.txt", "once\n"),
        ("%%bash --out printed\necho named", ""),
        ("%%script bash --out printed --no-raise-error\necho named; exit 3", ""),
    ],
)
def test_the_usual_way_to_switch_a_cell_off_failed_setup(load: Load, tmp_path: Path, cell: str, left: str) -> None:
    """`%%script false --no-raise-error`: the options of script magics are IPython's, wherever they stand."""
    runtime = load("printed = 'named\\n'", cell, "assert printed.strip() == 'named'", COMPUTE)
    runtime.setup()
    found = [path.read_text() for path in tmp_path.rglob("left.txt")]
    assert "".join(found) == left


def test_a_script_that_fails_without_the_option_still_fails_setup(load: Load) -> None:
    """It is the option that says that it may."""
    assert setup_failure(load("%%script false\necho never", COMPUTE)).ename == "ShellCommandError"


def test_a_task_made_in_one_cell_can_be_awaited_in_the_next(load: Load) -> None:
    """Cells run inside one loop, as in a kernel: also those that hold no `await`."""
    runtime = load(
        "import asyncio\nasync def work():\n    return await asyncio.sleep(0, 7)\ntask = asyncio.create_task(work())",
        "loop = asyncio.get_running_loop()\nlater = asyncio.ensure_future(work())",
        "value = await task + await later",
        "%%capture\nasync def more(): return 1\nvalue += await more()",
        "same = loop is asyncio.get_running_loop()\nasync def compute():\n    return value + await work() + same",
    )
    runtime.setup()
    assert runtime.compute("m", "d", {}, ACCURACY).metrics == {"accuracy": 23}


def test_compute_may_run_a_loop_of_its_own(load: Load) -> None:
    """By `asyncio.run`, or on the current loop."""
    runtime = load(
        "import asyncio\nasync def work(): return 1\ntask = asyncio.create_task(work())",
        "def compute():\n    return asyncio.run(work()) + asyncio.run(work())",
    )
    runtime.setup()
    assert runtime.compute("m", "d", {}, ACCURACY).metrics == {"accuracy": 2}
    runtime = load(
        "import asyncio\nasync def work(): return 1",
        "def compute():\n    return asyncio.get_event_loop().run_until_complete(work())",
    )
    runtime.setup()
    assert runtime.compute("m", "d", {}, ACCURACY).metrics == {"accuracy": 1}


@pytest.mark.parametrize("call", ["exit()", "quit()", "exit", "import sys; sys.exit()", "raise SystemExit"])
def test_exit_was_an_attribute_error_of_the_shell(load: Load, call: str) -> None:
    """In a cell it fails setup, in compute the trial: named, with what to do, and the process lives on."""
    if call != "exit":
        failure = setup_failure(load("x = 1", call, COMPUTE))
        assert (failure.ename, failure.cell_index) == ("SystemExit", 2)
        assert "the code called exit()" in failure.evalue
        runtime = load(f"def compute(x):\n    if x: {call}\n    return 1.0")
        runtime.setup()
        outcomes = [runtime.compute("m", "d", {"x": x}, ACCURACY) for x in (1, 0)]
        assert [outcome.state for outcome in outcomes] == [TrialState.FAILED, TrialState.COMPLETE]
        assert outcomes[0].failure is not None
        assert "return from compute instead" in outcomes[0].failure.evalue
    else:  # IPython calls it where it stands alone
        assert setup_failure(load(call, COMPUTE)).ename == "SystemExit"
