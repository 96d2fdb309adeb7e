"""A test whose program is missing says which package brings it, and passes for done only where nobody is misled."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests import programs


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine where nothing is installed."""
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    return monkeypatch


def test_a_program_that_is_there_is_named_by_its_path() -> None:
    """Python's own folder is on everybody's PATH; a name that nobody has is None."""
    assert Path(programs.find("sh") or "").name == "sh"
    assert programs.find("no-program-is-called-so") is None


def test_a_missing_program_skips_its_test_with_the_package_as_reason(bare: pytest.MonkeyPatch) -> None:
    """The summary at the end of pytest's output knows it again."""
    bare.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"nginx is not installed: .* nginx-light") as left:
        programs.needs("nginx")
    assert programs.is_missing_program(str(left.value))


def test_under_ci_it_fails_its_test(bare: pytest.MonkeyPatch) -> None:
    """A check that decides over a merge leaves nothing out."""
    bare.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="nginx-light"):
        programs.needs("nginx")


def test_each_package_is_asked_for_once(bare: pytest.MonkeyPatch) -> None:
    """Several of their programs are missing."""
    assert programs.missing_packages() == sorted(set(programs.missing_packages()))
    assert {"openssh-client", "nginx-light", "postgresql"} <= set(programs.missing_packages())
