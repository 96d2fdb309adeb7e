"""Streams that fail, and a program that goes on."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from raycolab.files import spell_everything, write_line


def test_a_line_is_written_at_once(tmp_path: Path) -> None:
    """Whoever reads along sees it before the next."""
    path = tmp_path / "out"
    with path.open("w") as stream:
        write_line(stream, "first")
        assert path.read_text() == "first\n"


def test_a_stream_that_takes_nothing_is_given_up(tmp_path: Path) -> None:
    """A full disk, a reader who left, a stream that was closed before the program began."""
    reading, writing = os.pipe()
    os.close(reading)
    with open("/dev/full", "w") as full, open(writing, "w") as unread:
        for stream in (full, unread, None):
            write_line(stream, "lost")
            write_line(stream, "and no more errors")


def test_what_an_encoding_lacks_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model's name must not end a program whose terminal is not in UTF-8."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    spell_everything()
    write_line(sys.stdout, "汉")
    assert raw.getvalue() == b"\\u6c49\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&- 2>&-"])
def test_closed_descriptors_are_opened(closed: str, tmp_path: Path) -> None:
    """The next file is nobody's stdout, nor in a program that takes this one's place."""
    after = f"import os, sys; sys.exit(os.open({str(tmp_path / 'file')!r}, os.O_CREAT | os.O_WRONLY) < 3)"
    script = "from raycolab.files import open_closed_streams; open_closed_streams(); import os, sys;"
    script += f"os.execv(sys.executable, [sys.executable, '-c', {after!r}])"
    assert subprocess.run(["sh", "-c", f'"$0" -c "$1" {closed}', sys.executable, script]).returncode == 0
