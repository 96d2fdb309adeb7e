"""What a key of a sweep is, and what goes for all of them: which there are, the readers several share, the texts.

The table of keys is `SweepSpec` in `raycolab.spec.spec`: each of its fields carries its `Key`. The arguments of
`declare`, the sweep file, `--set`, the comparison with a sweep that exists, `help(raycolab.declare)` and the README's
table come out of it. So do those of a class that has more fields, which is how a test adds a key.

An error carries the way to the value that is wrong (`path`), so that a sweep file can be quoted by line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, get_type_hints

import msgspec

from raycolab.errors import SpaceError, UsageError
from raycolab.spec.domains import as_number, as_whole
from raycolab.text import did_you_mean, listed

__all__ = [
    "CONTRADICTS",
    "EXTENDS",
    "HARMLESS",
    "MOST_TRIALS",
    "ArgumentError",
    "Difference",
    "Key",
    "OnChange",
    "SpaceArgumentError",
    "check_keys",
    "checked_name",
    "checked_names",
    "differences",
    "fields_of",
    "keys_help",
    "keys_of",
    "keys_table",
    "meanings",
    "read_count",
    "read_seconds",
    "read_whole",
    "settle_keys",
]

MOST_TRIALS = 1_000_000
"""Of a sweep: its rows are made and kept at once."""

# Characters of a name, which stands in tables, file names and terminals.
_LONGEST_NAME = 120


class ArgumentError(UsageError):
    """A key or value of a declaration is wrong; `path` leads to it through the keys as written."""

    def __init__(self, path: tuple[str, ...], problem: str) -> None:
        super().__init__(problem)
        self.path = path


class SpaceArgumentError(ArgumentError, SpaceError):
    """The space in a declaration is malformed or does not suit the method."""


Reader = Callable[[str, Any, Mapping[str, Any]], Any]
"""From a key's name, its value or default, and what was read before, to the value of the spec; or ArgumentError."""

Difference = tuple[bool, str]
"""Whether a difference extends the sweep (else it contradicts it), and its line."""


@dataclass(frozen=True, slots=True)
class OnChange:
    """What another value means for a sweep that exists: in the words of the README, and difference by difference."""

    words: str
    differences: Callable[[str, Any, Any], Iterator[Difference]]


def _as_given(_: str, value: object, _read: Mapping[str, object]) -> object:
    return value


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a sweep."""

    # what it takes and does, in one line
    help: str
    # what another value means for a sweep that exists
    change: OnChange
    # by default the value as it is given
    read: Reader = _as_given
    # as people write it; by default the name of its field
    name: str = ""
    # other words for it
    aliases: tuple[str, ...] = ()
    # the value that is read where none is given, and where that is not plain, its description
    default: Any = None
    unless_given: str = ""
    # what W&B calls it, if W&B has it
    wandb: str = ""
    # keys that are read with it and have no field of their own: the reader finds them among what was read before
    beside: tuple[Key, ...] = ()
    # whether `declare` has a parameter of its own for it
    only_in_file: bool = False

    @property
    def default_text(self) -> str:
        """The default in words; empty where there is none."""
        return self.unless_given or ("" if self.default is None else str(self.default))


@cache
def fields_of(spec_type: type[msgspec.Struct]) -> Mapping[str, Key]:
    """The key of each field of the table, in its order."""
    found: dict[str, Key] = {}
    for field, hint in get_type_hints(spec_type, include_extras=True).items():
        for key in getattr(hint, "__metadata__", ()):
            if isinstance(key, Key):
                found[field] = key if key.name else replace(key, name=field)
    return found


def keys_of(spec_type: type[msgspec.Struct]) -> list[Key]:
    """Every key that the table has, those without a field too."""
    return [each for key in fields_of(spec_type).values() for each in (key, *key.beside)]


def meanings(spec_type: type[msgspec.Struct]) -> dict[str, str]:
    """Each word for a key, and the key's own name."""
    return {word: key.name for key in keys_of(spec_type) for word in (key.name, *key.aliases)}


def check_keys(spec_type: type[msgspec.Struct], written: Mapping[str, object], *, in_file: bool = False) -> None:
    """ArgumentError for a key that no declaration, or no sweep file, has."""
    allowed = [key for key in keys_of(spec_type) if in_file or not key.only_in_file]
    known = [word for key in allowed for word in (key.name, *key.aliases)]
    for key in written:
        if key not in known:
            there_are = listed(each.name for each in allowed)
            raise ArgumentError((key,), f"unknown key {key!r}{did_you_mean(key, known)}; allowed are {there_are}")


