"""Reading a notebook cell without running it: what IPython makes of it, what it executes, what it asks of the shell.

Everything here is static. Cells are turned into Python by IPython's own input transform (`!x`, `%x`, `%%x`, `x?`),
then read as syntax trees. Running them is `runtime`; deciding which of them run is `roles`.
"""

from __future__ import annotations

import ast
import io
import re
import token
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = [
    "PACKAGE_MAGICS",
    "Magic",
    "executed",
    "is_timed",
    "magics",
    "runnable",
    "significant_text",
    "syntax_tree",
    "transformed",
]

PACKAGE_MAGICS = frozenset({"pip", "conda", "mamba", "micromamba", "uv"})
"""Line magics that run a package installer; IPython also takes them bare, alone on one line (`pip install x`)."""

_TIMING = re.compile(r"\A\s*%%time\b[^\n]*")
_AROUND_PYTHON = re.compile(r"\A\s*%%(?:time|capture)\b[^\n]*")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_LAYOUT_TOKENS = frozenset({token.COMMENT, token.NL, token.ENDMARKER, token.ENCODING})
# From Python 3.12 an f-string is several tokens; these two enclose it.
_FSTRING_START: int = getattr(token, "FSTRING_START", -1)
_FSTRING_END: int = getattr(token, "FSTRING_END", -1)


@dataclass(frozen=True, slots=True)
class Magic:
    """One call of a magic or the shell."""

    kind: str  # "system" (`!x`), "output" (`y = !x`), "line" (`%x`) or "cell" (`%%x`)
    name: str  # the magic's name; "" for `!x`
    line: str  # what follows the name; the command of `!x`
    body: str = ""  # of a cell magic
    statement: bool = True  # False where its value is used


def runnable(source: str) -> str:
    """The cell as we run it: `%%time` is a comment, because cells are timed anyway, and lines keep their numbers."""
    return _steady(_TIMING.sub(_comment, source))


def is_timed(source: str) -> bool:
    """Whether the cell is under `%%time`."""
    return _TIMING.match(source) is not None


def transformed(source: str) -> str:
    """The Python that IPython makes of a cell; `%%time` and `%%capture` are looked through.

    Raises SyntaxError where IPython's tokeniser gives up.
    """
    from IPython.core.inputtransformer2 import TransformerManager

    text = _steady(_AROUND_PYTHON.sub(_comment, source))
    words = text.split(maxsplit=1)
    if words and words[0] in PACKAGE_MAGICS and len(text.strip().splitlines()) == 1:
        text = "%" + text.lstrip()
    return str(TransformerManager().transform_cell(text))  # type: ignore[no-untyped-call]


def syntax_tree(source: str) -> ast.Module:
    """The syntax tree of a cell; raises SyntaxError when it is not Python after IPython's transform."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about "\\d" and its like Python warns when the cell runs
            return ast.parse(transformed(source))
    except ValueError as error:  # null bytes, and what tokenisers make of stray carriage returns
        raise SyntaxError(str(error)) from error
    except (RecursionError, MemoryError) as error:  # what Python makes of an expression with thousands of levels
        raise SyntaxError("it is nested too deeply") from error


def executed(tree: ast.AST, *, into_classes: bool = True) -> Iterator[ast.AST]:
    """Every node that running the cell evaluates, in order: bodies of functions are left out, their defaults are not.

    With `into_classes` false bodies of classes are left out too: what remains is the scope of the notebook.
    """
    yield tree
    closed = _FUNCTIONS if into_classes else (*_FUNCTIONS, ast.ClassDef)
    for name, value in ast.iter_fields(tree):
        if name == "body" and isinstance(tree, closed):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from executed(child, into_classes=into_classes)


def magics(tree: ast.AST) -> Iterator[Magic]:
    """Every magic and shell command the cell executes."""
    statements = {id(node.value) for node in executed(tree) if isinstance(node, ast.Expr)}
    for node in executed(tree):
        if isinstance(node, ast.Call) and (found := _magic(node, id(node) in statements)) is not None:
            yield found


def significant_text(source: str) -> str:
    """What of a cell matters to whoever runs it: its tokens, without comments, blank lines and layout.

    The same for every Python version; a cell that is not Python counts as it is written.
    """
    try:
        text = transformed(source)
        return _significant_tokens(text)
    except (SyntaxError, ValueError, tokenize.TokenError):
        return source


def _significant_tokens(text: str) -> str:
    parts: list[str] = []
    lines = text.splitlines(keepends=True)
    fstrings: list[tuple[int, int]] = []  # where the f-strings we are inside of began
    for item in tokenize.generate_tokens(io.StringIO(text).readline):
        if item.type == _FSTRING_START:
            fstrings.append(item.start)
        elif item.type == _FSTRING_END:
            start = fstrings.pop()
            if not fstrings:
                parts.append(_slice(lines, start, item.end))
        elif fstrings or item.type in _LAYOUT_TOKENS:
            continue
        elif item.type in (token.INDENT, token.DEDENT, token.NEWLINE):
            parts.append(f"<{token.tok_name[item.type]}>")
        else:
            parts.append(item.string)
    return "\n".join(parts)


def _slice(lines: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    """The text between two token positions (line from 1, column from 0)."""
    (first, left), (last, right) = start, end
    if first == last:
        return lines[first - 1][left:right]
    return "".join([lines[first - 1][left:], *lines[first : last - 1], lines[last - 1][:right]])


def _steady(source: str) -> str:
    """The cell with its leading blank lines as comments: IPython drops blank ones, and every line number with them."""
    if source.lstrip().startswith("%%"):
        return source  # a cell magic has to stay first, and reports no line of the cell anyway
    lines = source.splitlines(keepends=True)
    blank = next((number for number, line in enumerate(lines) if line.strip()), 0)
    return "#\n" * blank + "".join(lines[blank:])


def _comment(match: re.Match[str]) -> str:
    """The matched line as a comment; the lines above it stay, so that lines keep their numbers."""
    return match[0].replace("%%", "# %%", 1)


def _magic(call: ast.Call, statement: bool) -> Magic | None:
    """The magic behind `get_ipython().<method>("...", ...)`, the only form IPython's transform writes."""
    match call.func:
        case ast.Attribute(value=ast.Call(func=ast.Name(id="get_ipython")), attr=method):
            texts = [item.value for item in call.args if isinstance(item, ast.Constant) and isinstance(item.value, str)]
        case _:
            return None
    match method, texts:
        case "system", [command]:
            return Magic("system", "", command, statement=statement)
        case "getoutput", [command]:
            return Magic("output", "", command, statement=statement)
        case "run_line_magic", [name, line]:
            return Magic("line", name, line, statement=statement)
        case "run_cell_magic", [name, line, body]:
            return Magic("cell", name, line, body, statement=statement)
    return None
