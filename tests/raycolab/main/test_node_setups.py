"""What MAINs of one node see of each other, and what its second slot finds: each in processes of their own."""

# mypy: disable-error-code="no-untyped-call"
# nbformat has no annotations.

from __future__ import annotations

import os
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from nbformat import v4

from raycolab.engine.messages import Assignment
from raycolab.main.node_setups import SetupFailed
from raycolab.main.notebook import MainNotebook
from raycolab.main.process import Load, MainDied, MainProcess
from raycolab.trials import Failure, Metric, Scalar

Slot = Callable[..., MainProcess]


@pytest.fixture
def slot(tmp_path: Path) -> Iterator[Slot]:
    """Starts a slot's process on the one node there is: the sweep's name, and MAIN's cells."""
    started: list[MainProcess] = []

    def start(sweep: str, *cells: str, **options: object) -> MainProcess:
        main = MainNotebook.load(v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in cells]))
        load = Load(main.to_json(), sweep, Metric("score"), str(tmp_path / "node"), node="head")
        started.append(MainProcess(load, **options))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for process in started:
        process.end()


def values(process: MainProcess) -> Mapping[str, Scalar]:
    """What a trial returns, once MAIN is set up."""
    outcome = process.compute(Assignment(1, 0, "m", "d", {}), lambda step, value: False)
    assert outcome.failure is None, outcome.failure.traceback
    return outcome.metrics


def run(process: MainProcess) -> Mapping[str, Scalar]:
    """Set MAIN up, run a trial, and end."""
    process.setup()
    found = values(process)
    process.end()
    return found


def failure_of(process: MainProcess) -> Failure:
    """What setting up fails with."""
    with pytest.raises(SetupFailed) as caught:
        process.setup()
    return caught.value.failure


def returns(expression: str) -> str:
    """The cell with a `compute` that returns this."""
    return f"def compute():\n    return {{'score': 1, 'found': {expression}}}"


def wheel(folder: Path, name: str, version: str, *requires: str) -> None:
    """A wheel that pip can install from a folder; its module says its version."""
    info = f"{name}-{version}.dist-info"
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {n}" for n in requires),
    ]
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}.py", f"VERSION = {version!r}\n")
        archive.writestr(f"{info}/METADATA", "\n".join(lines) + "\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


# --- another MAIN's commands -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cells",
    [
        ("%%writefile hb_shared.py\ndef label(): return 'WHO'", "import hb_shared", returns("hb_shared.label()")),
        ("!mkdir d && echo WHO > d/train.txt", returns("open('d/train.txt').read().strip()")),
    ],
    ids=["writefile", "commands"],
)
def test_a_mains_files_are_its_own_when_another_ran_in_between(slot: Slot, cells: tuple[str, ...]) -> None:
    """A, B, and A again: rows of the second A said 'b'."""
    found = [run(slot(name, *(cell.replace("WHO", name) for cell in cells)))["found"] for name in ("a", "b", "a")]
    assert found == ["a", "b", "a"]


def test_an_edit_that_is_undone_is_undone(slot: Slot) -> None:
    """One sweep, its MAIN edited and edited back: depth 3, 8, 3 gave 3, 8, 8."""
    write = "if not __import__('os').path.exists('depth.txt'):\n    !echo {depth} > depth.txt"
    found = [
        run(slot("s", f"depth = {depth}", write, returns("int(open('depth.txt').read())")))["found"]
        for depth in (3, 8, 3)
    ]
    assert found == [3, 8, 3]


