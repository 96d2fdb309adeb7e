"""The command line, `raycolab VERB`: a thin client of the same functions that a notebook calls.

program   runs what was typed and ends with its exit code
group     the verbs in groups, as `raycolab --help` lists them
words     what commands share: options, how they speak, results on stdout
cluster   head join status down
sweep     submit results pause resume stop cancel retry delete
here      demo doctor init
"""

from __future__ import annotations

from raycolab.cli.program import main

__all__ = ["main"]
