"""Fixtures of the tests of the command line."""

from tests.raycolab.command_line import finished, here, run

__all__ = ["finished", "here", "run"]
