"""MAIN as it is declared: a frozen notebook, read and checked without running any of it.

Loads a notebook from a path, a notebook object or JSON text, tells which cells workers run (`roles`) and what its
`compute` takes (`compute`), and gives it a fingerprint. Running it is `runtime`. Cells are numbered from 0 over all
cells of the notebook, Markdown included, as nbformat numbers them.
"""

from __future__ import annotations

import ast
import errno
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import nbformat
from nbformat import NotebookNode, convert, reader

from raycolab.errors import MainError
from raycolab.files import read_text, typed_path
from raycolab.main.compute import ComputeSignature, read_signature
from raycolab.main.roles import Cell, CellRole, with_roles
from raycolab.main.source import significant_text, syntax_tree

__all__ = ["Cell", "CellRole", "ComputeSignature", "MainNotebook", "NotebookSource", "is_path"]

NotebookSource = str | os.PathLike[str] | NotebookNode
"""A notebook as people give it: its path, an object, or its JSON text."""

_LARGEST_FILE = 200_000_000  # bytes, pictures and all
_NEARBY = 8  # notebooks named when a path leads to none
_PYTHON = frozenset({"python", "python3", "ipython", "ipython3"})
_UNNAMED = "notebook"


@dataclass(frozen=True, slots=True)
class MainNotebook:
    """A frozen MAIN: its code cells with their roles, and the document they come from, outputs removed."""

    name: str  # the file's name, or "notebook" for an object
    cells: tuple[Cell, ...]  # code cells only, each with its number in the notebook
    document: str  # canonical JSON of an nbformat 4 notebook

    @classmethod
    def load(cls, source: NotebookSource) -> MainNotebook:
        """MAIN from a path, a notebook object or a notebook's JSON text; MainError says what is wrong with it."""
        if is_path(source):
            path = typed_path(source, "The notebook")
            return _from_text(_read(path), path.name)
        if isinstance(source, dict):
            return _from_text(json.dumps(source, default=str), _UNNAMED)
        return cls.from_json(str(source))

    @classmethod
    def from_json(cls, text: str) -> MainNotebook:
        """MAIN from what `to_json` wrote, or from any notebook's JSON text."""
        return _from_text(text, None)

    def to_json(self) -> str:
        """A notebook that opens in Jupyter: every cell, no outputs; equal notebooks give equal text."""
        return self.document

    def code_fingerprint(self) -> str:
        """SHA-256, in hex, of the code workers run; comments, outputs, Markdown and skipped cells do not count."""
        digest = hashlib.sha256()
        for cell in self.cells:
            if cell.role is not CellRole.SKIP and (text := significant_text(cell.source)):
                digest.update(f"{text}\n\n".encode())
        return digest.hexdigest()

    def signature(self) -> ComputeSignature:
        """What `compute` takes, without running it.

        Raises MainError when no cell that workers run defines `compute`, or when one of them is not Python.
        """
        trees = [self._tree(cell) for cell in self.cells if cell.role is not CellRole.SKIP]
        found = read_signature(trees)
        if found is None:
            raise MainError(self._why_no_compute())
        return found

    def _tree(self, cell: Cell) -> ast.Module:
        try:
            return syntax_tree(cell.source)
        except SyntaxError as error:
            line = "" if error.lineno is None else f", line {error.lineno}"
            raise MainError(
                f"{self.name}, cell {cell.index}{line} is not Python ({error.msg}): correct it, or "
                "start the cell with `# raycolab: head-only` if workers do not need it."
            ) from error

    def _why_no_compute(self) -> str:
        for cell in self.cells:
            if cell.role is CellRole.SKIP and _defines_compute(cell):
                return (
                    f"{self.name} defines `compute` in cell {cell.index}, which workers skip because "
                    f"{cell.why_skipped}: move `compute` to a cell of its own."
                )
        return (
            f"{self.name} defines no `compute`: add a cell with `def compute(model, dataset, ...):` that returns the "
            "number to optimise."
        )


def is_path(source: NotebookSource) -> TypeGuard[str | os.PathLike[str]]:
    """Whether a notebook is given by its path, not as an object or as JSON text."""
    return not (isinstance(source, dict) or (isinstance(source, str) and source.lstrip().startswith("{")))


def _defines_compute(cell: Cell) -> bool:
    try:
        return read_signature([syntax_tree(cell.source)]) is not None
    except (SyntaxError, MainError):
        return False


