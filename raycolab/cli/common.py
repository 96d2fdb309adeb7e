"""What the commands share: options that many take, messages to a person, and the results of a sweep.

stdout carries what was asked for, and with `--json` only JSON; every other message goes to stderr.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import click

from raycolab.files import write_line

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["data_dir_option", "end_on_sigterm", "json_option", "print_results", "say", "show"]


_WIDEST = 10_000  # characters of a line


def data_dir_option(command: Any) -> Any:
    """Add `--data-dir`."""
    return click.option(
        "--data-dir",
        metavar="DIR",
        help="The head's directory, with its identity and the database (default: RAYCOLAB_DATA_DIR, or ~/.raycolab).",
    )(command)


def json_option(command: Any) -> Any:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Only JSON on stdout.")(command)


def say(text: str) -> None:
    """Write a line to stderr, for the person who typed the command."""
    write_line(sys.stderr, text)


def end_on_sigterm() -> None:
    """Have SIGTERM end this process as an error would, which ends what it started and shows the cursor again."""

    def end(*_: object) -> NoReturn:
        sys.exit(128 + signal.SIGTERM)

    with contextlib.suppress(ValueError):  # only the main thread may
        signal.signal(signal.SIGTERM, end)


def print_results(sweep: Any, nodes: Sequence[Mapping[str, Any]]) -> None:
    """Print the table, how much faster the cluster was than one tab, and where the database lies.

    `nodes` are those of `status --json`; none where the head has ended meanwhile.
    """
    from raycolab.view.tables import results_table

    speedup = sweep.speedup(nodes) if nodes else ""
    show(results_table(sweep.results), *([speedup] if speedup else []), sweep.database_line)


def show(*shown: RenderableType) -> None:
    """Print tables and lines on stdout; where that is no terminal no line is broken, so that programs can read them."""
    from rich.console import Console

    from raycolab.view.tables import plain

    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDEST)
    for each in shown:
        console.print(plain(each) if isinstance(each, str) else each, soft_wrap=True)
