"""What a machine gives to a cluster."""

from __future__ import annotations

import os

import pytest

from raycolab.node.capacity import cpu_count, gpu_count


def test_cpus_are_those_this_process_may_use() -> None:
    """A process that is bound to one CPU has one, whatever the machine has."""
    allowed = os.sched_getaffinity(0)
    assert 1 <= cpu_count() <= len(allowed)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert cpu_count() == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize(("visible", "count"), [("", 0), ("-1", 0), ("0", 1), ("0, 3,GPU-8932f937", 3), (",", 0)])
def test_gpus_are_those_cuda_may_see(monkeypatch: pytest.MonkeyPatch, visible: str, count: int) -> None:
    """CUDA_VISIBLE_DEVICES lists numbers or names; empty and -1 hide them all."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_count() == count


def test_without_that_variable_all_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device files count, /dev/nvidiactl and the like do not."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpu_count() == sum(name.removeprefix("nvidia").isdigit() for name in os.listdir("/dev"))
