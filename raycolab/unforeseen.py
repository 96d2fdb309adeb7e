"""What is said of an error that nobody prepared for: a bug of ours, told in a sentence, its traceback in a file."""

from __future__ import annotations

import tempfile
import traceback

__all__ = ["bug_sentence"]


def bug_sentence(error: BaseException) -> str:
    """Keep the traceback in a file for its owner alone, and say where it is and what to do with it."""
    said = f"This is a bug in raycolab ({type(error).__name__}), not your doing."
    try:
        descriptor, path = tempfile.mkstemp(prefix="raycolab-bug-", suffix=".txt")  # mode 0600
        with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            traceback.print_exception(error, file=file)
    except OSError as refused:
        where = tempfile.gettempdir()
        return f"{said} Its traceback could not be kept ({refused.strerror}): make room in {where}, and again."
    return f"{said} Its traceback is in {path}: please report it with what you typed, without the join address."
