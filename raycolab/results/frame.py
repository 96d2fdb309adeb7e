"""Trials as columns: the table of results, first as plain lists, then as a pandas data frame.

Built column by column, so 100,000 trials take about a second. The plain lists also feed the JSON form, which needs no
pandas types. Metric and configuration columns get the narrowest type that holds their values and "absent": Int64,
float64, boolean, string, and object where kinds are mixed (`max_features` of "sqrt" or 0.5).
"""

from __future__ import annotations

import math
import re
import weakref
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from raycolab.text import value_text
from raycolab.trials import Metric, Scalar, TrialRow, TrialState

__all__ = ["TIME_COLUMNS", "Columns", "frame", "metric_columns", "on_one_line", "row_dict", "times", "trial_columns"]

Columns = dict[str, list[Any]]
"""A column's values by its name; times are seconds since the epoch, absent is None."""

TIME_COLUMNS = ("datetime_start", "datetime_complete")
_TEXT_COLUMNS = ("trial_id", "model", "dataset", "state", "node", "error_kind", "error")
_INT_COLUMNS = ("number", "attempts")
_WHOLE_COLUMNS = ("same_as", "seed", "main_version")
_FIXED = {*_INT_COLUMNS, "duration_s", *_WHOLE_COLUMNS, *TIME_COLUMNS, *_TEXT_COLUMNS}

_ONE_LINE = "<style>.raycolab-rows{overflow-x:auto}.raycolab-rows :is(th,td){white-space:nowrap!important}</style>"

_SURROGATES = re.compile("[\ud800-\udfff]")


def trial_columns(rows: Sequence[TrialRow], name: str, metric: Metric) -> Columns:
    """The contract's columns in its order; `trial_id` is name and number, `sample_experiment-12`.

    The sweep's metric comes first of the metrics. A metric named like another column is found as `metric/<name>`.
    `same_as` is the number of the trial whose result a repeated configuration has.
    """
    names = metric_columns(dict.fromkeys([metric.name, *_names(row.metrics for row in rows)]))
    metrics = {column: [_within_float(row.metrics.get(name)) for row in rows] for name, column in names.items()}
    configs = {
        _encodable(f"config/{key}"): [row.config.get(key) if row.config else None for row in rows]
        for key in _names(row.config for row in rows if row.config)
    }
    columns: Columns = {
        "number": [row.number for row in rows],
        "trial_id": [f"{name}-{row.number}" for row in rows],
        "model": [row.model for row in rows],
        "dataset": [row.dataset for row in rows],
        "state": [row.state.value for row in rows],
        **metrics,
        **configs,
        "node": [row.node for row in rows],
        "attempts": [row.attempts for row in rows],
        "datetime_start": [row.started_at for row in rows],
        "datetime_complete": [row.ended_at for row in rows],
        "duration_s": [row.duration_s for row in rows],
        "error_kind": [None if row.error_kind is None else row.error_kind.value for row in rows],
        "error": [row.error or _mark(row, metric) for row in rows],
        "same_as": [row.same_as for row in rows],
        "seed": [row.seed for row in rows],
        "main_version": [row.main_version for row in rows],
    }
    return {column: _all_encodable(values) for column, values in columns.items()}


def row_dict(row: TrialRow, name: str, metric: Metric) -> dict[str, Any]:
    """One trial with the data frame's names; parameters that its model does not have are left out, times are UTC."""
    values = {column: found[0] for column, found in trial_columns([row], name, metric).items()}
    times_of = {column: values[column] for column in TIME_COLUMNS if values[column] is not None}
    return values | {column: datetime.fromtimestamp(at, UTC) for column, at in times_of.items()}


def metric_columns(names: Iterable[str]) -> dict[str, str]:
    """The column of each metric: its name, behind `metric/` where another column has that name."""
    columns: dict[str, str] = {}
    # Those that can keep their names take them first, whichever a trial happened to return first.
    for name in sorted(names, key=_is_taken):
        column = _encodable(name)
        while _is_taken(column) or column in columns.values():
            column = f"metric/{column}"
        columns[name] = column
    return {name: columns[name] for name in names}


