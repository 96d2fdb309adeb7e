"""An error that somebody looks at in a notebook: its name and its sentence, in a frame like the other panels'."""

from __future__ import annotations

from raycolab.display.panel import header, panel, told

__all__ = ["error_panel"]


def error_panel(name: str, sentence: str) -> str:
    """The panel."""
    return panel((header(name, "error"), told([sentence], "bad")))
