"""Sweep files: YAML in our format or a plain W&B one, read into a SweepSpec and the path of its MAIN.

Every error names the file, the line and the key, and says what to write instead. Values that were set on the command
line (`--set key=value`) replace those of the file and are named as they were typed. Which keys there are and what they
may hold is the table's business (`raycolab.spec.spec`): what is read here goes by the keys' own names at once.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from raycolab.errors import SweepFileError
from raycolab.files import read_text, typed_path
from raycolab.spec.keys import meanings, settle_keys
from raycolab.spec.spaces import is_parameter
from raycolab.spec.spec import SweepSpec
from raycolab.spec.values import ArgumentError

__all__ = ["SweepFile", "YamlError", "load_sweep_file", "read_value", "read_yaml"]

# Bytes; more is not a sweep file.
_LARGEST_FILE = 1_000_000
# Characters of an override and of a whole sentence: what was written wrong is quoted in both.
_LONGEST_OVERRIDE = 80
_LONGEST_SENTENCE = 600
_NO_MAIN = "add main: MAIN.ipynb, the notebook that defines compute, or pass --set main=MAIN.ipynb"

_WANDB_ONLY: Mapping[str, str] = {
    "apiVersion": "is W&B's own bookkeeping",
    "command": "is the command line of a script, and raycolab calls compute instead",
    "controller": "chooses who runs a W&B sweep, and here it is the head",
    "description": "has no place in a sweep's table",
    "entity": "names an account at W&B",
    "image_uri": "is for W&B Launch",
    "job": "is for W&B Launch",
    "kind": "is W&B's own bookkeeping",
    "metrics": "asks for several goals, and a sweep here has one metric",
    "project": "names a project at W&B",
    "scheduler": "configures W&B's scheduler",
}


@dataclass(frozen=True, slots=True)
class SweepFile:
    """A sweep file, read: the spec, and where its MAIN lies (not looked at yet)."""

    spec: SweepSpec
    main_path: Path


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
        written, lines = read_yaml(_text(file))
    except YamlError as error:
        raise SweepFileError(f"{file.name} line {error.line}: {error.problem}") from error
    places = _Places(file.name, lines, meanings(spec_type))
    try:
        data = _settled(spec_type, written)
        for override in overrides:
            _override(data, places, override)
        return _sweep(_settled(spec_type, data), file, spec_type, of_wandb="program" in written)
    except ArgumentError as error:
        raise SweepFileError(_shortened(f"{places.of(error.path)}: {error}", _LONGEST_SENTENCE)) from error


def _settled(spec_type: type[SweepSpec], written: Mapping[str, object]) -> dict[str, object]:
    """The keys by their own names; ArgumentError for those that no sweep file has."""
    for key in written:
        if key in _WANDB_ONLY:
            raise ArgumentError(f"{key} {_WANDB_ONLY[key]}; remove it", (key,))
    if written.get("main") is not None:
        # It goes before the script of a W&B file.
        written = {key: value for key, value in written.items() if key != "program"}
    return settle_keys(spec_type, written, in_file=True)


def _sweep(data: Mapping[str, object], file: Path, spec_type: type[SweepSpec], *, of_wandb: bool) -> SweepFile:
    """ArgumentError for whatever the file says wrong."""
    arguments: dict[str, Any] = {"name": file.stem, **data}
    main_path = file.parent / typed_path(_main(arguments.pop("main", None)), "main")
    _check_forms(("parameters",), data.get("parameters"))
    models = data.get("models")
    for model, space in models.items() if isinstance(models, Mapping) else ():
        _check_forms(("models", model), space)
    metric = data.get("metric")
    if of_wandb and isinstance(metric, Mapping) and not {"goal", "mode"} & metric.keys():
        # W&B's default, in a W&B file only.
        arguments["metric"] = {**metric, "goal": "minimize"}
    return SweepFile(spec_type.from_arguments(**arguments), main_path)


def _main(value: object) -> str:
    """The path of the notebook, as written."""
    if value is None:
        raise ArgumentError(f"it names no notebook; {_NO_MAIN}")
    if not isinstance(value, str) or not value.strip():
        raise ArgumentError(f"main is the path of a notebook, not {value!r}", ("main",))
    if not value.endswith(".ipynb"):
        cure = "put the training into compute of a MAIN.ipynb and name that, or pass --set main=MAIN.ipynb"
        raise ArgumentError(
            f"main {value!r} is not a notebook; raycolab calls a notebook's compute, so {cure}", ("main",)
        )
    return value


def _check_forms(path: tuple[str, ...], parameters: object) -> None:
    """In a file a mapping is a W&B parameter or `{parameters: ...}`: anything else is more likely a slip of the pen."""
    for name, value in parameters.items() if isinstance(parameters, Mapping) else ():
        here = (*path, str(name))
        if isinstance(value, Mapping) and isinstance(value.get("parameters"), Mapping):
            _check_forms((*here, "parameters"), value["parameters"])
        elif isinstance(value, Mapping) and not is_parameter(value):
            raise ArgumentError(
                f"parameter {name!r} is a mapping without value, values, min and max, distribution or parameters; "
                "for nested names write {parameters: {...}}",
                here,
            )


class _Places:
    """Where each key was written: a line of the file, or an override."""

    def __init__(self, file_name: str, lines: Lines, own_names: Mapping[str, str]) -> None:
        # what errors call the file
        self.file_name = file_name
        # the key's own name for each word that means it
        self._own_names = own_names
        # lines of the file and overrides as typed, by the way to the key, the first word being its own name
        self._places = {
            self.own(way): f"{file_name} line {line}"
            for way, line in lines.items()
            if way == self.own(way) or self.own(way) not in lines
        }

    def own(self, way: tuple[str, ...]) -> tuple[str, ...]:
        """The way to a key by its own name."""
        return (self._own_names.get(way[0], way[0]), *way[1:])

    def typed(self, path: tuple[str, ...], override: str) -> None:
        """Remember that a key was given on the command line, in place of all that the file has there."""
        self._places = {way: place for way, place in self._places.items() if way[: len(path)] != path}
        self._places[path] = f"--set {override}"

    def of(self, path: tuple[str, ...]) -> str:
        """The most exact place known for a key."""
        if path:
            path = self.own(path)
            for length in range(len(path), 0, -1):
                if path[:length] in self._places:
                    return self._places[path[:length]]
            for way, place in self._places.items():
                if way[: len(path)] == path:
                    return place
        return self.file_name


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
    inner = data
    for depth, part in enumerate(path[:-1], start=1):
        below = inner.setdefault(part, {})
        if not isinstance(below, dict):
            upper = ".".join(path[:depth])
            raise SweepFileError(
                f"--set {shown}: {upper} is {below!r} in {places.file_name}, not a mapping; "
                f"set it as a whole, --set {upper}=..."
            )
        inner = below
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


# Levels; an alias that holds itself would have no end.
_DEEPEST = 20
# With every alias written out, which can make millions of a few lines.
_MOST_VALUES = 200_000
_MERGE = "tag:yaml.org,2002:merge"
_FLOAT = "tag:yaml.org,2002:float"


class YamlError(Exception):
    """The text is not usable YAML; `problem` is the sentence for it and `line` counts from 1."""

    def __init__(self, problem: str, line: int) -> None:
        super().__init__(problem)
        self.problem = problem
        self.line = line


Lines = dict[tuple[str, ...], int]
"""The line of each key, at any depth, by the way to it."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, with YAML 1.2's floats: 1e-3 needs no point and 1.5e3 no sign."""


