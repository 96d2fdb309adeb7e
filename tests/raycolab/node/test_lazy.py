"""The stand-in for a package that takes a second to import: nothing is missed, and only who uses it waits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from raycolab.node.ray_command import quick_imports

REAL = """
print("loaded")
from .rules import *
"""
RULES = """
def is_valid_syntax(rule, value):
    return (rule, value)
MORE = 7
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder of sys.path with a package of that name."""
    package = tmp_path / "rfc3987_syntax"
    package.mkdir()
    (package / "__init__.py").write_text(REAL)
    (package / "rules.py").write_text(RULES)
    return tmp_path


def run(code: str, *folders: Path) -> str:
    """What the code prints where our folder comes before these, and there are no others."""
    environment = quick_imports({"PYTHONPATH": ":".join(map(str, folders))} if folders else {})
    done = subprocess.run([sys.executable, "-S", "-c", code], env=environment, capture_output=True, text=True)
    return done.stdout + done.stderr[done.stderr.rfind("\n", 0, -1) + 1 :]


def test_it_is_loaded_when_it_is_used(installed: Path) -> None:
    """An import by name costs nothing; the first call loads the package, once, and gives its answer."""
    code = "from rfc3987_syntax import is_valid_syntax as check; print('imported')\n"
    assert run(code, installed) == "imported\n"
    called = code + "print(check('iri', value=1), check('iri', 2)); import rfc3987_syntax; print(rfc3987_syntax.MORE)"
    assert run(called, installed) == "imported\nloaded\n('iri', 1) ('iri', 2)\n7\n"


@pytest.mark.parametrize(
    "code",
    [
        "import rfc3987_syntax; print(rfc3987_syntax.MORE)",
        "from rfc3987_syntax import MORE; print(MORE)",
    ],
)
def test_all_else_of_it_is_there(installed: Path, code: str) -> None:
    """Whatever is asked of it is the package's."""
    assert run(code, installed).endswith("7\n")


def test_its_modules_are_found(installed: Path) -> None:
    """They are files of the package."""
    assert run("from rfc3987_syntax.rules import MORE; print(MORE)", installed) == "7\n"


def test_where_it_is_not_installed_it_is_not_there() -> None:
    """jsonschema takes that as an answer."""
    assert run("import rfc3987_syntax") == "ModuleNotFoundError: No module named 'rfc3987_syntax'\n"


def test_ones_own_path_stays() -> None:
    """Our folder comes first, and nothing else changes."""
    assert quick_imports({"PATH": "/bin", "PYTHONPATH": "/mine"})["PYTHONPATH"].endswith("/raycolab/node/lazy:/mine")
    assert list(quick_imports({"PATH": "/bin"})) == ["PATH", "PYTHONPATH"]
