"""Rows of `raycolab.trials` as columns of a database, and back.

Nothing here reaches a database. What is written comes back equal, times to the microsecond. Three things a
database may refuse are made safe on the way: numbers that JSON has no word for (`{"float": "nan"}`, so that
`jsonb` and `json_extract` can read the text), a reported NaN (NULL), and characters no UTF-8 text column takes
in what a trial printed (NUL, lone surrogates: replaced by U+FFFD).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Row

from raycolab.text import utc_seconds, utc_text
from raycolab.trials import AttemptRow, ErrorKind, Scalar, SweepRow, SweepState, TrialRow, TrialState

__all__ = [
    "TRIAL_COLUMNS",
    "attempt_columns",
    "attempt_row",
    "reported_value",
    "scalars_from_texts",
    "scalars_to_text",
    "sweep_row",
    "trial_columns",
    "trial_rows",
]

TRIAL_COLUMNS = (
    *("number", "model", "dataset", "state", "config", "metrics", "node", "attempts", "started_at", "ended_at"),
    *("error_kind", "error", "traceback", "cell_index", "output", "same_as"),
)
"""The columns of `trials` that make a trial, in the order `trial_rows` takes them."""

_REFUSED = re.compile("[\0\ud800-\udfff]")
_STATES = {state.value: state for state in TrialState}
_KINDS: dict[str | None, ErrorKind | None] = {None: None, **{kind.value: kind for kind in ErrorKind}}
_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode  # json.dumps would make one per call


def scalars_to_text(values: Mapping[str, Scalar]) -> str:
    """A flat mapping of scalars as strict JSON, order kept, `{"float": "nan"}` for what is not finite."""
    try:
        return _encode(dict(values))
    except ValueError:  # a number is not finite: rare, so the common case pays nothing for it
        return _encode({name: _finite(value) for name, value in values.items()})


def _finite(value: Scalar) -> Scalar | dict[str, str]:
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(float(value))}
    return value


def scalars_from_texts(texts: Iterable[str]) -> list[dict[str, Scalar]]:
    """The mappings that `scalars_to_text` wrote; decoded as one, which is three times as fast and shares the names."""
    text = f"[{','.join(texts)}]"
    found: list[dict[str, Any]] = json.loads(text)
    if '{"float":' in text:
        for values in found:
            for name, value in values.items():
                if isinstance(value, dict):
                    values[name] = float(value["float"])
    return found


def reported_value(value: float) -> float | None:
    """A reported number as its column: NULL for NaN, which no two databases keep alike."""
    return None if math.isnan(value) else float(value)


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


def trial_rows(found: Sequence[Sequence[Any]]) -> list[TrialRow]:
    """The trials of rows that hold TRIAL_COLUMNS. By place, not by name: a sweep may have 100,000 of them."""
    configs = scalars_from_texts(row[4] or "{}" for row in found)
    metrics = scalars_from_texts(row[5] for row in found)
    return [_trial_row(values, measured, *row) for row, values, measured in zip(found, configs, metrics, strict=True)]


def _trial_row(  # what two of the columns were decoded to, then the columns in their order
    values: dict[str, Scalar],
    measured: dict[str, Scalar],
    number: int,
    model: str,
    dataset: str,
    state: str,
    config: str | None,
    _metrics: str,
    node: str | None,
    attempts: int,
    started_at: str | None,
    ended_at: str | None,
    error_kind: str | None,
    error: str | None,
    traceback: str | None,
    cell_index: int | None,
    output: str | None,
    same_as: int | None,
) -> TrialRow:
    return TrialRow(
        number,
        model,
        dataset,
        None if config is None else values,
        _STATES[state],
        measured,
        node,
        attempts,
        _seconds(started_at),
        _seconds(ended_at),
        _KINDS[error_kind],
        error,
        traceback,
        cell_index,
        output,
        same_as,
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


def attempt_row(row: Sequence[Any]) -> AttemptRow:
    """The attempt of one row of `attempts`: its trial's number, then the columns of `attempt_columns`."""
    trial, number, node, outcome, started_at, ended_at, reason = row
    return AttemptRow(trial, number, node, outcome, utc_seconds(started_at), _seconds(ended_at), reason)


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
