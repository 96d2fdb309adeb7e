"""Paths that a person typed, private files and streams: whatever they are, there is a sentence or a file."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from raycolab.errors import UsageError
from raycolab.files import check_writable, escape_unencodable, read_text, typed_path, write_line, write_private


def test_a_path_is_what_was_typed_with_the_home_directory_for_a_tilde() -> None:
    """As a shell would, where it had the chance."""
    assert typed_path("a/b", "--output") == Path("a/b")
    assert typed_path("~/a", "--output") == Path.home() / "a"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a\udcffb", r"--output 'a\udcffb' is not text in UTF-8: give another path."),
        ("~nobody-is-called-so/a", "--output ~nobody-is-called-so/a: there is no such user on this machine. "),
    ],
)
def test_what_is_no_path_here_is_told(text: str, sentence: str) -> None:
    """What would fail somewhere later fails where it was typed."""
    with pytest.raises(UsageError) as refused:
        typed_path(text, "--output")
    assert str(refused.value).startswith(sentence)


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    """Exactly the limit is fine, a byte more is a file too large; a device without an end is one too."""
    path = tmp_path / "file"
    path.write_text("four")
    assert read_text(path, 4) == "four"
    for endless in (path, Path("/dev/zero")):
        with pytest.raises(OSError, match="File too large") as refused:
            read_text(endless, 3)
        assert refused.value.errno == errno.EFBIG


def test_a_file_that_can_be_written_is_left_alone(tmp_path: Path) -> None:
    """The check leaves nothing behind and an old file as it was."""
    path = tmp_path / "out.csv"
    check_writable(path, "--output")
    assert list(tmp_path.iterdir()) == []
    path.write_text("old")
    check_writable(path, "--output")
    assert path.read_text() == "old"


def test_a_file_that_cannot_be_written_is_told_before(tmp_path: Path) -> None:
    """A folder, a folder that is not there, a folder that takes no files, a name that is too long."""
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").touch()
    for path, sentence in (
        (tmp_path / "folder.csv", "--output {0} is a folder: name a file."),
        (tmp_path / "none" / "out.csv", "--output {0}: there is no folder {0.parent}; make it, or name another file."),
        (Path("/proc/out.csv"), "--output {0} cannot be written (No such file or directory): name a file that you"),
        (tmp_path / "file" / "out.csv", "--output {0} cannot be written (Not a directory): name a file"),
        (tmp_path / f"{'x' * 260}.csv", "--output {0} cannot be written (File name too long): name a file"),
    ):
        with pytest.raises(UsageError) as refused:
            check_writable(path, "--output")
        assert str(refused.value).startswith(sentence.format(path))


def test_a_private_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    """Nobody else may read it, whatever the old one allowed; what fails leaves the old one, and nothing beside it."""
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o644)
    with pytest.raises(UnicodeEncodeError):
        write_private(path, "half of it\udcff")
    assert path.read_text() == "old"
    write_private(path, "new")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o600)
    assert list(tmp_path.iterdir()) == [path]


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
    escape_unencodable()
    write_line(sys.stdout, "汉")
    assert raw.getvalue() == b"\\u6c49\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&- 2>&-"])
def test_closed_descriptors_are_opened(closed: str, tmp_path: Path) -> None:
    """The next file is nobody's stdout, nor in a program that takes this one's place."""
    after = f"import os, sys; sys.exit(os.open({str(tmp_path / 'file')!r}, os.O_CREAT | os.O_WRONLY) < 3)"
    script = "from raycolab.files import open_closed_streams; open_closed_streams(); import os, sys;"
    script += f"os.execv(sys.executable, [sys.executable, '-c', {after!r}])"
    assert subprocess.run(["sh", "-c", f'"$0" -c "$1" {closed}', sys.executable, script]).returncode == 0
