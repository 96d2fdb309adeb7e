"""Rows of `raycolab.trials` in the tables: how each field is written, how it is read, and how rows get there.

What is written comes back equal, times to the microsecond. Three things that a database may refuse are made safe on
the way: numbers that JSON has no word for (`{"float": "nan"}`, so that `jsonb` and `json_extract` can read the text), a
reported NaN (NULL), and characters that no UTF-8 text column takes in what a trial printed (NUL and lone surrogates,
replaced by U+FFFD). Transactions are the caller's.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from operator import attrgetter
from types import NoneType
from typing import Any, Generic, TypeVar

import msgspec
from sqlalchemy import Connection, Select, Table, bindparam, delete, insert, select, update

from raycolab.errors import RaycolabError
from raycolab.store import tables
from raycolab.store.failures import DamagedRowError
from raycolab.text import utc_seconds, utc_text
from raycolab.trials import (
    AttemptRow,
    ErrorKind,
    ReportRow,
    SetupFailure,
    SweepRow,
    SweepState,
    TrialRow,
    TrialState,
    Value,
)

__all__ = [
    "ATTEMPTS",
    "REPORTS",
    "SWEEPS",
    "TRIALS",
    "Shape",
    "put_of_trials",
    "put_trials",
    "values_from_texts",
    "values_to_text",
]

R = TypeVar("R", SweepRow, TrialRow, AttemptRow, ReportRow)

_AT_ONCE = 500  # numbers in one IN (...): SQLite before 3.32 takes at most 999 parameters
_REFUSED = re.compile("[\0\ud800-\udfff]")
_MARK = '{"float":'  # how a number that is not finite begins
_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode  # json.dumps would make one per call


# --- fields ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Codec:
    """How a field is written, and how a whole column of it is read; None is NULL, unless `decode` says otherwise."""

    encode: Callable[[Any], Any]
    decode: Callable[[Sequence[Any]], Sequence[Any]]


def _each(decode: Callable[[Any], Any]) -> Callable[[Sequence[Any]], list[Any]]:
    return lambda column: [None if value is None else decode(value) for value in column]


def values_to_text(values: Mapping[str, Value]) -> str:
    """A flat mapping of JSON values as strict JSON, order kept, `{"float": "nan"}` for what is not finite."""
    if not values:  # the metrics of every trial that has not ended
        return "{}"
    try:
        text = _encode(dict(values))
    except ValueError:  # a number is not finite: rare, so the common case pays nothing for it
        text = _MARK
    return _encode({name: _marked(value) for name, value in values.items()}) if _MARK in text else text


def _marked(value: Any) -> Any:
    """The value with what JSON has no word for as text in a mapping, and a mapping that looks like one put into one."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(float(value))}
    if isinstance(value, dict):
        inner = {name: _marked(each) for name, each in value.items()}
        return {"float": inner} if value.keys() == {"float"} else inner
    return [_marked(each) for each in value] if isinstance(value, list) else value


def _unmarked(value: Any) -> Any:
    if isinstance(value, dict):
        inner = value["float"] if value.keys() == {"float"} else None
        if inner is None or isinstance(inner, str):
            return {name: _unmarked(each) for name, each in value.items()} if inner is None else float(inner)
        return {"float": _unmarked(inner["float"])}
    return [_unmarked(each) for each in value] if isinstance(value, list) else value


def values_from_texts(texts: Iterable[str | None]) -> list[dict[str, Any] | None]:
    """The mappings that `values_to_text` wrote, None for None; decoded as one, three times as fast as one by one.

    ValueError where a text is not such a mapping.
    """
    given = list(texts)
    text = f"[{','.join('null' if each is None else each for each in given)}]"
    found: list[Any] = json.loads(text)
    if [type(values) is dict for values in found] != [each is not None for each in given]:
        raise ValueError("a text is not one mapping")
    if _MARK in text:
        for values in filter(None, found):
            values.update({name: _unmarked(value) for name, value in values.items() if isinstance(value, dict | list)})
    return found


_VALUES = _Codec(values_to_text, values_from_texts)
_TIME = _Codec(utc_text, _each(utc_seconds))
_PRINTED = _Codec(partial(_REFUSED.sub, "\ufffd"), list)
_REPORTED = _Codec(
    lambda value: None if math.isnan(value) else float(value),  # no two databases keep NaN alike
    lambda column: [math.nan if value is None else value + 0.0 for value in column],
)


