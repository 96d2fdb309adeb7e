"""The examples are what they say: valid notebooks without outputs, and a sweep that fits its MAIN and computes."""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

from raycolab.examples import example_path
from raycolab.main.notebook import CellRole, MainNotebook
from raycolab.spec.file import load_sweep_file
from raycolab.spec.keys import keys_of
from raycolab.spec.spec import SweepSpec, check_fits

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NOTEBOOKS = ("MAIN.ipynb", "head.ipynb", "joiner.ipynb")
PAIRS = [
    (model, dataset)
    for model in ("svc", "forest", "logistic", "knn")
    for dataset in ("iris", "wine", "breast_cancer", "digits")
]


def read(name: str) -> nbformat.NotebookNode:
    """An example notebook, as it lies in the repository."""
    return nbformat.read(EXAMPLES / name, as_version=nbformat.NO_CONVERT)


def python_of(source: str) -> ast.Module:
    """A cell's code as IPython would run it."""
    return ast.parse(TransformerManager().transform_cell(source))


def sweep() -> SweepSpec:
    """The example's sweep."""
    return load_sweep_file(EXAMPLES / "sweep.yaml").spec


@cache
def main_namespace() -> dict[str, Any]:
    """What MAIN's cells define once the ones that workers run have run."""
    namespace: dict[str, Any] = {}
    for cell in MainNotebook.load(EXAMPLES / "MAIN.ipynb").cells:
        if cell.role in (CellRole.RUN, CellRole.PARAMETERS):
            exec(compile(python_of(cell.source), f"MAIN cell {cell.index}", "exec"), namespace)
    return namespace


@pytest.mark.parametrize("name", NOTEBOOKS)
class TestNotebooks:
    """What holds for all three notebooks."""

    def test_is_as_it_was_written(self, name: str) -> None:
        """A valid notebook of format 4.5 for the python3 kernel, never saved after a run; first it explains itself."""
        notebook = read(name)
        nbformat.validate(notebook)
        assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
        assert all(cell.id for cell in notebook.cells)
        assert notebook.metadata.kernelspec.name == "python3"
        assert notebook.cells[0].cell_type == "markdown"
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert code
        assert [cell.id for cell in code if cell.outputs or cell.execution_count is not None] == []

    def test_is_python(self, name: str) -> None:
        """Every code cell is Python once IPython's own syntax is taken out."""
        for cell in read(name).cells:
            if cell.cell_type == "code":
                python_of(cell.source)

    def test_uses_public_names(self, name: str) -> None:
        """Each `raycolab.name` in a cell exists."""
        import raycolab

        used = {
            node.attr
            for cell in read(name).cells
            if cell.cell_type == "code"
            for node in ast.walk(python_of(cell.source))
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "raycolab"
        }
        assert {attribute for attribute in used if not hasattr(raycolab, attribute)} == set()


def test_head_and_joiner_say_the_rules_first() -> None:
    """Head and joiner say Colab's rules in their first cell, before any tunnel; the joiner starts with the copies."""
    for name in ("head.ipynb", "joiner.ipynb"):
        text = " ".join(read(name).cells[0].source.replace(">", " ").split())
        assert '"running distributed computing workers"' in text
        assert '"connecting to remote proxies"' in text
    assert read("joiner.ipynb").cells[0].source.startswith("**In Colab: File > Save a copy in Drive, once per joiner")


def test_head_and_joiner_install_the_same() -> None:
    """Both notebooks install from one form field, with the same value in it."""
    cells = [
        next(cell.source for cell in read(name).cells if "SOURCE =" in cell.source)
        for name in ("head.ipynb", "joiner.ipynb")
    ]
    assert cells[0] == cells[1]
    assert "# @param" in cells[0]


@pytest.mark.parametrize("name", ["head.ipynb", "joiner.ipynb"])
def test_a_form_field_is_a_constant(name: str) -> None:
    """What Colab shows as a form: each field stands on a line that holds a constant and nothing else."""
    lines = [line for cell in read(name).cells for line in cell.source.splitlines() if "# @param" in line]
    form = [ast.parse(line).body[0] for line in lines]
    assert form
    assert all(isinstance(field, ast.Assign) and isinstance(field.value, ast.Constant) for field in form)


def test_workers_skip_the_head_only_cells() -> None:
    """Of MAIN, workers run imports, parameters, data and compute, and skip what is for a person."""
    roles = [cell.role for cell in MainNotebook.load(EXAMPLES / "MAIN.ipynb").cells]
    assert roles == [CellRole.RUN, CellRole.PARAMETERS, CellRole.RUN, CellRole.RUN, CellRole.SKIP, CellRole.SKIP]


class TestSweepFile:
    """examples/sweep.yaml."""

    def test_fits_the_main_beside_it(self) -> None:
        """Every space fits the arguments of its compute."""
        assert load_sweep_file(EXAMPLES / "sweep.yaml").main_path.resolve() == EXAMPLES / "MAIN.ipynb"
        check_fits(sweep(), MainNotebook.load(EXAMPLES / "MAIN.ipynb").signature())

    def test_is_what_head_declares(self) -> None:
        """head.ipynb declares the same spaces and data sets in code."""
        import raycolab

        cell = next(cell.source for cell in read("head.ipynb").cells if "raycolab.declare(" in cell.source)
        assignments = [node for node in python_of(cell).body if isinstance(node, ast.Assign)][:2]
        declared: dict[str, Any] = {"raycolab": raycolab}
        exec(compile(ast.Module(list(assignments), []), "head", "exec"), declared)
        spec = SweepSpec.from_arguments("head", models=declared["models"], datasets=declared["datasets"])
        assert (spec.models, spec.datasets) == (sweep().models, sweep().datasets)


@pytest.mark.parametrize(("model", "dataset"), PAIRS)
def test_computes(model: str, dataset: str) -> None:
    """Each pair, with a configuration drawn from its space, gives an accuracy and its side metrics as plain numbers."""
    chance = random.Random(f"{model} {dataset}")
    compute: Callable[..., dict[str, float]] = main_namespace()["compute"]
    config = {name: domain.at(chance.random()) for name, domain in sweep().models[model].items()}
    metrics = compute(model, dataset, **config)
    assert set(metrics) == {"accuracy", "accuracy_std", "f1_macro", "fit_seconds"}
    assert {type(value) for value in metrics.values()} == {float}
    assert 0 < metrics["accuracy"] <= 1


def test_computes_the_same_again() -> None:
    """The same configuration gives the same accuracy, for a model that draws at random too."""
    compute = main_namespace()["compute"]
    first, second = (compute("forest", "wine", n_estimators=5)["accuracy"] for _ in range(2))
    assert first == second


def test_the_sweep_file_missed_six_keys() -> None:
    """Each key that a sweep can have stands in it, in use or behind a comment's mark."""
    text = example_path("sweep.yaml").read_text("utf-8")
    own = {key.name for key in keys_of(SweepSpec)} - {"mode"}  # in a file it is the metric's goal
    assert {key for key in own if not re.search(rf"^(# )?{key}:", text, re.MULTILINE)} == set()
