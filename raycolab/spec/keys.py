"""What a key of a sweep is, and what the table of them says: which words there are, and the texts for people.

The table of keys is `SweepSpec` in `raycolab.spec.spec`: each of its fields carries its `Key`. The arguments of
`declare`, the sweep file, `--set`, the comparison with a sweep that exists, `help(raycolab.declare)` and the README's
table come out of it. So do those of a class that has more fields, which is how a test adds a key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, get_type_hints

import msgspec

from raycolab.spec.values import ArgumentError, Refusals
from raycolab.spec.wandb import unused_key
from raycolab.text import did_you_mean, listed

__all__ = [
    "Difference",
    "Key",
    "OnChange",
    "fields_of",
    "keys_help",
    "keys_of",
    "keys_table",
    "meanings",
    "settle_keys",
]

Reader = Callable[[str, Any, Mapping[str, Any]], Any]
"""From a key's name, its value or default, and what was read before, to the value of the spec; or ArgumentError."""

Difference = tuple[bool, str]
"""Whether a difference extends the sweep (else it contradicts it), and its line."""


@dataclass(frozen=True, slots=True)
class OnChange:
    """What another value means for a sweep that exists: in the words of the README, and difference by difference."""

    words: str
    # from the key's name, the old value and the new one; None where the values are not compared
    differences: Callable[[str, Any, Any], Iterator[Difference]] | None = None


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
    def words(self) -> tuple[str, ...]:
        """Every word for it, its own name first."""
        return (self.name, *self.aliases)

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
    return {word: key.name for key in keys_of(spec_type) for word in key.words}


def settle_keys(
    spec_type: type[msgspec.Struct], written: Mapping[str, object], refusals: Refusals
) -> tuple[dict[str, object], list[str]]:
    """What is written, under the keys' own names and without None, and the keys of W&B's that are not used.

    Unknown and doubled keys are refused.
    """
    own_name = meanings(spec_type)
    settled: dict[str, object] = {}
    word_for: dict[str, str] = {}
    unused: list[str] = []
    for word, value in written.items():
        # In a W&B file `main` goes before its script.
        if value is None or (word == "program" and written.get("main") is not None):
            continue
        with refusals.at():
            name = own_name.get(word)
            if name is None and unused_key(word, value):
                unused.append(word)
            elif name is None:
                hint, there_are = did_you_mean(word, own_name), listed(key.name for key in keys_of(spec_type))
                raise ArgumentError(f"unknown key {word!r}{hint}; allowed are {there_are}", (word,))
            elif name in settled:
                raise ArgumentError(f"{word_for[name]} and {word} mean the same; give one of them", (word,))
            else:
                settled[name], word_for[name] = value, word
    return settled, unused


def keys_help(spec_type: type[msgspec.Struct]) -> str:
    """A line for each argument of a declaration, for its docstring."""
    lines = []
    for key in keys_of(spec_type):
        if not key.only_in_file:
            default = f"; default: {key.default_text}" if key.default_text else ""
            lines.append(f"    {' or '.join(key.words)}: {key.help}{default}".replace("`", ""))
    return "\n".join(lines)


def keys_table(spec_type: type[msgspec.Struct]) -> str:
    """The table of the README, in Markdown."""
    lines = ["| key | what it says | unless given | another value later | in W&B |", "|---|---|---|---|---|"]
    for key in keys_of(spec_type):
        words = ", ".join(f"`{word}`" for word in key.words)
        wandb = f"`{key.wandb}`" if key.wandb else ""
        lines.append(f"| {words} | {key.help} | {key.default_text} | {key.change.words} | {wandb} |")
    return "\n".join(lines)
