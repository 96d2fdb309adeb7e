"""What MAIN may not install or remove: ray, raycolab and what they stand on, by pip's own constraints."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib import invalidate_caches
from pathlib import Path

import pytest

from raycolab.main.packages import PackageGuard, ProtectedPackageError
from tests.raycolab.main.mains import COMPUTE, Load, setup_failure

Install = Callable[..., None]

PIP = [sys.executable, "-m", "pip", "install", "--no-index", "--find-links", ".", "--target", "installed"]

# What a command of MAIN that no constraint stops leaves on the disk, found before what is installed.
OLD_NUMPY = (
    "!mkdir numpy-1.0.dist-info && printf 'Metadata-Version: 2.1\\nName: numpy\\nVersion: 1.0\\n' "
    "> numpy-1.0.dist-info/METADATA"
)


def metadata_text(name: str, version: str, *requires: str) -> str:
    """A distribution's METADATA."""
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {n}" for n in requires),
    ]
    return "\n".join(lines) + "\n"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a distribution of this name and version, and what it requires, into a folder Python imports from."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))

    def put(name: str, version: str | None, *requires: str) -> None:
        for old in site.glob(f"{name}-*.dist-info"):
            (old / "METADATA").unlink()
            old.rmdir()
        if version is not None:
            folder = site / f"{name}-{version}.dist-info"
            folder.mkdir()
            (folder / "METADATA").write_text(metadata_text(name, version, *requires))
        invalidate_caches()

    put("cluster_lib", "2.0", "wheelbarrow>=1.5", "frame-lib", "never; extra == 'more'")
    put("frame_lib", "5.0", "Number.Lib>=1.20,<3", "not a requirement")
    put("number_lib", "2.1")
    put("wheelbarrow", "1.8")
    put("never", "1.0")
    return put


@pytest.fixture
def guard(install: Install, tmp_path: Path) -> PackageGuard:
    """What cluster-lib stands on, as it was before MAIN."""
    return PackageGuard(tmp_path / "constraints.txt", ("cluster-lib",))


def wheel(folder: Path, name: str, version: str, *requires: str) -> None:
    """A wheel that pip can install from a folder."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(f"{info}/METADATA", metadata_text(name, version, *requires))
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


def test_the_constraints_are_what_those_who_stand_on_a_package_need(guard: PackageGuard, tmp_path: Path) -> None:
    """The roots at their very versions, what only an extra needs not at all."""
    assert (tmp_path / "constraints.txt").read_text() == (
        "cluster-lib==2.0\nframe-lib\nnumber-lib<3,>=1.20\nwheelbarrow>=1.5\n"
    )


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (
            ["number-lib==1.0"],
            "it needs number-lib==1.0 (here it is 2.1), but frame-lib 5.0 needs number-lib<3,>=1.20:",
        ),
        (["cluster-lib<2"], "needs cluster-lib<2 (here it is 2.0), but every node of the cluster must have the same"),
        (["./number_lib-1.0-py3-none-any.whl"], "it needs number-lib==1.0 (here it is 2.1), but frame-lib 5.0 needs"),
        (["model-zoo"], "it needs number-lib==1.0 (here it is 2.1), but frame-lib 5.0 needs"),
    ],
)
def test_an_install_that_would_break_one_fails_before_it_changes_anything(
    guard: PackageGuard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str], told: str
) -> None:
    """Asked for outright, or needed by what is asked for; the sentence names packages, versions and who needs what."""
    monkeypatch.chdir(tmp_path)
    wheel(tmp_path, "number_lib", "1.0")
    wheel(tmp_path, "cluster_lib", "1.0")
    wheel(tmp_path, "model_zoo", "1.0", "number-lib==1.0")
    with guard.in_force():
        done = subprocess.run([*PIP, *asked], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert not (tmp_path / "installed").exists()
    refused = guard.refused("pip install", done.stdout + done.stderr)
    assert str(refused).startswith("`pip install` was refused before it changed anything, because ")
    assert told in str(refused)


def test_all_that_an_install_would_have_changed_is_named(
    guard: PackageGuard, install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip stops at the first; a person who leaves that one out would meet the next."""
    monkeypatch.chdir(tmp_path)
    wheel(tmp_path, "number_lib", "1.0")
    wheel(tmp_path, "wheelbarrow", "1.0")
    wheel(tmp_path, "book_of_models", "1.0", "number-lib==1.0", "wheelbarrow==1.0")
    command = "pip install -q --no-index --find-links . --target installed book-of-models && echo done"
    with guard.in_force():
        done = subprocess.run([*PIP, "book-of-models"], capture_output=True, text=True, check=False)
        refused = str(guard.refused(command, done.stdout + done.stderr))
    assert "number-lib==1.0 (here it is 2.1)" in refused
    assert "wheelbarrow==1.0 (here it is 1.8)" in refused
    assert not (tmp_path / "installed").exists()


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("pip uninstall -y number-lib wheelbarrow", "cluster-lib 2.0 needs wheelbarrow>=1.5 and frame-lib 5.0 needs"),
        ("/usr/bin/python -m pip uninstall -y Number.Lib", "frame-lib 5.0 needs number-lib<3,>=1.20: leave number-lib"),
        ("uv pip uninstall cluster-lib && echo gone", "every node of the cluster must have the same cluster-lib"),
        ("pip uninstall -y never unrelated", None),
        ("pip install wheelbarrow", None),
    ],
)
def test_a_removal_that_would_break_one_is_not_run(guard: PackageGuard, command: str, told: str | None) -> None:
    """pip asks no constraint before it uninstalls; the node was broken then, for every sweep after."""
    if told is None:
        guard.refuse_removal(command)
        return
    with pytest.raises(ProtectedPackageError) as caught:
        guard.refuse_removal(command)
    assert told in str(caught.value)
    assert " was not run, because " in str(caught.value)


