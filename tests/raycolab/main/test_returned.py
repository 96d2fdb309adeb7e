"""From what `compute` returned to metrics, or to the sentence that says what to return."""

from __future__ import annotations

import decimal
import fractions
import math
import types

import numpy as np
import pytest

from raycolab.main.returned import BadReturnError, metrics_of
from raycolab.trials import Metric

ACCURACY = Metric("accuracy")


class ZeroDimensional:
    """What a 0-d tensor of another framework looks like: no `item`, but `numpy()`."""

    shape = ()

    def numpy(self) -> object:
        """As numpy's scalar."""
        return np.float32(0.5)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 1),
        (0.5, 0.5),
        (True, True),
        (np.float64(0.5), 0.5),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array(0.5), 0.5),
        (ZeroDimensional(), 0.5),
        (fractions.Fraction(1, 2), 0.5),
        (decimal.Decimal("0.5"), 0.5),
        (math.inf, math.inf),
    ],
)
def test_a_number_of_any_kind_is_the_metric(value: object, expected: float) -> None:
    """Python's, numpy's and 0-d tensors' numbers become plain ones."""
    metrics = metrics_of(value, ACCURACY)
    assert metrics == {"accuracy": expected}
    assert type(metrics["accuracy"]) is type(expected)


def test_nan_is_a_number() -> None:
    """A diverged model is a result."""
    (value,) = metrics_of(np.float32("nan"), ACCURACY).values()
    assert isinstance(value, float)
    assert math.isnan(value)


def test_a_dict_holds_the_metric_among_side_values() -> None:
    """Numbers, texts and None beside the metric are kept, as plain scalars, in any mapping."""
    given = {"accuracy": np.float64(0.5), "epochs": np.int32(3), "note": np.str_("ok"), "best": None}
    expected = {"accuracy": 0.5, "epochs": 3, "note": "ok", "best": None}
    assert metrics_of(given, ACCURACY) == expected
    assert metrics_of(types.MappingProxyType(given), ACCURACY) == expected


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (None, "compute returned None; return the number 'accuracy', or a dict of numbers that has it."),
        ("0.5", "compute returned the text '0.5'; return"),
        (np.zeros(3), r"compute returned a numpy.ndarray of shape \(3,\); return"),
        (np.zeros(1), r"of shape \(1,\)"),
        ([0.5], "compute returned a list of length 1; return"),
        ((0.5, 0.1), "compute returned a tuple of length 2; return"),
        (1 + 2j, "compute returned a complex; return"),
        (object(), "compute returned an object; return"),
        ({}, r"compute returned a dict without 'accuracy' \(it has nothing\); return"),
        ({"loss": 1}, r"without 'accuracy' \(it has 'loss'\); return"),
        ({"accuracy": None}, "compute returned None as 'accuracy'; return"),
        ({"accuracy": "high"}, "compute returned the text 'high' as 'accuracy'; return"),
        ({"accuracy": [1]}, "compute returned a list of length 1 as 'accuracy'; return"),
        ({"accuracy": 1, "curve": np.zeros(2)}, r"a numpy.ndarray of shape \(2,\) as 'curve'; return .* one number"),
        ({"accuracy": 1, 2: 3}, "a dict with the key 2; return .* keys being strings"),
    ],
)
def test_anything_else_is_a_sentence(value: object, sentence: str) -> None:
    """What came back is named, and what to return."""
    with pytest.raises(BadReturnError, match=sentence):
        metrics_of(value, ACCURACY)
