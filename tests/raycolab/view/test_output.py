"""One output of a notebook cell, updated in place and not too often."""

from __future__ import annotations

from itertools import pairwise

from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import CapturedIO

from raycolab.view.output import NotebookOutput, in_notebook
from tests.raycolab.view.conftest import Clock


def texts(shown: CapturedIO) -> list[str]:
    """Their plain texts."""
    return [output.data["text/plain"] for output in shown.outputs]


def test_it_is_updated_at_most_once_a_second(shown: CapturedIO) -> None:
    """What came too soon is shown by the next call after the second, or by the end; what did not change never."""
    clock = Clock()
    output = NotebookOutput(clock)
    for text in ("a", "b", "c", "c", "d"):
        output.show({"text/plain": text})
        clock.now += 0.4
    output.flush()
    output.flush()
    assert texts(shown) == ["a", "c", "d"]


def test_after_long_it_is_updated_less_often(shown: CapturedIO) -> None:
    """Every five seconds at the slowest: each update is sent to the page whole."""
    clock = Clock()
    output = NotebookOutput(clock)
    for second in range(4000):
        output.show({"text/plain": str(second)})
        clock.now += 1.0
    times = [int(text) for text in texts(shown)]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert (gaps[0], max(gaps), gaps[-1]) == (1, 5, 5)


def test_a_change_back_is_shown_too(shown: CapturedIO) -> None:
    """What is owed is the last that was given, not the last that differed."""
    output = NotebookOutput(Clock())
    for text in ("a", "b", "a"):
        output.show({"text/plain": text})
    output.flush()
    assert texts(shown) == ["a"]


def test_outside_a_kernel_there_is_no_notebook() -> None:
    """A script, a terminal, and IPython on one."""
    assert not in_notebook()
    InteractiveShell.instance()
    assert not in_notebook()
    InteractiveShell.clear_instance()