_EXPONENT = re.compile(r"^[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)[eE][-+]?[0-9]+$")
_Loader.add_implicit_resolver(_FLOAT, _EXPONENT, list("-+.0123456789"))


def read_yaml(text: str) -> tuple[dict[str, object], Lines]:
    """The mapping that a YAML text holds, and the line of each of its keys; YamlError for anything else."""
    loader, node = _composed(text)
    if not isinstance(node, yaml.MappingNode):
        raise YamlError("the file is not a mapping of keys to values; write lines such as method: random", 1)
    lines: Lines = {}
    return _mapping(loader, node, (), lines), lines


def read_value(text: str) -> object:
    """The one value that a YAML text holds; YamlError when it is not YAML. Empty text is None."""
    loader, node = _composed(text)
    return None if node is None else _value(loader, node, (), {})


def _composed(text: str) -> tuple[_Loader, yaml.Node | None]:
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        if "'\\t'" in (error.problem or ""):
            raise YamlError("there is a tab where YAML wants spaces; put spaces in its place", line) from error
        raise YamlError(f"this is not YAML ({error.problem or error.context})", line) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlError("this is not YAML (it has a character that text files do not have)", line) from error
    except RecursionError as error:
        raise YamlError("this is nested too deeply", 1) from error
    if node is not None and _size(node, 0, {}) > _MOST_VALUES:
        raise YamlError(f"this holds more than {_MOST_VALUES:,} values, its aliases written out", 1)
    return loader, node