def _counts(column: Sequence[int]) -> Sequence[int]:
    if min(column) < 0:
        raise ValueError("a count below 0")
    return column


def _versions(text: str) -> dict[str, str]:
    found: dict[str, str] = msgspec.json.decode(text, type=dict[str, str])
    return found


_COUNT = _Codec(int, _counts)
# SQLite keeps what it is given in any column: what a field without more sense than its type may hold.
_TYPES: Mapping[str, frozenset[type]] = {
    "int": frozenset({int}),
    "int | None": frozenset({int, NoneType}),
    "str": frozenset({str}),
    "str | None": frozenset({str, NoneType}),
}


# --- rows ------------------------------------------------------------------------------------------------------------


class Shape(Generic[R]):
    """How one kind of row lies in its table: a column for each field, by the field's name.

    Rows are written and read column by column, not row by row: a sweep may have 100,000 trials.
    `trial` stands for the number of the trial that the row belongs to, which has a table of its own.
    """

    def __init__(
        self, make: type[R], table: Table, called: Callable[[Sequence[Any]], str], codecs: Mapping[str, _Codec]
    ) -> None:
        """`called` names a row by its columns, in a sentence; fields without a codec are kept as they are.

        What is read is of its field's type.
        """
        self.table = table
        self.called = called
        self._make: type[R] = make
        self._names = tuple(field.name for field in fields(make))
        self._values: Callable[[R], tuple[Any, ...]] = attrgetter(*self._names)
        self._codecs = codecs
        self._places = [(self._names.index(name), codec) for name, codec in codecs.items()]
        types = [(place, _TYPES.get(str(field.type))) for place, field in enumerate(fields(make))]
        self._types = [(place, allowed) for place, allowed in types if allowed is not None]

    def select(self) -> Select[Any]:
        """Every row of the table, as `rows` takes them."""
        here, trials = self.table.c, tables.trials
        if "trial" not in self._names:
            return select(*(here[name] for name in self._names))
        columns = (trials.c.number if name == "trial" else here[name] for name in self._names)
        return select(*columns).join(trials, here.trial_id == trials.c.id)

    def encode(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Some fields by name, none of them None, as columns."""
        codecs = self._codecs
        return {name: codecs[name].encode(value) if name in codecs else value for name, value in fields.items()}

    def columns(self, rows: Collection[R]) -> list[dict[str, Any]]:
        """The columns of each row, by name."""
        if not rows:
            return []
        columns: list[Sequence[Any]] = list(zip(*map(self._values, rows), strict=True))
        for place, codec in self._places:
            encode = codec.encode
            columns[place] = [None if value is None else encode(value) for value in columns[place]]
        return [dict(zip(self._names, values, strict=True)) for values in zip(*columns, strict=True)]

    def rows(self, found: Sequence[Sequence[Any]], where: str) -> list[R]:
        """The rows whose columns these are, as `select` finds them; DamagedRowError names one that cannot be read."""
        if not found:
            return []
        columns: list[Sequence[Any]] = list(zip(*found, strict=True))
        place = 0
        try:
            for place, allowed in self._types:  # it is named below
                if not allowed.issuperset(map(type, columns[place])):
                    raise TypeError("of another type")
            for place, codec in self._places:
                columns[place] = codec.decode(columns[place])
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            for row in found if len(found) > 1 else ():  # read alone, the damaged one raises
                self.rows([row], where)
            raise DamagedRowError(
                f"{self.called(found[0])} of {where} is damaged: its {self._names[place]} is "
                f"{str(found[0][place])[:80]!r}. Correct it there, delete the sweep, or go on from a copy of the "
                "database."
            ) from error
        return list(map(self._make, *columns))


def _enumeration(kind: type[TrialState] | type[SweepState] | type[ErrorKind]) -> _Codec:
    return _Codec(str, _each({member.value: member for member in kind}.__getitem__))


SWEEPS = Shape(
    SweepRow,
    tables.sweeps,
    lambda row: f"the row {row[1]!r}",
    {
        "state": _enumeration(SweepState),
        "created_at": _TIME,
        "versions": _Codec(lambda found: _encode(dict(found)), _each(_versions)),
        "setup_failures": _Codec(
            lambda found: _REFUSED.sub("\ufffd", json.dumps(msgspec.to_builtins(found), ensure_ascii=False)),
            _each(lambda text: msgspec.convert(json.loads(text), tuple[SetupFailure, ...])),
        ),
    },
)
TRIALS = Shape(
    TrialRow,
    tables.trials,
    lambda row: f"trial {row[0]}",
    {
        "number": _COUNT,
        "attempts": _COUNT,
        "config": _VALUES,
        "state": _enumeration(TrialState),
        "metrics": _VALUES,
        "started_at": _TIME,
        "ended_at": _TIME,
        "error_kind": _enumeration(ErrorKind),
        **dict.fromkeys(("error", "traceback", "output"), _PRINTED),
    },
)
ATTEMPTS = Shape(
    AttemptRow,
    tables.attempts,
    lambda row: f"attempt {row[1]} at trial {row[0]}",
    {"started_at": _TIME, "ended_at": _TIME, "reason": _PRINTED},
)
REPORTS = Shape(ReportRow, tables.reports, lambda row: f"a report of trial {row[0]}", {"value": _REPORTED})


# --- into their tables -----------------------------------------------------------------------------------------------


def put_trials(connection: Connection, sweep_id: int, trials: Sequence[TrialRow]) -> None:
    """Write trials; of two rows of one number the later stands. One that starts again has reported nothing yet."""
    wanted = {trial.number: trial for trial in trials}
    ids = _trial_ids(connection, sweep_id, wanted)
    old, new = [], []
    for number, columns in zip(wanted, TRIALS.columns(wanted.values()), strict=True):
        if number in ids:
            columns["row_id"] = ids[number]
            old.append(columns)
        else:
            columns["sweep_id"] = sweep_id
            new.append(columns)
    _put(connection, tables.trials, old, new)
    again = sorted(ids[n] for n, trial in wanted.items() if n in ids and _starts_again(trial))
    for some in _chunks(again):
        connection.execute(delete(tables.reports).where(tables.reports.c.trial_id.in_(some)))


def _starts_again(trial: TrialRow) -> bool:
    return trial.state is TrialState.PENDING or (trial.state is TrialState.RUNNING and trial.attempts > 1)


def put_of_trials(connection: Connection, sweep_id: int, shape: Shape[R], key: str, rows: Sequence[R]) -> None:
    """Write attempts at trials that are there, or reports of them: one for each trial and value of the field `key`."""
    table = shape.table
    wanted = {(columns.pop("trial"), columns[key]): columns for columns in shape.columns(rows)}
    ids = _trial_ids(connection, sweep_id, {trial for trial, _ in wanted})
    if missing := sorted(place for place in wanted if place[0] not in ids):
        raise RaycolabError(f"{shape.called(missing[0])} cannot be stored: the sweep has no such trial.")
    statement = select(table.c.id, table.c.trial_id, table.c[key])
    present = {
        (trial_id, number): row_id
        for some in _chunks(sorted(ids.values()))
        for row_id, trial_id, number in connection.execute(statement.where(table.c.trial_id.in_(some)))
    }
    old, new = [], []
    for (trial, number), columns in wanted.items():
        if (row_id := present.get((ids[trial], number))) is not None:
            columns["row_id"] = row_id
            old.append(columns)
        else:
            columns["trial_id"] = ids[trial]
            new.append(columns)
    _put(connection, table, old, new)


def _put(connection: Connection, table: Table, old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]) -> None:
    """Update `old` rows by their "row_id" and insert `new` ones, each with one executemany."""
    if old:
        connection.execute(update(table).where(table.c.id == bindparam("row_id")), old)
    if new:
        connection.execute(insert(table), new)


def _trial_ids(connection: Connection, sweep_id: int, numbers: Iterable[int]) -> dict[int, int]:
    """The id of each trial number that is in the database."""
    table = tables.trials.c
    statement = select(table.number, table.id).where(table.sweep_id == sweep_id)
    return {
        number: row_id
        for some in _chunks(sorted(numbers))
        for number, row_id in connection.execute(statement.where(table.number.in_(some)))
    }


def _chunks(values: Sequence[int]) -> Iterator[Sequence[int]]:
    return (values[start : start + _AT_ONCE] for start in range(0, len(values), _AT_ONCE))
