"""The IPython shell that runs MAIN's cells in a worker: no kernel, no terminal, no files of its own in the home.

It differs from IPython's InteractiveShell where a worker needs it: cells are compiled under their number; during setup
a shell command runs once per node (`node_setups`), and its failure fails setup, as does a cell that changes what the
worker stands on (`packages`); commands find this Python first on their PATH; `%matplotlib` always means inline, and
nothing where matplotlib is missing; errors are kept, not printed.
"""

# mypy: disable-error-code="no-untyped-call"
# Much of IPython 9 has no annotations, and IPython 7 has none at all.

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from IPython.core.compilerop import CachingCompiler
from IPython.core.getipython import get_ipython
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config as ShellConfig

from raycolab.colab.environment import is_colab
from raycolab.main.commands import CommandResult, run_command
from raycolab.main.failure import ShellCommandError
from raycolab.main.node_setups import Setup
from raycolab.main.packages import PackageGuard, ProtectedPackageError, StartAgainError
from raycolab.main.source import FILE_MAGICS, SCRIPT_MAGICS, holds_only_commands
from raycolab.main.traceback import cell_code_name

__all__ = ["MainShell", "ShellCommandError", "run_in_loop", "start_shell"]


# Of the options of script magics, those by which the program's output goes to names of MAIN, or it runs on beside.
_FOR_IPYTHON = re.compile(r"(?:^|\s)--(?:bg|out|err|proc)\b")
_ABOUT_FAILING = ("--no-raise-error", "--raise-error")


class _CellCompiler(CachingCompiler):
    """Compiles under the number of the cell that is running, so that tracebacks and warnings name it."""

    index = 0

    def get_code_name(self, raw_code: str, transformed_code: str, number: int) -> str:
        return cell_code_name(self.index)


