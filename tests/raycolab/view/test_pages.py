"""How templates become pages: everything is escaped, nothing is left undefined, and it costs nothing before."""

from __future__ import annotations

import subprocess
import sys

import pytest
from jinja2 import UndefinedError

from raycolab.view.pages import amount, counted, render
from tests.raycolab.view.pages import Page


def test_what_is_put_into_a_page_is_text() -> None:
    """Whatever it looks like."""
    seen = Page(render("error.html.j2", name="<b>", sentence="</style><script>alert(1)</script> & 'x'"))
    assert [text for text in seen.texts if text != seen.style] == [
        "<b>",
        "error",
        "</style><script>alert(1)</script> & 'x'",
    ]


def test_a_value_that_is_missing_is_no_empty_page() -> None:
    """A template that names what it was not given is a bug, and is seen as one."""
    with pytest.raises(UndefinedError):
        render("error.html.j2", name="NoHeadError")


def test_the_style_sheet_is_sent_without_its_comments() -> None:
    """It is in every output of a panel; a joiner's or a sweep's is sent each second."""
    style = Page(render("error.html.j2", name="x", sentence="y")).style
    assert "/*" not in style
    assert "  " not in style


def test_the_templates_are_loaded_with_the_first_page() -> None:
    """Neither by raycolab nor by what could make a page."""
    modules = "raycolab.view.panels, raycolab.view.live, raycolab.view.progress, raycolab.results.table"
    code = f"import sys, {modules}; print('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_numbers_are_said_with_their_nouns() -> None:
    """One node, two nodes, half a GPU; a dash where nothing is known."""
    said = [counted(1, "node"), counted(0.5, "GPU"), counted(1_234_567, "trial")]
    assert said == ["1 node", "0.5 GPUs", "1234567 trials"]
    assert [amount(None), amount(2.0), amount(0.5)] == ["-", "2", "0.5"]