def settle_keys(spec_type: type[msgspec.Struct], arguments: Mapping[str, object]) -> dict[str, object]:
    """The arguments that say something, under their own names; ArgumentError for unknown and doubled ones."""
    given = {key: value for key, value in arguments.items() if value is not None}
    check_keys(spec_type, given)
    own_name = meanings(spec_type)
    settled: dict[str, object] = {}
    written: dict[str, str] = {}
    for key, value in given.items():
        name = own_name[key]
        if name in settled:
            raise ArgumentError((key,), f"{written[name]} and {key} mean the same; give one of them")
        settled[name], written[name] = value, key
    return settled


def differences(key: str, old: object, new: object, *, extends: bool) -> Iterator[Difference]:
    """One line where the two are not the same."""
    if old != new:
        was, now = ("none" if value is None else value for value in (old, new))
        yield extends, f"{key} was {was} and is now {now}"


def _extends(key: str, old: int | None, new: int | None) -> Iterator[Difference]:
    if old != new:
        grows = (math.inf if new is None else new) > (math.inf if old is None else old)
        was, now = ("unlimited" if count is None else count for count in (old, new))
        yield grows, f"{key} was {was} and is now {now}"


CONTRADICTS = OnChange("refused", partial(differences, extends=False))
"""Rows that exist would mean something else."""

EXTENDS = OnChange("may grow", _extends)
"""A number that may be larger than it was and not smaller; None is the largest."""

HARMLESS = OnChange("counts from now on", partial(differences, extends=True))
"""Rows that exist mean what they meant."""


def read_whole(key: str, value: object, _: Mapping[str, object]) -> int:
    """A whole number."""
    try:
        return as_whole(value)
    except SpaceError as error:
        raise ArgumentError((key,), f"{key}: {error}") from error


def read_count(key: str, value: object, sweep: Mapping[str, object]) -> int | None:
    """A whole number from 1, or None where nothing is said."""
    if value is None:
        return None
    count = read_whole(key, value, sweep)
    if not 1 <= count <= MOST_TRIALS:
        raise ArgumentError((key,), f"{key} is a whole number from 1 to {MOST_TRIALS:,}, not {count:,}")
    return count


def read_seconds(key: str, value: object, _: Mapping[str, object]) -> float | None:
    """Seconds above 0; None for no limit."""
    if value is None:
        return None
    try:
        seconds = float(as_number(value))
    except SpaceError as error:
        raise ArgumentError((key,), f"{key}: {error}") from error
    if not 0 < seconds < math.inf:
        raise ArgumentError((key,), f"{key} is a number of seconds above 0, not {seconds}; remove it for no limit")
    return seconds


def checked_names(key: str, value: object) -> tuple[str, ...]:
    """A list of names, each once."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ArgumentError((key,), f"{key} is a list of names, such as [first, second], not {value!r}")
    checked = tuple(checked_name((key,), f"a name in {key}", name) for name in value)
    for name in checked:
        if checked.count(name) > 1:
            raise ArgumentError((key,), f"{key} names {name!r} twice; remove one")
    return checked


def checked_name(path: tuple[str, ...], what: str, name: object) -> str:
    """A name: printable, not empty, short enough for a table."""
    if not isinstance(name, str) or not name.strip():
        raise ArgumentError(path, f"{what} is text and not empty, not {name!r}; put it in quotes")
    if name != name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME:
        raise ArgumentError(
            path,
            f"{what} is one printable line of at most {_LONGEST_NAME} characters, no spaces around it, not {name!r}",
        )
    return str.__str__(name)


def keys_help(spec_type: type[msgspec.Struct]) -> str:
    """A line for each argument of a declaration, for its docstring."""
    lines = []
    for key in keys_of(spec_type):
        if not key.only_in_file:
            words = " or ".join((key.name, *key.aliases))
            default = f"; default: {key.default_text}" if key.default_text else ""
            lines.append(f"    {words}: {key.help}{default}".replace("`", ""))
    return "\n".join(lines)


def keys_table(spec_type: type[msgspec.Struct]) -> str:
    """The table of the README, in Markdown."""
    lines = ["| key | what it says | unless given | another value later | in W&B |", "|---|---|---|---|---|"]
    for key in keys_of(spec_type):
        words = ", ".join(f"`{word}`" for word in (key.name, *key.aliases))
        wandb = f"`{key.wandb}`" if key.wandb else ""
        lines.append(f"| {words} | {key.help} | {key.default_text} | {key.change.words} | {wandb} |")
    return "\n".join(lines)
