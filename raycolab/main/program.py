"""MAIN that is not a notebook, made one: a Python file, whole or in `# %%` cells, and a function.

What stands below `if __name__ == "__main__":` is for whoever runs the file: it becomes a cell of its own that workers
skip. A function is pickled by value, with what it needs of its own module; modules that it imports are named, and come
from the node's packages or with MAIN's files. Its fingerprint is made from sources and values, since a pickle of the
same function differs from one kernel to the next.
"""

# mypy: disable-error-code="no-untyped-call"
# cloudpickle has no annotations.

from __future__ import annotations

import ast
import base64
import hashlib
import inspect
import os
import re
import sysconfig
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from raycolab.errors import MainError
from raycolab.main.source import significant_text
from raycolab.text import bytes_text

__all__ = ["cells_of_python", "folder_of_function", "function_fingerprint", "function_source", "restored"]

_MARK = re.compile(r"^#[ \t]*%%(?!%)(.*)$", re.MULTILINE)
_TAGS = re.compile(r"tags\s*=\s*(\[[^\]]*\])")
_MOST_PICKLED = 8 * 2**20  # bytes of a function with all that it closes over


# --- files -----------------------------------------------------------------------------------------------------------


def cells_of_python(text: str) -> list[dict[str, Any]]:
    """The cells of a Python file, as a notebook has them."""
    cells: list[dict[str, Any]] = []
    marks = [*_MARK.finditer(text)]
    ends = [mark.start() for mark in marks] + [len(text)]
    parts = [("", text[: ends[0]])] if text[: ends[0]].strip() else []
    parts += [(mark[1], text[mark.end() + 1 : end]) for mark, end in zip(marks, ends[1:], strict=True)]
    for title, source in parts:
        is_code = not re.match(r"\s*\[(markdown|md|raw)\]", title)
        pieces = _without_main_guard(source) if is_code else [(source, ())]
        for piece, tags in pieces:
            metadata = {"tags": [*_tags(title), *tags]}
            cells.append({"cell_type": "code" if is_code else "markdown", "source": piece, "metadata": metadata})
    return cells


def _tags(title: str) -> list[str]:
    """Those that a mark has in Jupytext's way: `# %% tags=["head-only"]`."""
    found = _TAGS.search(title)
    try:
        tags = ast.literal_eval(found[1]) if found else []
    except (ValueError, SyntaxError):
        return []
    return [tag for tag in tags if isinstance(tag, str)]


def _without_main_guard(source: str) -> list[tuple[str, tuple[str, ...]]]:
    """The source in pieces with their tags: what stands below `if __name__ == "__main__":` is for the head alone."""
    try:
        statements = ast.parse(source).body
    except SyntaxError:  # it has magics, or fails where it is run
        return [(source, ())]
    lines = source.splitlines(keepends=True)
    pieces: list[tuple[str, tuple[str, ...]]] = []
    done = 0
    for guard in filter(_is_main_guard, statements):
        end = guard.end_lineno or guard.lineno
        pieces += [
            ("".join(lines[done : guard.lineno - 1]), ()),
            ("".join(lines[guard.lineno - 1 : end]), ("head-only",)),
        ]
        done = end
    pieces.append(("".join(lines[done:]), ()))
    return [piece for piece in pieces if piece[0].strip()] or [(source, ())]


def _is_main_guard(statement: ast.stmt) -> bool:
    match statement:
        case ast.If(test=ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]), orelse=[]):
            return {ast.unparse(left), ast.unparse(right)} == {"__name__", "'__main__'"}
    return False


# --- functions -------------------------------------------------------------------------------------------------------


def function_source(function: Callable[..., object]) -> str:
    """The cell that gives workers this function as `compute`; MainError when it cannot be pickled."""
    from ray import cloudpickle  # which takes a second to import

    name = _name_of(function)
    module = inspect.getmodule(function)
    by_value = module is not None and _is_ours(module.__name__, function) and module.__name__ != "__main__"
    if by_value:
        cloudpickle.register_pickle_by_value(module)
    try:
        pickled = cloudpickle.dumps(function)
    except Exception as error:  # whatever an object of the person's own does when it is pickled
        raise MainError(
            f"The function {name!r} cannot be sent to workers ({type(error).__name__}: {error}): make what cannot be "
            "pickled, such as an open file or a lock, inside it."
        ) from error
    finally:
        if by_value:
            cloudpickle.unregister_pickle_by_value(module)
    if len(pickled) > _MOST_PICKLED:
        raise MainError(
            f"The function {name!r} takes {bytes_text(len(pickled))} with the data that it uses from outside, at most "
            f"{bytes_text(_MOST_PICKLED)} can travel that way: load the data inside it, and name its file in files."
        )
    # In lines, and not where it is used: what a traceback shows of it is short.
    text = base64.encodebytes(pickled).decode()
    return (
        f"# The function {name}, as it was when the sweep was declared\n"
        f'from raycolab.main.program import restored\n\n_pickled = """\n{text}"""\ncompute = restored(_pickled)\n'
    )


