"""MAIN as it is declared: a frozen notebook, read and checked without running any of it.

Loads a notebook from a path, a notebook object or JSON text, makes one of a Python file or a function (`program`),
tells which cells workers run (`roles`) and what its `compute` takes (`compute`), and gives it a fingerprint. Running it
is `runtime`. Cells are numbered as a notebook shows them that was run from top to bottom: the code cells alone, from 1.
"""

from __future__ import annotations

import ast
import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from raycolab.errors import MainError
from raycolab.files import read_text, typed_path
from raycolab.main.compute import ComputeSignature, read_signature, signature_of
from raycolab.main.files import FrozenFiles, freeze, listing
from raycolab.main.program import cells_of_python, folder_of_function, function_fingerprint, function_source
from raycolab.main.roles import Cell, CellRole, with_roles
from raycolab.main.source import significant_text, syntax_tree

if TYPE_CHECKING:
    from nbformat import NotebookNode

__all__ = ["Cell", "CellRole", "ComputeSignature", "MainNotebook", "NotebookSource", "Origin"]

NotebookSource: TypeAlias = "str | os.PathLike[str] | NotebookNode | Callable[..., object]"
"""MAIN as people give it: the path of a notebook or a Python file, a notebook object or its JSON text, a function."""

_LARGEST_FILE = 200_000_000  # bytes, pictures and all
_NEARBY = 8  # notebooks named when a path leads to none
_PYTHON = frozenset({"python", "python3", "ipython", "ipython3"})
_UNNAMED = "notebook"