class MainShell(InteractiveShell):
    """IPython for the cells of one MAIN; `sys.modules["__main__"]` is its namespace from construction to `end`."""

    compiler_class = _CellCompiler
    compile: _CellCompiler

    def __init__(self, folder: Path, **traits: Any) -> None:
        self._setup: Setup | None = None  # while a cell of setup runs; None in trials, where `!` is plain
        self._loop: asyncio.AbstractEventLoop | None = None  # of top-level await and of an async compute
        self._depth = 0  # of nested run_cell calls
        self._nested_error: BaseException | None = None  # of a cell run by a cell, as %%capture does
        self._commands = 0  # that the running cell has come to
        self._loaded: set[str] = set()  # modules loaded before the running cell, or before one of its commands
        config = ShellConfig({"HistoryManager": {"enabled": False, "hist_file": ":memory:"}})
        super().__init__(ipython_dir=str(folder), config=config, **traits)
        self.loop_runner = self.run_coroutine
        if self.display_formatter is not None:
            self.display_formatter.active_types = ["text/plain"]  # nobody looks at the pictures: draw none
        self.packages = PackageGuard(folder / "constraints.txt")

    # --- running -----------------------------------------------------------------------------------------------------

    def run_main_cell(self, index: int, source: str, setup: Setup) -> None:
        """Run one cell of MAIN's setup; what it raises is raised, its traceback starting at IPython's frames.

        StartAgainError comes before all of that but a ProtectedPackageError: what was replaced may well be the reason.
        """
        self.compile.index = index
        self._commands = 0
        self._nested_error = None
        self._setup = setup
        self._loaded = set(sys.modules)
        setup.cell(index, only_commands=holds_only_commands(source))
        try:
            result = self._run_as_kernel(source)
        finally:
            self._setup = None
        self.forget_output()
        error = result.error_before_exec or result.error_in_exec or self._nested_error
        try:
            self.packages.check(always=self._commands > 0, loaded=self._loaded)
        except (ProtectedPackageError, StartAgainError) as changed:
            raise changed from error  # whatever else failed may well come of it
        if error is not None:
            raise error

    def _run_as_kernel(self, source: str) -> Any:
        """Run a cell where a kernel does: inside the loop, so that one without `await` can start a task for the next.

        Cells under a cell magic run outside: they run another cell, which may hold an `await` of its own.
        """
        if source.lstrip().startswith("%%") or self._awaits(source):
            return self.run_cell(source)
        return self.run_coroutine(_called(self.run_cell, source))

    def _awaits(self, source: str) -> bool:
        """Whether the cell holds an `await` of its own, for which IPython asks for the loop itself."""
        try:
            return bool(self.should_run_async(source, transformed_cell=self.transform_cell(source)))
        except SyntaxError:
            return False

    def run_cell(self, raw_cell: str, *args: Any, **options: Any) -> Any:
        """As IPython's, but the error of a cell run within a cell is kept: `%%capture` and `%run` swallow it."""
        if "InlineBackend" in raw_cell:
            self._prepare_inline_config()
        self._depth += 1
        try:
            result = super().run_cell(raw_cell, *args, **options)
        finally:
            self._depth -= 1
        if self._depth and not result.success:
            self._nested_error = self._nested_error or result.error_before_exec or result.error_in_exec
        return result

    def safe_execfile(self, fname: Any, *where: Any, **options: Any) -> None:
        """As IPython's, but errors of a script that `%run` runs are raised."""
        super().safe_execfile(fname, *where, **options | {"raise_exceptions": True})

    def run_coroutine(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Await on this shell's own event loop, which stays the same from cell to cell and trial to trial."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            if asyncio._get_running_loop() is None:  # a kernel's own stays what it is
                asyncio.set_event_loop(self._loop)
        return run_in_loop(self._loop, coroutine)

    def forget_output(self) -> None:
        """Drop the copies of output that IPython 9 keeps for its history."""
        outputs = getattr(self.history_manager, "outputs", None)
        if outputs is not None:
            outputs.clear()

    def end(self) -> None:
        """Give `__main__` and the place of the process's shell back, and close the event loop."""
        self.restore_sys_module_state()
        if self._loop is not None:
            self._loop.close()
        if get_ipython() is self:
            self.clear_instance()

    def ask_exit(self) -> None:
        """What `exit()` and `quit()` of a cell come to: the end of that cell, and of no process."""
        raise SystemExit

    def showtraceback(self, *args: Any, **options: Any) -> None:
        """Nothing: whoever runs the cell gets the exception."""

    showsyntaxerror = showtraceback

    def __repr__(self) -> str:
        """On Colab with its shell's name, by which notebooks know it: `"google.colab" in str(get_ipython())`."""
        return "<raycolab's shell, for google.colab._shell.Shell>" if is_colab(os.environ) else super().__repr__()

    def init_virtualenv(self) -> None:
        """Nothing: a worker's Python is its own, whatever VIRTUAL_ENV the node was started from."""

    # --- the shell ---------------------------------------------------------------------------------------------------

    def system(self, cmd: str) -> None:
        """`!cmd`, and what `%pip`, `%conda` and `%uv` end in."""
        command = self.var_expand(cmd, depth=1)
        shell = shutil.which("bash") or "/bin/sh"
        result = self._command(command, lambda: run_command([shell, "-c", command]))
        self.user_ns["_exit_code"] = result.status

    def run_cell_magic(self, magic_name: str, line: str, cell: str) -> Any:
        """As IPython's; during setup `%%bash` and its like, and `%%writefile`, run once per node."""
        text = f"%%{magic_name} {line}\n{cell}"
        if self._setup is not None and magic_name in FILE_MAGICS:
            return self._command(text, lambda: self._write_file(magic_name, line, cell))
        if self._setup is None or magic_name not in SCRIPT_MAGICS or _FOR_IPYTHON.search(line):
            return super().run_cell_magic("bash" if magic_name == "shell" else magic_name, line, cell)
        program = [] if magic_name == "script" else ["sh" if magic_name == "sh" else "bash"]
        words = shlex.split(line)
        program += [word for word in words if word not in _ABOUT_FAILING]
        self._command(text, lambda: run_command(program, cell), may_fail="--no-raise-error" in words)
        return None

    def _write_file(self, magic_name: str, line: str, cell: str) -> CommandResult:
        super().run_cell_magic(magic_name, line, cell)
        for word in line.split():
            if word.endswith(".py"):  # written twice within a second, Python would go on with what it compiled before
                Path(importlib.util.cache_from_source(word)).unlink(missing_ok=True)
        return CommandResult(0)

    def _command(self, text: str, run: Callable[[], CommandResult], *, may_fail: bool = False) -> CommandResult:
        """Run a command the way the phase asks for, and let Python see what it may have installed."""
        if self._setup is None:
            result = run()
        else:
            self._commands += 1
            self.packages.refuse_removal(text)
            self._loaded |= sys.modules.keys()
            result = self._setup.command(f"{os.getcwd()}\n{text}", run)
        sys.stdout.write(result.output)
        importlib.invalidate_caches()
        if result.status != 0 and self._setup is not None and not may_fail:
            first = text.strip().splitlines()[0]
            if (refused := self.packages.refused(first, result.output)) is not None:
                raise refused
            raise ShellCommandError(
                result.output,
                f"`{first}` ended with status {result.status}; if that is no reason to stop, add `|| true` to it, or "
                "start its cell with `# raycolab: head-only`",
            )
        return result

    # --- matplotlib --------------------------------------------------------------------------------------------------

    def enable_matplotlib(self, gui: str | None = None) -> Any:
        """`%matplotlib` with any backend: inline, the only one that needs no screen; nothing without matplotlib."""
        if importlib.util.find_spec("matplotlib") is None:
            return "inline", "inline"
        return super().enable_matplotlib("inline")

    def enable_gui(self, gui: str | None = None) -> None:
        """Nothing: there is no window."""

    def _prepare_inline_config(self) -> None:
        """Let `%config InlineBackend...` work before `%matplotlib`, as it does in a kernel.

        Only for cells that name it: it loads all of matplotlib, 0.3 s of CPU in each slot.
        """
        if all(importlib.util.find_spec(name) is not None for name in ("matplotlib", "matplotlib_inline")):
            from matplotlib_inline.config import InlineBackend

            configurables: list[Any] = self.configurables
            if not any(isinstance(each, InlineBackend) for each in configurables):
                configurables.append(InlineBackend.instance(parent=self))


def start_shell(folder: Path) -> MainShell:
    """A shell whose files lie in `folder`: the current one of the process, unless a kernel has one already."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return MainShell.instance(folder) if get_ipython() is None else MainShell(folder)


async def _called(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns, called inside the loop."""
    return function(*arguments)


def run_in_loop(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end on `loop`, also where this thread runs a task of another loop, as a kernel does."""
    outer = asyncio._get_running_loop()
    if outer is None:
        return loop.run_until_complete(coroutine)
    task = asyncio.current_task(outer)
    if task is not None:
        asyncio.tasks._leave_task(outer, task)
    asyncio._set_running_loop(None)
    try:
        return loop.run_until_complete(coroutine)
    finally:
        asyncio._set_running_loop(outer)
        if task is not None:
            asyncio.tasks._enter_task(outer, task)
