"""Method grid: every combination of a space's values, the last parameter turning fastest."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

from raycolab.space.domain import Domain
from raycolab.trial import Scalar

__all__ = ["grid_configurations"]


def grid_configurations(space: Mapping[str, Domain]) -> Iterator[dict[str, Scalar]]:
    """Every combination, in the order declared; SpaceError where a domain has no end."""
    names = tuple(space)
    for values in itertools.product(*(domain.grid() for domain in space.values())):
        yield dict(zip(names, values, strict=True))
