"""A notebook's cell in this process: run by an IPython shell inside a running event loop, as a kernel runs it."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

__all__ = ["Cell", "Shown", "cell", "shell"]

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class Shown:
    """What a cell left: the error it ended with, and everything below it, without colours."""

    error: BaseException | None
    text: str


Cell = Callable[[str], Shown]


@pytest.fixture(scope="module")
def shell() -> Iterator[InteractiveShell]:
    """A shell with `raycolab` imported; nobody's singleton, so it changes nothing for what runs outside its cells."""
    module = ModuleType("notebook_of_a_test")
    made = InteractiveShell(config=Config(HistoryManager={"enabled": False}), user_module=module)
    made.run_cell("import os, raycolab")
    yield made
    made.restore_sys_module_state()
    sys.modules.pop(module.__name__, None)


@pytest.fixture
def cell(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> Cell:
    """Runs a cell and returns what it shows."""

    def run(source: str) -> Shown:
        code = shell.transform_cell(source)
        ended = asyncio.run(shell.run_cell_async(source, store_history=False, transformed_cell=code))
        said = capsys.readouterr()
        return Shown(ended.error_before_exec or ended.error_in_exec, _COLOURS.sub("", said.out + said.err))

    return run
