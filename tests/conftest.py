"""How the tests share the machine: whole clusters take turns in one of pytest's processes."""

from __future__ import annotations

from pathlib import Path

import pytest

_CLUSTERS = {"bench", "integration", "notebooks"}


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep what starts clusters together, for pytest-xdist's `--dist loadgroup`."""
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).parts[0] in _CLUSTERS:
            item.add_marker(pytest.mark.xdist_group("clusters"))
