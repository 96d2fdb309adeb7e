"""Python, system and packages are judged by raycolab's own metadata."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from packaging.requirements import Requirement

from raycolab.diagnostics.check import Verdict
from raycolab.diagnostics.software import installed_version, loaded_versions, packages, python, requirements, system

NEEDED = [Requirement("pandas>=2.2"), Requirement("websockets>=15.0")]
DEMO = Requirement('scikit-learn>=1.4; extra == "demo"')
THERE = {"pandas": "2.2.3", "websockets": "15.0.1", "scikit-learn": "1.6"}


@pytest.mark.parametrize(("running", "verdict"), [("3.11.7", Verdict.GOOD), ("3.10.1", Verdict.BAD)])
def test_python(running: str, verdict: Verdict) -> None:
    """An old one is told with what is needed, a good one with what all nodes must share."""
    found = python(running, ">=3.11")
    assert found.verdict is verdict
    assert (">=3.11" if verdict is Verdict.BAD else "Ray ") in found.message


def test_another_system_is_no_node() -> None:
    """And the sentence says where one can be."""
    assert system("Linux").verdict is Verdict.GOOD
    found = system("Darwin")
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
