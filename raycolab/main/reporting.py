"""`raycolab.report(step, value)` inside `compute`: how far a trial is, and the end of one that is not worth more.

By hand, where no sweep runs the trial, it does nothing, so MAIN stays the notebook it was. In a sweep it hands the
value on and returns at once; the answer, that the trial is to be pruned, comes when it comes and is given at the next
report. One trial runs in a process at a time.
"""

from __future__ import annotations

import contextlib
import numbers
from collections.abc import Callable, Iterator

from raycolab.main.returned import scalar_of

__all__ = ["Sink", "TrialPruned", "is_pruned", "report", "reporting"]

Sink = Callable[[int, float], bool]
"""Takes (step, value); True: the trial is to end."""


class TrialPruned(Exception):  # noqa: N818 - Optuna's name for it
    """The sweep has seen enough of this trial; let it through, or catch it to clean up and raise it again."""


MAX_STEPS = 1 << 63  # what a database's whole numbers hold

_sink: Sink | None = None
_last: float | None = None


def report(step: int, value: float) -> None:
    """Tell the sweep the metric after `step` (counted from 0 or 1, as you like); raises TrialPruned to end the trial.

    A step told twice counts as told last. Nothing happens where no sweep runs the trial. TypeError for what is no
    whole number and no number.
    """
    number = scalar_of(value)
    if not isinstance(step, numbers.Integral) or not 0 <= step < MAX_STEPS:
        raise TypeError(f"report(step, value) takes a whole number of at least 0 as the step, not {step!r}.")
    if isinstance(number, str) or number is None:
        raise TypeError(f"report(step, value) takes one number as the value, not {type(value).__name__}.")
    if _sink is None:
        return
    global _last
    _last = float(number)
    if _sink(int(step), _last):
        raise TrialPruned(f"pruned after step {step}")


@contextlib.contextmanager
def reporting(sink: Sink | None) -> Iterator[Callable[[], float | None]]:
    """Let `report` tell `sink` in the block; gives a function for the value told last, None before the first."""
    global _sink, _last
    _sink, _last = sink, None
    try:
        yield lambda: _last
    finally:
        _sink = None


def is_pruned(error: BaseException) -> bool:
    """Whether an exception means that the trial was pruned: ours, or the one of Optuna that code brings along."""
    kind = type(error)
    return isinstance(error, TrialPruned) or (kind.__name__, kind.__module__) == ("TrialPruned", "optuna.exceptions")
