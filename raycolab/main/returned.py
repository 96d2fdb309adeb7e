"""From what `compute` returned to the metrics of a trial.

A number is the sweep's metric; a dict of scalars holds it among others. numpy's scalars and 0-d tensors are numbers.
NaN and infinities are numbers too: the trial is complete, and never the best.
"""

from __future__ import annotations

import numbers
from collections.abc import Mapping

from raycolab.trials import Metric, Scalar

__all__ = ["BadReturnError", "metrics_of", "scalar_of"]


class BadReturnError(Exception):
    """`compute` returned something no metric can be read from; the text names it and what to return."""


def metrics_of(value: object, metric: Metric) -> dict[str, Scalar]:
    """The metrics in what `compute` returned, the sweep's own always among them."""
    wanted = f"return the number {metric.name!r}, or a dict of numbers that has it"
    if not isinstance(value, Mapping):
        number = scalar_of(value)
        if not _is_number(number):
            raise BadReturnError(f"compute returned {_described(value)}; {wanted}.")
        return {metric.name: number}
    metrics: dict[str, Scalar] = {}
    for name, item in value.items():
        if not isinstance(name, str):
            raise BadReturnError(f"compute returned a dict with the key {name!r}; {wanted}, its keys being strings.")
        scalar = scalar_of(item)
        if scalar is None and item is not None:
            raise BadReturnError(f"compute returned {_described(item)} as {name!r}; {wanted}, each value one number.")
        metrics[name] = scalar
    if metric.name not in metrics:
        names = ", ".join(repr(name) for name in metrics) or "nothing"
        raise BadReturnError(f"compute returned a dict without {metric.name!r} (it has {names}); {wanted}.")
    if not _is_number(metrics[metric.name]):
        raise BadReturnError(f"compute returned {_described(value[metric.name])} as {metric.name!r}; {wanted}.")
    return metrics


def _is_number(scalar: Scalar) -> bool:
    return isinstance(scalar, bool | int | float)


def scalar_of(value: object) -> Scalar:
    """The plain scalar `value` stands for; None where it stands for none."""
    if type(value).__name__ == "str_" or _is_zero_dimensional(value):
        value = value.item() if hasattr(value, "item") else value.numpy().item()  # type: ignore[attr-defined]
    if isinstance(value, bool | str):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real) or type(value).__name__ == "Decimal":
        return float(value)  # type: ignore[arg-type]  # Fraction, Decimal and what registers as Real
    return None


def _is_zero_dimensional(value: object) -> bool:
    """numpy's scalars and arrays and the tensors of every framework that have one value and no axis."""
    shape = getattr(value, "shape", None)
    try:
        return shape is not None and len(shape) == 0 and (hasattr(value, "item") or hasattr(value, "numpy"))
    except (TypeError, ValueError):  # a shape that is not known, or not a shape
        return False


def _described(value: object) -> str:
    """`None`, `the text 'abc'`, `a numpy.ndarray of shape (3,)`."""
    if value is None:
        return "None"
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    kind = type(value)
    name = (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )
    shape = getattr(value, "shape", None)
    size = f" of length {len(value)}" if isinstance(value, list | tuple | set) else ""
    article = "an" if name[0] in "aeiouAEIOU" else "a"
    return f"{article} {name}" + (f" of shape {tuple(shape)}" if isinstance(shape, tuple) else size)
