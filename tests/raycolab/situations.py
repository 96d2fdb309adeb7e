"""What a row of a table of situations is, how it is checked, and what situations are made of."""

from __future__ import annotations

import contextlib
import re
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

from raycolab.sweep import declare

__all__ = [
    "COMPUTE",
    "NO_HEAD",
    "Made",
    "Row",
    "a_full_disk",
    "declared",
    "fits",
    "main",
    "text_in",
]

COMPUTE = "def compute(model, dataset, x):\n    return x"
NO_HEAD = (
    "No head is running with the data directory {here}/data: start one with `raycolab head` or raycolab.start_head(),"
    " or give the --data-dir of the one that runs."
)
Made = Callable[[Path], object]


@dataclass(frozen=True, slots=True)
class Row:
    """A situation in words, what is done in it, how that ends, and the sentence for the person."""

    situation: str
    done: str  # arguments of `raycolab`, or a cell
    ends: int | str  # the exit code, or the class of the error
    sentence: str  # whole; … is any text, {here} the current folder
    made: Made = lambda here: None  # makes the situation, in the current folder

    def __str__(self) -> str:
        return self.situation


def fits(row: Row, text: str, here: Path) -> bool:
    """Whether what was shown is the row's sentence alone; no traceback is among it."""
    wanted = re.escape(row.sentence.replace("{here}", str(here))).replace("…", ".*")
    assert "Traceback" not in text, text
    assert re.fullmatch(wanted, text.strip()), text
    return True


def main(*sources: str, **metadata: object) -> Made:
    """MAIN.ipynb has these code cells."""

    def make(here: Path) -> None:
        book = new_notebook(cells=[new_code_cell(source) for source in sources], metadata=metadata)
        nbformat.write(book, here / "MAIN.ipynb")

    return make


def text_in(name: str, text: str) -> Made:
    """A file holds this text."""

    def make(here: Path) -> None:
        (here / name).parent.mkdir(exist_ok=True)
        (here / name).write_text(text)

    return make


def declared(here: Path) -> None:
    """The sweep `sample` is in the database, and no trial of it has run."""
    models = {"svc": {"x": {"min": 0.0, "max": 1.0}}}
    declare("sample", main="MAIN.ipynb", models=models, datasets=["iris"], jobs_per_pair=3, metric="score")


@contextlib.contextmanager
def a_full_disk(room: int) -> Iterator[None]:
    """No file can get larger than this, which gives the same kind of error as a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
