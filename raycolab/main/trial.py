"""`raycolab.trial()`: what `compute` may ask of the trial that runs in this process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from raycolab.trials import Config, trial_title

__all__ = ["CurrentTrial", "running", "trial"]


@dataclass(frozen=True, slots=True)
class CurrentTrial:
    """The trial that runs here. Outside a sweep, where `compute` is called by hand, it is number 0 of nobody."""

    number: int = 0
    model: str = "default"
    dataset: str = "default"
    config: Config = field(default_factory=dict)  # flat; nested names joined by "/"
    seed: int | None = None  # what its random numbers start from; None where `reseed` is off, and by hand
    attempt: int = 1  # counted from 1
    node: str = "head"
    work_folder: Path = field(default_factory=Path.cwd)  # MAIN's on this node

    @property
    def folder(self) -> Path:
        """A folder for its files, which is made when it is first asked for and is no other trial's."""
        folder = self.work_folder / "trials" / f"{self.number}.{self.attempt}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def __str__(self) -> str:
        return trial_title(self.number, self.model, self.dataset)


_current: CurrentTrial | None = None


def trial() -> CurrentTrial:
    """The trial that runs in this process: its number, model, dataset, config, seed, attempt, node and folder."""
    return _current or CurrentTrial()


@contextlib.contextmanager
def running(current: CurrentTrial) -> Iterator[None]:
    """This trial runs in the block."""
    global _current
    _current = current
    try:
        yield
    finally:
        _current = None
