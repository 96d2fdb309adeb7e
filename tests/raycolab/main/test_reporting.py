"""What `report` does with and without a sweep, and what a trial that is pruned becomes."""

from __future__ import annotations

import math

import numpy as np
import pytest

import raycolab
from raycolab.main.reporting import TrialPruned, is_pruned, report, reporting
from raycolab.trials import TrialState
from tests.raycolab.main.mains import ACCURACY, Load

TRAIN = """
import raycolab
def compute(model, dataset, steps):
    for step in range(steps):
        raycolab.report(step, step / 10)
    return 1.0
"""


def test_by_hand_it_does_nothing() -> None:
    """MAIN runs outside of a sweep as it is."""
    assert raycolab.report is report
    report(0, 0.5)


def test_a_sweep_hears_each_step() -> None:
    """Whole steps, and numbers of whatever kind as floats; the last value is remembered."""
    told: list[tuple[int, float]] = []

    def sink(step: int, value: float) -> bool:
        told.append((step, value))
        return False

    with reporting(sink) as last:
        assert last() is None
        report(0, 1)
        report(np.int64(1), np.float32(0.5))  # type: ignore[arg-type]
        report(2, math.inf)
        assert last() == math.inf
    report(3, 0.0)
    assert told == [(0, 1.0), (1, 0.5), (2, math.inf)]


@pytest.mark.parametrize(
    ("step", "value", "words"),
    [(-1, 0.5, "at least 0"), (0.5, 0.5, "whole number"), (0, "good", "one number"), (0, [1.0], "one number")],
)
def test_what_is_no_number_is_said_also_by_hand(step: object, value: object, words: str) -> None:
    """A mistake shows where the notebook is written, not on a worker."""
    with pytest.raises(TypeError, match=words):
        report(step, value)  # type: ignore[arg-type]


def test_a_trial_that_is_pruned_ends_at_its_report(load: Load) -> None:
    """PRUNED, with the value it reported last, and no failure; the next trial starts afresh."""
    runtime = load(TRAIN)
    runtime.setup()
    outcome = runtime.compute("m", "d", {"steps": 9}, ACCURACY, sink=lambda step, value: step == 3)
    assert (outcome.state, outcome.metrics, outcome.failure) == (TrialState.PRUNED, {"accuracy": 0.3}, None)
    outcome = runtime.compute("m", "d", {"steps": 9}, ACCURACY, sink=lambda step, value: False)
    assert (outcome.state, outcome.metrics) == (TrialState.COMPLETE, {"accuracy": 1.0})


def test_code_that_brings_optuna_s_exception_is_pruned_too(load: Load) -> None:
    """As objectives written for Optuna raise it by themselves; without a report there is no value."""
    runtime = load("import optuna\ndef compute(model, dataset):\n    raise optuna.TrialPruned()\n")
    runtime.setup()
    outcome = runtime.compute("m", "d", {}, ACCURACY)
    assert (outcome.state, outcome.metrics) == (TrialState.PRUNED, {})
    assert is_pruned(TrialPruned())
    assert not is_pruned(ValueError())
