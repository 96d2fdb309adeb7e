"""What a check found, and all of them together. Nothing is looked at here."""

from __future__ import annotations

import enum
import html
from dataclasses import dataclass
from typing import Any

__all__ = ["Check", "Diagnosis", "Finding", "Verdict", "bad", "good", "note"]


class Verdict(enum.Enum):
    """What a finding means for a person; the value is its mark."""

    GOOD = "✓"
    NOTE = "!"  # works, and is worth knowing
    BAD = "✗"  # will fail


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict and its sentence: what was found, and the cure where there is something to cure."""

    verdict: Verdict
    message: str


def good(message: str) -> Finding:
    """Nothing to do."""
    return Finding(Verdict.GOOD, message)


def note(message: str) -> Finding:
    """Nothing fails, and a person should know."""
    return Finding(Verdict.NOTE, message)


def bad(message: str) -> Finding:
    """Something will fail."""
    return Finding(Verdict.BAD, message)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    verdict: Verdict
    message: str

    @property
    def ok(self) -> bool:
        """Whether nothing will fail because of it."""
        return self.verdict is not Verdict.BAD


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Every check, in the order a person reads them."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing will fail."""
        return all(check.ok for check in self.checks)

    @property
    def summary(self) -> str:
        """`18 checks: nothing will fail.`, or the names of those that will."""
        failing = [check.name for check in self.checks if not check.ok]
        end = f"these will fail: {', '.join(failing)}" if failing else "nothing will fail"
        return f"{len(self.checks)} checks: {end}."

    def to_json(self) -> dict[str, Any]:
        """`{"ok": bool, "checks": [{"name", "ok", "message"}]}`."""
        checks = [{"name": check.name, "ok": check.ok, "message": check.message} for check in self.checks]
        return {"ok": self.ok, "checks": checks}

    def __repr__(self) -> str:
        width = max((len(check.name) for check in self.checks), default=0)
        lines = [f"{check.verdict.value} {check.name.ljust(width)}  {check.message}" for check in self.checks]
        return "\n".join([*lines, self.summary])

    def _repr_html_(self) -> str:
        cell = "<td style='text-align:left;vertical-align:top;overflow-wrap:anywhere'>{}</td>"
        rows = (
            "".join(cell.format(html.escape(text)) for text in (check.verdict.value, check.name, check.message))
            for check in self.checks
        )
        table = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<table>{table}</table><p>{html.escape(self.summary)}</p>"
