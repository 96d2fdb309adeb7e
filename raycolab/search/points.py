"""Which points of a sweep a pair has yet to try: those that none of its configurations has the values of. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from raycolab.trial import Config, Scalar

__all__ = ["untried"]


def untried(points: Sequence[Mapping[str, Scalar]], tried: Sequence[Config | None]) -> list[dict[str, Scalar]]:
    """The points, in order, that no configuration stands for; each configuration stands for one point at most."""
    left = [config for config in tried if config is not None] if points else []
    missing: list[dict[str, Scalar]] = []
    for point in points:
        standing = next((index for index, config in enumerate(left) if _agrees(point, config)), None)
        if standing is None:
            missing.append(dict(point))
        else:
            del left[standing]
    return missing


def _agrees(point: Mapping[str, Scalar], config: Config) -> bool:
    """Whether the configuration has the point's values, told apart as JSON does."""
    return all(name in config and json.dumps(config[name]) == json.dumps(value) for name, value in point.items())
