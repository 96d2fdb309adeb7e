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
    "FILE_MAGICS",
    "PACKAGE_MAGICS",
    "SCRIPT_MAGICS",
    "Magic",
    "bound_names",
    "executed",
    "holds_only_commands",
    "is_command",
    "is_timed",
    "magic_of",
    "magics",
    "runnable",
    "significant_text",
    "syntax_tree",
    "transformed",
]

PACKAGE_MAGICS = frozenset({"pip", "conda", "mamba", "micromamba", "uv"})
"""Line magics that run a package installer; IPython also takes them bare, alone on one line (`pip install x`)."""

SCRIPT_MAGICS = frozenset({"bash", "sh", "script", "shell"})
"""Cell magics whose body is a shell script; `%%shell` is Colab's name for `%%bash`."""

FILE_MAGICS = frozenset({"writefile", "file"})
"""Cell magics that write their body to a file."""

_COMMANDS = {"line": PACKAGE_MAGICS | {"system", "sx"}, "cell": SCRIPT_MAGICS | FILE_MAGICS}
_TIMING = re.compile(r"\A\s*%%time\b[^\n]*")
_CAPTURE = re.compile(r"\A\s*%%capture\b[^\n]*\n")
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


def runnable(source: str) -> str:
    """The cell as we run it: `%%time` is a comment, because cells are timed anyway, and lines keep their numbers."""
    if (capture := _CAPTURE.match(source)) is not None:  # it runs what is below it as a cell of its own
        return capture[0] + runnable("\n" * capture[0].count("\n") + source[capture.end() :])
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


def bound_names(*nodes: ast.AST) -> set[str]:
    """The names that these nodes, without what is in them, give a value: assigned, imported or defined."""
    names: set[str] = set()
    for node in nodes:
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                names.add(name)
            case ast.ClassDef(name=name):
                names.add(name)
            case ast.alias(name=name, asname=alias):
                names.add((alias or name).split(".")[0])
    return names


def magics(tree: ast.AST) -> Iterator[Magic]:
    """Every magic and shell command the cell executes."""
    return filter(None, map(magic_of, executed(tree)))


def magic_of(node: ast.AST) -> Magic | None:
    """The magic that `get_ipython().METHOD("...", ...)` calls, the only form IPython's transform writes."""
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Call(func=ast.Name(id="get_ipython")), attr=method), args=arguments):
            texts = [item.value for item in arguments if isinstance(item, ast.Constant)]
            match method, texts:
                case "system", [str(command)]:
                    return Magic("system", "", command)
                case "getoutput", [str(command)]:
                    return Magic("output", "", command)
                case "run_line_magic", [str(name), str(line)]:
                    return Magic("line", name, line)
                case "run_cell_magic", [str(name), str(line), str(body)]:
                    return Magic("cell", name, line, body)
    return None


def is_command(magic: Magic) -> bool:
    """Whether it runs a program or writes a file, and does nothing in Python."""
    return magic.kind in ("system", "output") or magic.name in _COMMANDS[magic.kind]


def holds_only_commands(source: str) -> bool:
    """Whether a cell is nothing but commands."""
    try:
        found = [magic_of(item.value) if isinstance(item, ast.Expr) else None for item in syntax_tree(source).body]
    except SyntaxError:
        return False
    return bool(found) and all(each is not None and is_command(each) for each in found)


def significant_text(source: str) -> str:
    """What of a cell matters to whoever runs it: its tokens, without comments, blank lines and layout.

    The same for every Python version; a cell that is not Python counts as it is written.
    """
    try:
        return _significant_tokens(transformed(source))
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
            (first, left), (last, right) = fstrings.pop(), item.end  # lines from 1, columns from 0
            if not fstrings:
                text = "".join(lines[first - 1 : last])
                parts.append(text[left : len(text) - len(lines[last - 1]) + right])
        elif fstrings or item.type in _LAYOUT_TOKENS:
            continue
        elif item.type in (token.INDENT, token.DEDENT, token.NEWLINE):
            parts.append(f"<{token.tok_name[item.type]}>")
        else:
            parts.append(item.string)
    return "\n".join(parts)


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
