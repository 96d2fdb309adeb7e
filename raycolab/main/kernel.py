"""`raycolab.run_main("MAIN.ipynb")`: all code cells of a notebook, one after another, in this kernel.

As the article's worker notebook does it, with what a kernel can do: cells run in the kernel's own namespace, through
its shell, with magics, shell commands and top-level `await`. Nothing is frozen and no worker's rule holds: a notebook
that submits a sweep submits it, and a loop that pulls trials pulls them. Running MAIN for a worker is `runtime`.
"""

# mypy: disable-error-code="no-untyped-call"
# Much of IPython 9 has no annotations, and IPython 7 has none at all.

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Coroutine, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raycolab.errors import RaycolabError
from raycolab.main.notebook import MainNotebook, NotebookSource
from raycolab.main.roles import asked_to_skip
from raycolab.main.source import is_timed, runnable
from raycolab.main.traceback import cell_code_name, cell_listing, describe, line_in, traceback_text

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["CellError", "current_main", "run_main"]

_current: ContextVar[NotebookSource | None] = ContextVar("raycolab_current_main", default=None)
_loops: list[asyncio.AbstractEventLoop] = []  # of the top-level awaits of this process: one, made when it is needed


class CellError(RaycolabError):
    """A cell of the notebook that `run_main` runs failed; the text shows it, and the cause is what it raised."""


def current_main() -> NotebookSource | None:
    """The notebook that `run_main` is running here, as `declare(main=...)` takes it; None outside of a run.

    A path is absolute, whatever directory a cell changed to.
    """
    return _current.get()


def run_main(main: NotebookSource) -> None:
    """Run the code cells of a notebook, given by its path or as an object, in this kernel.

    Cells tagged `skip-execution` or `head-only`, or with `# raycolab: head-only` at their top, are skipped. The
    first cell that fails ends the run: CellError shows its number among the code cells, counted from 1, its source with
    the line marked, and the traceback. MainError when there is no such notebook.
    """
    notebook = MainNotebook.load(main)
    shell = _this_shell()
    token = _current.set(Path(main).expanduser().absolute() if isinstance(main, str | os.PathLike) else main)
    try:
        for number, cell in enumerate(notebook.cells, 1):
            if asked_to_skip(cell.source, cell.tags) is None:
                _run(shell, cell_code_name(number, notebook.name), cell.source)
    finally:
        _current.reset(token)


def _run(shell: InteractiveShell, code_name: str, source: str) -> None:
    """Run one cell; CellError when it fails, KeyboardInterrupt when a person stops it."""
    began = time.perf_counter()
    error = _error_of(shell, code_name, runnable(source))
    if is_timed(source):
        print(f"Wall time: {time.perf_counter() - began:.3g} s")  # noqa: T201 - what %%time is asked for
    if isinstance(error, KeyboardInterrupt):
        raise error
    if error is not None:
        name, message = describe(error)
        raise CellError(
            f"{code_name} failed with {name}{': ' if message else ''}{message}\n\n"
            f"{cell_listing(source, line_in(error, code_name))}\n"
            f"{traceback_text(error)}\nMend it there, save the notebook, and call run_main again."
        ) from error


def _error_of(shell: InteractiveShell, code_name: str, source: str) -> BaseException | None:
    """What running a cell raises; meanwhile the shell compiles under this name, and shows no errors itself."""
    shown: list[BaseException | None] = []  # the errors that the shell would have shown, as of a cell in a cell

    def keep(exc_tuple: Any = None, *_: object, **__: object) -> None:
        shown.append(exc_tuple[1] if exc_tuple else sys.exc_info()[1])

    with contextlib.ExitStack() as stack:
        stack.callback(setattr, shell, "loop_runner", shell.loop_runner)
        shell.loop_runner = _await
        stack.enter_context(_replaced(shell.compile, "get_code_name", lambda *_: code_name))
        stack.enter_context(_replaced(shell, "showtraceback", keep))
        stack.enter_context(_replaced(shell, "showsyntaxerror", lambda *_, **__: keep()))
        result = shell.run_cell(source)
    return result.error_before_exec or result.error_in_exec or next(filter(None, shown), None)


@contextlib.contextmanager
def _replaced(owner: object, name: str, function: Any) -> Iterator[None]:
    """A method of one object replaced."""
    before = vars(owner).get(name)
    setattr(owner, name, function)
    try:
        yield
    finally:
        delattr(owner, name)
        if before is not None:
            setattr(owner, name, before)


def _await(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Await on a loop that stays the same from cell to cell."""
    from raycolab.main.shell import run_in_loop

    if not _loops:
        _loops.append(asyncio.new_event_loop())
    return run_in_loop(_loops[0], coroutine)


def _this_shell() -> InteractiveShell:
    """The shell of this process; in one that has none, a plain one without history, from now on."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config as ShellConfig

    if not InteractiveShell.initialized():
        folder = tempfile.mkdtemp(prefix="raycolab-ipython-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        config = ShellConfig({"HistoryManager": {"enabled": False, "hist_file": ":memory:"}})
        InteractiveShell.instance(user_module=sys.modules["__main__"], ipython_dir=folder, config=config)
    return InteractiveShell.instance()
