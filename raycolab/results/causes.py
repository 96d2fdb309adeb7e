"""Failures grouped by cause: "9 trials, one cause: ValueError at cell 7 line 12: C is negative".

One cause is one kind of error with one exception name at one line of one cell; what the message says may
differ from trial to trial (it often quotes the configuration) and does not split it. LOST trials count:
their cause is the infrastructure's.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from raycolab.trial import ErrorKind, TrialRow, TrialState

__all__ = ["Cause", "Causes", "causes"]

_LONGEST_MESSAGE = 160  # characters

_Key = tuple[ErrorKind | None, str, int | None, int | None]  # kind, ename, cell, line

_PLACE = re.compile(r"^\s*cell (\d+), line (\d+)", re.MULTILINE)
"""A frame of MAIN as `cell_traceback` writes it; of the failing cell's the last one is where it failed."""


@dataclass(frozen=True, slots=True)
class Cause:
    """What several trials failed of, with the first of them as the example."""

    count: int
    ename: str  # ValueError; the error kind where there was no exception
    line: int | None  # in its cell, from 1
    example: TrialRow

    @property
    def text(self) -> str:
        """`ValueError at cell 7 line 12`."""
        if self.example.cell_index is None:
            return self.ename
        place = f"{self.ename} at cell {self.example.cell_index}"
        return place if self.line is None else f"{place} line {self.line}"

    @property
    def message(self) -> str:
        """What the example's error said, on one line and shortened; "" where it said nothing."""
        said = (self.example.error or "").removesuffix(f" (cell {self.example.cell_index})")
        said = "" if said == self.ename else " ".join(said.removeprefix(f"{self.ename}: ").split())
        return said if len(said) <= _LONGEST_MESSAGE else f"{said[: _LONGEST_MESSAGE - 2]} …"

    @property
    def told(self) -> str:
        """`ValueError at cell 7 line 12: C is negative`."""
        return f"{self.text}: {self.message}" if self.message else self.text

    @property
    def headline(self) -> str:
        """`9 trials, one cause: ValueError at cell 7 line 12: C is negative`."""
        return f"1 trial: {self.told}" if self.count == 1 else f"{self.count} trials, one cause: {self.told}"


class Causes:
    """How many trials failed of what, kept up as trials end and are tried again."""

    def __init__(self) -> None:
        self._counts: Counter[_Key] = Counter()
        self._examples: dict[_Key, TrialRow] = {}

    def add(self, row: TrialRow) -> None:
        """The trial has ended; only FAILED and LOST ones count."""
        if row.state in (TrialState.FAILED, TrialState.LOST):
            key = _key(row)
            self._counts[key] += 1
            self._examples.setdefault(key, row)

    def remove(self, row: TrialRow) -> None:
        """The trial, as it was when it was added, is to run again. An example stays for what is left of its cause."""
        if row.state in (TrialState.FAILED, TrialState.LOST):
            key = _key(row)
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key], self._examples[key]

    def found(self) -> list[Cause]:
        """The causes, the most frequent first."""
        found = [Cause(self._counts[key], key[1], key[3], row) for key, row in self._examples.items()]
        return sorted(found, key=lambda cause: (-cause.count, cause.example.number))


def causes(rows: Iterable[TrialRow]) -> list[Cause]:
    """The causes of the FAILED and LOST trials of `rows`, the most frequent first."""
    grouped = Causes()
    for row in rows:
        grouped.add(row)
    return grouped.found()


def _key(row: TrialRow) -> _Key:
    return row.error_kind, _ename(row), row.cell_index, _line(row)


def _ename(row: TrialRow) -> str:
    # `Failure.summary` writes "ename: evalue (cell n)"; an ename has no blank, a sentence of ours has.
    head = (row.error or "").split(":", 1)[0].split(" (cell", 1)[0].strip()
    if head and " " not in head:
        return head
    return row.error_kind.value if row.error_kind else row.state.value


def _line(row: TrialRow) -> int | None:
    lines = [line for cell, line in _PLACE.findall(row.traceback or "") if int(cell) == row.cell_index]
    return int(lines[-1]) if lines else None
