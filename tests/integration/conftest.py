"""What tests of more than one file share: starting Ray is most of what they cost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.engine_stage import Cluster
from tests.integration.failure_stage import Stage, failure_stage
from tests.integration.outage_stage import SHARED_GRACE_S, behind_edges
from tests.integration.sessions import Cluster as Sessions


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
