"""After Ray started on a node: can everyone dial what everyone needs? Decides who dials what, and names what fails.

Sans-I/O: the head carries the plan out with the mesh's probes and reads the result here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

__all__ = ["Probe", "Reachable", "failure_sentence", "pairs", "plan"]


@dataclass(frozen=True, slots=True)
class Reachable:
    """A node whose Ray is up, and the ports of it that others must be able to dial, by what they are for."""

    id: int
    name: str
    ports: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Probe:
    """One dial: from the node `source` to a port of the node `target`."""

    source: int
    target: int
    port: int


def plan(newcomer: Reachable, others: Iterable[Reachable]) -> list[Probe]:
    """Every dial between a newcomer and the others, in both directions."""
    probes = []
    for other in others:
        probes += [Probe(other.id, newcomer.id, port) for port in newcomer.ports.values()]
        probes += [Probe(newcomer.id, other.id, port) for port in other.ports.values()]
    return probes


def failure_sentence(failed: Iterable[Probe], nodes: Iterable[Reachable]) -> str | None:
    """One sentence for the first dial that failed, None when none did."""
    known = {node.id: node for node in nodes}
    for probe in failed:
        source, target = known.get(probe.source), known.get(probe.target)
        if source is None or target is None:
            continue
        port = next((f"{role} port" for role, port in target.ports.items() if port == probe.port), "port")
        return (
            f"{source.name} cannot reach {target.name}'s {port} {probe.port}: trials may fail there; "
            f"end the joiner and run it again."
        )
    return None


def pairs(value: object) -> list[tuple[int, int]]:
    """The (node, port) pairs in what a peer sent; what is no pair of numbers is left out."""
    if not isinstance(value, list):
        return []
    return [
        (item[0], item[1])
        for item in value
        if isinstance(item, list) and len(item) == 2 and all(isinstance(number, int) for number in item)
    ]
