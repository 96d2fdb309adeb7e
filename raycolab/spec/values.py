"""Values as people write them: what is read of them, and the error that leads to whatever is wrong.

Whoever finds something wrong raises ArgumentError, or SpaceError, with a sentence about the value alone. Whoever reads
the mapping or list around it adds the way to it (`within`), so that a sweep file can be quoted by line, and goes on
with what else is there (`Refusals`), so that everything that is refused is told in one go.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from raycolab.errors import SpaceError, UsageError
from raycolab.trials import Scalar, Value

__all__ = [
    "MOST_TRIALS",
    "ArgumentError",
    "Refusal",
    "Refusals",
    "SpaceArgumentError",
    "as_count",
    "as_name",
    "as_number",
    "as_scalar",
    "as_value",
    "as_whole",
    "flatten",
    "is_array",
    "read_count",
    "read_flag",
    "read_names",
    "read_seconds",
    "read_whole",
    "within",
]

MOST_TRIALS = 1_000_000
"""Of a sweep: its rows are made and kept at once."""

# Characters of a name, which stands in tables, file names and terminals.
_LONGEST_NAME = 120
# Levels of a list or dict that is a value.
_DEEPEST_VALUE = 20
_LARGEST_FLOAT = int(1.7976931348623157e308)


class Refusal(NamedTuple):
    """One thing that is wrong: the way to it through the keys as written, and the sentence with reason and cure."""

    path: tuple[str, ...]
    sentence: str


class ArgumentError(UsageError):
    """Keys or values of a declaration are wrong: at least one refusal, and a line of the text for each."""

    def __init__(self, problem: str | Sequence[Refusal], path: tuple[str, ...] = ()) -> None:
        self.refusals = (Refusal(path, problem),) if isinstance(problem, str) else tuple(problem)
        super().__init__("\n".join(sentence for _, sentence in self.refusals))

    @property
    def path(self) -> tuple[str, ...]:
        """The way to the first."""
        return self.refusals[0].path


class SpaceArgumentError(ArgumentError, SpaceError):
    """The space in a declaration is malformed or does not suit the method."""


@contextmanager
def within(*path: str, prefix: str = "", space: bool = False) -> Iterator[None]:
    """What is found wrong inside is wrong at `path`, below whatever is being read; `prefix` goes before its sentence.

    With `space` it is the search space that is wrong.
    """
    try:
        yield
    except (ArgumentError, SpaceError) as error:
        found = error.refusals if isinstance(error, ArgumentError) else (Refusal((), str(error)),)
        kind = SpaceArgumentError if space or isinstance(error, SpaceArgumentError) else ArgumentError
        raise kind([Refusal((*path, *below), f"{prefix}{sentence}") for below, sentence in found]) from error


class Refusals:
    """Gathers what is refused, so that a person learns all of it at once."""

    def __init__(self) -> None:
        self._errors: list[ArgumentError] = []

    @contextmanager
    def at(self, *path: str, prefix: str = "", space: bool = False) -> Iterator[None]:
        """What is found wrong inside, as `within` has it, is kept, and reading goes on behind the block."""
        try:
            with within(*path, prefix=prefix, space=space):
                yield
        except ArgumentError as error:
            self._errors.append(error)

    def add(self, sentence: str, *path: str) -> None:
        """One more, at this path."""
        self._errors.append(ArgumentError(sentence, path))

    def raise_all(self) -> None:
        """One error with all of them, if there are any."""
        if self._errors:
            of_space = all(isinstance(error, SpaceError) for error in self._errors)
            found = [refusal for error in self._errors for refusal in error.refusals]
            raise (SpaceArgumentError if of_space else ArgumentError)(found) from self._errors[0]


def as_scalar(value: object) -> Scalar:
    """A JSON scalar, from numpy's scalars too; SpaceError for anything a database cell cannot hold."""
    if type(value).__module__ == "numpy" and hasattr(value, "item"):
        value = value.item() if getattr(value, "ndim", 0) == 0 else value
    if value is None or isinstance(value, bool):
        return value
    # Subclasses, enums among them, become the plain type.
    if isinstance(value, int):
        if abs(value) > _LARGEST_FLOAT:
            raise SpaceError("a whole number of more than 308 digits cannot be computed with; give it as text")
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return str.__str__(value)
    raise SpaceError(
        f"a value of type {type(value).__name__} cannot be stored in one cell of a table; "
        "give a name or a number, and look the object up in compute"
    )