class Origin(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a MAIN comes from, and what travels with it."""

    name: str  # the file's name, the function's, or "notebook" for an object
    folder: str = ""  # MAIN's folder on the machine where it was declared
    beside: tuple[str, ...] = ()  # what lies there
    files: FrozenFiles | None = None
    # Of a function, whose cell tells neither what it takes nor what it is.
    signature: ComputeSignature | None = None
    fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class MainNotebook:
    """A frozen MAIN: its code cells with their roles, and the document they come from, outputs removed."""

    origin: Origin
    cells: tuple[Cell, ...]  # code cells only, each with its number in the notebook
    document: str  # canonical JSON of an nbformat 4 notebook

    @classmethod
    def load(cls, source: NotebookSource) -> MainNotebook:
        """MAIN from any of its forms; MainError says what is wrong with it."""
        if isinstance(source, dict):
            return cls.from_json(json.dumps(source, default=str), _UNNAMED)._in(Path.cwd())
        if callable(source):
            cell = {"cell_type": "code", "source": function_source(source), "metadata": {}}
            name = getattr(source, "__name__", type(source).__name__)
            made = cls.from_json(_document([cell], {}), name)._in(folder_of_function(source))
            return made._with(signature=signature_of(source), fingerprint=function_fingerprint(source))
        if isinstance(source, str) and source.lstrip().startswith("{"):
            return cls.from_json(source)._in(Path.cwd())
        path = typed_path(source, "MAIN")
        text = _read(path)
        if path.suffix == ".py":
            text = _document(cells_of_python(text), {})
        return cls.from_json(text, path.name)._in(path.absolute().parent)

    @classmethod
    def from_json(cls, text: str, name: str | None = None) -> MainNotebook:
        """MAIN from what `to_json` wrote, or from any notebook's JSON; without a name it has the one in the text."""
        metadata, cells = _parsed(text, name or "This text")
        origin = _stored_origin(metadata) if name is None else Origin(name)
        name = origin.name
        language = _entry(metadata, "language_info", "name") or _entry(metadata, "kernelspec", "language")
        if language and language.lower() not in _PYTHON:
            raise MainError(f"{name} is a notebook in {language}, and workers run Python: give a Python notebook.")
        code = [
            Cell(index, cell["source"], tuple(cell["metadata"].get("tags", ())))
            for index, cell in enumerate((cell for cell in cells if cell["cell_type"] == "code"), 1)
        ]
        return cls(origin, with_roles(code), _document(cells, _metadata(origin)))

    def with_files(self, patterns: Sequence[str]) -> tuple[MainNotebook, bytes]:
        """The same with these files of its folder, and the archive of them; UsageError for what cannot travel."""
        folder = Path(self.origin.folder)
        files, archive = freeze(folder, patterns, folder / self.name)
        return self._with(files=files), archive

    @property
    def name(self) -> str:
        """What MAIN is called in a sentence."""
        return self.origin.name

    @property
    def is_python_file(self) -> bool:
        """Whether MAIN is a Python file, which may ask for its own path."""
        return self.name.endswith(".py")

    def to_json(self) -> str:
        """A notebook that opens in Jupyter: every cell, no outputs; equal notebooks give equal text."""
        return self.document

    def code_fingerprint(self) -> str:
        """SHA-256, in hex, of the code workers run and of its files.

        Comments, outputs, Markdown and skipped cells do not count.
        """
        digest = hashlib.sha256()
        if self.origin.fingerprint is not None:
            digest.update(self.origin.fingerprint.encode())
        for cell in self.cells if self.origin.fingerprint is None else ():
            if cell.role is not CellRole.SKIP and (text := significant_text(cell.source)):
                digest.update(f"{text}\n\n".encode())
        if self.origin.files is not None:
            digest.update(self.origin.files.digest.encode())
        return digest.hexdigest()

    def signature(self) -> ComputeSignature:
        """What `compute` takes, without running it.

        Raises MainError when no cell that workers run defines `compute`, or when one of them is not Python.
        """
        if self.origin.signature is not None:
            return self.origin.signature
        found = read_signature([self._tree(cell) for cell in self.cells if cell.role is not CellRole.SKIP])
        if found is not None:
            return found
        for cell in self.cells:
            with contextlib.suppress(SyntaxError, MainError):  # a skipped cell may hold anything
                found = read_signature([syntax_tree(cell.source)])
            if found is not None:
                raise MainError(
                    f"{self.name} defines `compute` in cell {cell.index}, which workers skip because "
                    f"{cell.why_skipped}: move `compute` to a cell of its own"
                    f"{', which begins with a line `# %%`' if self.is_python_file else ''}."
                )
        raise MainError(
            f"{self.name} defines no `compute`: add {'' if self.is_python_file else 'a cell with '}"
            "`def compute(model, dataset, ...):` that returns the number to optimise."
        )

    def _in(self, folder: Path) -> MainNotebook:
        """The same as it lies in this folder, without files so far."""
        return self._with(folder=str(folder), beside=listing(folder), files=None)

    def _with(self, **changes: Any) -> MainNotebook:
        origin = msgspec.structs.replace(self.origin, **changes)
        return replace(self, origin=origin, document=_document(json.loads(self.document)["cells"], _metadata(origin)))

    def _tree(self, cell: Cell) -> ast.Module:
        try:
            return syntax_tree(cell.source)
        except SyntaxError as error:
            line = "" if error.lineno is None else f", line {error.lineno}"
            raise MainError(
                f"{self.name}, cell {cell.index}{line} is not Python ({error.msg}): correct it, or "
                "start the cell with `# raycolab: head-only` if workers do not need it."
            ) from error


def _read(path: Path) -> str:
    """The text of MAIN's file; MainError for everything that is not one."""
    what = "Python file" if path.suffix == ".py" else "notebook"
    try:
        return read_text(path, _LARGEST_FILE)
    except FileNotFoundError:
        raise MainError(f"There is no {what} {str(path)!r}{_nearby(path)}") from None
    except IsADirectoryError:
        raise MainError(f"{str(path)!r} is a folder, not a notebook{_nearby(path / 'x')}") from None
    except UnicodeDecodeError:
        raise MainError(f"{str(path)!r} is not a {what}: it is not text. {_WANTED}") from None
    except OSError as error:
        cure = "Clear its outputs" if error.errno == errno.EFBIG else "Make it readable"
        raise MainError(f"The {what} {str(path)!r} cannot be read: {error.strerror}. {cure}.") from error


_WANTED = "Give the path of an .ipynb or .py file that defines `compute`."


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


def _parsed(text: str, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Metadata and cells of the notebook in `text`, upgraded to nbformat 4; of each cell what is kept."""
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
        notebook = content if content["nbformat"] == 4 else _upgraded(text)
        return notebook.get("metadata") or {}, [_kept(index, cell) for index, cell in enumerate(notebook["cells"])]
    # Malformed notebooks are met with whatever the missing piece raises.
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise MainError(f"{refusal} ({type(error).__name__}: {error}). {_WANTED}") from error


def _upgraded(text: str) -> dict[str, Any]:
    """A notebook of another version of the format as one of version 4; ValueError where that is not known."""
    from nbformat import ValidationError, convert, reader  # half a second, and most notebooks need none of it

    try:
        # Not nbformat.reads: it logs what it does not like about outputs, which nobody runs.
        upgraded: dict[str, Any] = convert(reader.reads(text), 4)  # type: ignore[no-untyped-call]
    except ValidationError as error:
        raise ValueError(str(error)) from error
    return upgraded


def _kept(index: int, cell: Mapping[str, Any]) -> dict[str, Any]:
    """Source and tags of a cell, and nothing else that could differ or grow."""
    # Some programs write null for what is empty, or one tag without its list.
    source = "".join(cell["source"] or ()).replace("\r\n", "\n").replace("\r", "\n")
    metadata = cell.get("metadata")
    tags = metadata.get("tags") if isinstance(metadata, Mapping) else None
    tags = (
        [tags]
        if isinstance(tags, str)
        else [tag for tag in tags if isinstance(tag, str)]
        if isinstance(tags, list)
        else []
    )
    kept = {"cell_type": cell["cell_type"], "id": f"cell-{index}", "source": source}
    kept["metadata"] = {"tags": tags} if tags else {}
    return kept | ({"execution_count": None, "outputs": []} if cell["cell_type"] == "code" else {})


def _document(cells: Sequence[Mapping[str, Any]], metadata: Mapping[str, Any]) -> str:
    document = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _metadata(origin: Origin) -> dict[str, Any]:
    return {"raycolab": msgspec.to_builtins(origin, order="deterministic")}


def _stored_origin(metadata: Mapping[str, Any]) -> Origin:
    """What `_metadata` wrote; of a notebook that has none, its lack of a name."""
    try:
        return msgspec.convert(metadata.get("raycolab"), Origin)
    except msgspec.ValidationError:
        return Origin(_UNNAMED)


def _entry(metadata: Any, *keys: str) -> str:
    """What stands in a notebook's metadata under these keys; empty where a part of the way is missing or null."""
    for key in keys:
        metadata = metadata.get(key) if isinstance(metadata, dict) else None
    return metadata if isinstance(metadata, str) else ""
