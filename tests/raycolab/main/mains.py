"""Small MAINs for tests: what they have in common, and how a failing setup is read."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raycolab.main.node_setups import SetupFailed
from raycolab.main.runtime import MainRuntime
from raycolab.trials import ErrorKind, Failure, Metric

__all__ = ["ACCURACY", "COMPUTE", "Load", "setup_failure"]

ACCURACY = Metric("accuracy")
COMPUTE = "def compute(model='m', dataset='d'):\n    return 1.0"

Load = Callable[..., MainRuntime]
"""The `load` fixture: cells, as text or notebook cells, to a runtime that is not set up yet."""


def setup_failure(runtime: MainRuntime) -> Failure:
    """What setting up fails with."""
    with pytest.raises(SetupFailed) as caught:
        runtime.setup()
    assert caught.value.failure.kind is ErrorKind.SETUP
    return caught.value.failure
