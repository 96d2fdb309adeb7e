"""What a mistyped word was probably meant to be, for the sentences of errors. Nothing else."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean", "listed"]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'gamma'?)` when one of the known words is close, else nothing."""
    close = difflib.get_close_matches(word, [str(each) for each in known], n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def listed(words: Iterable[str]) -> str:
    """The words separated by commas."""
    return ", ".join(words)
