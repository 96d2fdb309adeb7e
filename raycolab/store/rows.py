"""Rows of `raycolab.trial` as columns of a database, and back.

Nothing here reaches a database. What is written comes back equal, times to the microsecond. Two things a
database may refuse are made safe on the way: numbers that JSON has no word for (`{"float": "nan"}`, so that
`jsonb` and `json_extract` can read the text), and characters no UTF-8 text column takes in what a trial
printed (NUL, lone surrogates: replaced by U+FFFD).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row

from raycolab.trial import AttemptRow, ErrorKind, Scalar, SweepRow, SweepState, TrialRow, TrialState
from raycolab.utc import utc_seconds, utc_text

__all__ = [
    "attempt_columns",
    "attempt_row",
    "scalars_from_text",
    "scalars_to_text",
    "sweep_row",
    "trial_columns",
    "trial_row",
]

_REFUSED = re.compile("[\0\ud800-\udfff]")


def scalars_to_text(values: Mapping[str, Scalar]) -> str:
    """A flat mapping of scalars as strict JSON, order kept, `{"float": "nan"}` for what is not finite."""
    try:
        return json.dumps(dict(values), allow_nan=False, separators=(",", ":"))
    except ValueError:  # a number is not finite: rare, so the common case pays nothing for it
        safe = {name: _finite(value) for name, value in values.items()}
        return json.dumps(safe, allow_nan=False, separators=(",", ":"))


def _finite(value: Scalar) -> Scalar | dict[str, str]:
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(float(value))}
    return value


def scalars_from_text(text: str) -> dict[str, Scalar]:
    """The mapping that `scalars_to_text` wrote."""
    values: dict[str, Any] = json.loads(text)
    if '{"float":' in text:
        for name, value in values.items():
            if isinstance(value, dict):
                values[name] = float(value["float"])
    return values


def _time_text(seconds: float | None) -> str | None:
    return None if seconds is None else utc_text(seconds)


def _seconds(text: str | None) -> float | None:
    return None if text is None else utc_seconds(text)


def _printable(text: str | None) -> str | None:
    return None if text is None else _REFUSED.sub("\ufffd", text)


def trial_columns(trial: TrialRow) -> dict[str, Any]:
    """A trial's columns, without the keys `id` and `sweep_id`."""
    return {
        "number": trial.number,
        "model": trial.model,
        "dataset": trial.dataset,
        "state": trial.state.value,
        "config": None if trial.config is None else scalars_to_text(trial.config),
        "metrics": scalars_to_text(trial.metrics),
        "node": trial.node,
        "attempts": trial.attempts,
        "started_at": _time_text(trial.started_at),
        "ended_at": _time_text(trial.ended_at),
        "error_kind": None if trial.error_kind is None else trial.error_kind.value,
        "error": _printable(trial.error),
        "traceback": _printable(trial.traceback),
        "cell_index": trial.cell_index,
        "output": _printable(trial.output),
        "same_as": trial.same_as,
    }


def trial_row(row: Row[Any]) -> TrialRow:
    """The trial of one row of the `trials` table."""
    return TrialRow(
        number=row.number,
        model=row.model,
        dataset=row.dataset,
        config=None if row.config is None else scalars_from_text(row.config),
        state=TrialState(row.state),
        metrics=scalars_from_text(row.metrics),
        node=row.node,
        attempts=row.attempts,
        started_at=_seconds(row.started_at),
        ended_at=_seconds(row.ended_at),
        error_kind=None if row.error_kind is None else ErrorKind(row.error_kind),
        error=row.error,
        traceback=row.traceback,
        cell_index=row.cell_index,
        output=row.output,
        same_as=row.same_as,
    )


def attempt_columns(attempt: AttemptRow) -> dict[str, Any]:
    """An attempt's columns, without the keys `id` and `trial_id`."""
    return {
        "number": attempt.number,
        "node": attempt.node,
        "outcome": attempt.outcome,
        "started_at": _time_text(attempt.started_at),
        "ended_at": _time_text(attempt.ended_at),
        "reason": _printable(attempt.reason),
    }


def attempt_row(row: Row[Any]) -> AttemptRow:
    """The attempt of one row of `attempts` joined with its trial's number as `trial`."""
    return AttemptRow(
        trial=row.trial,
        number=row.number,
        node=row.node,
        outcome=row.outcome,
        started_at=utc_seconds(row.started_at),
        ended_at=_seconds(row.ended_at),
        reason=row.reason,
    )


def sweep_row(row: Row[Any]) -> SweepRow:
    """The sweep of one row of the `sweeps` table."""
    return SweepRow(
        id=row.id,
        name=row.name,
        state=SweepState(row.state),
        spec=row.spec,
        main=row.main,
        spec_fingerprint=row.spec_fingerprint,
        code_fingerprint=row.code_fingerprint,
        created_at=utc_seconds(row.created_at),
        versions=json.loads(row.versions),
    )
