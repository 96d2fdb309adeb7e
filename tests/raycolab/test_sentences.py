"""The sentence for each situation a person gets into, by the command that was typed: made for real, no head runs.

What is typed wrong in general is in `test_cli_refusals`, a sweep file's lines in `declaration/test_file`, cells in
`test_cell_sentences`, a cluster's refusals in `tests/integration/test_refusals`. `tests/test_every_sentence` finds
the sentences that are in no test.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from tests.raycolab.command_line import Run
from tests.raycolab.situations import (
    COMPUTE,
    NO_HEAD,
    NO_NOTEBOOK,
    Made,
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


def cut_in_half(here: Path) -> None:
    """The database as a copy that was broken off left it."""
    declared(here)
    whole = (here / DATABASE).read_bytes()
    (here / DATABASE).write_bytes(whole[: len(whole) // 2])


def a_folder(name: str) -> Made:
    """A folder where a file should be."""

    def make(here: Path) -> None:
        (here / name).unlink(missing_ok=True)
        (here / name).mkdir(parents=True)

    return make


def led_to_itself(here: Path) -> None:
    """A link in the place of MAIN, as a careless move leaves it."""
    (here / "MAIN.ipynb").unlink()
    (here / "MAIN.ipynb").symlink_to("MAIN.ipynb")


COMMANDS = [
    Row(
        "a MAIN that Drive has not brought yet",
        "submit sweep.yaml",
        2,
        f"MAIN.ipynb is not a Jupyter notebook: it is empty. {NO_NOTEBOOK}",
        text_in("MAIN.ipynb", ""),
    ),
    Row(
        "a MAIN whose download broke off",
        "submit sweep.yaml",
        2,
        f"MAIN.ipynb is not a Jupyter notebook (Expecting value: line 1 column 12 (char 11)). {NO_NOTEBOOK}",
        text_in("MAIN.ipynb", '{"cells": ['),
    ),
    Row(
        "a web page saved in place of MAIN",
        "submit sweep.yaml",
        2,
        f"MAIN.ipynb is not a Jupyter notebook (Expecting value: line 1 column 1 (char 0)). {NO_NOTEBOOK}",
        text_in("MAIN.ipynb", "<!DOCTYPE html><html>"),
    ),
    Row(
        "a folder of MAIN's name, which is no notebook nearby",
        "submit sweep.yaml",
        2,
        f"'MAIN.ipynb' is a folder, not a notebook; nearby: NONE.ipynb. {NO_NOTEBOOK}",
        a_folder("MAIN.ipynb"),
    ),
    Row(
        "a MAIN that is a link to itself",
        "submit sweep.yaml",
        2,
        "The notebook 'MAIN.ipynb' cannot be read: Too many levels of symbolic links. Make it readable.",
        led_to_itself,
    ),
    Row(
        "a MAIN in R",
        "submit sweep.yaml",
        2,
        "MAIN.ipynb is a notebook in R, and workers run Python: give a Python notebook.",
        main(COMPUTE, language_info={"name": "R"}),
    ),
    Row(
        "the notebook in the place of the sweep file",
        "submit MAIN.ipynb",
        2,
        "MAIN.ipynb is a notebook: give the sweep file that names it as its main; `raycolab init` writes one.",
        main(COMPUTE),
    ),
    Row(
        "compute in a cell that workers skip",
        "submit sweep.yaml",
        2,
        "MAIN.ipynb defines `compute` in cell 0, which workers skip because its first line says head-only: move"
        " `compute` to a cell of its own.",
        main(f"# raycolab: head-only\n{COMPUTE}"),
    ),
    Row(
        "a slip of the pen in MAIN",
        "submit sweep.yaml",
        2,
        "MAIN.ipynb, cell 0, line 1 is not Python (expected ':'): correct it, or start the cell with `# raycolab:"
        " head-only` if workers do not need it.",
        main("def compute(model, dataset, x)\n    return x"),
    ),
    Row(
        "a compute whose arguments have no names",
        "submit sweep.yaml",
        2,
        "`compute` takes `model`, `dataset`, `x` by position only, and raycolab gives every argument by name: remove"
        " the `/` from its signature.",
        main("def compute(model, dataset, x, /):\n    return x"),
    ),
    Row(
        "a W&B sweep whose program is a script",
        "submit sweep.yaml",
        2,
        "sweep.yaml line 1: program 'train.py' is not a notebook; raycolab calls a notebook's compute, so put the"
        " training into compute of a MAIN.ipynb and name that, or pass --set main=MAIN.ipynb",
        text_in("sweep.yaml", "program: train.py\nmethod: bayes\nparameters: {x: {min: 0, max: 1}}\n"),
    ),
    Row(
        "the same with a notebook in its place",
        "submit sweep.yaml --set main=MAIN.ipynb",
        2,
        "compute of MAIN.ipynb needs 'x', which the sweep does not give; add it to the sweep or give it a default in"
        " compute.",
        text_in("sweep.yaml", "program: train.py\nmethod: bayes\nparameters: {}\n"),
    ),
    Row(
        "MAIN changed after trials of it had run",
        "submit sweep.yaml",
        2,
        "The sweep 'sample' exists and the code of MAIN has changed since its finished trials ran: declare it under"
        " another name, or `raycolab delete sample` first.",
        lambda here: (
            database("update trials set state = 'COMPLETE', metrics = '{}' where number = 0")(here),
            main(f"{COMPUTE} + 1")(here),
        ),
    ),
    Row(
        "ngrok's URL pasted in place of the join address",
        "join https://abc.ngrok-free.dev",
        2,
        "There is no join address in this text: it would start with tunnel+. Copy the whole line that the head prints.",
    ),
    Row(
        "a join address cut at its #, as a shell without quotes may",
        f"join {ADDRESS.partition('#')[0]}",
        2,
        "This join address is cut short: 0 of the 91 characters after its # are there. Copy the whole line that the"
        " head prints.",
    ),
    Row(
        "a join address with another scheme",
        f"join {ADDRESS.replace('ws://', 'ftp://')}",
        2,
        "This join address was altered on its way: a character in it is wrong or missing. Copy it from the head again,"
        " the whole line.",
    ),
    Row(
        "the doctor asked about a cut address",
        f"doctor {ADDRESS[:-5]}",
        2,
        "This join address is cut short: 86 of the 91 characters after its # are there. Copy the whole line that the"
        " head prints.",
    ),
    Row("a database that was cut short", "results sample", 1, DAMAGED, cut_in_half),
    Row("a sweep that is to go on in it", "submit sweep.yaml", 1, DAMAGED, cut_in_half),
    Row(
        "notes in place of the database",
        "results sample",
        2,
        "{here}/data/raycolab.db is not a SQLite database: name another file, or move this one away.",
        text_in(DATABASE, "these are my notes\n" * 100),
    ),
    Row(
        "a folder in place of the database",
        "results sample",
        2,
        "cannot open the database {here}/data/raycolab.db: unable to open database file; choose a file you may write"
        " to with --data-dir or store=.",
        a_folder(DATABASE),
    ),
    Row(
        "a database of a newer raycolab",
        "results sample",
        2,
        "the database {here}/data/raycolab.db is of a newer raycolab (its tables are version 99, this one knows …):"
        " run pip install --upgrade raycolab, or name another database.",
        database("update raycolab_schema set version = 99"),
    ),
    Row(
        "a data directory where nobody may write",
        "submit sweep.yaml --data-dir /proc/data",
        2,
        "cannot create the database /proc/data/raycolab.db: No such file or directory; choose a folder you may write"
        " to with --data-dir or store=.",
    ),
    Row(
        "a retry without a head",
        "retry sample --lost",
        3,
        NO_HEAD,
        declared,
    ),
    Row(
        "notebooks written over notebooks",
        "init .",
        2,
        ". has MAIN.ipynb and sweep.yaml already, and nothing is overwritten: name another folder, or move them away.",
    ),
    Row(
        "notebooks for a folder that is a file",
        "init sweep.yaml",
        2,
        "sweep.yaml cannot be written to (Not a directory): name a folder that you may write to, with room.",
    ),
]


@pytest.mark.parametrize("row", COMMANDS, ids=str)
def test_a_command_ends_with_its_sentence(row: Row, run: Run, here: Path) -> None:
    """The exit code of the contract, the sentence alone on stderr, nothing on stdout."""
    row.made(here)
    ended = run(*shlex.split(row.done))
    assert (ended.code, ended.out) == (row.ends, "")
    assert fits(row, ended.err, here)


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
    assert ended.err == "The demo's MAIN needs scikit-learn: run `pip install 'raycolab[demo]'`, then again.\n"
    assert not (here / "data").exists()


def test_a_demo_whose_head_does_not_start(run: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the head's own process said, and nothing of it is left."""
    monkeypatch.setenv("RAYCOLAB_NO_NAMESPACES", "1")
    text_in("data/identity.json", "{")(here)
    ended = run("demo", "--joiners", "1", "--data-dir", "data")
    assert (ended.code, ended.out) == (3, "")
    assert ended.err.splitlines()[-1] == (
        f"The demo's head did not start: {here}/data/identity.json is damaged: delete it and start the head again."
        " Joiners then need the new join address."
    )
