"""What tests of more than one file share: starting Ray is most of what they cost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.engine_stage import Cluster
from tests.integration.failure_stage import Stage, failure_stage
from tests.integration.outage_stage import SHARED_GRACE_S, behind_edges
from tests.integration.sessions import Cluster as Sessions
from tests.integration.sessions import Tab, cluster

LEASE_S = 15
# Shortens the lease in the engine's process; a puller says every 10 s that it lives.
SHORT_LEASE = f"""
import sys
if "default_worker" in " ".join(sys.orig_argv):
    import raycolab.engine.pull
    raycolab.engine.pull.LEASE_S = {LEASE_S}
"""


@pytest.fixture(scope="session")
def engine_cluster() -> Iterator[Cluster]:
    """A head with two CPUs and an engine; each test has sweeps of its own."""
    with Cluster(cpus=2) as started:
        started.start_engine()
        yield started


@pytest.fixture(scope="session")
def doomed() -> Iterator[Stage]:
    """A head and two joiners; the failures come first, then chaos kills every one of them."""
    with failure_stage() as made:
        yield made


@pytest.fixture(scope="session")
def edged() -> Iterator[Sessions]:
    """A head and two joiners, each joiner behind its own edge, for outages shorter than the grace and one past it."""
    with behind_edges({"RAYCOLAB_GRACE_S": str(SHARED_GRACE_S)}) as made:
        yield made


@pytest.fixture(scope="session")
def lone_head() -> Iterator[Sessions]:
    """A head with one CPU, started in a folder with files called as packages that it needs, which raise."""
    with cluster() as made:
        (made.folder / "work").mkdir()
        for name in ("numpy", "optuna", "sqlalchemy"):
            text = f"raise RuntimeError('not the {name} you are looking for')\n"
            (made.folder / "work" / f"{name}.py").write_text(text)
        made.start_head(cwd=made.folder / "work")
        yield made


@pytest.fixture(scope="session", params=[2, pytest.param(5, marks=pytest.mark.slow)], ids=["three tabs", "six tabs"])
def tabs(request: pytest.FixtureRequest) -> Iterator[Sessions]:
    """A head and joiners of one CPU each, with data directories of their own; the tests of `test_cluster` end them.

    The second joiner has a disk and a zone, for plain Ray.
    """
    with cluster() as made:
        (made.folder / "site").mkdir()
        (made.folder / "site" / "sitecustomize.py").write_text(SHORT_LEASE)
        made.env["PYTHONPATH"] = str(made.folder / "site")
        made.start_head()
        for number in range(1, request.param + 1):
            name = f"tab-{number}"
            tab = made.joiners[name] = Tab(made.folder, name)
            own = ["--data-dir", str(made.folder / name)]
            own += ["--resources", '{"disk": 2}', "--labels", "zone=far"] if number == 2 else []
            tab.start("join", f"@{made.address_file}", "--num-cpus", "1", *own)
            made.wait_up(number + 1)  # in turn: tab-1 is joiner-1
        yield made
