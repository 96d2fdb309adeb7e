"""How the tests share the machine: whole clusters take turns in one of pytest's two processes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

# How long inputs take to make says something about the machine, which runs clusters beside, and nothing about the code.
settings.register_profile("shared", suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")

_CLUSTERS = {"bench", "integration", "notebooks"}


class ClustersTogether(LoadScopeScheduling):
    """Everything that starts clusters is one piece of work, every other file another."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "clusters" if file.split("/")[1] in _CLUSTERS else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ClustersTogether:
    """What gives the tests out."""
    return ClustersTogether(config, log)
