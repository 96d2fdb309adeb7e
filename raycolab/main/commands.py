"""Shell commands of MAIN, run to their end. Who of a node's processes runs them is `node_setups`."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from raycolab.main.output import KEPT_BYTES, last_lines

__all__ = ["CommandResult", "run_command"]


class CommandResult(msgspec.Struct, frozen=True):
    """How a command ended: its exit status and the last lines it printed."""

    status: int
    output: str = ""


def run_command(arguments: list[str], text: str | None = None) -> CommandResult:
    """Run a command to its end, with `text` as its input and this Python's folder first on its PATH.

    Its output goes to a file and not a pipe, which a server left running by the command would hold open.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as script:
        script.write((text or "").encode())
        script.seek(0)
        ended = subprocess.run(
            arguments,
            stdin=script,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PATH": path},
            check=False,
        )
        size = output.seek(0, os.SEEK_END)
        output.seek(max(0, size - KEPT_BYTES))
        return CommandResult(ended.returncode, last_lines(output.read().decode("utf-8", "replace")))
