"""How the tests share the machine: three processes, with clusters in several of them only where there is room for it.

Starting Ray keeps two cores busy, and Ray gives a node 30 s to start. So the large clusters take turns in one process,
while the others run everything that has no cluster; the small clusters come last, in whichever process is free. Much of
what clusters do is waiting, so three processes keep two cores busy. For this each has a network of its own. Where that
is refused all clusters take turns, for they all use 127.77.0.0/16.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from tests import own_network, programs

# How long inputs take, to be made or to be tested, says something about the machine, which runs clusters meanwhile, and
# nothing about the code.
_PROFILE = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
# The same inputs in each run, so that a change is judged by what it changed; --hypothesis-profile=random draws others.
settings.register_profile("same", _PROFILE, derandomize=True)
settings.register_profile("random", _PROFILE, derandomize=False, print_blob=True)
settings.load_profile("same")

_LARGE = "clusters"
_CLUSTERS = ("tests/bench/", "tests/integration/", "tests/notebooks/")
_AFTER = {
    "tests/integration/test_main_means.py": "tests/integration/test_everywhere.py",
    "tests/integration/test_cluster.py": "tests/integration/test_plain_ray.py",
    "tests/integration/test_held_sweeps.py": "tests/integration/test_refusals.py",
    "tests/integration/test_chaos.py": "tests/integration/test_failure_kinds.py",
    "tests/integration/test_grace.py": "tests/integration/test_outages.py",
}
# Those that take longest come first, so that the processes end together.
_SHARED = {
    "behind edges": ("grace", "outages"),
    "of tabs": ("everywhere", "main_means", "plain_ray", "cluster"),
    "of one head": ("pull", "refusals", "held_sweeps"),
    "of the engine": ("engine", "resources", "search_engine"),
}
_SMALL = {
    f"tests/integration/test_{name}.py": f"small cluster {which}"
    for which, names in {
        **_SHARED,
        **{name: (name,) for name in ("ngrok_provider", "project", "ray_process", "tunnel", "two_machines")},
    }.items()
    for name in names
}
_TURNS = {piece: turn for turn, piece in enumerate(dict.fromkeys(_SMALL.values()), 1)}


def _piece(nodeid: str) -> str:
    """The piece of work that a test is part of: all large clusters, a small one, or its file."""
    file = nodeid.partition("::")[0]
    if not file.startswith(_CLUSTERS):
        return file
    return _SMALL.get(file, _LARGE) if own_network.can_be_had() else _LARGE


class ClustersTogether(LoadScopeScheduling):
    """Gives out whole pieces of work, in the order of the tests."""

    def _split_scope(self, nodeid: str) -> str:
        return _piece(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ClustersTogether:
    """What gives the tests out."""
    return ClustersTogether(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The small clusters come last, and what leaves nothing of a cluster after the others that have it."""
    files = [item.nodeid.partition("::")[0] for item in items]
    first = {file: at for at, file in reversed(list(enumerate(files)))}
    places = [
        (_TURNS.get(_piece(file), 0), first.get(_AFTER.get(file, file), first[file]), file in _AFTER) for file in files
    ]
    items[:] = [item for _, item in sorted(zip(places, items, strict=True), key=lambda each: each[0])]


def pytest_configure(config: pytest.Config) -> None:
    """In one of several processes, take a network."""
    if hasattr(config, "workerinput") and own_network.can_be_had():
        own_network.take()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the end which tests were left out because a program is missing, and what brings it."""
    reasons = [str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", [])]
    left_out = Counter(reason.removeprefix("Skipped: ") for reason in reasons if programs.is_missing_program(reason))
    if left_out:
        terminalreporter.section("left out, because a program is missing; .ci/packages installs them")
        for reason, count in sorted(left_out.items()):
            terminalreporter.line(f"{count} left out: {reason}")