def frame(columns: Columns) -> pd.DataFrame:
    """A data frame of what `trial_columns` gave, one row per trial; a list or dict is its JSON, to be grouped by."""
    typed = {name: _typed(name, _hashable(name, values)) for name, values in columns.items()}
    return pd.DataFrame(typed, columns=list(columns))


def _hashable(name: str, values: list[Any]) -> list[Any]:
    if not name.startswith("config/"):
        return values
    return [value_text(value) if isinstance(value, list | dict) else value for value in values]


def on_one_line(data: pd.DataFrame) -> pd.DataFrame:
    """The same data frame, whose rows a notebook's page does not break at every hyphen of a name.

    It stays pandas' own class, for tests and files compare that; what is made of it is shown as pandas does.
    """
    itself = weakref.ref(data)  # the frame holds the function

    def shown() -> str | None:
        alive = itself()
        table = None if alive is None else pd.DataFrame._repr_html_(alive)  # type: ignore[attr-defined]  # its stubs
        return None if table is None else f'<div class="raycolab-rows">{_ONE_LINE}{table}</div>'

    vars(data)["_repr_html_"] = shown
    return data


def times(seconds: Sequence[float | None]) -> pd.DatetimeIndex:
    """Seconds since the epoch as datetime64[us, UTC], None as NaT."""
    absent = np.iinfo(np.int64).min  # how numpy writes NaT
    micros = np.array([absent if value is None else round(value * 1e6) for value in seconds], dtype=np.int64)
    return pd.DatetimeIndex(micros.view("datetime64[us]")).tz_localize("UTC")


def _is_taken(column: str) -> bool:
    return column in _FIXED or column.startswith("config/")


def _names(mappings: Iterable[Iterable[str]]) -> dict[str, None]:
    """The union of keys, in the order in which they are first met."""
    names: dict[str, None] = {}
    for mapping in mappings:
        names.update(dict.fromkeys(mapping))
    return names


def _within_float(value: Scalar) -> Scalar:
    """The value of a metric; infinite where no float can hold it, as it is everywhere else."""
    if isinstance(value, int):
        try:
            float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    return value


def _mark(row: TrialRow, metric: Metric) -> str | None:
    """What marks a COMPLETE trial that can never be best."""
    value = row.metrics.get(metric.name)
    if row.state is TrialState.COMPLETE and isinstance(value, (int, float)):
        number = metric.value_of(row)
        return None if math.isfinite(number) else f"{metric.name} is {number}: complete, but never best"
    return None


def _all_encodable(values: list[Any]) -> list[Any]:
    """The column without lone surrogates, which neither a data frame nor a file takes; almost always as it is."""
    if all(not isinstance(value, str) or value.isascii() for value in values):
        return values
    return [_encodable(value) if isinstance(value, str) else value for value in values]


def _encodable(text: str) -> str:
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


def _typed(name: str, values: list[Any]) -> Any:
    if name in TIME_COLUMNS:
        return times(values)
    if name in _INT_COLUMNS:
        return np.array(values, dtype=np.int64)
    if name in _WHOLE_COLUMNS:
        return pd.array(values, dtype="Int64")
    if name in _TEXT_COLUMNS:
        return pd.array(values, dtype="string")
    return _narrowest(values)


def _narrowest(values: list[Any]) -> Any:
    kinds = {type(value) for value in values if value is not None}
    try:
        if kinds == {int}:
            return pd.array(values, dtype="Int64")
        if kinds <= {int, float}:
            return np.array([math.nan if value is None else value for value in values], dtype=np.float64)
    except OverflowError:  # an integer of more than 64 bits, or past the largest float
        return pd.Series(values, dtype=object)
    if kinds == {bool}:
        return pd.array(values, dtype="boolean")
    if kinds == {str}:
        return pd.array(values, dtype="string")
    return pd.Series(values, dtype=object)
