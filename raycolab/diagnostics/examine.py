"""Runs checks side by side, each within a time of its own; one that fails or hangs is a failed check, not an error."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait

from raycolab.diagnostics.check import Check, Diagnosis, Finding, bad
from raycolab.errors import RaycolabError

__all__ = ["LIMIT_S", "Looking", "examine"]

Looking = Callable[[], Finding | None]
"""Looks at one thing; None when there is nothing to look at here."""

LIMIT_S = 8.0  # for each check, and as they run side by side for all of them


def examine(checks: Mapping[str, Looking], *, limit_s: float = LIMIT_S) -> Diagnosis:
    """Run the checks and give what they found, in their order; it takes `limit_s` at most."""
    begun = {name: _begin(name, look) for name, look in checks.items()}
    wait(begun.values(), timeout=limit_s)
    found = {name: _outcome(future, limit_s) for name, future in begun.items()}
    return Diagnosis(tuple(Check(name, each.verdict, each.message) for name, each in found.items() if each is not None))


def _begin(name: str, look: Looking) -> Future[Finding | None]:
    """Look in a thread that nobody waits for at the end: what hangs in a system call cannot be ended."""
    future: Future[Finding | None] = Future()

    def work() -> None:
        try:
            future.set_result(look())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=work, name=f"doctor: {name}", daemon=True).start()
    return future


def _outcome(future: Future[Finding | None], limit_s: float) -> Finding | None:
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
        return bad(f"This could not be looked at ({type(error).__name__}: {error}): a bug of the doctor's, to report.")
