"""What a machine has, judged: packages, ports, memory, files, disks, and Drive."""

from __future__ import annotations

import platform
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

from raycolab.diagnostics.check import Verdict
from raycolab.diagnostics.machine import (
    data_directory,
    drive,
    file_system,
    installed_version,
    loaded_versions,
    memory,
    open_files,
    packages,
    ports,
    requirements,
    shared_memory_room,
    temporary_folder,
)
from raycolab.errors import ClusterError, UsageError
from raycolab.node.data_dir import DataDir
from tunnel.nodes import FIRST_PORT, LAST_PORT

GB = 10**9
INFINITE = -1  # resource.RLIM_INFINITY
NEEDED = [Requirement("pandas>=2.2"), Requirement("websockets>=15.0")]
DEMO = Requirement('scikit-learn>=1.4; extra == "demo"')
THERE = {"pandas": "2.2.3", "websockets": "15.0.1", "scikit-learn": "1.6"}


def test_another_system_is_no_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the sentence says where one can be."""
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    found = packages([], {}.get, {})
    assert (found.verdict, "this is Darwin: use Colab" in found.message) == (Verdict.BAD, True)


def test_the_bounds_are_those_of_our_metadata() -> None:
    """Each requirement that holds here, the demo's too, and none of those for tests."""
    names = {each.name for each in requirements()}
    assert {"ray", "websockets", "ipython", "pandas", "scikit-learn"} <= names
    assert "hypothesis" not in names


def test_this_installation_is_in_order() -> None:
    """As it is wherever these tests run."""
    found = packages(requirements(), installed_version, {})
    assert found.verdict is Verdict.GOOD, found.message
    assert f"Python {platform.python_version()}, Ray " in found.message


def test_old_and_missing_packages_are_named_with_the_command() -> None:
    """One command mends them all."""
    found = packages(NEEDED, {"pandas": "1.5.3"}.get, {})
    assert found.verdict is Verdict.BAD
    assert found.message == (
        "pandas 1.5.3, websockets is missing: run `pip install 'pandas>=2.2' 'websockets>=15.0'`, then restart the "
        "kernel if there is one."
    )


def test_a_missing_package_of_the_demo_is_worth_knowing() -> None:
    """Clusters do without it."""
    found = packages([*NEEDED, DEMO], {**THERE, "scikit-learn": None}.get, {})
    assert found.verdict is Verdict.NOTE
    assert "scikit-learn>=1.4" in found.message
    assert packages([*NEEDED, DEMO], THERE.get, {}).verdict is Verdict.GOOD


@pytest.mark.parametrize(
    ("loaded", "verdict"), [("2.2.3", Verdict.GOOD), ("2.1", Verdict.BAD), ("a build of mine", Verdict.GOOD)]
)
def test_a_kernel_that_imported_the_old_version_must_restart(loaded: str, verdict: Verdict) -> None:
    """pip replaced it on disk, and the kernel goes on with what it has."""
    found = packages(NEEDED, THERE.get, {"pandas": loaded})
    assert found.verdict is verdict
    if verdict is Verdict.BAD:
        assert found.message == "pandas changed on disk since this kernel imported it: restart the kernel."


def test_what_is_loaded_is_known_by_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyYAML's module has another name; what was never imported, or has no version, is left out."""
    module = ModuleType("yaml")
    module.__dict__["__version__"] = "6.0"
    monkeypatch.setitem(sys.modules, "yaml", module)
    monkeypatch.setitem(sys.modules, "click", ModuleType("click"))
    needed = [Requirement("pyyaml"), Requirement("click"), Requirement("never-imported")]
    assert loaded_versions(needed) == {"pyyaml": "6.0"}


