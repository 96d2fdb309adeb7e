"""What `status --json` says of six nodes at work on a sweep of 720 trials, made up but whole, for panels to show.

The sweep's object comes from the code that tells it, out of rows like those a store has.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

from raycolab.summary import SweepStatus, Tally
from raycolab.trials import ErrorKind, Metric, SweepState, TrialRow, TrialState

__all__ = ["ADDRESS", "DATASETS", "MODELS", "head_status", "nodes", "rows", "sweep"]

MODELS = ("svc", "forest", "logistic", "knn")
DATASETS = ("iris", "wine", "digits")
JOBS_PER_PAIR = 60
ADDRESS = "tunnel+wss://quick-fox-42.ngrok-free.dev/#pin.AbCdEfGhIjKlMnOpQrStUvWxYz0123456789.SeCrEt_0123456789-abcdef"
NODES = ("head", "joiner-1", "joiner-2", "joiner-3", "joiner-4", "joiner-5")
_LEVEL = {"svc": 0.95, "forest": 0.93, "logistic": 0.91, "knn": 0.88, "iris": 0.0, "wine": 0.03, "digits": -0.06}


def rows(done: int, *, failing: int = 0, running: int = 6) -> list[TrialRow]:
    """720 trials of which `done` have ended, `failing` of them of two causes, and some are running."""
    chance = random.Random(1)
    pairs = [(model, data) for model in MODELS for data in DATASETS]
    made = [TrialRow(at, *pairs[at % len(pairs)], {"C": 1.0}) for at in range(len(pairs) * JOBS_PER_PAIR)]
    found = []
    for row in made:
        value = min(_LEVEL[row.model] + _LEVEL[row.dataset] + chance.gauss(0, 0.02), 1.0)
        ended = replace(
            row, node=chance.choices(NODES, (2, 2, 2, 2, 2, 1))[0], attempts=1, started_at=0.0, ended_at=3.0
        )
        if row.number < failing:
            found.append(_failed(ended))
        elif row.number < done:
            found.append(replace(ended, state=TrialState.COMPLETE, metrics={"accuracy": value}))
        elif row.number < done + running:
            found.append(replace(ended, state=TrialState.RUNNING, ended_at=None))
        else:
            found.append(row)
    return found


def _failed(row: TrialRow) -> TrialRow:
    if row.number % 3:
        place, error, cell = "cell 7, line 12, in compute", "ValueError: C must be positive, got <-1.0>", 7
    else:
        place, error, cell = "cell 5, line 3, in load", "FileNotFoundError: /content/drive/MyDrive/wine & cheese.csv", 5
    return replace(
        row,
        state=TrialState.FAILED,
        error_kind=ErrorKind.EXCEPTION,
        error=f"{error} (cell {cell})",
        traceback=f"  {place}\n{error}",
        cell_index=cell,
    )


def sweep(
    found: list[TrialRow] | None = None, state: SweepState = SweepState.RUNNING, **changes: Any
) -> dict[str, Any]:
    """The sweep's object; `changes` are of `SweepStatus.of`."""
    metric = Metric("accuracy")
    tally = Tally(metric)
    found = rows(412, failing=9) if found is None else found
    complete = [row for row in found if row.state is TrialState.COMPLETE]
    for row in found:
        tally.moved(None, row)
    best = max(complete, key=lambda row: float(row.metrics["accuracy"] or 0), default=None)
    changes = {"eta_s": 371.0 if state is SweepState.RUNNING else None, **changes}
    counts = Counter(row.state for row in found)
    return SweepStatus.of("sample_experiment", state, counts, metric, best, tally=tally, **changes).to_json()


def nodes(*, stalled: bool = False) -> list[dict[str, Any]]:
    """Six nodes; with `stalled` the link of one is down, and another cannot be reached on a port."""
    found = []
    for at, name in enumerate(NODES):
        found.append(
            {
                "name": name,
                "state": "up",
                "cpus": 2,
                "gpus": 0,
                "trial": f"#{400 + 3 * at} {MODELS[at % 4]} x {DATASETS[at % 3]}",
                "rtt_ms": 0.0 if at == 0 else 48.5 + 17 * at,
                "bytes_sent": 0 if at == 0 else 3_400_000 * at,
                "bytes_received": 0 if at == 0 else 1_250_000 * at,
                "control_sent": 0,
                "control_received": 0,
                "warning": None,
            }
        )
    if stalled:
        found[3] |= {"state": "away", "rtt_ms": None}
        found[5] |= {"state": "unreachable", "warning": "head cannot reach its object manager (127.77.0.6:20201)."}
    return found


def head_status(*, used_up: bool = False, **changes: Any) -> dict[str, Any]:
    """What `status` answers; with `used_up` the month's allowance is."""
    month = 1_020_000_000 if used_up else 312_000_000
    warning = (
        "1.0 GB of the 1.0 GB that ngrok's free plan has a month are used up (2026-11): on that plan joiners may be"
    )
    traffic = {
        "bytes": 69_800_000,
        "control_bytes": 2_100_000,
        "provider": "ngrok",
        "month": "2026-11",
        "month_bytes": month,
        "limit_bytes": 1_000_000_000,
        "warning": f"{warning} cut off any time, until the next month." if used_up else None,
    }
    snapshots = {
        "folder": "/content/drive/MyDrive/raycolab",
        "number": 12,
        "age_s": 24.0,
        "up_to_date": False,
        "error": None,
    }
    return {"nodes": nodes(), "sweeps": [], "traffic": traffic, "snapshots": snapshots, **changes}
