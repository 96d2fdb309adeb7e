"""The command line, `raycolab VERB`: a thin client of the same functions that a notebook calls.

program   the list of commands, and how each ends
common    what commands share: options, messages on stderr, results on stdout
cluster   head join status down
sweep     submit results report logs list dashboard pause resume stop cancel retry delete
local     demo doctor init
"""

from __future__ import annotations

from raycolab.cli.program import main

__all__ = ["main"]
