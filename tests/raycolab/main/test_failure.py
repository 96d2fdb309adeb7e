"""An exception of MAIN as a failure: plain whatever the exception is, with its cell and what to do."""

from __future__ import annotations

import subprocess

import msgspec
import pytest

from raycolab.main.failure import failure_of
from raycolab.main.roles import Cell
from raycolab.trials import ErrorKind, Failure

CELL = Cell(3, "# data\nimport pandas\n!wget https://example.org/data.csv\n")


class Text(str):
    """A text of MAIN's own."""


class HostileError(Exception):
    """Nothing of it can be asked for without harm."""

    def __init__(self, raises: BaseException | None = None, text: str = "") -> None:
        self.raises, self.text = raises, text

    def __str__(self) -> str:
        if self.raises is not None:
            raise self.raises
        return self.text

    @property
    def __notes__(self) -> list[str]:
        raise RuntimeError("no notes")


class NamedByAMetaclass(type):
    """Its classes are called as it likes."""

    @property
    def __name__(cls) -> str:  # type: ignore[override]
        return Text("Strange")


class StrangeError(Exception, metaclass=NamedByAMetaclass):
    """What its name is, is a class of MAIN's own too."""


@pytest.mark.parametrize(
    "error",
    [
        HostileError(RuntimeError("no text")),
        HostileError(KeyboardInterrupt()),
        HostileError(SystemExit(1)),
        HostileError(text=Text("text")),
        StrangeError(Text("text")),
        ModuleNotFoundError("x", name=Text("x")),
        ModuleNotFoundError("x", name=3),  # type: ignore[arg-type]
        SyntaxError(HostileError(RuntimeError("no text"))),
        ExceptionGroup("several", [HostileError(RuntimeError("no text"))]),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("cell", [None, CELL], ids=["trial", "setup"])
def test_an_exception_with_a_text_of_mains_own_class_was_lost_with_three_processes(
    error: BaseException, cell: Cell | None
) -> None:
    """Each is a failure of plain texts that travel."""
    failure = failure_of(ErrorKind.EXCEPTION, error, cell)
    texts = (failure.ename, failure.evalue, failure.traceback, failure.output)
    assert {type(text) for text in texts} == {str}
    assert msgspec.json.decode(msgspec.json.encode(failure), type=Failure) == failure


def test_a_module_that_is_missing_is_named_with_its_cure() -> None:
    """In the line that is shown everywhere, not below a traceback that nobody sees."""
    failure = failure_of(ErrorKind.SETUP, ModuleNotFoundError("No module named 'six.moves'", name="six.moves"), CELL)
    assert failure.summary == (
        "ModuleNotFoundError: No module named 'six.moves': this node lacks it: install it in a cell of MAIN"
        " (`%pip install six`) (cell 3)"
    )
    failure = failure_of(ErrorKind.SETUP, ModuleNotFoundError("No module named 'x'", name="google.colab.ai"), CELL)
    assert "only on Colab: begin the cell with `# raycolab: head-only`" in failure.evalue


@pytest.mark.parametrize(("cell", "cure"), [(None, "return from compute"), (CELL, "`# raycolab: head-only`")])
def test_exit_is_named_with_its_cure(cell: Cell | None, cure: str) -> None:
    """It ends a kernel, and on a worker nothing but its own cell or trial."""
    failure = failure_of(ErrorKind.EXCEPTION, SystemExit(), cell)
    assert failure.evalue.startswith("0: the code called exit(), which ends a notebook's kernel: take it out, or")
    assert cure in failure.evalue


def test_a_cell_that_fails_in_setup_is_shown_whole() -> None:
    """Its source with the line, the traceback, and its last output, though no frame of it is left."""
    failure = failure_of(ErrorKind.SETUP, ValueError("bad"), CELL, "--2026-- unable to resolve host\n")
    assert failure.traceback == (
        "cell 3:\n            1 # data\n            2 import pandas\n"
        "            3 !wget https://example.org/data.csv\n\nValueError: bad\n"
    )
    assert (failure.cell_index, failure.output) == (3, "--2026-- unable to resolve host\n")


def test_what_a_captured_command_printed_is_among_the_output() -> None:
    """`subprocess.run(..., check=True, capture_output=True)` keeps it from everybody else."""
    error = subprocess.CalledProcessError(1, "make", b"compiling\n", b"no such header\n")
    assert failure_of(ErrorKind.SETUP, error, CELL, "before\n").output == "before\ncompiling\nno such header\n"
