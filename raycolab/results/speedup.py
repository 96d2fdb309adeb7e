"""The closing lines of a sweep: what the cluster was worth, and how to run its best configuration again.

Pure: from measured trial seconds, never from an estimate of what a node might do. Where there is nothing to compare,
nothing is claimed: with one node, and where nodes share cores, so that trials took longer than they would have alone.
"""

from __future__ import annotations

import json
import keyword
import math
from collections.abc import Iterable, Mapping
from itertools import accumulate

from raycolab.text import counted, duration_text
from raycolab.trials import FINAL_STATES, TrialRow, TrialState

__all__ = ["compute_line", "most_at_once", "speedup_line"]

_COMPUTED = frozenset({TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED})


def most_at_once(rows: Iterable[TrialRow], node: str) -> int:
    """How many of these trials ran on the node at the same time at most: as many slots as it had, where all worked."""
    ran = [row for row in rows if row.node == node and row.attempts]
    ran = [row for row in ran if row.started_at is not None and row.ended_at is not None]
    changes = sorted([*((row.started_at, 1) for row in ran), *((row.ended_at, -1) for row in ran)])
    return max(accumulate(change for _, change in changes), default=0)


def speedup_line(rows: Iterable[TrialRow], *, began: float, nodes: int, share_cores: bool = False) -> str:
    """`480 trials, 6 tabs, 6 min 10 s; this tab alone about 34 min (5.5x)`.

    `rows` are the trials that ended since the sweep was started at `began`, on `nodes` nodes (tabs), some of which may
    share cores. Alone, the head would have needed as long until the first trial began, and then the sum of what was
    computed over its slots, or the longest trial; trials lost with their node, and repeated configurations that were
    not computed, cost it nothing.
    """
    ended = [row for row in rows if row.state in FINAL_STATES]
    ran = [row for row in ended if row.attempts and row.state in _COMPUTED]
    repeats = sum(row.is_repeat for row in ended)
    wall_s = max((row.ended_at or 0.0 for row in ended), default=began) - began
    trials = counted(len(ended), "trial") + (f" ({counted(repeats, 'repeat')}, not run again)" if repeats else "")
    line = f"{trials}, {counted(nodes, 'tab')}, {duration_text(wall_s)}"
    head_slots = most_at_once(ran, "head")
    seconds = [row.duration_s or 0.0 for row in ran]
    if nodes < 2 or head_slots < 1 or wall_s <= 0 or not any(seconds):
        return line
    if share_cores:
        return f"{line}; the tabs share the cores of one machine, so how long one alone would take is not known"
    until_first_s = max(min(row.started_at or began for row in ran) - began, 0.0)
    alone_s = until_first_s + max(sum(seconds) / head_slots, *seconds)
    times = alone_s / wall_s
    return f"{line}; this tab alone about {_about(alone_s)} ({times:.{0 if times >= 9.95 else 1}f}x)"


def compute_line(arguments: Mapping[str, object], seed: int | None = None) -> str:
    """A line of Python to paste under MAIN: `compute(model="svc", dataset="iris", C=1.0)`, nested names as dicts.

    `arguments` is what a trial's `compute` was called with, see `ComputeSignature.arguments`; a trial that had a `seed`
    is given it again, so that the line gives the trial's very number.
    """
    by_name = {name: value for name, value in arguments.items() if _is_argument(name)}
    other = {name: value for name, value in arguments.items() if not _is_argument(name)}
    parts = [f"{name}={_literal(value)}" for name, value in by_name.items()]
    parts += [f"**{_literal(other)}"] if other else []
    again = "" if seed is None else f"import raycolab; raycolab.set_seed({seed}); "
    return f"{again}compute({', '.join(parts)})"


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
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    return repr(value)