def _size(node: yaml.Node, depth: int, known: dict[int, int]) -> int:
    """How many nodes there are below a node, and it; each is looked at once, however often aliases repeat it."""
    if id(node) not in known:
        # Where it holds itself, which is refused by its depth.
        known[id(node)] = 1
        inner = node.value if isinstance(node, yaml.CollectionNode) and depth <= _DEEPEST else []
        pairs = (part if isinstance(part, tuple) else (part,) for part in inner)
        known[id(node)] = 1 + sum(_size(each, depth + 1, known) for pair in pairs for each in pair)
    return known[id(node)]


def _value(loader: _Loader, node: yaml.Node, path: tuple[str, ...], lines: Lines) -> object:
    line = node.start_mark.line + 1
    if len(path) > _DEEPEST:
        raise YamlError(f"this is nested more than {_DEEPEST} levels deep", line)
    if isinstance(node, yaml.MappingNode):
        return _mapping(loader, node, path, lines)
    if isinstance(node, yaml.SequenceNode):
        return [_value(loader, item, (*path, str(index)), lines) for index, item in enumerate(node.value)]
    try:
        return loader.construct_object(node)
    except (yaml.YAMLError, ValueError) as error:
        raise YamlError(f"{node.value!r} is not a value that can be used here; put it in quotes", line) from error


def _mapping(loader: _Loader, node: yaml.MappingNode, path: tuple[str, ...], lines: Lines) -> dict[str, object]:
    own: dict[str, object] = {}
    merged: dict[str, object] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if key_node.tag == _MERGE:
            # `<<: *base`, or a list of them, the first of which goes before the others.
            for base in value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]:
                inner: Lines = {}
                mapping = _value(loader, base, (*path, "<<"), inner)
                if not isinstance(mapping, dict):
                    raise YamlError("<< takes a mapping, such as *base", line)
                merged = {**mapping, **merged}
                for way, its_line in inner.items():
                    lines.setdefault((*path, *way[len(path) + 1 :]), its_line)
            continue
        if not isinstance(key_node, yaml.ScalarNode):
            raise YamlError("a key is text, not a list or a mapping", line)
        key = _value(loader, key_node, path, lines)
        if not isinstance(key, str):
            raise YamlError(f"the key {key_node.value!r} is not text; put it in quotes", line)
        if key in own:
            raise YamlError(f"the key {key!r} stands twice, first on line {lines[(*path, key)]}; remove one", line)
        lines[(*path, key)] = line
        own[key] = _value(loader, value_node, (*path, key), lines)
    return {**merged, **own}
