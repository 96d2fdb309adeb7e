"""Files that travel with MAIN: which, packed how, and what a worker says that lacks one."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from raycolab.errors import UsageError
from raycolab.main.files import DamagedArchiveError, cure_for_missing, freeze, listing, unpack


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The folder of a MAIN with data, modules, and what should stay at home."""
    folder = tmp_path / "project"
    for name, text in {
        "MAIN.ipynb": "{}",
        "data.csv": "1\n2\n",
        "helpers.py": "V = 1\n",
        "pkg/__init__.py": "",
        "pkg/deep/table.txt": "x",
        "pkg/__pycache__/a.pyc": "0",
        "pkg/.env": "TOKEN=1",
        ".hidden/key": "1",
        "run.sh": "#!/bin/sh\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "run.sh").chmod(0o755)
    return folder


def there(folder: Path) -> set[str]:
    """The files below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def travelled(project: Path, *patterns: str) -> set[str]:
    """What these patterns bring to the other end."""
    files, archive = freeze(project, patterns, project / "MAIN.ipynb")
    target = project.parent / "target"
    unpack(io.BytesIO(archive), files.digest, target)
    found = there(target)
    assert (files.count, files.size) == (len(found), sum((target / name).stat().st_size for name in found))
    return found


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        (["data.csv"], {"data.csv"}),
        (["*.py", "pkg"], {"helpers.py", "pkg/__init__.py", "pkg/deep/table.txt"}),
        (["pkg/deep/*.txt"], {"pkg/deep/table.txt"}),
        (["**/*.txt"], {"pkg/deep/table.txt"}),
        (["pkg/.env", ".hidden"], {"pkg/.env", ".hidden/key"}),
        (["."], {"data.csv", "helpers.py", "run.sh", "pkg/__init__.py", "pkg/deep/table.txt"}),
    ],
)
def test_what_travels(project: Path, patterns: list[str], found: set[str]) -> None:
    """Folders whole; hidden files and caches where they are named alone; MAIN itself not at all."""
    assert travelled(project, *patterns) == found


def test_contents_and_modes_arrive(project: Path) -> None:
    """A script that can be run can be run there."""
    travelled(project, "data.csv", "run.sh")
    target = project.parent / "target"
    assert (target / "data.csv").read_text() == "1\n2\n"
    assert os.access(target / "run.sh", os.X_OK)
    assert not os.access(target / "data.csv", os.X_OK)


def test_a_file_that_was_only_touched_is_no_change(project: Path) -> None:
    """Names, contents and modes count."""

    def digest() -> str:
        return freeze(project, ["."], None)[0].digest

    before = digest()
    os.utime(project / "data.csv", (1, 1))
    (project / "__pycache__").mkdir()
    (project / "__pycache__" / "helpers.pyc").write_text("new")
    assert digest() == before
    (project / "data.csv").write_text("1\n3\n")
    changed = digest()
    (project / "data.csv").rename(project / "other.csv")
    renamed = digest()
    (project / "other.csv").chmod(0o755)
    assert len({before, changed, renamed, digest()}) == 4


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ("data.cvs", r"nothing in MAIN's folder .*/project is called 'data.cvs' \(did you mean 'data.csv'\?\)\."),
        ("out.txt", "out.txt is a link that leads out of MAIN's folder, to .*secret: put a copy in its place"),
        ("linked", "linked/secret is a link|linked is a link that leads out"),
        ("pipe", "pipe is neither a file nor a folder: leave it out"),
    ],
)
def test_what_cannot_travel_is_refused(project: Path, pattern: str, sentence: str) -> None:
    """What is not there, what lies elsewhere, what has no end."""
    (project.parent / "outside").mkdir()
    (project.parent / "outside" / "secret").write_text("s")
    (project / "out.txt").symlink_to(project.parent / "outside" / "secret")
    (project / "linked").symlink_to(project.parent / "outside")
    os.mkfifo(project / "pipe")
    with pytest.raises(UsageError, match=sentence):
        freeze(project, [pattern], None)


def test_a_link_within_the_folder_is_followed(project: Path) -> None:
    """Once: one that leads to a folder above it has no end."""
    (project / "alias.csv").symlink_to("data.csv")
    (project / "pkg" / "loop").symlink_to("..")
    assert "alias.csv" in travelled(project, "alias.csv", "pkg/deep")
    freeze(project, ["pkg"], None)


def test_too_much_is_refused_with_the_ways_out(project: Path) -> None:
    """Before it is read."""
    with (project / "big.bin").open("wb") as file:
        file.truncate(256 * 2**20 + 1)
    with pytest.raises(UsageError) as refused:
        freeze(project, ["*.bin"], None)
    assert str(refused.value) == (
        "files: 1 files of 268 MB are too much to travel with MAIN, at most 10,000 of 268 MB can: put large data on a "
        "Drive that every tab mounts, or fetch it in a cell of MAIN (`!wget -nc URL`), which runs once on each node."
    )


def test_another_archive_is_told(project: Path, tmp_path: Path) -> None:
    """One that was cut, and one of other files."""
    files, archive = freeze(project, ["data.csv"], None)
    other, _ = freeze(project, ["helpers.py"], None)
    for content, digest in ((archive[:-8], files.digest), (archive, other.digest), (b"nonsense", files.digest)):
        with pytest.raises(DamagedArchiveError):
            unpack(io.BytesIO(content), digest, tmp_path / "x")


@pytest.mark.parametrize(
    ("code", "cure"),
    [
        (
            "open('data.csv')",
            "`data.csv` lies beside MAIN and did not travel with it: declare the sweep with files: [data.csv].",
        ),
        ("open('/home/me/project/data.csv')", "files: [data.csv]"),
        (
            "open('pkg/deep/none.txt')",
            "`pkg/` lies beside MAIN and did not travel with it: declare the sweep with files: [pkg].",
        ),
        ("import helpers_x", None),
        ("import helpers", "files: [helpers.py]"),
        ("import pkg.deep", "files: [pkg]"),
        ("open('/etc/none')", None),
        ("open(WORK / 'data.csv')", "files: [data.csv]"),
        ("raise FileNotFoundError('data.csv not found.')", "files: [data.csv]"),
        ("raise FileNotFoundError('mydata.csv not found.')", None),
        ("open(WORK / 'run.sh' / 'x')", None),
        ("open('')", None),
        ("1 / 0", None),
    ],
)
def test_what_is_missing_and_lies_beside_main_is_named(project: Path, code: str, cure: str | None) -> None:
    """With the key that brings it."""
    beside = ("MAIN.ipynb", "data.csv", "helpers.py", "pkg/", "run.sh")
    assert listing(project) == beside
    work = project.parent / "work"  # where one of them is
    work.mkdir()
    (work / "run.sh").mkdir()
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever the code raises
        exec(code, {"WORK": work})
    said = cure_for_missing(caught.value, "/home/me/project", beside, work)
    assert (said is None) if cure is None else (said is not None and cure in said)
