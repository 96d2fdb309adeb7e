"""The sentence for each situation a person gets into, by the cell that was run: made for real, no cluster runs.

A cell shows the sentence alone: no way it took through our code. Colab's are in `colab/`, commands in `test_sentences`.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from raycolab import errors
from raycolab.node import api
from raycolab.node.launch import Task, prepare
from raycolab.trials import SweepState
from tests.raycolab.cell import Cell
from tests.raycolab.scripted_head import scripted_head
from tests.raycolab.situations import NO_HEAD, NO_NOTEBOOK, Row, database, declared, fits, text_in
from tunnel.address import JoinAddress

ADDRESS = JoinAddress("ws://127.0.0.1:1", bytes(32), bytes(range(32))).text
POSTGRES = "postgresql://me:hunter2@127.0.0.1:1/sweeps"
DECLARE = "raycolab.declare('s', main='MAIN.ipynb', datasets=['iris'], models={{'svc': {{'x': {}}}}})"
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
        "a sweep started without a head",
        "raycolab.find('sample').run()",
        "NoHeadError",
        NO_HEAD,
        declared,
    ),
    Row(
        "no CPU for the head",
        "raycolab.start_head(num_cpus=0)",
        "UsageError",
        "num_cpus is 0: give a number from 1 to 256, or leave it out for all of them.",
    ),
    Row(
        "fewer GPUs than none",
        "raycolab.start_head(num_gpus=-1)",
        "UsageError",
        "num_gpus is -1: give a number from 0 to 64, or leave it out for all of them.",
    ),
    Row(
        "one secret where a list belongs",
        "raycolab.start_head(secrets='HF_TOKEN')",
        "UsageError",
        "secrets is a list of names: write secrets=['HF_TOKEN'].",
    ),
    Row(
        "a secret that is nowhere",
        "raycolab.start_head(secrets=['NOBODYS_TOKEN'])",
        "UsageError",
        "The secret 'NOBODYS_TOKEN' is not in this process's environment: set it (os.environ['NOBODYS_TOKEN'] ="
        ' "..."), then run this again.',
    ),
    Row(
        "a joiner without an address",
        "raycolab.join()",
        "UsageError",
        "The join address is empty. Paste the line that the head prints; it starts with tunnel+.",
    ),
    Row(
        "a Colab VM given back where there is none",
        f"raycolab.join({ADDRESS!r}, release_runtime=True)",
        "UsageError",
        "release_runtime gives a Colab VM back, and this machine is none: leave it out.",
    ),
    Row(
        "a joiner with fewer CPUs than none",
        f"raycolab.join({ADDRESS!r}, num_cpus=-1)",
        "UsageError",
        "num_cpus is -1: give a number from 0 to 256, or leave it out for all of them.",
    ),
    Row(
        "a sweep nobody declared",
        "raycolab.find('sample')",
        "UnknownSweepError",
        "No sweep is named 'sample': nothing was ever submitted with the data directory {here}/data. Give the"
        " --data-dir that it was submitted with.",
    ),
    Row(
        "a sweep deleted by another notebook",
        "sweep = raycolab.find('sample')\nraycolab.find('sample').delete()\nsweep.results",
        "UnknownSweepError",
        "no sweep named 'sample' is in {here}/data/raycolab.db: submit or declare one first.",
        declared,
    ),
    Row(
        "a sweep declared without a head",
        DECLARE.format("[1]"),
        "NoHeadError",
        NO_HEAD,
    ),
    Row(
        "a MAIN on a Drive that is not mounted",
        "raycolab.declare('s', main='/content/drive/MyDrive/MAIN.ipynb', models=['svc'])",
        "MainError",
        f"There is no notebook '/content/drive/MyDrive/MAIN.ipynb'; nearby: MAIN.ipynb, NONE.ipynb. {NO_NOTEBOOK}",
    ),
    Row(
        "bounds the wrong way round",
        DECLARE.format("raycolab.uniform(1, 0)"),
        "SpaceError",
        "uniform(1.0, 0.0) needs its low bound below its high one; for one fixed value give the value",
    ),
    Row(
        "a logarithm from zero on",
        DECLARE.format("raycolab.loguniform(0, 1)"),
        "SpaceError",
        "loguniform(0.0, 1.0) needs a low bound above 0; start at a small positive number, or use uniform",
    ),
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
    Row(
        "the output of a trial there is not",
        "raycolab.find('sample').logs(12)",
        "UsageError",
        "The sweep 'sample' has no trial 12: give a number from 0 to 2.",
        declared,
    ),
    Row(
        "a retry of what cannot be retried",
        "raycolab.find('sample').retry('all')",
        "UsageError",
        "retry takes 'failed' or 'lost', not 'all': leave it out for both.",
        declared,
    ),
]

STARTED = [
    Row(
        "a store as some hosts still spell it",
        "raycolab.start_head('direct', store='postgres://me:hunter2@h/sweeps')",
        "UsageError",
        "'postgres://' is no kind of database SQLAlchemy knows here: write postgresql://.",
    ),
    Row(
        "a store whose server is not there",
        f"raycolab.start_head('direct', store={POSTGRES!r})",
        "ClusterError",
        "the database postgresql+psycopg://me:***@127.0.0.1:1/sweeps cannot be reached: connection failed: … Is the"
        " server running on that host and accepting TCP/IP connections?",
    ),
    Row(
        "a database of a newer raycolab",
        "raycolab.start_head('direct')",
        "UsageError",
        "the database {here}/data/raycolab.db is of a newer raycolab (its tables are version 99, this one knows …): run"
        " pip install --upgrade raycolab, or name another database.",
        database("update raycolab_schema set version = 99"),
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

OVER = api.Pulled(over=SweepState.COMPLETE)
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
        OVER,
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


def test_a_bug_in_a_head_is_told_in_a_sentence(tmp_path: Path) -> None:
    """In its foreground, as in a cell: made by a task that this raycolab cannot know."""
    run_dir, command = prepare(Task("head", str(tmp_path / "data"), {"option_of_another_version": 1}, "json"))
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    kept = Path(ended.stderr.partition("Its traceback is in ")[2].partition(": please")[0])
    sentence = (
        f"This is a bug in raycolab (TypeError), not your doing. Its traceback is in {kept}: please report it with what"
        " you typed, without the join address."
    )
    assert (ended.returncode, ended.stderr) == (1, f"{sentence}\n")
    assert json.loads(ended.stdout) == {"event": "failed", "error": sentence, "kind": "RaycolabError", "exit_code": 1}
    assert kept.read_text().rstrip().endswith("'option_of_another_version'")
    kept.unlink()
    assert not run_dir.exists()
