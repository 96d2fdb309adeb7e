"""An exception of MAIN as a failure: plain text that can leave the process, with the cell, its source and the cure.

Whatever MAIN raises comes through here, so nothing here may raise in its turn, whatever methods the exception has.
"""

from __future__ import annotations

import subprocess

from raycolab.main.output import last_lines
from raycolab.main.roles import Cell
from raycolab.main.traceback import cell_code_name, cell_listing, cell_of, describe, line_in, traceback_text
from raycolab.trials import ErrorKind, Failure

__all__ = ["ShellCommandError", "failure_of"]

_UNREADABLE = "<the exception cannot be read: its own code fails>"


class ShellCommandError(Exception):
    """A shell command of MAIN's setup ended with a status other than 0; `output` is what it printed."""

    def __init__(self, output: str, message: str) -> None:
        super().__init__(message)
        self.output = output


def failure_of(
    kind: ErrorKind, error: BaseException, cell: Cell | None = None, output: str = "", cure: str | None = None
) -> Failure:
    """The failure that an exception is. Of setup the cell that failed is given and shown whole, with its `output`.

    What a command printed is part of that also where it was captured. `cure` is what to do, where the caller knows.
    """
    try:
        name, message = describe(error)
        text = traceback_text(error)
        number = cell_of(error) if cell is None else cell.index
        line = None if cell is None else line_in(error, cell_code_name(cell.index))
        message = f"{message}: {cure}" if cure else _with_cure(error, message, is_setup=cell is not None)
        printed = _printed_by_command(error)
        output += "" if cell is None or printed in output else last_lines(printed)
    except Exception:
        name, message, text, number, line = type(error).__name__, _UNREADABLE, "", None, None
    if cell is not None:
        text = f"cell {cell.index}:\n{cell_listing(cell.source, line)}\n{text}"
    return Failure(kind, str.__str__(name), message, text, number, output)


def _printed_by_command(error: BaseException) -> str:
    """What a command printed whose failure this is."""
    if isinstance(error, subprocess.CalledProcessError):
        parts = [each for each in (error.stdout, error.stderr) if each]
        return "".join(each.decode("utf-8", "replace") if isinstance(each, bytes) else str(each) for each in parts)
    return error.output if isinstance(error, ShellCommandError) else ""


def _with_cure(error: BaseException, message: str, *, is_setup: bool) -> str:
    """The message and what to do, where that is known."""
    if isinstance(error, ModuleNotFoundError) and isinstance(error.name, str) and error.name:
        if f"{error.name}.".startswith("google.colab."):
            return f"{message}: it exists only on Colab: begin the cell with `# raycolab: head-only`"
        package = str.__str__(error.name).split(".")[0]
        return f"{message}: this node lacks it: install it in a cell of MAIN (`%pip install {package}`)"
    if isinstance(error, SystemExit):
        status = message or "0"
        cure = "begin its cell with `# raycolab: head-only`" if is_setup else "return from compute instead"
        return f"{status}: the code called exit(), which ends a notebook's kernel: take it out, or {cure}"
    return message
