"""Drive where Colab has mounted it: raycolab's folder, the links of its files, and the joiner notebooks in it."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from raycolab.colab import drive_folder, drive_link
from raycolab.colab.drive import Tab, joiner_tabs, tabs_text

ADDRESS = "tunnel+wss://abc.ngrok-free.dev/TOKEN"
LinkOf = Callable[[Path], str | None]


def mounted(folder: Path, mount: Path | None = None) -> Path:
    """A list of mounts as Linux gives it, Drive among them when there is a place for it."""
    lines = ["overlay / overlay rw 0 0", "proc /proc proc rw 0 0"]
    if mount is not None:
        (mount / "MyDrive").mkdir(parents=True)
        lines.append(f"drive {mount} fuse.drive rw,nosuid,nodev 0 0")
    path = folder / "mounts"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_without_drive_there_is_no_folder(tmp_path: Path) -> None:
    """An empty mount point, as before drive.mount, is none."""
    (tmp_path / "drive").mkdir()
    assert drive_folder(mounted(tmp_path), (tmp_path / "drive",)) is None
    assert drive_folder(tmp_path / "absent", ()) is None


def test_the_folder_is_in_my_drive(tmp_path: Path) -> None:
    """Where everybody mounts it; nothing is made by looking."""
    (tmp_path / "drive" / "MyDrive").mkdir(parents=True)
    folder = drive_folder(mounted(tmp_path), (tmp_path / "drive",))
    assert folder == tmp_path / "drive" / "MyDrive" / "raycolab"
    assert not folder.exists()


def test_a_drive_mounted_elsewhere_is_found(tmp_path: Path) -> None:
    """The mount table has it."""
    assert drive_folder(mounted(tmp_path, tmp_path / "mine"), ()) == tmp_path / "mine" / "MyDrive" / "raycolab"


def test_a_notebook_on_drive_has_a_link() -> None:
    """Its id is an attribute of the file."""
    read = {"user.drive.id": b"1AbC_d-9"}
    assert drive_link(Path("/x"), lambda _, name: read[name]) == "https://colab.research.google.com/drive/1AbC_d-9"


@pytest.mark.parametrize("value", [b"local-12", b"", b"<script>", b"\xff"])
def test_a_file_that_drive_has_not_taken_yet_has_none(value: bytes) -> None:
    """Until it is uploaded it has an id of this VM alone."""
    assert drive_link(Path("/x"), lambda *_: value) is None


def test_a_file_outside_drive_has_none(tmp_path: Path) -> None:
    """Nor one that is not there."""
    (tmp_path / "file").touch()
    assert drive_link(tmp_path / "file") is None
    assert drive_link(tmp_path / "absent") is None


def test_a_drive_whose_process_died_is_no_drive(tmp_path: Path) -> None:
    """Every call on it fails then."""

    class Dead(type(tmp_path)):  # type: ignore[misc]
        def is_dir(self) -> bool:
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    assert drive_folder(mounted(tmp_path), (Dead(tmp_path),)) is None


def link(path: Path) -> str:
    """A link for any file."""
    return f"https://colab.research.google.com/drive/{path.stem}"


def write(folder: Path, address: str = ADDRESS, source: str | None = None, link_of: LinkOf = link) -> list[Tab]:
    """The tabs, without waiting for links."""
    return joiner_tabs(folder, address, source, link_of=link_of, patience_s=0.01)


def code_of(path: Path) -> str:
    """All code of a notebook, which is a valid one."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")


def test_five_notebooks_join_this_head(tmp_path: Path) -> None:
    """Each is the packaged joiner with the address in its form, ready to run."""
    tabs = write(tmp_path / "MyDrive" / "raycolab")
    assert [tab.path.name for tab in tabs] == [f"joiner-{number}.ipynb" for number in range(1, 6)]
    for tab in tabs:
        code = code_of(tab.path)
        assert f'ADDRESS = "{ADDRESS}"  # @param' in code
        assert "raycolab.join(ADDRESS" in code


def test_a_copy_does_not_ask_to_be_copied(tmp_path: Path) -> None:
    """Each is a file of its own already."""
    (tab, *_) = write(tmp_path)
    text = tab.path.read_text()
    assert "Save a copy" not in text
    assert "Runtime > Run all" in text


@pytest.mark.parametrize("source", ["git+https://example.org/r@c0ffee", 'a "quoted" one', ""])
def test_what_pip_installs_can_be_told(tmp_path: Path, source: str) -> None:
    """Head and joiners must have the same versions."""
    (tab, *_) = write(tmp_path, source=source)
    (value,) = re.findall(r"(?m)^SOURCE = (.*)  # @param", code_of(tab.path))
    assert eval(value) == source


def test_the_same_address_leaves_the_files_alone(tmp_path: Path) -> None:
    """Drive need not take them again."""
    before = [tab.path.stat().st_mtime_ns for tab in write(tmp_path)]
    assert [tab.path.stat().st_mtime_ns for tab in write(tmp_path)] == before


def test_a_new_address_is_written_into_the_same_files(tmp_path: Path) -> None:
    """Not beside and renamed: Drive would take that for another file, and the links would change."""
    before = [tab.path.stat().st_ino for tab in write(tmp_path)]
    tabs = write(tmp_path, "tunnel+wss://new/TOKEN")
    assert [tab.path.stat().st_ino for tab in tabs] == before
    assert all('"tunnel+wss://new/TOKEN"' in code_of(tab.path) for tab in tabs)


def test_links_that_come_late_are_waited_for(tmp_path: Path) -> None:
    """Drive gives a new file its id within seconds."""
    asked: list[Path] = []

    def late(path: Path) -> str | None:
        asked.append(path)
        return link(path) if asked.count(path) > 2 else None

    tabs = joiner_tabs(tmp_path, ADDRESS, link_of=late, patience_s=30.0)
    assert [tab.link for tab in tabs] == [link(tab.path) for tab in tabs]


def test_five_links_are_shown(tmp_path: Path) -> None:
    """One a line, and that the files are as secret as the address."""
    text = tabs_text(write(tmp_path))
    assert re.findall(r"joiner-\d  https://colab.research.google.com/drive/joiner-\d", text) == [
        f"joiner-{number}  https://colab.research.google.com/drive/joiner-{number}" for number in range(1, 6)
    ]
    assert "share none of them" in text
    assert ADDRESS not in text


def test_without_links_the_folder_is_shown(tmp_path: Path) -> None:
    """Drive has the files all the same."""
    text = tabs_text(write(tmp_path, link_of=lambda _: None))
    assert f"{tmp_path}: joiner-1.ipynb … joiner-5.ipynb" in text


def test_a_drive_that_takes_nothing_costs_no_head(tmp_path: Path) -> None:
    """The address in joiner.ipynb does the same."""
    (tmp_path / "raycolab").write_text("a file where the folder should be")
    tabs = write(tmp_path / "raycolab")
    assert tabs == []
    assert "give it the address" in tabs_text(tabs)
