"""The versions that must agree across a cluster, and the sentence for when they do not."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata

__all__ = ["mismatch", "versions"]

_LONGEST_VERSION = 40  # characters of what a joiner says
_CURES = {
    "python": ("Python", "give the joiner a runtime with Python {0}"),
    "ray": ("Ray", "run `pip install ray=={0}` on the joiner"),
    "raycolab": ("raycolab", "install raycolab {0} on the joiner"),
}


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
    for name, (label, cure) in _CURES.items():
        if joiner.get(name) != head[name]:
            theirs = str(joiner.get(name, "none"))[:_LONGEST_VERSION]
            return (
                f"The head has {label} {head[name]} and this joiner {theirs}, which cannot form one cluster: "
                f"{cure.format(head[name])}, then join again."
            )
    return None
