"""An exception of MAIN as a person wants to read it: plain text, cells by number, the line with an arrow.

Frames of the notebook are shown with their source. Those of raycolab and IPython are left out, as is everything before
the first frame of the notebook. All of it is bounded. Nothing here decides what kind of failure it was.
"""

from __future__ import annotations

import linecache
import re
import textwrap
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import raycolab

__all__ = [
    "cell_code_name",
    "cell_listing",
    "cell_number",
    "cell_of",
    "describe",
    "is_whole_cell",
    "line_in",
    "shortened",
    "traceback_text",
]

MAX_TRACEBACK_CHARS = 16_000
MAX_EVALUE_CHARS = 2_000
_MAX_LINE_CHARS = 300  # of one line of source
_MAX_CHAIN = 5  # exceptions shown of a chain of causes
_FRAMES_AT_HEAD, _FRAMES_AT_TAIL = 10, 20  # of a recursion
_CONTEXT_LINES = 3  # of a cell, above and below the line
_LISTED_LINES = 60  # of a cell that is shown whole

_CODE_NAME = re.compile(r"\Acell (\d+)(?: of .+)?\Z", re.DOTALL)
_OWN_FOLDER = str(Path(raycolab.__file__).parent) + "/"
_CAUSED = "\nThe above exception was the direct cause of the following exception:\n\n"
_DURING = "\nDuring handling of the above exception, another exception occurred:\n\n"


def cell_code_name(number: int, notebook: str = "") -> str:
    """The file name that a cell's code is compiled under; `notebook` tells it from cells of others in this process."""
    return f"cell {number} of {notebook}" if notebook else f"cell {number}"


def cell_number(code_name: str) -> int | None:
    """The number of the cell whose code is compiled under this name; None for other code."""
    match = _CODE_NAME.match(code_name)
    return int(match[1]) if match is not None else None


def is_whole_cell(function: str) -> bool:
    """Whether code of this name is a cell's own, and not a function that it defines."""
    return function.startswith(("<module", "<cell line"))


def cell_of(error: BaseException) -> int | None:
    """The number of the innermost cell the exception came through, or None."""
    numbers = [cell_number(frame.f_code.co_filename) for frame, _ in traceback.walk_tb(error.__traceback__)]
    return next((number for number in reversed(numbers) if number is not None), None)


def line_in(error: BaseException, code_name: str) -> int | None:
    """The line of the cell compiled under this name at which the exception left it, or which is not Python."""
    for frame, line in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename == code_name:
            return line
    return error.lineno if isinstance(error, SyntaxError) and error.filename == code_name else None


def cell_listing(source: str, line: int | None) -> str:
    """A cell's source, numbered, with an arrow at `line`; of a long one the part around it."""
    lines = source.splitlines()
    middle = line or 1
    first = max(1, min(middle - _LISTED_LINES // 2, len(lines) - _LISTED_LINES + 1))
    return _numbered(lines, first, min(len(lines), first + _LISTED_LINES - 1), line)


def shortened(text: str, limit: int) -> str:
    """`text` within `limit` characters or little more: head and tail, and between them how much was left out."""
    if len(text) <= limit:
        return text
    head, tail = text[: limit // 2], text[-limit // 2 :]
    return f"{head}\n... {len(text) - limit:,} characters left out ...\n{tail}"


def describe(error: BaseException) -> tuple[str, str]:
    """The name and the message of an exception, bounded; a message that cannot be made says so."""
    try:
        message = str(error)
    except BaseException:  # the user's __str__ may raise anything
        message = "<the exception has no printable message>"
    message = str.__str__(message)  # which may be of a class of MAIN's own
    return type(error).__name__, shortened(message, MAX_EVALUE_CHARS)


def traceback_text(error: BaseException) -> str:
    """The exception with its causes, oldest first, as plain bounded text."""
    parts = [_one(error)]
    seen = {id(error)}
    older = error
    while len(parts) < _MAX_CHAIN:
        cause, link = older.__cause__, _CAUSED
        if cause is None and not older.__suppress_context__:
            cause, link = older.__context__, _DURING
        if cause is None or id(cause) in seen:
            break
        seen.add(id(cause))
        parts.append(_one(cause) + link)
        older = cause
    return shortened("".join(reversed(parts)), MAX_TRACEBACK_CHARS)


def _one(error: BaseException) -> str:
    """One exception without its causes."""
    frames = _shown_frames(error.__traceback__)
    left_out = len(frames) - _FRAMES_AT_HEAD - _FRAMES_AT_TAIL
    texts = [_frame(*frame) for frame in (frames if left_out <= 0 else frames[:_FRAMES_AT_HEAD])]
    if left_out > 0:
        texts.append(f"  ... {left_out} frames left out ...\n")
        texts += [_frame(*frame) for frame in frames[-_FRAMES_AT_TAIL:]]
    head = "Traceback (most recent call last):\n" if texts else ""
    inner = error.exceptions[:_MAX_CHAIN] if isinstance(error, BaseExceptionGroup) else ()
    grouped = "".join(f"\nOne of them:\n{textwrap.indent(_one(item), '  ')}" for item in inner)
    return head + "".join(texts) + _last_lines(error) + grouped


def _shown_frames(trace: TracebackType | None) -> list[tuple[str, int, str]]:
    """(file, line, function) of every frame worth showing, from the notebook's first on."""
    frames = [
        (file, line, frame.f_code.co_name)
        for frame, line in traceback.walk_tb(trace)
        if not (file := frame.f_code.co_filename).startswith(_OWN_FOLDER) and "/site-packages/IPython/" not in file
    ]
    first = next((place for place, (file, _, _) in enumerate(frames) if cell_number(file) is not None), 0)
    return frames[first:]


def _frame(file: str, line: int, function: str) -> str:
    inside = "" if is_whole_cell(function) else f", in {function}"
    if cell_number(file) is not None:
        return f"  {file}, line {line}{inside}\n{_excerpt(file, line)}"
    source = linecache.getline(file, line).strip()
    return f'  File "{file}", line {line}{inside}\n' + (f"    {source[:_MAX_LINE_CHARS]}\n" if source else "")


def _excerpt(file: str, line: int) -> str:
    """The lines of a cell around `line`, numbered, with an arrow at it."""
    lines = linecache.getlines(file)
    return _numbered(lines, max(1, line - _CONTEXT_LINES), min(len(lines), line + _CONTEXT_LINES), line)


def _numbered(lines: Sequence[str], first: int, last: int, line: int | None) -> str:
    """Lines `first` to `last`, counted from 1, with an arrow at `line`."""
    rows = []
    for number in range(first, last + 1):
        arrow = "---->" if number == line else "     "
        rows.append(f"    {arrow} {number:>3} {lines[number - 1].rstrip()[:_MAX_LINE_CHARS]}".rstrip() + "\n")
    return "".join(rows)


def _last_lines(error: BaseException) -> str:
    """What Python prints below the frames: the message, the notes, and for a SyntaxError its line."""
    if isinstance(error, SyntaxError) and cell_number(error.filename or "") is not None and error.lineno is not None:
        place = f"  {error.filename}, line {error.lineno}\n{_excerpt(str(error.filename), error.lineno)}"
        return f"{place}{type(error).__name__}: {error.msg}\n"
    name, message = describe(error)
    notes = "".join(f"{note}\n" for note in getattr(error, "__notes__", ()))
    return (f"{name}: {message}\n" if message else f"{name}\n") + notes
