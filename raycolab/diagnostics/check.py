"""What a check found, all findings together, and how checks run: side by side, each within a time of its own.

A check that fails or hangs is a failed check and no error. What is looked at is in the other modules.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any

from raycolab.errors import RaycolabError

__all__ = ["LIMIT_S", "Check", "Diagnosis", "Finding", "Look", "Verdict", "bad", "examine", "good", "note"]

LIMIT_S = 8.0  # for each check, and as they run side by side for all of them


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


Look = Callable[[], Finding]
"""Looks at one thing."""


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
        """`7 checks: nothing will fail.`, or the names of those that will."""
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
        from raycolab.view.pages import render

        return render("doctor.html.j2", diagnosis=self)


def examine(checks: Mapping[str, Look], *, limit_s: float = LIMIT_S) -> Diagnosis:
    """Run the checks and give what they found, in their order; it takes `limit_s` at most."""
    begun = {name: _begin(name, look) for name, look in checks.items()}
    wait(begun.values(), timeout=limit_s)
    found = {name: _finding(future, limit_s) for name, future in begun.items()}
    return Diagnosis(tuple(Check(name, each.verdict, each.message) for name, each in found.items()))


def _begin(name: str, look: Look) -> Future[Finding]:
    """Look in a thread that nobody waits for at the end: what hangs in a system call cannot be ended."""
    future: Future[Finding] = Future()

    def work() -> None:
        try:
            future.set_result(look())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=work, name=f"doctor: {name}", daemon=True).start()
    return future


def _finding(future: Future[Finding], limit_s: float) -> Finding:
    if not future.done():
        return bad(f"There was no answer within {limit_s:g} s: the system is very busy, or hangs there. Try again.")
    try:
        return future.result()
    except RaycolabError as error:
        return bad(str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return bad(f"This could not be looked at ({where}{error.strerror or error}): mend that, then try again.")
    except Exception as error:
        return bad(f"This could not be looked at ({type(error).__name__}: {error}): please report this bug.")
