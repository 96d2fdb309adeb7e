"""The number a trial is judged by."""

from __future__ import annotations

import math

from raycolab.trial import Metric, TrialRow, TrialState

__all__ = ["is_comparable", "metric_value"]


def metric_value(row: TrialRow, metric: Metric) -> float:
    """The sweep's metric of a trial; NaN when it has none."""
    value = row.metrics.get(metric.name)
    try:
        return float(value) if isinstance(value, (int, float)) else math.nan
    except OverflowError:  # an integer past the largest float
        return math.inf


def is_comparable(row: TrialRow, metric: Metric) -> bool:
    """Whether it may be best: COMPLETE, with a finite metric."""
    return row.state is TrialState.COMPLETE and math.isfinite(metric_value(row, metric))
