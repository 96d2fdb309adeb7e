"""What people write for a number or a name, made a plain JSON scalar. Shared by spaces and declarations; pure."""

from __future__ import annotations

from raycolab.errors import SpaceError
from raycolab.trials import Scalar

__all__ = ["as_number", "as_scalar", "as_whole"]


def as_scalar(value: object) -> Scalar:
    """A JSON scalar, from numpy's scalars too; SpaceError for anything a database cell cannot hold."""
    if type(value).__module__ == "numpy" and hasattr(value, "item"):
        value = value.item() if getattr(value, "ndim", 0) == 0 else value
    if value is None or isinstance(value, bool):
        return value
    # Subclasses, enums among them, become the plain type.
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return str.__str__(value)
    raise SpaceError(
        f"a value of type {type(value).__name__} cannot be stored as one cell of a table; "
        "give a name or a number, and look the object up in compute"
    )


def as_number(value: object) -> int | float:
    """An int or float, from numpy's too; SpaceError for anything else."""
    scalar = as_scalar(value)
    if isinstance(scalar, bool) or not isinstance(scalar, int | float):
        raise SpaceError(f"a number is needed, not {scalar!r}")
    return scalar


def as_whole(value: object) -> int:
    """A whole number, from 10.0 and numpy's too; SpaceError for anything else."""
    number = as_number(value)
    if isinstance(number, float) and not number.is_integer():
        raise SpaceError(f"a whole number is needed, not {number!r}")
    return int(number)
