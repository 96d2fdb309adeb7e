"""What a trial prints, bounded."""

from __future__ import annotations

import contextlib
import logging
import sys

from hypothesis import given
from hypothesis import strategies as st

from raycolab.main.output import MAX_OUTPUT_BYTES, MAX_OUTPUT_LINES, OutputTail, last_lines


def test_the_last_lines_stay() -> None:
    """Of many lines the last 50 are kept, of long ones the last 8 kB."""
    tail = OutputTail()
    with contextlib.redirect_stdout(tail):
        for number in range(1000):
            sys.stdout.write(f"{number}\n")
    assert tail.text().splitlines() == [str(number) for number in range(950, 1000)]
    tail.write("é" * MAX_OUTPUT_BYTES)
    assert tail.text() == "é" * (MAX_OUTPUT_BYTES // 2)


def test_a_flood_is_held_in_bounded_memory() -> None:
    """A megabyte at once, or a hundred thousand lines, leaves no more than the tail."""
    tail = OutputTail()
    tail.write("x" * 1_000_000)
    for _ in range(100_000):
        tail.write("0123456789\n")
    assert len(tail.text()) <= MAX_OUTPUT_BYTES
    assert tail.text().count("\n") == MAX_OUTPUT_LINES


def test_progress_bars_and_colours_read_as_on_a_screen() -> None:
    """A bar that overwrites itself leaves its last state, and escape codes leave nothing."""
    assert last_lines("10%\r50%\r100%\r\n\x1b[31mred\x1b[0m\n") == "100%\nred\n"


def test_it_stands_in_for_a_standard_stream() -> None:
    """Bytes and what a logger made before `clear` writes both arrive."""
    tail = OutputTail()
    with contextlib.redirect_stdout(tail), contextlib.redirect_stderr(tail):
        handler = logging.StreamHandler()
        tail.clear()
        handler.emit(logging.makeLogRecord({"msg": "logged"}))
        sys.stdout.buffer.write(b"bytes\n")
    assert tail.text() == "logged\nbytes\n"
    assert not tail.isatty()


def test_clear_starts_anew() -> None:
    """What one trial printed is not in the next one's output."""
    tail = OutputTail()
    tail.write("first")
    tail.clear()
    tail.write("second")
    assert tail.text() == "second"


@given(st.text())
def test_any_text_ends_within_the_bounds(text: str) -> None:
    """Whatever is printed, the tail is text within its bounds, and ends as the text does."""
    shown = last_lines(text)
    assert len(shown.encode("utf-8", "backslashreplace")) <= MAX_OUTPUT_BYTES
    assert shown.count("\n") <= MAX_OUTPUT_LINES
