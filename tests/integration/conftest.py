"""What tests of more than one file share: starting Ray is most of what they cost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.engine_stage import Cluster


@pytest.fixture(scope="session")
def engine_cluster() -> Iterator[Cluster]:
    """A head with two CPUs and an engine; each test has sweeps of its own."""
    with Cluster(cpus=2) as started:
        started.start_engine()
        yield started
