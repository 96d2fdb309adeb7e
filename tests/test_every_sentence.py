"""No sentence for a person without a test: whatever the code raises for one stands, in part, in a test.

The situation that makes each is in the tables beside the module that says it, for a command and a cell in
`tests/raycolab/test_sentences.py`, for a cluster in `tests/integration/test_refusals.py`, for what takes long in
`tests/raycolab/test_patience.py` and `tests/integration/test_rare_refusals.py`. This finds the ones left out.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from raycolab import errors as ours
from tunnel import errors as theirs

ROOT = Path(__file__).resolve().parent.parent
RUN = 5  # running words that make a sentence known again: fewer meet by chance
LEAST = 3  # words in all, below which a text is too little to tell

# Whose text a joiner's person reads, or who typed `python -m tunnel`; the others are for the links alone.
_OF_THE_TUNNEL = (
    "AddressError",
    "HubUnreachable",
    "IdentityError",
    "ListenFailed",
    "PinMismatch",
    "Refused",
    "_UsageError",
)

Words = tuple[str, ...]


def user_errors(trees: list[ast.Module]) -> set[str]:
    """The names of all classes of errors that reach a person, those derived elsewhere too."""
    known = {"RaycolabError", *_OF_THE_TUNNEL}
    bases = {
        node.name: {ast.unparse(base).rpartition(".")[2] for base in node.bases}
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    while more := {name for name, parents in bases.items() if parents & known} - known:
        known |= more
    return known


def said(node: ast.AST) -> str:
    """The text that an expression makes, `…` for what is filled in."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(map(said, parts))
        case ast.BinOp(left=left, right=right):
            return said(left) + said(right)
        case ast.BoolOp(values=parts) | ast.Call(func=ast.Name() | ast.Attribute(value=ast.Name()), args=parts):
            return "…".join(map(said, parts))
        case ast.IfExp(body=one, orelse=other):
            return f"{said(one)}…{said(other)}"
    return "…"


def words(text: str) -> Words:
    """The words of a text, without punctuation and numbers."""
    return tuple(re.findall(r"[A-Za-z][A-Za-z'-]*", text))


def pieces(text: str) -> list[Words]:
    """The words of each piece of a text between what is filled in."""
    return [found for piece in text.split("…") if (found := words(piece))]


def runs(piece: Words) -> set[Words]:
    """All runs of words in a piece."""
    return {piece[start : start + RUN] for start in range(len(piece) - RUN + 1)}


def sentences(tree: ast.Module, names: set[str]) -> Iterator[tuple[int, str]]:
    """Line and text of every error made in a module, where there is text enough to tell."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in names:
            text = max(map(said, node.args), key=lambda each: len(words(each)), default="")
            if len(words(text)) >= LEAST:
                yield node.lineno, text


class Told:
    """What the tests say, docstrings left out."""

    def __init__(self, trees: list[ast.Module], sentences: Collection[str]) -> None:
        """`sentences` are all there are: what several of them have in common tells none of them."""
        told = [words(text.replace("\\", "")) for tree in trees for text in _texts(tree)]
        self._runs = {run for each in told for run in runs(each)}
        self._whole = [_spaced(each) for each in told]
        self._common = Counter(run for text in set(sentences) for run in _all_runs(text))

    def has(self, text: str) -> bool:
        """Whether a test has a run of words of this text; where no piece is so long, all pieces in their order."""
        if found := _all_runs(text):
            own = {run for run in found if self._common[run] < 2}
            return not self._runs.isdisjoint(own or found)
        return any(_in_order(pieces(text), each) for each in self._whole)


def _all_runs(text: str) -> set[Words]:
    return {run for piece in pieces(text) for run in runs(piece)}


def _spaced(found: Words) -> str:
    return f" {'  '.join(found)} "


def _in_order(wanted: list[Words], told: str) -> bool:
    at = 0
    for piece in map(_spaced, wanted):
        if (found := told.find(piece, at)) < 0:
            return False
        at = found + len(piece)
    return True


def _texts(tree: ast.Module) -> Iterator[str]:
    apart: set[int] = set()  # docstrings, and what is part of a text that was given already
    for node in ast.walk(tree):
        match node:
            case ast.Module(body=[ast.Expr(value=first), *_]) | ast.ClassDef(body=[ast.Expr(value=first), *_]):
                apart.add(id(first))
            case ast.FunctionDef(body=[ast.Expr(value=first), *_]):
                apart.add(id(first))
            case ast.AsyncFunctionDef(body=[ast.Expr(value=first), *_]):
                apart.add(id(first))
            case ast.JoinedStr(values=parts):
                apart.update(map(id, parts))
                yield said(node)
            case ast.Constant(value=str(text)) if id(node) not in apart:
                yield text


def trees_of(*folders: str) -> dict[str, ast.Module]:
    """Every module of these folders."""
    paths = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in paths if path != Path(__file__)}


def test_every_sentence_is_in_a_test() -> None:
    """File, line and text of those that no test knows."""
    code = trees_of("raycolab", "tunnel")
    names = user_errors(list(code.values()))
    assert set(ours.__all__) - {"Detached"} <= names
    assert theirs.AddressError.__name__ in names
    found = {f"{file}:{line}": text for file, tree in code.items() for line, text in sentences(tree, names)}
    told = Told(list(trees_of("tests").values()), found.values())
    assert {place: text for place, text in found.items() if not told.has(text)} == {}


OWN = """
class Own(UsageError): ...
raise Own(f"the frob {x:d} is not wound up: wind it {'now' if y else 'again'}" + ", then go on")
raise Own(("a", "path"), f"no frob {x} is there")
"""


def test_a_sentence_without_a_test_is_seen() -> None:
    """What is filled in is no part of it; a long one is known by five words that it alone has, a short one by all."""
    module = ast.parse(OWN)
    names = user_errors([ast.parse("class UsageError(RaycolabError): ..."), module])
    found = list(sentences(module, names))
    assert found == [(3, "the frob … is not wound up: wind it …, then go on"), (4, "no frob … is there")]
    long, short = (text for _, text in found)

    def knows(source: str, text: str, *others: str) -> bool:
        return Told([ast.parse(source)], [text, *others]).has(text)

    assert knows("match = r'frob 3 is not wound up: wind'", long)
    assert not knows("match = r'frob 3 is not wound up: wind'", long, "that is not wound up: wind up")
    assert not knows("match = 'it is not wound up.'", long)
    assert not knows("def f():\n    'The frob is not wound up: wind it.'", long)
    assert knows("f'no frob {x} is there'", short)
    assert not knows("['no frob', 'is there']", short)
