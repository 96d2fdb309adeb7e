"""Sweep files: YAML in our format or a plain W&B one, read into a SweepSpec and the path of its MAIN.

One error names everything that is wrong, a line for each: the file, the line, the key, and what to write instead.
Values that were set on the command line (`--set key=value`) replace those of the file, none at all removes them, and
they are named as they were typed. What the keys mean is the table's business (`SweepSpec.declared`), as in a call.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from raycolab.errors import SweepFileError
from raycolab.files import read_text, typed_path
from raycolab.spec.keys import meanings
from raycolab.spec.spec import SweepSpec
from raycolab.spec.values import ArgumentError, Refusals
from raycolab.spec.yaml_text import Lines, YamlError, read_value, read_yaml

__all__ = ["SweepFile", "load_sweep_file"]

# Bytes; more is not a sweep file.
_LARGEST_FILE = 1_000_000
# Characters of an override and of a whole sentence: what was written wrong is quoted in both.
_LONGEST_OVERRIDE = 80
_LONGEST_SENTENCE = 600
_NO_MAIN = "add main: MAIN.ipynb, the notebook that defines compute, or pass --set main=MAIN.ipynb"

# Lines of one error; whoever mends these is told the rest.
_MOST_LINES = 40


@dataclass(frozen=True, slots=True)
class SweepFile:
    """A sweep file, read: the spec, where its MAIN lies (not looked at yet), and what is worth telling about it."""

    spec: SweepSpec
    main_path: Path
    notes: tuple[str, ...] = ()


def load_sweep_file(
    path: str | os.PathLike[str], overrides: Sequence[str] = (), spec_type: type[SweepSpec] = SweepSpec
) -> SweepFile:
    """The sweep that a file and `key=value` overrides declare; SweepFileError for whatever is wrong with them.

    Dotted keys reach into mappings (`metric.name=f1`); values are YAML. The sweep's name is the file's unless it says
    one. Relative paths are relative to the file. `spec_type` is the table of keys.
    """
    file = typed_path(path, "The sweep file")
    if file.suffix == ".ipynb":
        raise SweepFileError(
            f"{file.name} is a notebook: give the sweep file that names it as its main; `raycolab init` writes one."
        )
    try:
        text = read_yaml(_text(file))
    except YamlError as error:
        raise SweepFileError(f"{file.name} line {error.line}: {error.problem}") from error
    places = _Places(file.name, text.lines, meanings(spec_type))
    refusals = Refusals()
    data = dict(text.data)
    for override in overrides:
        _override(data, places, override)
    for way in text.empty:
        if _in_space(places.own(way)) and places.is_of_file(way):
            refusals.add(f"{way[-1]} has no value; give it one, or write null for the constant null", *way)
    with refusals.at():
        declared = spec_type.declared({"name": file.stem, **data})
        if declared.main is None:
            raise ArgumentError(f"it names no notebook; {_NO_MAIN}")
    try:
        refusals.raise_all()
    except ArgumentError as error:
        told = sorted({places.of(path, sentence) for path, sentence in error.refusals})
        sentences = [_shortened(sentence, _LONGEST_SENTENCE) for _, sentence in told]
        if len(sentences) > _MOST_LINES:
            sentences[_MOST_LINES:] = [f"and {len(sentences) - _MOST_LINES} more like these"]
        raise SweepFileError("\n".join(sentences)) from error
    main_path = file.parent / typed_path(str(declared.main), "main")
    return SweepFile(declared.spec, main_path, declared.notes)


def _in_space(path: tuple[str, ...]) -> bool:
    """Whether a key is in a space of parameters."""
    return (path[0] == "parameters" and len(path) > 1) or (path[0] == "models" and len(path) > 2)


class _Places:
    """Where each key was written: a line of the file, or an override."""

    def __init__(self, file_name: str, lines: Lines, own_names: Mapping[str, str]) -> None:
        # what errors call the file
        self.file_name = file_name
        # the key's own name for each word that means it
        self._own_names = own_names
        # lines of the file and overrides as typed, by the way to the key, the first word being its own name
        self._places: dict[tuple[str, ...], int | str] = {
            self.own(way): line for way, line in lines.items() if way == self.own(way) or self.own(way) not in lines
        }

    def own(self, way: tuple[str, ...]) -> tuple[str, ...]:
        """The way to a key by its own name."""
        return (self._own_names.get(way[0], way[0]), *way[1:])

    def typed(self, path: tuple[str, ...], override: str) -> None:
        """Remember that a key was given on the command line, in place of all that the file has there."""
        self._places = {way: place for way, place in self._places.items() if way[: len(path)] != path}
        self._places[path] = override

    def is_of_file(self, path: tuple[str, ...]) -> bool:
        """Whether what the file says there still stands."""
        return isinstance(self._places.get(self.own(path)), int)

    def of(self, path: tuple[str, ...], sentence: str) -> tuple[int, str]:
        """The most exact line known for a key, 0 where there is none, and the sentence with its place before it."""
        place = self._find(self.own(path)) if path else 0
        if isinstance(place, str):
            return 0, f"--set {place}: {sentence}"
        return place, f"{self.file_name}{f' line {place}' if place else ''}: {sentence}"

    def _find(self, path: tuple[str, ...]) -> int | str:
        for length in range(len(path), 0, -1):
            if path[:length] in self._places:
                return self._places[path[:length]]
        return next((place for way, place in self._places.items() if way[: len(path)] == path), 0)


def _override(data: dict[str, object], places: _Places, override: str) -> None:
    """Put one `key=value` of the command line into the data, in place of what the file says."""
    key, sign, text = override.partition("=")
    path = tuple(key.strip().split("."))
    shown = _shortened(override, _LONGEST_OVERRIDE)
    if not sign or not all(path):
        raise SweepFileError(f"--set {shown}: write key=value, with dots for nested keys, as in metric.name=f1")
    try:
        value = read_value(text)
    except YamlError as error:
        problem = _shortened(error.problem, _LONGEST_SENTENCE)
        raise SweepFileError(f"--set {shown}: {problem}; the value is YAML, quote it if need be") from error
    path = places.own(path)
    for word in [word for word in data if word != path[0] and places.own((word,)) == path[:1]]:
        # The key goes by its own name now; a script is told from a notebook by its word.
        data[path[0]] = data[word] if word == "program" else data.pop(word)
    inner = data
    for depth, part in enumerate(path[:-1], start=1):
        below = inner.get(part)
        below = {} if below is None else below
        if not isinstance(below, dict):
            upper = ".".join(path[:depth])
            raise SweepFileError(
                f"--set {shown}: {upper} is {below!r} in {places.file_name}, not a mapping; "
                f"set it as a whole, --set {upper}=..."
            )
        # Aliases share what they name; each has its own from here on.
        inner[part] = inner = dict(below)
    inner[path[-1]] = value
    places.typed(path, shown)


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 2]} …"


def _text(file: Path) -> str:
    try:
        return read_text(file, _LARGEST_FILE)
    except FileNotFoundError:
        raise SweepFileError(f"there is no sweep file {file}; check the path") from None
    except UnicodeDecodeError as error:
        raise SweepFileError(f"{file} is not text in UTF-8; is it a sweep file?") from error
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise SweepFileError(f"{file} is larger than {_LARGEST_FILE:,} bytes; is it a sweep file?") from error
        raise SweepFileError(f"the sweep file {file} cannot be read: {error.strerror}") from error
