"""The random numbers of a trial: they start from its own seed, whatever the trial before it did.

`set_seed` is what the printed line calls that runs a configuration again, and what is done before each trial.
"""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

__all__ = ["seeded", "set_seed"]


@contextlib.contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """One trial, whose random numbers start from `seed`; with None they go on where they are.

    The seed counts for numpy and torch also where the trial is the first to import them.
    """
    if seed is None:
        yield
        return
    set_seed(seed)
    finder = _SeedOnImport(seed)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        finder.remove()


def set_seed(seed: int) -> None:
    """Start the random numbers of `random`, numpy and torch from `seed`, as a sweep does before each of its trials.

    numpy and torch only where they are loaded. What MAIN makes for itself, such as `numpy.random.default_rng()`, keeps
    its own state.
    """
    random.seed(seed)
    for name, start in _GENERATORS.items():
        if (module := sys.modules.get(name)) is not None:
            start(module, seed)


# Modules with a state of their own, and how it is set. Half-loaded ones have nothing to call yet.
_GENERATORS: dict[str, Callable[[ModuleType, int], object]] = {
    "numpy.random": lambda module, seed: module.seed(seed % 2**32) if hasattr(module, "seed") else None,
    "torch": lambda module, seed: module.manual_seed(seed) if hasattr(module, "manual_seed") else None,
}


class _SeedOnImport(MetaPathFinder):
    """Seeds numpy and torch as they are loaded; it finds nothing by itself."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def remove(self) -> None:
        """Look no more."""
        sys.meta_path[:] = [each for each in sys.meta_path if each is not self]

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path) if name in _GENERATORS else None
        if spec is not None and spec.loader is not None:
            run, loader = spec.loader.exec_module, spec.loader

            def run_and_seed(module: ModuleType) -> None:
                run(module)
                _GENERATORS[name](module, self._seed)

            loader.exec_module = run_and_seed  # type: ignore[method-assign]  # this loader is this module's alone
        return spec
