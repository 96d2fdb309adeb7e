"""What MAIN's cells may not change: ray, raycolab and the versions that what they stand on needs."""

from __future__ import annotations

from collections.abc import Callable
from importlib import invalidate_caches
from pathlib import Path

import pytest

from raycolab.main.packages import ProtectedPackageError, ProtectedPackages
from tests.raycolab.main.mains import COMPUTE, Load, setup_failure

Install = Callable[..., None]

# What a command of MAIN leaves on the disk when it installs another numpy, found before the one that is installed.
OLD_NUMPY = (
    "!mkdir numpy-1.0.dist-info && printf 'Metadata-Version: 2.1\\nName: numpy\\nVersion: 1.0\\n' "
    "> numpy-1.0.dist-info/METADATA"
)


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
            lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {need}" for need in requires)]
            (folder / "METADATA").write_text("Metadata-Version: 2.1\n" + "\n".join(lines) + "\n")
        invalidate_caches()

    put("cluster_lib", "2.0", "wheelbarrow>=1.5", "frame-lib", "never; extra == 'more'")
    put("frame_lib", "5.0", "Number.Lib>=1.20,<3", "not a requirement")
    put("number_lib", "2.1")
    put("wheelbarrow", "1.8")
    put("never", "1.0")
    return put


@pytest.fixture
def protected(install: Install, tmp_path: Path) -> ProtectedPackages:
    """What cluster-lib stands on, as it was before MAIN."""
    return ProtectedPackages(tmp_path / "packages.json", ("cluster-lib",))


@pytest.mark.parametrize(
    ("name", "version", "told"),
    [
        ("number_lib", "1.19", "number-lib went from 2.1 to 1.19 on this node by what a cell of MAIN ran, but "),
        ("number_lib", "1.19", "but frame-lib 5.0, which raycolab stands on, needs Number.Lib<3,>=1.20: leave number-"),
        ("number_lib", "3.0", "number-lib went from 2.1 to 3.0"),
        ("number_lib", None, "number-lib 2.1 was removed on this node"),
        ("number_lib", None, "or pin a version that fits, and mend this node with: pip install number-lib==2.1"),
        ("wheelbarrow", "1.4", "but cluster-lib 2.0 needs wheelbarrow>=1.5"),
        ("frame_lib", None, "but cluster-lib 2.0 needs frame-lib"),
        ("cluster_lib", "2.0.1", "but every node of the cluster must have the same cluster-lib"),
        ("cluster_lib", None, "cluster-lib 2.0 was removed"),
    ],
)
def test_what_does_not_fit_is_an_error(
    install: Install, protected: ProtectedPackages, name: str, version: str | None, told: str
) -> None:
    """Package, both versions, who needs what, and what to do."""
    install(name, version)
    with pytest.raises(ProtectedPackageError) as caught:
        protected.check(always=True)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("name", "version"),
    [("number_lib", "1.20"), ("number_lib", "2.2rc1"), ("wheelbarrow", "9"), ("never", "0.1"), ("unrelated", "1")],
)
def test_what_fits_may_change(install: Install, protected: ProtectedPackages, name: str, version: str) -> None:
    """An older one pinned on purpose, what only an extra needs, what nobody needs."""
    install(name, version)
    protected.check(always=True)


def test_another_worker_of_the_node_finds_the_same(
    install: Install, protected: ProtectedPackages, tmp_path: Path
) -> None:
    """Also one that came after the change; put back, all is well."""
    install("number_lib", "1.0")
    late = ProtectedPackages(tmp_path / "packages.json", ("cluster-lib",))
    with pytest.raises(ProtectedPackageError, match=r"from 2\.1 to 1\.0"):
        late.check(always=True)
    install("number_lib", "2.1")
    late.check(always=True)


def test_a_package_that_requires_an_extra_of_another_stands_on_it(install: Install, tmp_path: Path) -> None:
    """As `requests[socks]` stands on PySocks."""
    install("cluster_lib", "2.0", "frame-lib[fast]")
    install("frame_lib", "5.0", "quick>=2; extra == 'fast'")
    install("quick", "2.0")
    protected = ProtectedPackages(tmp_path / "packages.json", ("cluster-lib",))
    install("quick", "1.0")
    with pytest.raises(ProtectedPackageError, match=r"quick went from 2\.0 to 1\.0"):
        protected.check(always=True)


def test_nothing_is_read_while_no_folder_has_changed(protected: ProtectedPackages, tmp_path: Path) -> None:
    """Cells that install nothing cost nothing."""
    (tmp_path / "packages.json").write_text("not read")
    protected.check(always=False)


def test_a_cell_that_installs_an_older_numpy_fails_setup(load: Load) -> None:
    """Named by package, both versions and cell, before anything imports it."""
    failure = setup_failure(load("x = 1", OLD_NUMPY, COMPUTE))
    assert (failure.ename, failure.cell_index) == ("ProtectedPackageError", 1)
    assert failure.summary.startswith("ProtectedPackageError: numpy went from ")


def test_it_fails_in_the_other_workers_too(load: Load) -> None:
    """They run no command again, and find the same."""
    for _ in range(2):
        failure = setup_failure(load(OLD_NUMPY, COMPUTE))
        assert (failure.ename, failure.cell_index) == ("ProtectedPackageError", 0)


def test_a_cell_of_python_that_installs_is_found_too(load: Load, install: Install, tmp_path: Path) -> None:
    """`subprocess.run([sys.executable, "-m", "pip", ...])` is no shell command of MAIN."""
    cell = (
        "import pathlib\n"
        f"folder = pathlib.Path({str(tmp_path)!r}) / 'site' / 'ray-0.1.dist-info'\n"
        "folder.mkdir()\n"
        "(folder / 'METADATA').write_text('Metadata-Version: 2.1\\nName: ray\\nVersion: 0.1\\n')"
    )
    failure = setup_failure(load("x = 1", cell, COMPUTE))
    assert (failure.ename, failure.cell_index) == ("ProtectedPackageError", 1)
    assert "every node of the cluster must have the same ray" in failure.evalue


def test_the_change_explains_what_failed_after_it(load: Load) -> None:
    """A cell that installs and then fails is told by what it installed; the other error stands below it."""
    failure = setup_failure(load(f"x = 1\n{OLD_NUMPY}\n1 / 0", COMPUTE))
    assert failure.ename == "ProtectedPackageError"
    assert "ZeroDivisionError" in failure.traceback