def _read(path: Path) -> str:
    """The text of a notebook file; MainError for everything that is not one."""
    if path.suffix == ".py":
        raise MainError(
            f"{path.name} is a Python program; MAIN is a notebook (.ipynb) whose cells define `compute`: put the "
            "program in a notebook's cell."
        )
    try:
        return read_text(path, _LARGEST_FILE)
    except FileNotFoundError:
        raise MainError(f"There is no notebook {str(path)!r}{_nearby(path)}") from None
    except IsADirectoryError:
        raise MainError(f"{str(path)!r} is a folder, not a notebook{_nearby(path / 'x')}") from None
    except UnicodeDecodeError:
        raise MainError(f"{str(path)!r} is not a notebook: it is not text. {_WANTED}") from None
    except OSError as error:
        cure = "Clear its outputs" if error.errno == errno.EFBIG else "Make it readable"
        raise MainError(f"The notebook {str(path)!r} cannot be read: {error.strerror}. {cure}.") from error


_WANTED = "Give the path of an .ipynb file that defines `compute`."


def _nearby(path: Path) -> str:
    """`; nearby are A.ipynb, B.ipynb. Give ...`: the notebooks beside the path and in the current directory."""
    here = Path.cwd()
    found: dict[str, None] = {}
    for folder in (path.parent, here):
        for item in sorted(filter(Path.is_file, folder.glob("*.ipynb"))) if folder.is_dir() else ():
            inside = item.resolve().is_relative_to(here.resolve())
            found[str(item.resolve().relative_to(here.resolve()) if inside else item)] = None
    if not found:
        return f", and none beside it or in {here}. {_WANTED}"
    names = list(found)
    more = f" and {len(names) - _NEARBY} more" if len(names) > _NEARBY else ""
    return f"; nearby: {', '.join(names[:_NEARBY])}{more}. {_WANTED}"


def _from_text(text: str, name: str | None) -> MainNotebook:
    """MAIN from JSON; without a name the document's own, as `to_json` leaves it."""
    notebook = _parsed(text, name or "This text")
    own_name = name or _entry(notebook, "raycolab", "name") or _UNNAMED
    language = _entry(notebook, "language_info", "name") or _entry(notebook, "kernelspec", "language")
    if language and language.lower() not in _PYTHON:
        raise MainError(f"{own_name} is a notebook in {language}, and workers run Python: give a Python notebook.")
    code_cells = [
        Cell(index, _source(cell), _tags(cell))
        for index, cell in enumerate(notebook["cells"])
        if cell["cell_type"] == "code"
    ]
    return MainNotebook(own_name, with_roles(code_cells), _document(notebook, own_name))


def _parsed(text: str, name: str) -> NotebookNode:
    """The notebook in `text`, upgraded to nbformat 4."""
    refusal = f"{name} is not a Jupyter notebook"
    if not text.strip():  # such as a file that Drive has not brought yet
        raise MainError(f"{refusal}: it is empty. {_WANTED}")
    try:
        content = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise MainError(f"{refusal} ({error}). {_WANTED}") from error
    if not isinstance(content, dict) or not isinstance(content.get("nbformat"), int):
        raise MainError(f"{refusal}: it has no `nbformat`. {_WANTED}")
    try:
        # Not nbformat.reads: it logs what it does not like about outputs, which nobody runs.
        notebook: NotebookNode = convert(reader.reads(text), 4)  # type: ignore[no-untyped-call]
        for cell in notebook["cells"]:
            _ = (cell["cell_type"] == "code", _source(cell), _tags(cell))
    # nbformat's upgrades meet malformed notebooks with whatever the missing piece raises.
    except (nbformat.ValidationError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise MainError(f"{refusal} ({type(error).__name__}: {error}). {_WANTED}") from error
    return notebook


def _source(cell: NotebookNode) -> str:
    source = cell["source"]
    text = source if isinstance(source, str) else "".join(source)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _tags(cell: NotebookNode) -> tuple[str, ...]:
    """A cell's tags; some programs write null for none, or one tag without its list."""
    tags = (cell.get("metadata") or {}).get("tags") or ()
    return (tags,) if isinstance(tags, str) else tuple(tags)


def _entry(notebook: NotebookNode, *keys: str) -> str:
    """What stands in the notebook's metadata under these keys; empty where a part of the way is missing or null."""
    found: Any = notebook.get("metadata")
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, str) else ""


def _document(notebook: NotebookNode, name: str) -> str:
    """The notebook as kept: sources and tags of every cell, nothing else that could differ or grow."""
    cells: list[dict[str, Any]] = []
    for index, cell in enumerate(notebook["cells"]):
        tags = list(_tags(cell))
        kept: dict[str, Any] = {"cell_type": cell["cell_type"], "id": f"cell-{index}", "source": _source(cell)}
        kept["metadata"] = {"tags": tags} if tags else {}
        if cell["cell_type"] == "code":
            kept |= {"execution_count": None, "outputs": []}
        cells.append(kept)
    metadata = {"raycolab": {"name": name}}
    document = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
