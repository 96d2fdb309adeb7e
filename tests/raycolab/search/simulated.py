"""A cluster that is only a loop: trials of a spec, several at once, ended in an order of chance, a known optimum."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace

from raycolab.search import enumerate_trials
from raycolab.search.studies import Studies
from raycolab.spec.spaces import integer, loguniform, uniform
from raycolab.spec.spec import Method, SweepSpec
from raycolab.trials import Config, Scalar, TrialState

__all__ = ["IN_PARALLEL", "OPTIMUM", "SPACE", "Simulated", "regret"]

IN_PARALLEL = 6
OPTIMUM: dict[str, Scalar] = {"x": 1.5, "lr": 3e-3, "width": 60, "decay": 1e-5}
SPACE: dict[str, object] = {
    "x": uniform(-5, 5),
    "lr": loguniform(1e-6, 1),
    "width": integer(1, 200),
    "decay": loguniform(1e-8, 1e-1),
}


def regret(config: Config) -> float:
    """How far a configuration is from the optimum, where it is 0: squared, each parameter's range counted as 1."""

    def number(name: str) -> tuple[float, float]:
        value, best = config[name], OPTIMUM[name]
        assert isinstance(value, int | float)
        assert isinstance(best, int | float)
        return value, best

    (x, best_x), (width, best_width) = number("x"), number("width")
    far = [(x - best_x) / 10, (width - best_width) / 200]
    for name, decades in (("lr", 6), ("decay", 7)):
        value, best = number(name)
        far.append((math.log10(value) - math.log10(best)) / decades)
    return sum(part * part for part in far)


class Simulated:
    """A sweep whose trials cost nothing: `rows` is what a store would hold at any moment."""

    def __init__(self, spec: SweepSpec, measure: Callable[[Config], float] = regret) -> None:
        self.spec = spec
        self.rows = enumerate_trials(spec)
        self.studies = Studies(spec, self.rows) if spec.method is Method.BAYES else None
        self._measure = measure
        self._chance = random.Random(spec.seed)
        self._running: list[int] = []
        self._ended = 0

    def run(self, until: int) -> None:
        """Go on until so many trials are complete."""
        while self._ended < until:
            for row in self.rows:
                if row.state is TrialState.PENDING and len(self._running) < IN_PARALLEL:
                    config = row.config if self.studies is None else self.studies.propose(row)
                    self.rows[row.number] = replace(row, config=config, state=TrialState.RUNNING)
                    self._running.append(row.number)
            self._end(self._running.pop(self._chance.randrange(len(self._running))))

    def restart(self) -> None:
        """Everything in memory is gone, what the rows say is there, and the running trials wait to run again."""
        self._running.clear()
        for row in self.rows:
            if row.state is TrialState.RUNNING:
                self.rows[row.number] = replace(row, state=TrialState.PENDING)
        self.studies = Studies(self.spec, self.rows)

    def _end(self, number: int) -> None:
        row = self.rows[number]
        assert row.config is not None
        self._ended += 1
        metrics = {self.spec.metric.name: self._measure(row.config)}
        self.rows[number] = replace(row, state=TrialState.COMPLETE, metrics=metrics, ended_at=float(self._ended))
        if self.studies is not None:
            self.studies.ended(self.rows[number])

    @property
    def best(self) -> float:
        """The least regret so far."""
        return min(regret(row.config) for row in self.rows if row.state is TrialState.COMPLETE and row.config)
