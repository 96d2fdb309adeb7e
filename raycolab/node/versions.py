"""The versions that must agree across a cluster, and the sentence for when they do not."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata

__all__ = ["mismatch", "versions"]


def versions() -> dict[str, str]:
    """Version of raycolab, ray and Python here; nothing of them is imported."""
    return {
        "raycolab": metadata.version("raycolab"),
        "ray": metadata.version("ray"),
        "python": platform.python_version(),
    }


def mismatch(head: Mapping[str, str], joiner: Mapping[str, object]) -> str | None:
    """What a joiner of other versions is told; None when it fits.

    Ray compares itself and Python down to the patch (`ray._private.utils.check_version_info`), so this does too.
    """
    cures = {
        "python": "choose a runtime with Python {0}",
        "ray": "run `pip install ray=={0}` there",
        "raycolab": "install raycolab {0} there",
    }
    for name, cure in cures.items():
        if joiner.get(name) != head[name]:
            theirs = str(joiner.get(name, "none"))[:40]
            label = {"python": "Python"}.get(name, name)
            return (
                f"The head runs {label} {head[name]} and this joiner {label} {theirs}, which cannot form one cluster: "
                f"{cure.format(head[name])} (on the joiner), then join again."
            )
    return None
