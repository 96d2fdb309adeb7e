"""No sentence for a person without a test: whatever the code raises for one stands, in part, in a test.

The situation that makes each is in the tables beside the module that says it, for a command and a cell in
`tests/raycolab/test_sentences.py`, for a cluster in `tests/integration/test_refusals.py`. This finds the ones left out.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from raycolab import errors as ours
from tunnel import errors as theirs

ROOT = Path(__file__).resolve().parent.parent
WORDS = 3  # running words that make a sentence known again

# Sentences that no test can make come true, by a part of them, with the reason.
NOT_MADE = {
    "joiners came up": "a demo whose joiner does not start: what it says instead is the joiner's own sentence",
    "was not up after": "Ray that neither starts nor ends for minutes",
    "No head was shown yet": "a view that nobody has shown: what shows it gives it a head first",
    "was declared without a MAIN": "`declare` refuses it before, so that only another program could write it",
    "retry takes failed or lost": "`retry` refuses it before, so that only another program could send it",
    "give --data-dir another one": "a demo in /tmp itself: the sentence before it is of a simulated session",
}


def user_errors(trees: list[ast.Module]) -> set[str]:
    """The names of all classes of errors that reach a person, those derived elsewhere too."""
    known = {"RaycolabError", "AddressError", "IdentityError"}
    bases = {
        node.name: {ast.unparse(base).rpartition(".")[2] for base in node.bases}
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    while more := {name for name, parents in bases.items() if parents & known} - known:
        known |= more
    return known


def words(text: str) -> list[str]:
    """The words of a text, without punctuation and numbers."""
    return re.findall(r"[A-Za-z][A-Za-z'-]*", text)


def runs(text: str) -> set[tuple[str, ...]]:
    """All runs of words in a text."""
    found = words(text)
    return {tuple(found[start : start + WORDS]) for start in range(len(found) - WORDS + 1)}


def strings(node: ast.AST) -> list[str]:
    """The pieces of text below a node, docstrings left out."""
    documents = {
        id(each.body[0].value)
        for each in ast.walk(node)
        if isinstance(each, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if each.body and isinstance(each.body[0], ast.Expr)
    }
    return [
        each.value
        for each in ast.walk(node)
        if isinstance(each, ast.Constant) and isinstance(each.value, str) and id(each) not in documents
    ]


def sentences(tree: ast.Module, names: set[str]) -> Iterator[tuple[int, str]]:
    """Line and text of every error made in a module, `…` for what is filled in, where there is text enough to tell."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in names:
            text = " … ".join(piece for argument in node.args for piece in strings(argument))
            if any(runs(piece) for piece in text.split("…")):
                yield node.lineno, text


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
    held = {
        run for tree in trees_of("tests").values() for text in strings(tree) for run in runs(text.replace("\\", ""))
    }
    missing = [
        f"{file}:{line} {text[:120]}"
        for file, tree in code.items()
        for line, text in sentences(tree, names)
        if not any(runs(piece) & held for piece in text.split("…"))
        if not any(part in text for part in NOT_MADE)
    ]
    assert missing == []


def test_a_sentence_without_a_test_is_seen() -> None:
    """By three running words of one piece of it; what is filled in is no part of it."""
    module = ast.parse('class Own(UsageError): ...\nraise Own(f"the frob {x} is not wound up: wind it")')
    names = user_errors([ast.parse("class UsageError(RaycolabError): ..."), module])
    ((line, text),) = sentences(module, names)
    assert (line, text) == (2, "the frob  …  is not wound up: wind it")
    assert runs("is not wound up: wind it") & runs("it is not wound yet")
    assert not runs("the frob ") & runs("the frob is wound")
