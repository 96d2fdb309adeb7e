"""Paths that a person typed: whatever they are, there is a sentence or a file."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from raycolab.errors import UsageError
from raycolab.files import check_writable, read_text, typed_path


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
