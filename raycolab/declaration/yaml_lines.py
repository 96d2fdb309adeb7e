"""YAML as plain data that remembers its lines: the line of every key, by the way to it.

Stricter than PyYAML where a slip would pass unseen (a key written twice), and kinder where YAML 1.1 surprises people:
1e-3 is a number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import yaml

__all__ = ["YamlError", "YamlLines", "read_value", "read_yaml"]

_DEEPEST = 20  # levels; an alias that holds itself would have no end
_MOST_VALUES = 200_000  # with every alias written out, which can make millions of a few lines
_MERGE = "tag:yaml.org,2002:merge"
_FLOAT = "tag:yaml.org,2002:float"


class YamlError(Exception):
    """The text is not usable YAML; `problem` is the sentence for it and `line` counts from 1."""

    def __init__(self, problem: str, line: int) -> None:
        super().__init__(problem)
        self.problem = problem
        self.line = line


@dataclass(slots=True)
class YamlLines:
    """A mapping, and the line of each of its keys at any depth."""

    data: dict[str, object] = field(default_factory=dict)
    lines: dict[tuple[str, ...], int] = field(default_factory=dict)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, with YAML 1.2's floats: 1e-3 needs no point and 1.5e3 no sign."""


_EXPONENT = re.compile(r"^[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)[eE][-+]?[0-9]+$")
_Loader.add_implicit_resolver(_FLOAT, _EXPONENT, list("-+.0123456789"))


def read_yaml(text: str) -> YamlLines:
    """The mapping that a YAML text holds, with its lines; YamlError for anything else."""
    loader, node = _composed(text)
    try:
        if not isinstance(node, yaml.MappingNode):
            raise YamlError("the file is not a mapping of keys to values; write lines such as method: random", 1)
        found = YamlLines()
        found.data = _mapping(loader, node, (), found.lines)
        return found
    finally:
        loader.dispose()


def read_value(text: str) -> object:
    """The one value that a YAML text holds; YamlError when it is not YAML. Empty text is None."""
    loader, node = _composed(text)
    try:
        return None if node is None else _value(loader, node, (), {})
    finally:
        loader.dispose()


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
        known[id(node)] = 1  # where it holds itself, which is refused by its depth
        inner = node.value if isinstance(node, yaml.CollectionNode) and depth <= _DEEPEST else []
        pairs = (part if isinstance(part, tuple) else (part,) for part in inner)
        known[id(node)] = 1 + sum(_size(each, depth + 1, known) for pair in pairs for each in pair)
    return known[id(node)]


def _value(loader: _Loader, node: yaml.Node, path: tuple[str, ...], lines: dict[tuple[str, ...], int]) -> object:
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


def _mapping(
    loader: _Loader, node: yaml.MappingNode, path: tuple[str, ...], lines: dict[tuple[str, ...], int]
) -> dict[str, object]:
    own: dict[str, object] = {}
    merged: dict[str, object] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if key_node.tag == _MERGE:
            for mapping in _merged(loader, value_node, path, lines):
                merged = {**mapping, **merged}
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


def _merged(
    loader: _Loader, node: yaml.Node, path: tuple[str, ...], lines: dict[tuple[str, ...], int]
) -> list[Mapping[str, object]]:
    """The mappings behind a merge key (`<<: *base`), the first one first."""
    nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
    inner: dict[tuple[str, ...], int] = {}
    mappings = [_value(loader, each, (*path, "<<"), inner) for each in nodes]
    for way, line in inner.items():
        lines.setdefault((*path, *way[len(path) + 1 :]), line)
    if not all(isinstance(mapping, dict) for mapping in mappings):
        raise YamlError("<< takes a mapping, such as *base", node.start_mark.line + 1)
    return [mapping for mapping in mappings if isinstance(mapping, dict)]
