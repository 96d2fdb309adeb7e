"""What a person gets in a situation: a command's exit code, or a cell's error, and one sentence that says what to do.

Each situation is made for real, and no cluster runs. What is typed wrong is in `test_cli_refusals`, a sweep file's
lines in `spec/test_file`, MAIN's in `main/test_notebook`, a cluster's refusals in `tests/integration/test_refusals`.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from raycolab import errors
from raycolab.node import api
from raycolab.node.launch import Task, prepare
from raycolab.trials import SweepState
from tests.raycolab.cell import Cell
from tests.raycolab.command_line import Run
from tests.raycolab.scripted_head import scripted_head
from tests.raycolab.situations import (
    COMPUTE,
    NO_HEAD,
    Row,
    a_full_disk,
    database,
    declared,
    fits,
    main,
    text_in,
)
from tunnel.address import JoinAddress

ADDRESS = JoinAddress("ws://127.0.0.1:1", bytes(32), bytes(range(32))).text
DAMAGED = "the database {here}/data/raycolab.db is damaged (…): go on from a copy of it."
DATABASE = "data/raycolab.db"
POSTGRES = "postgresql://me:hunter2@127.0.0.1:1/sweeps"
DECLARE = "raycolab.declare('s', main='MAIN.ipynb', datasets=['iris'], models={{'svc': {{'x': {}}}}})"


def cut_in_half(here: Path) -> None:
    """The database as a copy that was broken off left it."""
    declared(here)
    whole = (here / DATABASE).read_bytes()
    (here / DATABASE).write_bytes(whole[: len(whole) // 2])


def led_to_itself(here: Path) -> None:
    """A link in the place of MAIN, as a careless move leaves it."""
    (here / "MAIN.ipynb").unlink()
    (here / "MAIN.ipynb").symlink_to("MAIN.ipynb")


COMMANDS = [
    Row("a database that was cut short", "results sample", 1, DAMAGED, cut_in_half),
    Row(
        "a MAIN that is a link to itself",
        "submit sweep.yaml",
        2,
        "The notebook 'MAIN.ipynb' cannot be read: Too many levels of symbolic links. Make it readable.",
        led_to_itself,
    ),
    Row(
        "the notebook in the place of the sweep file",
        "submit MAIN.ipynb",
        2,
        "MAIN.ipynb is a notebook: give the sweep file that names it as its main; `raycolab init` writes one.",
        main(COMPUTE),
    ),
    Row(
        "a W&B sweep that is given a notebook in the place of its script",
        "submit sweep.yaml --set main=MAIN.ipynb",
        2,
        "compute of MAIN.ipynb needs 'x', which the sweep does not give; add it to the sweep or give it a default in"
        " compute.",
        text_in("sweep.yaml", "program: train.py\nmethod: bayes\nparameters: {}\n"),
    ),
]
CELLS = [
    Row("no head", "raycolab.attach()", "NoHeadError", NO_HEAD),
    Row(
        "the record of a head that a full disk cut short",
        "raycolab.attach()",
        "ClusterError",
        "{here}/data/head.json is damaged: delete it and start the head again.",
        text_in("data/head.json", "{"),
    ),
    Row(
        "no CPU for the head",
        "raycolab.start_head(num_cpus=0)",
        "UsageError",
        "num_cpus is 0: give a number from 1 to 256, or leave it out for all of them.",
    ),
    Row(
        "a sweep deleted by another notebook",
        "sweep = raycolab.find('sample')\nraycolab.find('sample').delete()\nsweep.results",
        "UnknownSweepError",
        "no sweep named 'sample' is in {here}/data/raycolab.db: submit or declare one first.",
        declared,
    ),
    Row("a sweep declared without a head", DECLARE.format("[1]"), "NoHeadError", NO_HEAD),
    Row(
        "a function in place of a space",
        DECLARE.format("lambda: 1"),
        "SpaceArgumentError",
        "the space of model 'svc', parameter 'x': a function is not a search space; give a list of alternatives, one"
        " value, or a function of raycolab such as uniform(0, 1)",
    ),
    Row(
        "a distribution of an optuna that has changed its shape",
        "from optuna.distributions import FloatDistribution\nold = FloatDistribution(0.0, 1.0)\ndel old.step\n"
        + DECLARE.format("old"),
        "SpaceArgumentError",
        "the space of model 'svc', parameter 'x': optuna.distributions.FloatDistribution has no 'step' in the installed"
        " version; write this parameter with raycolab's own functions",
    ),
]

# What only the head's own process finds out.
STARTED = [
    Row(
        "a store whose server is not there",
        f"raycolab.start_head('direct', store={POSTGRES!r})",
        "ClusterError",
        "the database postgresql+psycopg://me:***@127.0.0.1:1/sweeps cannot be reached: connection failed: … Is the"
        " server running on that host and accepting TCP/IP connections?",
    ),
    Row(
        "an ngrok agent that is no program",
        "os.environ.update(NGROK_AUTHTOKEN='2aToken', PYNGROK_NGROK_PATH='sweep.yaml')\nraycolab.start_head()",
        "UsageError",
        "PYNGROK_NGROK_PATH names …sweep.yaml, which is no program: correct it, or unset it.",
    ),
]

# Kills a node's own process, as a machine that is out of memory does.
DYING = """
import os, sys
if sys.orig_argv[1:4] == ["-P", "-m", "raycolab.node.supervisor"]:
    os.kill(os.getpid(), 9)
