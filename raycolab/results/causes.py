"""Failures grouped by cause: "9 trials, one cause: ValueError at cell 7 line 12: C is negative".

One cause is one kind of error with one exception name at one line of one cell; what the message says may
differ from trial to trial (it often quotes the configuration) and does not split it. LOST trials count:
their cause is the infrastructure's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from raycolab.trial import TrialRow, TrialState

__all__ = ["Cause", "causes"]

_LONGEST_MESSAGE = 160  # characters

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
    def headline(self) -> str:
        """`9 trials, one cause: ValueError at cell 7 line 12: C is negative`."""
        text = f"{self.text}: {self.message}" if self.message else self.text
        return f"1 trial: {text}" if self.count == 1 else f"{self.count} trials, one cause: {text}"


def causes(rows: Iterable[TrialRow]) -> list[Cause]:
    """The causes of the FAILED and LOST trials of `rows`, the most frequent first."""
    groups: dict[tuple[object, ...], list[TrialRow]] = {}
    for row in rows:
        if row.state in (TrialState.FAILED, TrialState.LOST):
            groups.setdefault((row.error_kind, _ename(row), row.cell_index, _line(row)), []).append(row)
    found = [Cause(len(same), _ename(same[0]), _line(same[0]), same[0]) for same in groups.values()]
    return sorted(found, key=lambda cause: (-cause.count, cause.example.number))


def _ename(row: TrialRow) -> str:
    # `Failure.summary` writes "ename: evalue (cell n)"; an ename has no blank, a sentence of ours has.
    head = (row.error or "").split(":", 1)[0].split(" (cell", 1)[0].strip()
    if head and " " not in head:
        return head
    return row.error_kind.value if row.error_kind else row.state.value


def _line(row: TrialRow) -> int | None:
    lines = [line for cell, line in _PLACE.findall(row.traceback or "") if int(cell) == row.cell_index]
    return int(lines[-1]) if lines else None
