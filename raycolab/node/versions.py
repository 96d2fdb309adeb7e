"""The versions that must agree across a cluster, and the sentence for when they do not."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata

__all__ = ["mismatch", "versions"]

_LONGEST_VERSION = 40  # characters of what a joiner claims to have
_RULES = {  # what each is called, and the cure, for the version that the joiner needs
    "python": ("Python", "give the joiner a runtime with any Python {0}"),
    "ray": ("Ray", "run `pip install ray=={0}` on the joiner"),
    "raycolab": ("raycolab", "install raycolab {0} on the joiner"),
}


def versions() -> dict[str, str]:
    """The versions of raycolab, Ray and Python here; neither package is imported."""
    return {
        "raycolab": metadata.version("raycolab"),
        "ray": metadata.version("ray"),
        "python": platform.python_version(),
    }


def mismatch(head: Mapping[str, str], joiner: Mapping[str, object]) -> str | None:
    """The sentence for a joiner whose versions do not fit the head's; None when they do.

    Of Python the patch release may differ, as Ray is told too (RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL, `ray_command`).
    """
    for name, (label, cure) in _RULES.items():
        needed = _what_counts(name, head[name])
        if _what_counts(name, joiner.get(name)) != needed:
            theirs = str(joiner.get(name, "none"))[:_LONGEST_VERSION]
            return (
                f"The head has {label} {head[name]} and this joiner {theirs}, which cannot form one cluster:"
                f" {cure.format(needed)}, then join again."
            )
    return None


def _what_counts(name: str, version: object) -> object:
    """`3.11` of Python's `3.11.7`; of all else the whole version."""
    return ".".join(version.split(".")[:2]) if name == "python" and isinstance(version, str) else version
