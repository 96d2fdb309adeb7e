"""The closing lines of a sweep: what the cluster was worth, and how to run its best configuration again.

Pure: from measured trial seconds, never from an estimate of what a node might do. With one node there is
nothing to compare, so nothing is claimed.
"""

from __future__ import annotations

import json
import keyword
import math
from collections.abc import Iterable, Mapping
from itertools import accumulate

from raycolab.text import duration_text
from raycolab.trials import FINAL_STATES, TrialRow, TrialState
from raycolab.view.pages import counted

__all__ = ["compute_line", "most_at_once", "speedup_line"]

_COMPUTED = frozenset({TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED})


def most_at_once(rows: Iterable[TrialRow], node: str) -> int:
    """How many of these trials ran on the node at the same time at most: as many slots as it had, where all worked."""
    ran = [row for row in rows if row.node == node and row.started_at is not None and row.ended_at is not None]
    changes = sorted([*((row.started_at, 1) for row in ran), *((row.ended_at, -1) for row in ran)])
    return max(accumulate(change for _, change in changes), default=0)


def speedup_line(rows: Iterable[TrialRow], *, nodes: int, head_slots: int, wall_s: float) -> str:
    """`480 trials, 6 tabs, 6 min 10 s; this tab alone about 34 min (5.5x)`.

    `rows` are the trials that ended in these `wall_s` seconds, on `nodes` nodes (tabs) of which the head
    has `head_slots` slots. Alone, the head would have needed the sum of what was computed over its slots,
    and at least the longest trial; trials lost with their node, and repeated configurations that were not
    computed, cost it nothing.
    """
    ended = [row for row in rows if row.state in FINAL_STATES]
    seconds = [row.duration_s or 0.0 for row in ended if row.attempts and row.state in _COMPUTED]
    line = f"{counted(len(ended), 'trial')}, {counted(nodes, 'tab')}, {duration_text(wall_s)}"
    if nodes < 2 or head_slots < 1 or wall_s <= 0 or not any(seconds):
        return line
    alone_s = max(sum(seconds) / head_slots, *seconds)
    times = alone_s / wall_s
    return f"{line}; this tab alone about {_about(alone_s)} ({times:.{0 if times >= 9.95 else 1}f}x)"


def compute_line(arguments: Mapping[str, object]) -> str:
    """A line of Python to paste under MAIN: `compute(model="svc", dataset="iris", C=1.0)`, nested names as dicts.

    `arguments` is what a trial's `compute` was called with, see `ComputeSignature.arguments`.
    """
    by_name = {name: value for name, value in arguments.items() if _is_argument(name)}
    other = {name: value for name, value in arguments.items() if not _is_argument(name)}
    parts = [f"{name}={_literal(value)}" for name, value in by_name.items()]
    parts += [f"**{_literal(other)}"] if other else []
    return f"compute({', '.join(parts)})"


def _about(seconds: float) -> str:
    """A duration no finer than such a comparison can be."""
    unit = 3600 if seconds >= 36_000 else 60 if seconds >= 300 else 1
    return duration_text(round(seconds / unit) * unit if unit > 1 else seconds)


def _is_argument(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name)


def _literal(value: object) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)  # a JSON string is a Python string too
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_literal(key)}: {_literal(inner)}" for key, inner in value.items()) + "}"
    return repr(value)