def test_an_install_that_breaks_none_goes_on(
    guard: PackageGuard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older version may be installed on purpose, as long as what stands on it can use it."""
    monkeypatch.chdir(tmp_path)
    wheel(tmp_path, "number_lib", "1.20")
    with guard.in_force():
        subprocess.run([*PIP, "number-lib<2"], check=True)
        done = subprocess.run([*PIP, "not-there==1.0"], capture_output=True, text=True, check=False)
    assert (tmp_path / "installed" / "number_lib.py").exists()
    assert done.returncode == 1
    assert guard.refused("pip install not-there", done.stdout + done.stderr) is None


@pytest.mark.parametrize(
    ("output", "is_refused"),
    [
        ("Because you require number-lib<1.20 and number-lib>=1.20,<3, we can conclude that they", True),
        ("Because model-zoo==1.0 depends on number_lib ==1.0, model-zoo cannot be used", True),
        ("ERROR: No matching distribution found for number-lib==2.99", False),
        ("ERROR: No matching distribution found for unrelated==1.0", False),
        ("", False),
    ],
)
def test_an_output_that_names_a_constraint_broken_is_a_refusal(
    guard: PackageGuard, output: str, is_refused: bool
) -> None:
    """Whatever the installer's own words are; a failure for another reason is told as what it is."""
    assert (guard.refused("uv pip install", output) is not None) is is_refused


def test_the_users_own_constraints_hold_too(guard: PackageGuard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are in force, and the user's alone afterwards, also one that MAIN has set meanwhile."""
    monkeypatch.setenv("PIP_CONSTRAINT", "mine.txt")
    monkeypatch.delenv("UV_CONSTRAINT", raising=False)
    with guard.in_force():
        assert os.environ["PIP_CONSTRAINT"].split()[0] == "mine.txt"
        assert Path(os.environ["PIP_CONSTRAINT"].split()[1]).name == "constraints.txt"
        assert Path(os.environ["UV_CONSTRAINT"]).name == "constraints.txt"
        os.environ["PIP_CONSTRAINT"] += " another.txt"
    assert os.environ["PIP_CONSTRAINT"] == "mine.txt another.txt"
    assert "UV_CONSTRAINT" not in os.environ


@pytest.mark.parametrize(
    ("name", "version", "told"),
    [
        (
            "number_lib",
            "1.19",
            "number-lib is 1.19 after what a cell of MAIN ran, but frame-lib 5.0 needs number-lib<3,",
        ),
        ("number_lib", None, "number-lib is missing after what a cell of MAIN ran"),
        (
            "number_lib",
            None,
            ": leave number-lib out of what MAIN installs and removes, and mend this node with: pip install 'number",
        ),
        ("frame_lib", None, "frame-lib is missing after what a cell of MAIN ran, but cluster-lib 2.0 needs frame-lib"),
        ("cluster_lib", "2.0.1", "but every node of the cluster must have the same cluster-lib"),
        ("cluster_lib", None, "cluster-lib is missing"),
    ],
)
def test_what_no_constraint_stopped_is_found_after_the_cell(
    install: Install, guard: PackageGuard, name: str, version: str | None, told: str
) -> None:
    """`pip uninstall`, for one: what is wrong, who needs what, and what to do."""
    install(name, version)
    with pytest.raises(ProtectedPackageError) as caught:
        guard.check(always=True)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("name", "version"),
    [("number_lib", "1.20"), ("number_lib", "2.2rc1"), ("wheelbarrow", "9"), ("never", "0.1"), ("unrelated", "1")],
)
def test_what_fits_may_change(install: Install, guard: PackageGuard, name: str, version: str) -> None:
    """An older one installed on purpose, what only an extra needs, what nobody needs."""
    install(name, version)
    guard.check(always=True)


def test_what_was_wrong_before_main_is_not_mains_doing(install: Install, tmp_path: Path) -> None:
    """A node whose packages do not fit each other runs as far as it can."""
    install("number_lib", "0.1")
    install("wheelbarrow", None)
    PackageGuard(tmp_path / "constraints.txt", ("cluster-lib",)).check(always=True)
    assert (tmp_path / "constraints.txt").read_text() == "cluster-lib==2.0\nframe-lib\n"


def test_another_worker_of_the_node_finds_the_same(install: Install, guard: PackageGuard, tmp_path: Path) -> None:
    """Also one that came after the change; put back, all is well."""
    install("number_lib", None)
    late = PackageGuard(tmp_path / "constraints.txt", ("cluster-lib",))
    with pytest.raises(ProtectedPackageError, match="number-lib is missing"):
        late.check(always=True)
    install("number_lib", "2.1")
    late.check(always=True)


def test_a_package_that_requires_an_extra_of_another_stands_on_it(install: Install, tmp_path: Path) -> None:
    """As `requests[socks]` stands on PySocks."""
    install("cluster_lib", "2.0", "frame-lib[fast]")
    install("frame_lib", "5.0", "quick>=2; extra == 'fast'")
    install("quick", "2.0")
    PackageGuard(tmp_path / "constraints.txt", ("cluster-lib",))
    assert "quick>=2\n" in (tmp_path / "constraints.txt").read_text()


def test_nothing_is_read_while_no_folder_has_changed(guard: PackageGuard, tmp_path: Path) -> None:
    """Cells that install nothing cost nothing."""
    (tmp_path / "constraints.txt").write_text("=== not read")
    guard.check(always=False)


def test_a_cell_that_asks_for_an_older_numpy_fails_setup_and_changes_nothing(load: Load, tmp_path: Path) -> None:
    """In one sentence with package, versions and cell, in each worker of the node."""
    wheel(tmp_path, "numpy", "1.0")
    for _ in range(2):
        failure = setup_failure(load("x = 1", "%pip install --no-index --find-links . --target . numpy==1.0", COMPUTE))
        assert (failure.ename, failure.cell_index) == ("ProtectedPackageError", 2)
        assert "was refused before it changed anything, because it needs numpy==1.0 (here it is " in failure.summary
        assert failure.summary.endswith("or ask for a version that fits (cell 2)")
    assert not (tmp_path / "numpy.py").exists()


def test_a_change_that_pip_did_not_make_fails_setup_in_every_worker(load: Load) -> None:
    """The other workers run no command again, and find the same."""
    for _ in range(2):
        failure = setup_failure(load(OLD_NUMPY, COMPUTE))
        assert (failure.ename, failure.cell_index) == ("ProtectedPackageError", 1)
        assert "numpy is 1.0 after what a cell of MAIN ran" in failure.evalue


def test_a_cell_of_python_that_installs_is_found_too(load: Load, install: Install, tmp_path: Path) -> None:
    """`subprocess.run([sys.executable, "-m", "pip", ...])` is no shell command of MAIN."""
    cell = (
        "import pathlib\n"
        f"folder = pathlib.Path({str(tmp_path)!r}) / 'site' / 'ray-0.1.dist-info'\n"
        "folder.mkdir()\n"
        "(folder / 'METADATA').write_text('Metadata-Version: 2.1\\nName: ray\\nVersion: 0.1\\n')"
    )
    failure = setup_failure(load("x = 1", cell, COMPUTE))
    assert (failure.ename, failure.cell_index) == ("ProtectedPackageError", 2)
    assert "every node of the cluster must have the same ray" in failure.evalue


def test_the_change_explains_what_failed_after_it(load: Load) -> None:
    """A cell that installs and then fails is told by what it installed; the other error stands below it."""
    failure = setup_failure(load(f"x = 1\n{OLD_NUMPY}\n1 / 0", COMPUTE))
    assert failure.ename == "ProtectedPackageError"
    assert "ZeroDivisionError" in failure.traceback
