"""Fixtures of the tests of the command line, and of cells."""

from tests.raycolab.cell import cell, shell
from tests.raycolab.command_line import finished, here, run

__all__ = ["cell", "finished", "here", "run", "shell"]
