"""Exceptions of MAIN as plain bounded text, cells by number."""

from __future__ import annotations

import linecache
from typing import Any

import pytest

from raycolab.main.traceback import (
    MAX_EVALUE_CHARS,
    MAX_TRACEBACK_CHARS,
    cell_code_name,
    cell_of,
    describe,
    shortened,
    traceback_text,
)


def raised_in_cell(index: int, source: str, names: dict[str, Any] | None = None) -> BaseException:
    """The exception that running `source` as that cell raises."""
    name = cell_code_name(index)
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    with pytest.raises(BaseException) as caught:  # noqa: PT011  # each test says which
        exec(compile(source, name, "exec"), {} if names is None else names)
    return caught.value


def test_the_cell_its_line_and_an_arrow_are_shown() -> None:
    """Frames of the notebook carry number, line and source; those that led to it are left out."""
    error = raised_in_cell(7, "a = 1\ndef f(x):\n    y = x\n    raise ValueError('bad')\n\nf(1)\n")
    assert traceback_text(error) == (
        "Traceback (most recent call last):\n"
        "  cell 7, line 6\n"
        "            3     y = x\n"
        "            4     raise ValueError('bad')\n"
        "            5\n"
        "    ---->   6 f(1)\n"
        "  cell 7, line 4, in f\n"
        "            1 a = 1\n"
        "            2 def f(x):\n"
        "            3     y = x\n"
        "    ---->   4     raise ValueError('bad')\n"
        "            5\n"
        "            6 f(1)\n"
        "ValueError: bad\n"
    )
    assert cell_of(error) == 7


def test_frames_of_libraries_follow_those_of_the_notebook() -> None:
    """A library's frames keep their file, and the innermost cell is the one named."""
    names: dict[str, Any] = {}
    exec(compile("def parse(text):\n    import json\n    return json.loads(text)\n", cell_code_name(2), "exec"), names)
    error = raised_in_cell(5, "parse('{')\n", names)
    text = traceback_text(error)
    assert text.index("cell 5, line 1") < text.index("cell 2, line 3, in parse") < text.index('json/__init__.py", line')
    assert "test_traceback" not in text
    assert cell_of(error) == 2


def test_causes_come_first() -> None:
    """A chain of exceptions reads from the oldest, with Python's own words between."""
    text = traceback_text(
        raised_in_cell(1, "try:\n    1/0\nexcept ZeroDivisionError as e:\n    raise ValueError('b') from e")
    )
    assert text.index("ZeroDivisionError") < text.index("direct cause") < text.index("ValueError: b")
    hidden = raised_in_cell(1, "try:\n    1/0\nexcept ZeroDivisionError:\n    raise ValueError('b') from None")
    assert "ZeroDivisionError: " not in traceback_text(hidden)


def test_a_syntax_error_shows_its_line() -> None:
    """A cell that does not compile is shown with an arrow too."""
    text = traceback_text(raised_in_cell(3, "x = 1\ny = = 2\n"))
    assert "  cell 3, line 2\n" in text
    assert "---->   2 y = = 2\n" in text
    assert text.endswith("SyntaxError: invalid syntax\n")


def test_groups_and_notes_are_shown() -> None:
    """The members of an exception group and added notes are not lost."""
    source = "e = ValueError('inner')\ne.add_note('a note')\nraise ExceptionGroup('several', [e])"
    text = traceback_text(raised_in_cell(1, source))
    assert "ExceptionGroup: several (1 sub-exception)\n\nOne of them:\n  ValueError: inner\n  a note\n" in text


def test_recursions_and_long_messages_are_bounded() -> None:
    """A thousand frames and a megabyte of message leave head and tail, and say how much is missing."""
    recursion = traceback_text(raised_in_cell(1, "def f(): f()\nf()"))
    assert "frames left out" in recursion
    assert len(recursion) < MAX_TRACEBACK_CHARS + 100
    error = raised_in_cell(1, "raise ValueError('a' * 10**6 + 'end')")
    name, message = describe(error)
    assert name == "ValueError"
    assert len(message) < MAX_EVALUE_CHARS + 100
    assert message.endswith("end")
    assert "characters left out" in message
    assert len(traceback_text(error)) < MAX_TRACEBACK_CHARS + 100
    assert shortened("short", 10) == "short"


def test_a_message_that_cannot_be_made_is_no_second_failure() -> None:
    """An exception whose __str__ raises is still described."""
    source = "class E(Exception):\n    def __str__(self): raise RuntimeError\nraise E"
    assert describe(raised_in_cell(1, source)) == ("E", "<the exception has no printable message>")
