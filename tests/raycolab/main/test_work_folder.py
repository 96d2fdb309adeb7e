"""The folders in which MAIN runs on a node: who is in them, and which of them go."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from raycolab.main.work_folder import KEPT_FOLDERS, Place, WorkFolder


def test_a_new_folder_has_the_sweeps_files_and_is_its_owners(tmp_path: Path) -> None:
    """What `fill` puts there, and nothing of another sweep's or of an earlier time."""
    made = [WorkFolder.make(tmp_path / "work", "sörn/3", lambda path: (path / "d.csv").touch()) for _ in range(2)]
    assert made[0].path != made[1].path
    for folder in made:
        assert [each.name for each in folder.path.iterdir()] == ["d.csv"]
        assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
        assert folder.path.name.startswith("s_rn_3-")


def test_its_modules_are_found_first_and_a_process_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the process was started with is behind it; a place that was left is as it was left."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "/somewhere"])
    own = Place.now("/")
    folder = WorkFolder.make(tmp_path / "work", "s").path
    Place.of(folder).enter()
    assert (Path.cwd(), sys.path) == (folder, ["", str(folder), "/somewhere"])
    os.chdir("/usr")
    sys.path.insert(0, "/elsewhere")
    left = Place.now("/")
    own.enter()
    assert (Path.cwd(), sys.path) == (tmp_path, ["", "/somewhere"])
    left.enter()
    assert (os.getcwd(), sys.path[0]) == ("/usr", "/elsewhere")


def test_of_folders_that_nobody_uses_the_latest_stay(tmp_path: Path) -> None:
    """A node that runs many sweeps keeps its disk; what a process works in stays whatever its age."""
    held = WorkFolder.make(tmp_path, "s")
    made = [WorkFolder.make(tmp_path, "s") for _ in range(KEPT_FOLDERS + 2)]
    old = [each.path for each in made]
    for age, path in enumerate([held.path, *old]):
        os.utime(path, (age, age))
    for each in made:
        each.release()
    WorkFolder.make(tmp_path, "s")
    assert held.path.is_dir()
    assert [path.is_dir() for path in old] == [False] * 2 + [True] * KEPT_FOLDERS
    with pytest.raises(FileNotFoundError):
        WorkFolder(old[0])
