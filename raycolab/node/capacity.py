"""What this machine gives to a cluster: CPUs this process may use, and NVIDIA GPUs that are there."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cpu_count", "gpu_count"]


def cpu_count() -> int:
    """CPUs that this process may run on, no more than its control group pays for; at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:  # cgroup v2: "max 100000" or "<quota> <period>", in microseconds
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            allowed = min(allowed, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return max(1, allowed)


def gpu_count() -> int:
    """NVIDIA GPUs of this machine that CUDA_VISIBLE_DEVICES does not hide."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    return len([path for path in Path("/dev").glob("nvidia[0-9]*") if path.name[6:].isdigit()])
