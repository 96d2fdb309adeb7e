"""The joiner of this machine as a cell shows it: watched until it ends or until Stop, and ended by a later cell.

Whichever cell or kernel shows it, its panels have one output's id and change together, so that none looks alive after
`raycolab.leave()`. Its process and its record are `joiner_record`'s.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Any

from raycolab.errors import ClusterError
from raycolab.joiner_record import ask_joiner, is_alive, past_events, show_joiner

__all__ = ["end_joiner", "is_detached"]

LEAVE_S = 30.0
POLL_S = 0.3
DETACHED = "Detached: this machine is still part of the cluster. Running this again shows it; raycolab.leave() leaves."


def is_detached(record: Mapping[str, Any], notes: Sequence[str]) -> bool:
    """Show the joiner until it ends, or until somebody stops watching; raises what it failed with."""
    from raycolab.display.joiner_surface import joiner_surface

    surface = joiner_surface(record.get("head", ""), lambda: ask_joiner(record), record["run_dir"])
    with contextlib.closing(surface):
        if not notes:
            surface.greet("Joining. Stop (Ctrl-C) only detaches this cell; raycolab.leave() leaves the cluster.")
        for text in notes:
            surface.say(text)
        try:
            show_joiner(record, surface)
        except KeyboardInterrupt:
            surface.detach(DETACHED)
            return True
    return False


def end_joiner(record: Mapping[str, Any]) -> None:
    """End the joiner's process if it runs, and let every panel of it say so; ClusterError when it does not end."""
    from raycolab.display.joiner_surface import show_ended

    name = ask_joiner(record).get("name")
    if is_alive(record):
        os.kill(record["pid"], signal.SIGTERM)
    deadline = time.monotonic() + LEAVE_S
    while is_alive(record) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    if is_alive(record):
        raise ClusterError(
            f"The joiner has not ended within {LEAVE_S:g} s: `kill -9 -{record['pid']}` ends it, and all that it"
            f" started; {record['log']} says how far it came."
        )
    show_ended(record.get("head", ""), name, past_events(record), record["run_dir"])
