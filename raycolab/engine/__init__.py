"""The engine: the scheduler's driver, one detached Ray actor on the head node.

`python -m raycolab.engine` starts the actor on a running Ray. Here is what the head and the actor must agree on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["ENGINE_NAME", "ENGINE_NAMESPACE", "Starts", "steady_clock"]

ENGINE_NAME = "raycolab-engine"
ENGINE_NAMESPACE = "raycolab"

_MOST_RESTARTS = 3
_WITHIN_S = 600.0


def steady_clock() -> Callable[[], float]:
    """A clock that begins with the time of day and then never jumps, whatever becomes of the machine's own.

    For what is both shown and reckoned with: deadlines and durations stay right when somebody sets the clock, and no
    end comes before its start.
    """
    began = time.time() - time.monotonic()
    return lambda: began + time.monotonic()


class Starts:
    """When the engine of this run directory was started, in a file that outlives it: it may not end for ever anew.

    Times are of the machine's monotonic clock.
    """

    def __init__(self, run_dir: str | Path) -> None:
        self._file = Path(run_dir) / "engine.starts"

    def note(self, now: float) -> bool:
        """The engine starts; whether it must not, since it was restarted three times within ten minutes."""
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._file.open("a") as file:
            file.write(f"{now}\n")
        return self.are_too_many()

    def are_too_many(self) -> bool:
        """Whether the last start was one too many, after which there is none."""
        try:
            *earlier, last = [float(line) for line in self._file.read_text().splitlines()]
        except (OSError, ValueError):  # none yet
            return False
        return sum(last - time <= _WITHIN_S for time in earlier) > _MOST_RESTARTS