def test_what_a_main_installs_is_installed_again_after_anothers(
    slot: Slot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two MAINs that pin the same package differently: each has its own, however often they take turns."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))
    for version in ("1.16.0", "1.17.0"):
        wheel(tmp_path, "sixlike", version)
    install = f"%pip install -q --no-index --find-links {tmp_path} --upgrade --target {site} sixlike=="
    mains = {
        version: (install + version, "import sixlike", returns("sixlike.VERSION")) for version in ("1.16.0", "1.17.0")
    }
    order = ("1.16.0", "1.17.0", "1.16.0")
    assert [run(slot(version, *mains[version]))["found"] for version in order] == list(order)


# --- two slots at once -----------------------------------------------------------------------------------------------


def test_two_slots_do_not_race_for_a_file_that_is_not_there_yet(slot: Slot) -> None:
    """`if not os.path.exists("d.csv")`: the second slot read it half written, and its jobs were COMPLETE."""
    write = (
        "import os, time\n"
        "if not os.path.exists('d.csv'):\n"
        "    with open('d.csv', 'w') as file:\n"
        "        for number in range(20):\n"
        "            print(number, file=file, flush=True)\n"
        "            time.sleep(0.02)"
    )
    cells = (write, "rows = len(open('d.csv').readlines())", returns("rows"))
    waited: list[int | None] = []
    both = [slot("s", *cells, progress=waited.append) for _ in range(2)]
    threads = [threading.Thread(target=process.setup) for process in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [values(process)["found"] for process in both] == [20, 20]
    assert sorted(cell for cell in waited if cell is not None) == [1, 1, 2, 2, 3, 3]


def test_the_second_slot_waits_says_so_and_is_told_of_commands(slot: Slot, tmp_path: Path) -> None:
    """Commands run once on a node; which slot runs which cell is known while it does."""
    cells = (f"!echo ran >> {tmp_path}/log.txt; until [ -e {tmp_path}/go ]; do sleep 0.05; done", returns("1"))
    began = threading.Event()
    first = slot("s", *cells, progress=lambda cell: began.set())
    waits = threading.Event()
    told: list[int | None] = []

    def progress(cell: int | None) -> None:
        told.append(cell)
        waits.set()

    second = slot("s", *cells, progress=progress)
    one = threading.Thread(target=first.setup)
    one.start()
    assert began.wait(60)
    other = threading.Thread(target=second.setup)
    other.start()
    assert waits.wait(60)
    assert told == [None]
    (tmp_path / "go").touch()
    one.join(60)
    other.join(60)
    assert told == [None, 1, 2]
    assert (tmp_path / "log.txt").read_text() == "ran\n"


def test_a_first_slot_that_is_killed_leaves_the_setup_to_the_next(slot: Slot, tmp_path: Path) -> None:
    """The lock goes with it, also where it had forked; the next one begins with an empty folder."""
    mark = tmp_path / "mark"
    die = (
        f"import os, signal, pathlib, time\nmark = pathlib.Path({str(mark)!r})\n"
        "os.mkdir('half')\n"
        "if not mark.exists():\n"
        "    if os.fork() == 0:\n        time.sleep(30)\n        os._exit(0)\n"
        "    mark.touch()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    first = slot("s", "x = 1", die, returns("os.listdir()"))
    with pytest.raises(MainDied, match=r"its process was killed \(SIGKILL.*\) in cell 2"):
        first.setup()
    assert slot("s", "x = 1", die, returns("len(os.listdir())")).setup().keys() == {1, 2, 3}


def test_who_waited_for_a_setup_that_failed_fails_with_it(slot: Slot, tmp_path: Path) -> None:
    """The same sentence, without another try; who comes later tries again."""
    cell = (
        f"import os, time\nopen({str(tmp_path / 'log')!r}, 'a').write('x')\n"
        f"while not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.05)\nraise OSError('no such data set')"
    )
    began, waits = threading.Event(), threading.Event()
    first = slot("s", cell, returns("1"), progress=lambda cell: began.set())
    second = slot("s", cell, returns("1"), progress=lambda cell: waits.set())
    failures: list[Failure] = []
    one = threading.Thread(target=lambda: failures.append(failure_of(first)))
    one.start()
    assert began.wait(60)
    other = threading.Thread(target=lambda: failures.append(failure_of(second)))
    other.start()
    assert waits.wait(60)
    (tmp_path / "go").touch()
    one.join(60)
    other.join(60)
    assert [failure.summary for failure in failures] == ["OSError: no such data set (cell 1)"] * 2
    assert (tmp_path / "log").read_text() == "x"
    failure_of(slot("s", cell, returns("1")))
    assert (tmp_path / "log").read_text() == "xx"


# --- cells in their order --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "found"),
    [
        (
            (
                "%%writefile c.py\nV = 1",
                "import importlib, c\na = c.V",
                "%%writefile c.py\nV = 2",
                "importlib.reload(c)\nb = c.V",
                returns("f'{a} {b}'"),
            ),
            "1 2",
        ),
        (
            ("import os\nos.makedirs('ckpt')", "!rm -rf ckpt", returns("os.path.exists('ckpt')")),
            False,
        ),
        (("import os\nos.mkdir('out')", returns("os.path.isdir('out')")), True),
        (
            ("with open('log', 'a') as file:\n    file.write('x')", "n = len(open('log').read())", returns("n")),
            1,
        ),
        (
            (
                "!echo 1,2 > d.csv",
                "open('d.csv', 'a').write('3,4\\n')",
                "n = len(open('d.csv').readlines())",
                returns("n"),
            ),
            2,
        ),
        (("!mkdir repo && echo 'x = 5' > repo/model.py", "%cd -q repo", "import model", returns("model.x")), 5),
    ],
    ids=["writefile-twice", "made-then-removed", "mkdir", "append", "written-by-both", "cd"],
)
def test_cells_run_in_their_order_in_the_first_slot_and_in_the_second(
    slot: Slot, cells: tuple[str, ...], found: Scalar
) -> None:
    """A cell of commands does not come before the cells above it, nor does the second slot find what comes later."""
    assert [run(slot("s", *cells))["found"] for _ in range(3)] == [found] * 3


# --- packages --------------------------------------------------------------------------------------------------------


def test_an_install_that_replaces_what_is_loaded_takes_effect(
    slot: Slot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first sweep ran the version that was loaded before, while the metadata named the new one."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))
    for version in ("2.4.6", "2.0.2"):
        wheel(tmp_path, "numlike", version)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--find-links", str(tmp_path)]
    assert os.spawnv(os.P_WAIT, sys.executable, [*pip, "--target", str(site), "numlike==2.4.6"]) == 0
    install = f"%pip install -q --no-index --find-links {tmp_path} --upgrade --target {site} 'numlike<2.4'"
    loads = f"open({str(tmp_path / 'log')!r}, 'a').write('x')\nimport numlike"
    version = "from importlib.metadata import version"
    cells = (loads, install, "import numlike", version, returns("numlike.VERSION + ' ' + version('numlike')"))
    assert run(slot("s", *cells))["found"] == "2.0.2 2.0.2"
    assert (tmp_path / "log").read_text() == "xx"  # begun anew, once
    assert run(slot("s", *cells))["found"] == "2.0.2 2.0.2"


def test_nothing_that_main_may_replace_is_loaded_before_it(slot: Slot) -> None:
    """numpy, pandas and pyarrow were, so that an install of another numpy changed nothing, or half."""
    names = ("numpy", "pandas", "pyarrow", "matplotlib", "ray", "sqlalchemy", "nbformat", "requests", "six", "tqdm")
    look = f"import sys\nfound = ' '.join(name for name in {names} if name in sys.modules)"
    assert run(slot("s", look, returns("found")))["found"] == ""


def test_a_process_that_ends_in_a_trial_says_how(slot: Slot) -> None:
    """No result comes, and nobody waits for one."""
    process = slot("s", "import os", "def compute():\n    os._exit(3)")
    process.setup()
    with pytest.raises(MainDied, match="its process ended with exit code 3"):
        values(process)