def restored(pickled: str) -> Any:
    """The function of such a cell; `__file__`, where it uses that, lies in the work folder."""
    from ray import cloudpickle

    function = cloudpickle.loads(base64.b64decode(pickled))
    names = getattr(function, "__globals__", {})
    if isinstance(names.get("__file__"), str):
        names["__file__"] = os.path.join(os.getcwd(), os.path.basename(names["__file__"]))
    return function


def folder_of_function(function: Callable[..., object]) -> Path:
    """MAIN's folder: that of the file that defines it, or the current directory for one made in a notebook."""
    try:
        file = Path(inspect.getfile(inspect.unwrap(function)))
    except TypeError:  # a callable object, or one written in C
        return Path.cwd()
    made_in_a_cell = getattr(function, "__module__", "") == "__main__" and not hasattr(_main_module(), "__file__")
    return Path.cwd() if made_in_a_cell or not file.is_file() else file.absolute().parent


def function_fingerprint(function: Callable[..., object]) -> str:
    """SHA-256, in hex, of the sources and values that the function is made of."""
    digest = hashlib.sha256()
    for part in _parts(function, function, set()):
        digest.update(part if isinstance(part, bytes) else f"{part}\0".encode())
    return digest.hexdigest()


def _parts(value: Any, of: Callable[..., object], seen: set[int]) -> Iterator[str | bytes]:
    """What tells a value that `of` uses from another."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, ModuleType):
        yield value.__name__
    elif isinstance(value, (FunctionType, type)) and not _is_ours(value.__module__, of):
        yield f"{value.__module__}.{value.__qualname__}"
    elif isinstance(value, FunctionType):
        yield _source_of(value)
        code, names = value.__code__, value.__globals__
        used = {name: names[name] for name in sorted(_names_in(code)) if name in names}
        cells = zip(code.co_freevars, value.__closure__ or (), strict=True)
        used |= {name: cell.cell_contents for name, cell in cells if _is_filled(cell)}
        defaults = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
        for each in (*used.values(), *defaults):
            yield from _parts(each, of, seen)
    elif isinstance(value, type):
        yield _source_of(value)
        for each in (*value.__bases__, *vars(value).values()):
            if isinstance(each, (FunctionType, type)):
                yield from _parts(each, of, seen)
    elif isinstance(value, (set, frozenset)):  # whose order differs from process to process
        yield repr(sorted(map(repr, value)))
    else:
        from ray import cloudpickle

        yield cloudpickle.dumps(value)


def _source_of(value: Any) -> str:
    try:
        return significant_text(textwrap.dedent(inspect.getsource(value)))
    except (OSError, TypeError, SyntaxError):  # typed into an interpreter
        return _code_text(value.__code__) if isinstance(value, FunctionType) else value.__qualname__


def _code_text(code: CodeType) -> str:
    consts = [_code_text(const) if isinstance(const, CodeType) else repr(const) for const in code.co_consts]
    return f"{code.co_code.hex()} {consts} {code.co_names}"


def _names_in(code: CodeType) -> set[str]:
    """The global names that the code and the functions in it use."""
    inner = (_names_in(const) for const in code.co_consts if isinstance(const, CodeType))
    return set(code.co_names).union(*inner)


def _is_filled(cell: Any) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def _is_ours(module: str | None, function: Callable[..., object]) -> bool:
    """Whether what this module defines travels by value: it is the function's own, and no installed package."""
    own = getattr(inspect.unwrap(function), "__module__", None)
    if module == "__main__":
        return True
    file = getattr(inspect.getmodule(function), "__file__", None)
    installed = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]
    return module == own and file is not None and not file.startswith(tuple(installed))


def _name_of(function: Callable[..., object]) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _main_module() -> ModuleType:
    import __main__

    return __main__
