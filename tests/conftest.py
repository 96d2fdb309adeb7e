"""How the tests share the machine: whole clusters take turns in one of pytest's processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

_CLUSTERS = {"bench", "integration", "notebooks"}


@pytest.hookimpl(wrapper=True)  # before pytest-xdist reads the marks, which it does as early as a plain hook can
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Keep what starts clusters together, for pytest-xdist's `--dist loadgroup`."""
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).parts[0] in _CLUSTERS:
            item.add_marker(pytest.mark.xdist_group("clusters"))
    yield