@pytest.mark.parametrize(
    ("available", "shared", "verdict", "words"),
    [
        (12 * GB, 6 * GB, Verdict.GOOD, "12.0 GB of memory is free"),
        (1000 * GB, 11 * GB, Verdict.GOOD, "1.0 TB of memory is free"),
        (GB // 2, 6 * GB, Verdict.BAD, "Only 500 MB"),
        (12 * GB, 64 * 10**6, Verdict.NOTE, "add --shm-size=3.6gb"),
        (12 * GB, None, Verdict.BAD, "There is no /dev/shm"),
    ],
)
def test_memory(available: int, shared: int | None, verdict: Verdict, words: str) -> None:
    """Ray and one small trial must fit; too little of /dev/shm slows Ray down, none at all breaks it."""
    found = memory(available, shared)
    assert (found.verdict, words in found.message) == (verdict, True), found.message


def test_no_shared_memory_is_seen(tmp_path: Path) -> None:
    """As where nothing is mounted."""
    assert shared_memory_room(str(tmp_path / "none")) is None
    assert (shared_memory_room(str(tmp_path)) or 0) > 0


@pytest.mark.parametrize(
    ("limit", "verdict", "words"),
    [
        (INFINITE, Verdict.GOOD, "may all be open at once"),
        (1 << 20, Verdict.GOOD, "may all be open at once"),
        (1024, Verdict.NOTE, "enough for about 12 other nodes"),
        (300, Verdict.BAD, "enough for about 1 other node:"),
        (64, Verdict.BAD, "not enough for one"),
    ],
)
def test_open_files(limit: int, verdict: Verdict, words: str) -> None:
    """Each other node takes a file for each of its ports."""
    found = open_files(limit)
    assert (found.verdict, words in found.message) == (verdict, True), found.message


def test_no_block_of_ports_is_left() -> None:
    """Another program has every eighth one."""
    found = ports(2, frozenset(range(FIRST_PORT, LAST_PORT + 1, 8)))
    assert (found.verdict, "No 32 ports in a row" in found.message) == (Verdict.BAD, True)


class TestTheFolderForTemporaryFiles:
    """Where Ray's sockets and logs lie."""

    def test_it_is_left_as_it_was(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A folder is made there, and removed."""
        with tempfile.TemporaryDirectory(dir="/tmp", prefix="rct-") as folder:
            monkeypatch.setattr(tempfile, "tempdir", folder)
            assert folder in temporary_folder().message
            assert list(Path(folder).iterdir()) == []

    def test_too_long_a_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The sentence is that of a head that could not start."""
        monkeypatch.setattr(tempfile, "tempdir", f"{tmp_path}/{'x' * 40}")
        with pytest.raises(ClusterError, match="too long a path"):
            temporary_folder()


def test_a_directory_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    """What lies above it can be written to."""
    found = data_directory(DataDir(tmp_path / "not" / "yet"))
    assert found.verdict is not Verdict.BAD
    assert found.message.startswith(f"{tmp_path}/not/yet can be written to. ")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be(tmp_path: Path) -> None:
    """Whoever one is, nothing can be made in /proc, nor in a file."""
    (tmp_path / "file").touch()
    for path in (Path("/proc/data"), tmp_path / "file"):
        with pytest.raises(UsageError, match="cannot be the data directory"):
            data_directory(DataDir(path))


def test_a_damaged_identity_is_found_before_a_head_needs_it(tmp_path: Path) -> None:
    """In the words of the head that would not start."""
    (tmp_path / "identity.json").write_text("{")
    with pytest.raises(ClusterError, match=r"identity\.json is damaged: start the head with --new-address"):
        data_directory(DataDir(tmp_path))


@pytest.mark.parametrize(
    ("path", "kind"), [("/content/drive/MyDrive/data", "fuse.drive"), ("/content/data", "overlay"), ("/", "overlay")]
)
def test_the_file_system_is_that_of_the_nearest_mount(path: str, kind: str) -> None:
    """Drive is a disk of its own below the root's."""
    assert file_system(Path(path), {"/": "overlay", "/content/drive": "fuse.drive"}) == kind


def test_without_drive_results_end_with_the_tab() -> None:
    """It is said, with the two lines that mend it; a mounted one is named."""
    found = drive(None)
    assert found.verdict is Verdict.NOTE
    assert "results end with this tab: run `from google.colab import drive; drive.mount(" in found.message
    folder = Path("/content/drive/MyDrive/raycolab")
    assert (drive(folder).verdict, str(folder) in drive(folder).message) == (Verdict.GOOD, True)