def is_array(value: object) -> bool:
    """Whether it is numpy's array of at least one dimension."""
    return type(value).__module__ == "numpy" and getattr(value, "ndim", 0) > 0


def as_value(value: object, depth: int = 0) -> Value:
    """A JSON value: a scalar, or a list or dict of such, from tuples and numpy's arrays too; SpaceError for others."""
    if depth > _DEEPEST_VALUE:
        raise SpaceError(f"a value is nested at most {_DEEPEST_VALUE} levels deep; look the object up in compute")
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise SpaceError(f"the keys of a value are text, not {key!r}; put it in quotes")
        return {str.__str__(key): as_value(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple | range) or is_array(value):
        return [as_value(inner, depth + 1) for inner in value]  # type: ignore[attr-defined]  # an array
    return as_scalar(value)


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


def as_count(key: str, value: object, least: int = 1, most: int | None = None) -> int:
    """A whole number between two bounds, both included."""
    count = read_whole(key, value, {})
    if count < least or (most is not None and count > most):
        bounds = f"of at least {least}" if most is None else f"from {least} to {most:,}"
        raise ArgumentError(f"{key} is a whole number {bounds}, not {count:,}")
    return count


def as_name(what: str, name: object) -> str:
    """A name: printable, not empty, short enough for a table."""
    if not isinstance(name, str) or not name.strip():
        raise ArgumentError(f"{what} is text and not empty, not {name!r}; put it in quotes")
    if name != name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME:
        form = f"one printable line of at most {_LONGEST_NAME} characters, no spaces around it"
        raise ArgumentError(f"{what} is {form}, not {name!r}")
    return str.__str__(name)


def flatten(
    written: Mapping[Any, object], is_value: Callable[[str, Mapping[Any, object]], bool]
) -> dict[str, tuple[tuple[str, ...], object]]:
    """Nested mappings as flat names, joined by "/", each with the way to it and its value.

    A mapping that by its name and content `is_value` is not looked into. W&B's `{parameters: {...}}` is nested names
    like any other mapping.
    """
    flat: dict[str, tuple[tuple[str, ...], object]] = {}
    refusals = Refusals()

    def walk(mapping: Mapping[Any, object], prefix: str, path: tuple[str, ...]) -> None:
        for key, value in mapping.items():
            name, here = f"{prefix}{key}", (*path, str(key))
            if not isinstance(key, str) or not all(part.strip() for part in key.split("/")):
                refusals.add(f"parameter {name!r}: its name is text and not empty; put it in quotes", *here)
                continue
            nested = value.get("parameters") if isinstance(value, Mapping) and len(value) == 1 else None
            if isinstance(nested, Mapping) and nested:
                walk(nested, f"{name}/", (*here, "parameters"))
            elif isinstance(value, Mapping) and not is_value(name, value):
                walk(value, f"{name}/", here)
            elif name in flat:
                refusals.add(f"parameter {name!r}: it is given twice; remove one", *here)
            else:
                flat[name] = here, value

    walk(written, "", ())
    refusals.raise_all()
    return flat


def read_whole(key: str, value: object, _: Mapping[str, object]) -> int:
    """A whole number."""
    with within(prefix=f"{key}: "):
        return as_whole(value)


def read_flag(key: str, value: object, _: Mapping[str, object]) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ArgumentError(f"{key} is true or false, not {value!r}")
    return value


def read_count(key: str, value: object, _: Mapping[str, object]) -> int | None:
    """A whole number from 1, or None where nothing is said."""
    return None if value is None else as_count(key, value, most=MOST_TRIALS)


def read_seconds(key: str, value: object, _: Mapping[str, object]) -> float | None:
    """Seconds above 0; None for no limit."""
    if value is None:
        return None
    with within(prefix=f"{key}: "):
        seconds = float(as_number(value))
    if not 0 < seconds < math.inf:
        raise ArgumentError(f"{key} is a number of seconds above 0, not {seconds}; remove it for no limit")
    return seconds


def read_names(key: str, value: object, _: Mapping[str, object]) -> tuple[str, ...]:
    """A list of names, each once and at least one."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ArgumentError(f"{key} is a list of names, such as [first, second], not {value!r}")
    names: list[str] = []
    for name in value:
        with within(str(name)):
            names.append(as_name(f"a name in {key}", name))
        if names.count(name) > 1:
            raise ArgumentError(f"{key} names {name!r} twice; remove one")
    if not names:
        raise ArgumentError(f"{key} is empty; name at least one, or leave the key out")
    return tuple(names)
