"""Drive where Colab has mounted it: raycolab's folder and the links of its files."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from raycolab.colab import drive_folder, drive_link


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
