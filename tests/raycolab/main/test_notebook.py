"""MAIN loaded, frozen and checked: where it may come from, what is refused in which words, its fingerprint."""

# mypy: disable-error-code="no-untyped-call"
# nbformat has no annotations.

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat import NotebookNode, v3, v4

from raycolab.errors import MainError
from raycolab.main.notebook import CellRole, MainNotebook

COMPUTE = "def compute(model, dataset, C):\n    return C"


def notebook(*cells: str | NotebookNode) -> NotebookNode:
    """A notebook of code cells."""
    made = [v4.new_code_cell(cell) if isinstance(cell, str) else cell for cell in cells]
    return v4.new_notebook(cells=made)  # type: ignore[no-any-return]


def written(folder: Path, name: str, content: NotebookNode) -> Path:
    """The notebook as a file."""
    path = folder / name
    nbformat.write(content, path)
    return path


def test_path_object_and_text_give_the_same_main(tmp_path: Path) -> None:
    """A path, its text, the notebook object and JSON differ in nothing but the name."""
    content = notebook(v4.new_markdown_cell("# MAIN"), COMPUTE)
    path = written(tmp_path, "MAIN.ipynb", content)
    by_path = MainNotebook.load(path)
    assert by_path.name == "MAIN.ipynb"
    assert MainNotebook.load(str(path)) == by_path
    for other in (MainNotebook.load(content), MainNotebook.load(path.read_text())):
        assert other.name == "notebook"
        assert other.cells == by_path.cells
        assert other.code_fingerprint() == by_path.code_fingerprint()


def test_cells_are_numbered_as_a_notebook_shows_them() -> None:
    """The code cells alone, from 1: what stands in the brackets beside them after a run from top to bottom."""
    main = MainNotebook.load(notebook(v4.new_markdown_cell("a"), "x = 1", v4.new_raw_cell("b"), COMPUTE))
    assert [(cell.index, cell.role) for cell in main.cells] == [(1, CellRole.RUN), (2, CellRole.RUN)]


def test_json_round_trip_keeps_name_cells_and_tags_and_drops_outputs(tmp_path: Path) -> None:
    """What the head stores and workers read is the same MAIN, a valid notebook, without outputs."""
    cell = v4.new_code_cell(
        COMPUTE, metadata={"tags": ["parameters"]}, outputs=[v4.new_output("stream", text="x" * 9999)]
    )
    main = MainNotebook.load(written(tmp_path, "M.ipynb", notebook(v4.new_markdown_cell("é"), cell)))
    again = MainNotebook.from_json(main.to_json())
    assert again == main
    assert again.name == "M.ipynb"
    assert len(main.to_json()) < 1000
    nbformat.validate(json.loads(main.to_json()))


def test_an_old_notebook_is_upgraded() -> None:
    """nbformat 3, with its worksheets, still loads."""
    old = v3.new_notebook(worksheets=[v3.new_worksheet(cells=[v3.new_code_cell(input=COMPUTE)])])
    assert MainNotebook.load(old).signature().names == ("model", "dataset", "C")


def test_a_notebook_whose_outputs_are_malformed_loads() -> None:
    """Outputs are nobody's business here."""
    content = notebook(COMPUTE)
    content.cells[0].outputs = [{"nonsense": 1}]
    assert MainNotebook.load(content).signature().names == ("model", "dataset", "C")


