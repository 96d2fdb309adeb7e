"""Cells read without running: IPython's transform, what is executed, what counts for the fingerprint."""

from __future__ import annotations

import ast
import sys

import IPython
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raycolab.main.source import executed, holds_only_commands, magics, runnable, significant_text, syntax_tree


def test_magics_and_shell_lines_are_found_wherever_they_stand() -> None:
    """`!`, `%` and `%%` come back with their text, inside an `if` too."""
    tree = syntax_tree("if True:\n    !ls -l\n%pip install x\n")
    found = [(item.kind, item.name, item.line) for item in magics(tree)]
    assert sorted(found) == [("line", "pip", "install x"), ("system", "", "ls -l")]
    (cell,) = magics(syntax_tree("%%bash -e\necho hi\n"))
    assert (cell.name, cell.line, cell.body) == ("bash", "-e", "echo hi\n")


@pytest.mark.skipif(
    IPython.version_info[0] < 8 and sys.version_info >= (3, 12),
    reason="IPython 7 itself cannot read `x = !y` on Python 3.12 and later",
)
def test_a_command_whose_output_is_used_is_told_apart() -> None:
    """`files = !ls` is no statement of the shell: Python wants its value."""
    (found,) = magics(syntax_tree("files = !ls"))
    assert (found.kind, found.line) == ("output", "ls")


def test_a_bare_pip_line_is_the_magic_that_ipython_makes_of_it() -> None:
    """`pip install x`, alone in a cell, is `%pip install x`."""
    assert [item.name for item in magics(syntax_tree("pip install x"))] == ["pip"]


@pytest.mark.parametrize("magic", ["%%time", "%%capture", "%%capture out"])
def test_python_under_time_and_capture_is_read(magic: str) -> None:
    """`%%time` and `%%capture` hide nothing from reading, and lines keep their numbers."""
    tree = syntax_tree(f"{magic}\nx = 1\n")
    (assignment,) = tree.body
    assert isinstance(assignment, ast.Assign)
    assert assignment.lineno == 2


def test_leading_blank_lines_keep_line_numbers() -> None:
    """A cell that starts with blank lines reports the lines a person counts, and a cell magic may follow them."""
    assert syntax_tree("\n  \nx = 1").body[0].lineno == 3
    assert runnable("\n\n%%bash\ntrue") == "\n\n%%bash\ntrue"
    assert runnable("\n%%time\nx = 1") == "#\n# %%time\nx = 1"
    assert runnable("\n%%capture\n%%time\nx = 1") == "\n%%capture\n#\n#\n# %%time\nx = 1"


def test_bodies_of_functions_are_not_executed_but_classes_and_defaults_are() -> None:
    """Running a cell evaluates defaults and class bodies, and no function's body."""
    tree = syntax_tree("def f(a=one()):\n    two()\nclass C:\n    three()\n    def m(self): four()\nfive()")
    names = [node.id for node in executed(tree) if isinstance(node, ast.Name)]
    assert names == ["one", "three", "five"]
    names = [node.id for node in executed(tree, into_classes=False) if isinstance(node, ast.Name)]
    assert names == ["one", "five"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1", "# why\n\nx   =  1  # because\n\n"),
        ("def f():\n  return [1, 2]", "def f():\n\n        return [1,\n            2]"),
        ("%%time\nx = 1", "x = 1"),
        ("!ls", "!ls\n# listed"),
    ],
)
def test_comments_blank_lines_and_layout_do_not_count(one: str, other: str) -> None:
    """Cells that run alike have one significant text."""
    assert significant_text(one) == significant_text(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1", "x = 2"),
        ("f'{x} y'", "f'{x}  y'"),
        ("f'''a\n{x}'''", "f'''a\n\n{x}'''"),
        ("'# a'", "'# b'"),
        ("!ls", "!ls -l"),
        ("if x:\n    a\nb", "if x:\n    a\n    b"),
        ("x = = 1", "x = = 2"),
    ],
)
def test_code_strings_and_commands_count(one: str, other: str) -> None:
    """What changes a run changes the significant text, in f-strings and in text that is not Python too."""
    assert significant_text(one) != significant_text(other)


@pytest.mark.filterwarnings("ignore:.make_tokens_by_line.")  # IPython on line separators nobody types
@given(st.text(max_size=60))
@example("0\r\x80")  # Python 3.13's tokeniser cannot decode what it encoded
def test_any_text_has_a_significant_text(source: str) -> None:
    """No text of a cell makes reading it fail."""
    assert isinstance(significant_text(source), str)


@pytest.mark.parametrize(
    ("source", "only"),
    [
        ("!pip install x", True),
        ("# tools\n%pip install x\n\n!apt-get install -y y", True),
        ("pip install x", True),
        ("%%bash\necho hi", True),
        ("%%shell\necho hi", True),
        ("%%capture\n!pip install x", True),
        ("%%writefile requirements.txt\nnumpy", True),
        ("import os\n!ls", False),
        ("x = !ls", False),
        ("%matplotlib inline", False),
        ("if True:\n    !ls", False),
        ("x = = 1", False),
    ],
)
def test_cells_of_nothing_but_commands_are_known(source: str, only: bool) -> None:
    """Between two of them no Python has looked at what the first one wrote."""
    assert holds_only_commands(source) is only
