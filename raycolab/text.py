"""How things read in a sentence: counts, durations, sizes, numbers, times, and the word that was probably meant.

Nothing here reads a clock or knows where its text is shown.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import textwrap
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from raycolab.trials import Config

__all__ = [
    "bytes_text",
    "config_text",
    "counted",
    "did_you_mean",
    "duration_text",
    "failure_text",
    "listed",
    "number_text",
    "tally_text",
    "utc_seconds",
    "utc_text",
    "value_text",
    "visible",
]

_ALWAYS_SHOWN = ("failed", "running")
_SHOWN_IF_ANY = ("pruned", "lost", "cancelled")
# What a terminal obeys instead of showing it, but for line ends and tabs, and what turns the direction of a line.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_SIGNIFICANT = 4  # digits of a metric that tell two configurations apart and still fit a table


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'gamma'?)` when one of the known words is close, else nothing."""
    close = difflib.get_close_matches(word, [str(each) for each in known], n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def listed(words: Iterable[str]) -> str:
    """The words separated by commas."""
    return ", ".join(words)


def counted(number: float, noun: str) -> str:
    """`1 trial`, `3 trials`, `0.5 GPUs`: the noun gets an s unless there is exactly one."""
    shown = f"{number:g}" if isinstance(number, float) else str(number)
    return f"{shown} {noun}{'' if number == 1 else 's'}"


def duration_text(seconds: float) -> str:
    """Two units at most: `0.4 s`, `48 s`, `6 min 10 s`, `2 h 5 min`, `3 d 4 h`."""
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    for unit, name, part, part_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit:
            rest = whole % unit // part
            return f"{whole // unit} {name}" + (f" {rest} {part_name}" if rest else "")
    return f"{whole} s"


def visible(text: str) -> str:
    """The text with what a terminal would obey written as escapes: `\\x1b[2J` is read, and clears no screen."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def tally_text(counts: Mapping[str, int]) -> str:
    """`137/480  ok 120  failed 9  running 5`, and pruned, lost and cancelled trials where there are any.

    `counts` has the keys of `status --json`: total pending running complete pruned failed lost cancelled.
    """
    finished = sum(counts.get(key, 0) for key in ("complete", "pruned", "failed", "lost", "cancelled"))
    parts = [f"{finished}/{counts.get('total', 0)}", f"ok {counts.get('complete', 0)}"]
    parts += [f"{key} {counts.get(key, 0)}" for key in _ALWAYS_SHOWN]
    parts += [f"{key} {counts[key]}" for key in _SHOWN_IF_ANY if counts.get(key, 0)]
    return "  ".join(parts)


def number_text(value: float) -> str:
    """A metric with four significant digits; NaN and infinities by name."""
    if not math.isfinite(value):
        return str(float(value))
    return f"{value:.{_SIGNIFICANT}g}"


def bytes_text(count: int) -> str:
    """`812 B`, `3.4 kB`, `1.2 GB`: powers of 1000, as allowances are counted."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 99.5 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def config_text(config: Config) -> str:
    """`C=1.23, kernel=rbf`: short, to read; `results.speedup.compute_line` gives the line to run again."""
    return ", ".join(
        f"{name}={number_text(value) if isinstance(value, float) else value_text(value)}"
        for name, value in config.items()
    )


def failure_text(headline: str, traceback: str, output: str) -> str:
    """A failure as a terminal shows it: its line, and below it, set in, traceback and last output."""
    parts = [headline, textwrap.indent(traceback.rstrip(), "  ")]
    if output.strip():
        parts += ["  its last output:", textwrap.indent(output.rstrip(), "    ")]
    return "\n".join(part for part in parts if part)


def value_text(value: object) -> str:
    """A value of a configuration in a table: a list or dict as JSON, any other as Python writes it."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)


def utc_text(seconds: float) -> str:
    """Seconds since the epoch as `2026-11-22T20:30:00.000000Z`; sorting such text sorts time."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")[:26] + "Z"


def utc_seconds(text: str) -> float:
    """The inverse of `utc_text`, equal to the microsecond."""
    return datetime.fromisoformat(text).timestamp()
