"""Where a trial that ran out of memory is tried once more: the node with the most memory for each of its slots.

It knows what the driver said of the nodes; `Dispatch` asks it.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["NodeMemory"]


class NodeMemory:
    """The memory of each node, shared by the slots it has."""

    def __init__(self) -> None:
        self._bytes: dict[str, int] = {}
        # The most slots seen at once: one that is just being replaced leaves no room to the others.
        self._slots: dict[str, int] = {}

    def node_up(self, node: str, memory_bytes: int | None) -> None:
        """The node has so much memory; None where that is not known."""
        if memory_bytes is not None:
            self._bytes[node] = memory_bytes

    def node_lost(self, node: str) -> None:
        """The node is gone; one of the same name may be another machine."""
        self._bytes.pop(node, None)
        self._slots.pop(node, None)

    def slots_on(self, node: str, count: int) -> None:
        """The node has so many slots now."""
        self._slots[node] = max(count, self._slots.get(node, 1))

    def roomiest(self, nodes: Iterable[str]) -> frozenset[str]:
        """Those of the nodes with the most memory per slot; none where it is known of none."""
        share = {node: self._bytes[node] / self._slots.get(node, 1) for node in nodes if node in self._bytes}
        most = max(share.values(), default=0.0)
        return frozenset(node for node, room in share.items() if room == most)
