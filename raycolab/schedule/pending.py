"""The trials that wait for a slot: lowest number first within each model.

It holds order only. Whether a model may run now is `ModelGuards`' answer, on which slot is `Scheduler`'s.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

__all__ = ["PendingQueue"]


class PendingQueue:
    """One heap of trial numbers per model; a number is in it once or not at all."""

    def __init__(self) -> None:
        self._heaps: dict[str, list[int]] = {}
        self._model_of: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._model_of)

    def __contains__(self, number: int) -> bool:
        return number in self._model_of

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._model_of))

    @property
    def models(self) -> list[str]:
        """The models that have trials waiting."""
        return [model for model, heap in self._heaps.items() if heap]

    def count(self, model: str) -> int:
        """How many trials of the model wait."""
        return len(self._heaps.get(model, ()))

    def add(self, number: int, model: str) -> None:
        """The trial waits, in its place by number."""
        if number not in self._model_of:
            self._model_of[number] = model
            heapq.heappush(self._heaps.setdefault(model, []), number)

    def first(self, model: str) -> int:
        """The model's next trial; KeyError or IndexError when it has none."""
        return self._heaps[model][0]

    def pop(self, model: str) -> int:
        """Take the model's next trial out."""
        number = heapq.heappop(self._heaps[model])
        del self._model_of[number]
        return number

    def clear(self) -> None:
        """Nothing waits any more."""
        self._heaps.clear()
        self._model_of.clear()
