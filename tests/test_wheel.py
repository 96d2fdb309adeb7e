"""The wheel: what is in it, and that what is installed from it, away from the checkout, is the same."""

from __future__ import annotations

import importlib.util
import os
import shutil
import site
import subprocess
import sys
import sysconfig
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ("MAIN.ipynb", "head.ipynb", "joiner.ipynb", "sweep.yaml")
# The tests, pytest's settings, and the examples that tests compare the packaged ones with.
BESIDE = ("tests", "examples", "pyproject.toml")

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("hatchling") is None, reason="hatchling, which builds the wheel, is not installed here"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as pip builds it, without asking the network for what builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    (built,) = folder.iterdir()
    return built


def test_both_packages_are_in_it_whole_and_nothing_else(wheel: Path) -> None:
    """Every module, the marks that they are typed, the protocol's page, the examples; no tests."""
    with zipfile.ZipFile(wheel) as archive:
        inside = {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}
    wanted = {
        str(path.relative_to(ROOT)): path.read_bytes()
        for package in ("raycolab", "tunnel")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    wanted |= {f"raycolab/example_files/{name}": (ROOT / "examples" / name).read_bytes() for name in EXAMPLES}
    assert inside.keys() == wanted.keys()
    assert inside == wanted
    assert {"raycolab/py.typed", "tunnel/py.typed", "tunnel/PROTOCOL.md"} <= inside.keys()


def test_it_says_what_it_is(wheel: Path) -> None:
    """Name, oldest Python, the program `raycolab`, the licence and the page that an index shows."""
    with zipfile.ZipFile(wheel) as archive:
        (info,) = {name.partition("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        about = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
        programs = archive.read(f"{info}/entry_points.txt").decode()
        assert archive.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert (about["Name"], about["Requires-Python"]) == ("raycolab", ">=3.11")
    assert str(about.get_payload()).strip() == (ROOT / "README.md").read_text().strip()
    assert programs.split("\n")[:2] == ["[console_scripts]", "raycolab = raycolab.cli:main"]
    always = [each for each in about.get_all("Requires-Dist", []) if "extra ==" not in each]
    assert "hatchling" not in str(always)


@pytest.fixture
def away(wheel: Path, tmp_path: Path) -> Path:
    """A folder with the tests, and a Python in it that has the wheel, and all else from the one that runs this."""
    for name in BESIDE:
        source, target = ROOT / name, tmp_path / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    # A path from a .pth file is no site folder: the .pth of an editable install in it is not followed.
    places = subprocess.run([python, "-c", _SITE], check=True, capture_output=True, text=True).stdout.strip()
    (Path(places) / "others.pth").write_text("\n".join([sysconfig.get_path("purelib"), *site.getsitepackages()]))
    return tmp_path


_SITE = "import sysconfig; print(sysconfig.get_path('purelib'))"
_WHERE = "import sys, raycolab, tunnel; print(raycolab.__file__, tunnel.__file__, *sys.path, sep='\\n')"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_what_is_installed_from_it_passes_the_unit_tests(away: Path) -> None:
    """In a fresh environment, in a folder of its own, with nothing of the checkout where Python looks."""
    python = str(away / "venv" / "bin" / "python")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PATH"] = f"{away / 'venv' / 'bin'}:{environment['PATH']}"
    where = subprocess.run(
        [python, "-c", _WHERE], cwd=away, env=environment, check=True, capture_output=True, text=True
    )
    ours, theirs, *path = where.stdout.split("\n")
    assert ours.startswith(str(away / "venv"))
    assert theirs.startswith(str(away / "venv"))
    assert str(ROOT) not in path
    command = [python, "-m", "pytest", "tests/tunnel", "tests/raycolab", "-n", "0", "-q", "-p", "no:cacheprovider"]
    ended = subprocess.run(command, cwd=away, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout[-5000:]
    assert " passed" in ended.stdout