"""
KILLED = [
    Row(
        "a head that is killed while it starts",
        "raycolab.start_head('direct')",
        "ClusterError",
        "Starting the head; this takes about ten seconds.\n"
        "ClusterError: The head ended without a word: {here}/data/head.log says how far it came. Start it again.",
    ),
    Row(
        "a joiner that is killed while it joins",
        f"raycolab.join({ADDRESS!r})",
        "ClusterError",
        "Joining. Stop (Ctrl-C) only detaches this cell; raycolab.leave() leaves the cluster.\n"
        "ClusterError: The joiner ended without a word: {here}/data/joiner.log says how far it came. Join again.",
    ),
]

# What the head answers: what it is given to say, or what a head with this database says.
ASKED = [
    (
        None,
        Row(
            "a new sweep without MAIN",
            "raycolab.declare('s', models=['svc'])",
            "UsageError",
            "The sweep 's' is new, so it needs `main`: the path of the notebook with `compute`.",
        ),
    ),
    (
        None,
        Row(
            "a sweep that is waited for and was never started",
            "raycolab.find('sample').wait()",
            "ClusterError",
            "The head does not run the sweep 'sample': start it again.",
            declared,
        ),
    ),
    (
        api.Pulled(over=SweepState.COMPLETE),
        Row(
            "a task of a sweep that is over",
            "raycolab.find('sample').get_task()",
            "UsageError",
            "The sweep 'sample' is at rest (COMPLETE), so there is no task to get: ask `not_done()` before each"
            " `get_task()`.",
            database("update sweeps set state = 'COMPLETE'"),
        ),
    ),
]


@pytest.fixture
def environment() -> Iterator[None]:
    """What cells set in the environment is gone after the test."""
    before = dict(os.environ)
    os.environ.pop("NGROK_AUTHTOKEN", None)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.parametrize("row", COMMANDS, ids=str)
def test_a_command_ends_with_its_sentence(row: Row, run: Run, here: Path) -> None:
    """The exit code of the contract, the sentence alone on stderr, nothing on stdout."""
    row.made(here)
    ended = run(*shlex.split(row.done))
    assert (ended.code, ended.out) == (row.ends, "")
    assert fits(row, ended.err, here)


@pytest.mark.parametrize("row", CELLS, ids=str)
@pytest.mark.usefixtures("environment")
def test_a_cell_ends_with_its_sentence(row: Row, cell: Cell, here: Path) -> None:
    """The class of the error and the sentence, and not the way it took through our code."""
    row.made(here)
    shown = cell(row.done)
    assert isinstance(shown.error, errors.RaycolabError)
    assert type(shown.error).__name__ == row.ends
    assert fits(row, shown.text.removeprefix(f"{row.ends}: "), here)


@pytest.mark.parametrize("row", STARTED, ids=str)
@pytest.mark.usefixtures("environment")
def test_a_head_that_cannot_start_says_why_in_the_cell(row: Row, cell: Cell, here: Path) -> None:
    """What only its own process finds out is found out before Ray is started, and told as if it were this one's."""
    row.made(here)
    shown = cell(row.done)
    assert type(shown.error).__name__ == row.ends
    greeting, _, text = shown.text.partition("\n")
    assert greeting == "Starting the head; this takes about ten seconds."
    assert fits(row, text.removeprefix(f"{row.ends}: "), here)
    assert "hunter2" not in shown.text


