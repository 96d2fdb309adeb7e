"""YAML as sweep files have it: the core schema of YAML 1.2, read by PyYAML's parser.

Plain scalars are null, booleans (true and false alone), numbers and text by YAML 1.2's core rules, so that `1e-3` is a
number, `1:30` a text and `0o7` seven. PyYAML, which reads files for W&B, has the rules of YAML 1.1: where they make
another value of a scalar (`on`, `1:30`, `010`, `1_000`) it is refused with both ways to write it, for nobody can tell
which is meant. Tags beyond the core schema and keys that stand twice are refused. What comes out is plain data.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

import yaml

__all__ = ["Lines", "Text", "YamlError", "read_value", "read_yaml"]

# Levels; an alias that holds itself would have no end.
_DEEPEST = 20
# With every alias written out, which can make millions of a few lines.
_MOST_VALUES = 200_000
_TAG = "tag:yaml.org,2002:"
_SCALAR_TAGS = frozenset(f"{_TAG}{name}" for name in ("null", "bool", "int", "float", "str"))
_NUMBER_TAGS = frozenset(f"{_TAG}{name}" for name in ("bool", "int", "float"))
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+")


class YamlError(Exception):
    """The text is not usable YAML; `problem` is the sentence for it and `line` counts from 1."""

    def __init__(self, problem: str, line: int) -> None:
        super().__init__(problem)
        self.problem = problem
        self.line = line


Path = tuple[str, ...]
"""The way to a key or an item of a list."""

Lines = dict[Path, int]
"""The line of each key, at any depth."""


class Text(NamedTuple):
    """What a YAML text holds."""

    data: dict[str, object]
    lines: Lines
    # where nothing at all is written for a value, which YAML takes for null
    empty: tuple[Path, ...]


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2's core schema in place of YAML 1.1's rules."""

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Decimal whatever zeros it begins with; 0o and 0x say otherwise."""
        text = str(self.construct_scalar(node)).lower()
        base = 8 if "0o" in text else 16 if "0x" in text else 10
        return int(text, base)


_Loader.yaml_implicit_resolvers = {}
for _name, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
):
    _Loader.add_implicit_resolver(f"{_TAG}{_name}", re.compile(rf"^(?:{_pattern})$"), list(_first))
_Loader.add_constructor(f"{_TAG}int", _Loader.construct_yaml_int)


def read_yaml(text: str) -> Text:
    """The mapping that a YAML text holds; YamlError for anything else."""
    if text.lstrip("\ufeff \t\r\n").startswith("{"):
        # JSON may be indented by tabs, which stand nowhere else in it.
        text = text if _refuses(text) else text.replace("\t", " ")
    reader, node = _composed(text)
    if not isinstance(node, yaml.MappingNode):
        raise YamlError("the file is not a mapping of keys to values; write lines such as method: random", 1)
    return Text(reader.mapping(node, ()), reader.lines, tuple(reader.empty))


def read_value(text: str) -> object:
    """The one value that a YAML text holds; YamlError when it is not YAML. Empty text is None."""
    reader, node = _composed(text)
    return None if node is None else reader.value(node, ())


def _refuses(text: str) -> bool:
    """Whether it is no JSON."""
    try:
        json.loads(text.lstrip("\ufeff"))
    except (ValueError, RecursionError):
        return True
    return False


def _composed(text: str) -> tuple[_Reader, yaml.Node | None]:
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
    return _Reader(loader), node


def _size(node: yaml.Node, depth: int, known: dict[int, int]) -> int:
    """How many nodes there are below a node, and it; each is looked at once, however often aliases repeat it."""
    if id(node) not in known:
        # Where it holds itself, which is refused by its depth.
        known[id(node)] = 1
        inner = node.value if isinstance(node, yaml.CollectionNode) and depth <= _DEEPEST else []
        pairs = (part if isinstance(part, tuple) else (part,) for part in inner)
        known[id(node)] = 1 + sum(_size(each, depth + 1, known) for pair in pairs for each in pair)
    return known[id(node)]


def _by_yaml_1_1(text: str) -> bool | int | float | None:
    """The boolean or number that PyYAML makes of a plain scalar; None where it makes no such."""
    for tag, pattern in yaml.SafeLoader.yaml_implicit_resolvers.get(text[:1], []):
        if tag in _NUMBER_TAGS and pattern.match(text):
            try:
                found: bool | int | float = yaml.safe_load(text)
            except (yaml.YAMLError, ValueError):
                return None
            return found
    return None


class _Reader:
    """Makes values of nodes, and keeps where they stand."""

    def __init__(self, loader: _Loader) -> None:
        self._loader = loader
        self.lines: Lines = {}
        self.empty: list[Path] = []

    def value(self, node: yaml.Node, path: Path) -> object:
        """The value of a node; YamlError for one that has none here."""
        line = node.start_mark.line + 1
        if len(path) > _DEEPEST:
            raise YamlError(f"this is nested more than {_DEEPEST} levels deep", line)
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            return [self.value(item, (*path, str(index))) for index, item in enumerate(node.value)]
        if not isinstance(node, yaml.ScalarNode) or node.tag not in _SCALAR_TAGS:
            tag = f"!!{node.tag.removeprefix(_TAG)}" if node.tag.startswith(_TAG) else node.tag
            raise YamlError(
                f"the tag {tag} is not one of YAML's core; remove it, and write a list that is one value as "
                "{value: [...]}",
                line,
            )
        if node.tag == f"{_TAG}null" and node.value == "" and path:
            self.empty.append(path)
        return self._scalar(node, line)

    def _scalar(self, node: yaml.ScalarNode, line: int) -> object:
        try:
            value = self._loader.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            raise YamlError(f"{node.value!r} is not a value that can be used here; put it in quotes", line) from error
        if isinstance(value, str) and not value.isascii():
            # JSON writes a character beyond the first 65,536 as two escapes.
            value = value.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        plain_tag = self._loader.resolve(yaml.ScalarNode, node.value, (True, False))  # type: ignore[no-untyped-call]
        if node.style is None and node.tag == plain_tag:
            self._check_plain(node.value, value, line)
        return value

    def _check_plain(self, text: str, value: object, line: int) -> None:
        """YamlError where W&B's reader, PyYAML, makes another boolean or number of a plain scalar than YAML 1.2."""
        theirs = _by_yaml_1_1(text)
        if _LEADING_ZERO.fullmatch(text):
            ways = dict.fromkeys(str(way) for way in (theirs, value) if isinstance(way, int))
            raise YamlError(f"{text} begins with 0; write {' or '.join(ways)} for the number, '{text}' for text", line)
        if theirs is not None and repr(theirs) != repr(value):
            number = json.dumps(theirs)
            ours = f"'{text}'" if isinstance(value, str) else json.dumps(value)
            raise YamlError(
                f"W&B's reader takes {text} for {number}, YAML 1.2 does not; write {number} or {ours}, as you mean",
                line,
            )

    def mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, object]:
        """The values by their keys; those of `<<` go behind its own."""
        own: dict[str, object] = {}
        merged: dict[str, object] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == f"{_TAG}merge":
                merged |= {
                    key: value for key, value in self._merged(value_node, path, line).items() if key not in merged
                }
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise YamlError("a key is text, not a list or a mapping", line)
            key = self.value(key_node, ())
            if not isinstance(key, str):
                raise YamlError(f"the key {key_node.value!r} is not text; put it in quotes", line)
            if key in own:
                raise YamlError(
                    f"the key {key!r} stands twice, first on line {self.lines[(*path, key)]}; remove one", line
                )
            self.lines[(*path, key)] = line
            own[key] = self.value(value_node, (*path, key))
        return {**merged, **own}

    def _merged(self, node: yaml.Node, path: Path, line: int) -> dict[str, object]:
        """What `<<: *base`, or a list of them, the first of which goes before the others, brings along."""
        merged: dict[str, object] = {}
        for base in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if len(path) >= _DEEPEST:
                raise YamlError(f"this is nested more than {_DEEPEST} levels deep", line)
            if not isinstance(base, yaml.MappingNode):
                raise YamlError("<< takes a mapping, such as *base", line)
            reader = _Reader(self._loader)
            # A level deeper, so that one that merges itself has an end.
            merged = {**reader.mapping(base, (*path, "<<")), **merged}
            for way, its_line in reader.lines.items():
                self.lines.setdefault((*path, *way[len(path) + 1 :]), its_line)
            self.empty += [(*path, *way[len(path) + 1 :]) for way in reader.empty]
        return merged
