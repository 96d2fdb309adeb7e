"""What MAIN's code prints: kept, bounded, and none of one trial's doing is another's."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycolab.main.output import KEPT_BYTES, MAX_OUTPUT_BYTES, MAX_OUTPUT_LINES, MOST_BYTES, MainOutput, last_lines


@pytest.fixture
def output(tmp_path: Path) -> Iterator[MainOutput]:
    """One whose file is `tmp_path/output`."""
    made = MainOutput(tmp_path / "output")
    with contextlib.closing(made):
        yield made


def test_the_last_lines_stay(output: MainOutput) -> None:
    """Of many lines the last 50 are kept, of long ones the last 8 kB."""
    with output.captured(descriptors=False):
        for number in range(1000):
            sys.stdout.write(f"{number}\n")
        assert output.text().splitlines() == [str(number) for number in range(950, 1000)]
        sys.stdout.write("é" * MAX_OUTPUT_BYTES)
    assert output.text() == "é" * (MAX_OUTPUT_BYTES // 2)


def test_a_flood_of_prints_is_bounded_on_disk(output: MainOutput, tmp_path: Path) -> None:
    """Megabytes at once, or a hundred thousand lines, leave no more than the bound."""
    with output.captured(descriptors=False):
        sys.stdout.write("x" * 5_000_000)
        assert (tmp_path / "output").stat().st_size == KEPT_BYTES
        for _ in range(200_000):
            sys.stdout.write("0123456789\n")
    assert (tmp_path / "output").stat().st_size <= MOST_BYTES + KEPT_BYTES
    assert len(output.text()) <= MAX_OUTPUT_BYTES
    assert output.text().count("\n") == MAX_OUTPUT_LINES


def test_a_flood_to_the_file_descriptor_does_not_stay_on_disk(output: MainOutput, tmp_path: Path) -> None:
    """What a child process writes to descriptor 1, past Python, comes down to the last bytes of it."""
    with output.captured(descriptors=True):
        flood = "import os\nfor _ in range(64): os.write(1, b'0123456789abcde\\n' * 65536)\nos.write(2, b'the end')"
        subprocess.run([sys.executable, "-c", flood], check=True)
        deadline = time.monotonic() + 60
        while (tmp_path / "output").stat().st_size > MOST_BYTES and time.monotonic() < deadline:
            time.sleep(0.05)
        assert (tmp_path / "output").stat().st_size <= MOST_BYTES
        assert output.text().endswith("the end")


def test_what_children_and_c_code_print_is_among_the_output_in_order(output: MainOutput) -> None:
    """Python's prints, the descriptor's and a child's stand in the order in which they were made."""
    with output.captured(descriptors=True):
        sys.stdout.write("python\n")
        os.write(1, b"descriptor\n")
        os.system("echo child")
        print("to the real one", file=sys.__stdout__)
    sys.stdout.write("outside\n")
    assert output.text() == "python\ndescriptor\nchild\nto the real one\n"


def test_progress_bars_and_colours_read_as_on_a_screen() -> None:
    """A bar that overwrites itself leaves its last state, and escape codes leave nothing."""
    assert last_lines("10%\r50%\r100%\r\n\x1b[31mred\x1b[0m\n") == "100%\nred\n"


def test_it_stands_in_for_a_standard_stream(output: MainOutput) -> None:
    """Bytes and what a logger made before `clear` writes both arrive."""
    with output.captured(descriptors=False):
        handler = logging.StreamHandler()
        output.clear()
        assert not sys.stdout.isatty()
    with output.captured(descriptors=False):
        handler.emit(logging.makeLogRecord({"msg": "logged"}))
        sys.stdout.buffer.write(b"bytes\n")
    assert output.text() == "logged\nbytes\n"


class _Tee:
    """The logger of many a training script: it takes stdout's place, and closes the real one at its end."""

    def __init__(self) -> None:
        self.terminal = sys.stdout
        sys.stdout = self  # type: ignore[assignment]

    def write(self, text: str) -> int:
        return self.terminal.write(text)

    def close(self) -> None:
        self.terminal.close()
        self.terminal.buffer.close()

    __del__ = close


def test_a_logger_that_closes_stdout_costs_no_other_trial(output: MainOutput) -> None:
    """It closes the stream in `close` and again when it is collected, in the midst of the next trial."""
    for trial in ("first", "second"):
        output.clear()
        with output.captured(descriptors=False):
            _Tee()
            gc.collect()
            sys.stdout.write(f"{trial}\n")
        assert output.text() == f"{trial}\n"
    assert sys.stdout.write("") == 0


@pytest.mark.parametrize("harm", ["sys.stdout.detach()", "sys.stdout.reconfigure(encoding='ascii', errors='strict')"])
def test_what_a_trial_does_to_its_stream_ends_with_it(output: MainOutput, harm: str) -> None:
    """The next trial prints whatever it likes."""
    with output.captured(descriptors=False):
        exec(harm)
    with output.captured(descriptors=False):
        sys.stdout.write("é\n")
    assert output.text() == "é\n"


def test_the_output_outlives_a_process_that_is_killed(tmp_path: Path) -> None:
    """A process that ends without a word leaves what it had printed, and what its children had."""
    program = (
        "import os, pathlib, sys; from raycolab.main.output import MainOutput\n"
        "with MainOutput(pathlib.Path(sys.argv[1])).captured(descriptors=True):\n"
        "    print('epoch 1'); os.system('echo child'); os.kill(os.getpid(), 9)"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path / "output")], check=False)
    assert ended.returncode == -9
    assert (tmp_path / "output").read_text() == "epoch 1\nchild\n"


def test_clear_starts_anew(output: MainOutput) -> None:
    """What one trial printed is not in the next one's output."""
    with output.captured(descriptors=False):
        sys.stdout.write("first\n")
        output.clear()
        sys.stdout.write("second\n")
    assert output.text() == "second\n"


def test_closing_leaves_no_file(tmp_path: Path) -> None:
    """The file goes with the runtime whose output it is."""
    output = MainOutput(tmp_path / "made" / "output")
    output.close()
    assert list((tmp_path / "made").iterdir()) == []


@given(st.text())
def test_any_text_ends_within_the_bounds(text: str) -> None:
    """Whatever is printed, the tail is text within its bounds, and ends as the text does."""
    shown = last_lines(text)
    assert len(shown.encode("utf-8", "backslashreplace")) <= MAX_OUTPUT_BYTES
    assert shown.count("\n") <= MAX_OUTPUT_LINES