@pytest.mark.parametrize("row", KILLED, ids=str)
@pytest.mark.usefixtures("environment")
def test_a_node_that_ends_without_a_word_is_told(row: Row, cell: Cell, here: Path) -> None:
    """Where its log lies, and what to do."""
    text_in("dying/sitecustomize.py", DYING)(here)
    os.environ["PYTHONPATH"] = str(here / "dying")
    shown = cell(row.done)
    assert type(shown.error).__name__ == row.ends
    assert fits(row, shown.text, here)


@pytest.mark.parametrize(("pulled", "row"), ASKED, ids=lambda each: str(each) if isinstance(each, Row) else "")
def test_what_a_running_head_s_answer_comes_to(pulled: api.Pulled | None, row: Row, cell: Cell, here: Path) -> None:
    """The head's part is a script; the sweep is in the database."""
    row.made(here)
    with scripted_head(here / "data", lambda request: pulled if isinstance(request, api.Pull) else None):
        shown = cell(row.done)
    assert type(shown.error).__name__ == row.ends
    assert fits(row, shown.text.removeprefix(f"{row.ends}: "), here)


def test_a_full_disk_is_told_and_leaves_nothing_half(run: Run, here: Path) -> None:
    """The first of the files fits in it, the next one does not."""
    with a_full_disk(room=3_000):
        ended = run("init", "new")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "new cannot be written to (File too large): name a folder that you may write to, with room.\n"
    assert not (here / "new").exists()


def test_a_demo_without_what_its_main_imports(run: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told before anything is made."""
    monkeypatch.setitem(sys.modules, "sklearn", None)  # Python's own way to say that there is none
    ended = run("demo", "--data-dir", "data")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "The demo's MAIN needs scikit-learn: run `pip install 'raycolab[demo]'` and try again.\n"
    assert not (here / "data").exists()


def test_a_demo_whose_head_does_not_start(run: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the head's own process said, and nothing of it is left."""
    monkeypatch.setenv("RAYCOLAB_NO_NAMESPACES", "1")
    text_in("data/identity.json", "{")(here)
    ended = run("demo", "--joiners", "1", "--data-dir", "data")
    assert (ended.code, ended.out) == (3, "")
    assert ended.err.splitlines()[-1] == (
        f"The demo's head did not start: {here}/data/identity.json is damaged: start the head with --new-address"
        " (in a notebook new_address=True), and give joiners the new address."
    )


def test_a_bug_in_a_head_is_told_in_a_sentence(tmp_path: Path) -> None:
    """In its foreground, as in a cell: made by a path that no command lets through."""
    run_dir, command = prepare(Task("head", f"{tmp_path}/data\0", {}, "json"))
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    kept = Path(ended.stderr.partition("Its traceback is in ")[2].partition(": please")[0])
    sentence = (
        f"This is a bug in raycolab (ValueError), not your doing. Its traceback is in {kept}: please report it with"
        " what you typed, without the join address."
    )
    assert (ended.returncode, ended.stderr) == (1, f"{sentence}\n")
    assert json.loads(ended.stdout) == {"event": "failed", "error": sentence, "kind": "RaycolabError", "exit_code": 1}
    assert kept.read_text().rstrip().endswith("ValueError: embedded null byte")
    kept.unlink()
    assert not run_dir.exists()
