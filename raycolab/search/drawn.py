"""Method random: each configuration is a function of the seed, the pair and its index, and of nothing else.

Not of time, of the Python version, of the number of nodes, or of the other parameters: each parameter has a draw of its
own, so that adding one leaves the others' values alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping

from raycolab.space.domain import Domain
from raycolab.trial import Scalar

__all__ = ["configuration_source"]

_BITS = 53  # of a float's mantissa
_BYTES = 8


def configuration_source(
    seed: int, model: str, dataset: str, space: Mapping[str, Domain]
) -> Callable[[int], dict[str, Scalar]]:
    """A function that gives the pair's configuration of an index, counted from 0."""
    # One hash per parameter over the canonical JSON of (seed, model, dataset, parameter), finished with the index.
    begun = [
        (name, domain, hashlib.sha256(json.dumps([seed, model, dataset, name]).encode()))
        for name, domain in space.items()
    ]

    def configuration(index: int) -> dict[str, Scalar]:
        suffix = b"%d" % index
        config: dict[str, Scalar] = {}
        for name, domain, start in begun:
            digest = start.copy()
            digest.update(suffix)
            bits = int.from_bytes(digest.digest()[:_BYTES], "big") >> (8 * _BYTES - _BITS)
            config[name] = domain.at(bits / (1 << _BITS))
        return config

    return configuration
