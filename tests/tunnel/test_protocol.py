"""PROTOCOL.md keeps its word: its frames, codes, keys, states and limits are those of the code."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

import tunnel
from tests.tunnel.door import HELLO, WELCOME
from tunnel.errors import RemoteProtocolError
from tunnel.frames import MAX_PAYLOAD, SEQUENCED, FrameParser, FrameType, ResetCode, encode_header
from tunnel.stream import Half

PACKAGE = Path(tunnel.__file__).parent
PAGE = (PACKAGE / "PROTOCOL.md").read_text(encoding="utf-8")


def table(*columns: str) -> list[list[str]]:
    """The cells of the rows of the table with these columns."""
    lines = iter(PAGE.splitlines())
    assert any(line == f"| {' | '.join(columns)} |" for line in lines), columns
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows[1:]


FRAMES = table("type", "name", "sender", "stream", "sequenced", "payload bytes", "payload")
LIMITS = table("name", "module", "value", "unit", "whose", "what it limits")


def numbers_of(module: str) -> dict[str, float]:
    """The public constants of a module that are numbers, imported ones left out."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    targets = [node.targets[0] for node in tree.body if isinstance(node, ast.Assign)]
    names = [
        target.id for target in targets if isinstance(target, ast.Name) and re.fullmatch("[A-Z][A-Z_]+", target.id)
    ]
    values = vars(importlib.import_module(f"tunnel.{module}"))
    return {name: values[name] for name in names if isinstance(values[name], int | float)}


def test_every_frame_type_is_in_the_table() -> None:
    """With its number and whether it is sequenced, in order."""
    assert [(int(row[0]), row[1]) for row in FRAMES] == [(int(kind), kind.name) for kind in FrameType]
    assert {row[1] for row in FRAMES if row[4] == "yes"} == {kind.name for kind in SEQUENCED}


@pytest.mark.parametrize("row", FRAMES, ids=lambda row: str(row[1]))
def test_a_frame_has_the_size_in_the_table(row: list[str]) -> None:
    """A fixed one and no other, or any."""
    kind = FrameType[row[1]]
    fixed = row[5][0].isdigit()
    fits = [int(size) for size in row[5].split(" or ")] if fixed else [0, 1, MAX_PAYLOAD]
    for size in fits:
        assert FrameParser().receive(encode_header(kind, size) + bytes(size))[0].type is kind
    if fixed:
        with pytest.raises(RemoteProtocolError):
            FrameParser().receive(encode_header(kind, fits[0] + 1) + bytes(fits[0] + 1))


def test_every_reset_code_is_in_the_table() -> None:
    """By number and name."""
    rows = table("reset code", "name", "why")
    assert [(int(row[0]), row[1]) for row in rows] == [(int(code), code.name) for code in ResetCode]


@pytest.mark.parametrize("row", LIMITS, ids=lambda row: f"{row[1]}.{row[0]}")
def test_a_limit_has_its_value(row: list[str]) -> None:
    """The number in the table is the number in the module."""
    assert float(row[2].replace(",", "")) == numbers_of(row[1])[row[0]]


@pytest.mark.parametrize("module", sorted({row[1] for row in LIMITS}))
def test_no_limit_is_missing(module: str) -> None:
    """Every number that a module of the table names is in the table."""
    assert set(numbers_of(module)) == {row[0] for row in LIMITS if row[1] == module}


def test_handshake_keys() -> None:
    """HELLO and WELCOME have the keys in their tables."""
    keys = [re.findall(r"`(\w+)`", row[0]) for row in table("key", "type", "what it is")]
    assert [key for row in keys for key in row] == list(HELLO.to_json())
    _, _, after = PAGE.partition("closes, or it answers WELCOME:")
    rows = re.findall(r"^\| (`.*?) \|", after.partition("5. Both ends")[0], flags=re.MULTILINE)
    assert [key for row in rows for key in re.findall(r"`(\w+)`", row)] == list(WELCOME.to_json())


def test_the_states_of_a_half() -> None:
    """All that the code has."""
    rows = table("half", "state", "goes on")
    named = {row[1] for row in rows} | {word for row in rows for word in re.findall(r"to (\w+) when", row[2])}
    assert named == {half.value for half in Half}


def test_every_name_of_a_limit_in_the_text_is_in_the_table() -> None:
    """No limit is spoken of that is not given."""
    names = {row[0] for row in LIMITS}
    spoken = set(re.findall(r"`([A-Z][A-Z_]{3,})`", PAGE))
    assert spoken <= names | {"ZSTD_e_flush"}