def test_missing_main_names_the_notebooks_nearby(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence for a missing file lists what lies beside it and in the current directory."""
    (tmp_path / "here").mkdir()
    written(tmp_path, "MAIN.ipynb", notebook(COMPUTE))
    written(tmp_path / "here", "other.ipynb", notebook(COMPUTE))
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(MainError) as caught:
        MainNotebook.load(tmp_path / "MIAN.ipynb")
    assert str(caught.value) == (
        f"There is no notebook '{tmp_path}/MIAN.ipynb'; nearby: {tmp_path}/MAIN.ipynb, other.ipynb. "
        "Give the path of an .ipynb or .py file that defines `compute`."
    )
    assert caught.value.exit_code == 2


def test_missing_main_says_when_nothing_is_nearby(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any notebook the current directory is named."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        MainError, match=f"no notebook 'MAIN.ipynb', and none beside it or in {tmp_path}. Give the path"
    ):
        MainNotebook.load("MAIN.ipynb")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("train.py", b"\xff\xfe\x00", "is not a Python file: it is not text"),
        ("a.ipynb", b"hello", "a.ipynb is not a Jupyter notebook"),
        ("a.ipynb", b"[" * 100_000, "a.ipynb is not a Jupyter notebook"),
        ("a.ipynb", b"", "a.ipynb is not a Jupyter notebook"),
        ("a.ipynb", b"[1]", "a.ipynb is not a Jupyter notebook: it has no `nbformat`"),
        ("a.ipynb", b'{"nbformat": 4, "nbformat_minor": 5}', "a.ipynb is not a Jupyter notebook"),
        ("a.ipynb", b'{"nbformat": 4, "nbformat_minor": 5, "cells": [1]}', "a.ipynb is not a Jupyter notebook"),
        ("a.ipynb", b"\xff\xfe\x00", "is not a notebook: it is not text"),
    ],
)
def test_what_is_no_notebook_is_refused_in_a_sentence(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    """A program, another file, JSON that is no notebook: each says what it is and what to give."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(MainError, match=sentence):
        MainNotebook.load(path)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    """A folder's own notebooks are named."""
    written(tmp_path, "MAIN.ipynb", notebook(COMPUTE))
    with pytest.raises(MainError, match=r"is a folder, not a notebook; nearby: .*MAIN\.ipynb"):
        MainNotebook.load(tmp_path)


def test_a_notebook_with_nulls_in_its_metadata_loads() -> None:
    """As some programs write it; a tag without its list is one tag."""
    content = notebook(COMPUTE, "1 / 0")
    content.cells[0].metadata["tags"] = None
    content.cells[1].metadata["tags"] = "head-only"
    content.metadata |= {"kernelspec": None, "language_info": None}
    assert [cell.role for cell in MainNotebook.load(content).cells] == [CellRole.RUN, CellRole.SKIP]


def test_a_notebook_in_another_language_is_refused() -> None:
    """Workers run Python."""
    content = notebook(COMPUTE)
    content.metadata["kernelspec"] = {"name": "ir", "display_name": "R", "language": "R"}
    with pytest.raises(MainError, match="is a notebook in R"):
        MainNotebook.load(content)


@given(st.text(max_size=40) | st.dictionaries(st.sampled_from(["nbformat", "cells"]), st.integers()).map(json.dumps))
def test_any_text_is_a_notebook_or_a_sentence(text: str) -> None:
    """Nothing but MainError comes out of text that is no notebook."""
    with pytest.raises(MainError):
        MainNotebook.from_json(text)


def test_line_ends_are_one() -> None:
    """A notebook written with carriage returns is the same MAIN."""
    one, other = (MainNotebook.load(notebook(COMPUTE.replace("\n", end))) for end in ("\n", "\r\n"))
    assert one == other


def test_no_compute_is_a_sentence() -> None:
    """A MAIN without `compute` says what to add."""
    with pytest.raises(MainError, match=r"notebook defines no `compute`: add a cell with `def compute\(model, dataset"):
        MainNotebook.load(notebook("x = 1")).signature()


def test_a_compute_in_a_skipped_cell_is_a_sentence() -> None:
    """`compute` beside the submission names the cell and why workers do not have it."""
    main = MainNotebook.load(notebook("import raycolab", f"{COMPUTE}\nraycolab.declare('x').run()"))
    with pytest.raises(
        MainError, match=r"`compute` in cell 2, which workers skip because it submits .* cell of its own"
    ):
        main.signature()


def test_a_cell_that_is_not_python_is_a_sentence() -> None:
    """A syntax error is found before anything runs, with cell and line as a person counts them."""
    with pytest.raises(MainError, match=r"cell 2, line 3 is not Python .* head-only"):
        MainNotebook.load(notebook(COMPUTE, "\nx = 1\ny = = 2")).signature()
    assert MainNotebook.load(notebook(COMPUTE, "# raycolab: head-only\ny = = 2")).signature().names[0] == "model"


@pytest.mark.parametrize("expression", ["-" * 30_000 + "1", "1" + "+1" * 20_000, "(" * 3_000 + "1" + ")" * 3_000])
def test_a_cell_that_python_cannot_nest_is_a_sentence(expression: str) -> None:
    """Python's own word for it is a MemoryError or a RecursionError."""
    with pytest.raises(MainError, match=r"notebook, cell 1(, line 2)? is not Python \(.*nested"):
        MainNotebook.load(notebook(f"def compute(x):\n    return {expression}")).signature()


def test_the_fingerprint_is_of_the_code_workers_run() -> None:
    """Comments, Markdown, outputs and skipped cells do not count; code, commands and tags that skip do."""
    plain = MainNotebook.load(notebook("!pip install x", COMPUTE)).code_fingerprint()
    dressed = notebook(
        v4.new_markdown_cell("# MAIN"),
        "!pip install x",
        "# nothing here",
        v4.new_code_cell(f"# the job\n{COMPUTE}  # yes\n\n", outputs=[v4.new_output("stream", text="x")]),
        "# raycolab: head-only\nprint(1)",
    )
    assert MainNotebook.load(dressed).code_fingerprint() == plain
    assert MainNotebook.load(notebook("!pip install y", COMPUTE)).code_fingerprint() != plain
    assert MainNotebook.load(notebook(COMPUTE)).code_fingerprint() != plain
    skipped = v4.new_code_cell("!pip install x", metadata={"tags": ["skip-execution"]})
    assert MainNotebook.load(notebook(skipped, COMPUTE)).code_fingerprint() != plain


def test_a_cell_that_is_not_python_has_a_fingerprint() -> None:
    """Text that cannot be read counts as it is written."""
    one, other = (MainNotebook.load(notebook(text)).code_fingerprint() for text in ("x = = 1", "x = = 2"))
    assert one != other


@pytest.mark.parametrize(
    ("of_cell", "of_notebook"),
    [
        ({"metadata": {"tags": None}}, {}),
        ({"metadata": {"tags": [None, "kept"]}}, {}),
        ({"metadata": {"tags": 3}}, {}),
        ({}, {"metadata": {"kernelspec": None, "language_info": None}}),
        ({}, {"metadata": {"kernelspec": {"language": None}, "language_info": {"name": None}}}),
        ({}, {"metadata": {"kernelspec": "python3", "language_info": "python"}}),
    ],
)
def test_a_null_or_a_bare_word_where_a_list_belongs_was_a_bug_in_raycolab(
    of_cell: dict[str, Any], of_notebook: dict[str, Any]
) -> None:
    """Some programs write null for what is empty: the notebook runs."""
    content = json.loads(nbformat.writes(notebook(COMPUTE)))
    content["cells"][0] |= of_cell
    main = MainNotebook.from_json(json.dumps(content | of_notebook))
    assert [cell.role for cell in main.cells] == [CellRole.RUN]
    assert "compute" in main.cells[0].source


def test_one_tag_without_its_list_was_read_as_letters() -> None:
    """`"tags": "head-only"` skips the cell."""
    content = json.loads(nbformat.writes(notebook("1/0", COMPUTE)))
    content["cells"][0]["metadata"] = {"tags": "head-only"}
    main = MainNotebook.from_json(json.dumps(content))
    assert [cell.role for cell in main.cells] == [CellRole.SKIP, CellRole.RUN]
