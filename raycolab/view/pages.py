"""How a page is made: the templates beside this module, what they can say of a value, and the forms an output has.

`templates/` has one template for each panel and one for the report, the pieces that they share (`pieces.html.j2`), and
the one style sheet. Whatever is put into a template is escaped. A panel has no script and reaches for nothing outside
itself; where a page takes its style away, as one that does not trust a notebook does, it can still be read.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from raycolab.text import bytes_text, config_text, counted, duration_text, number_text, visible

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["HTML", "PLAIN", "Bundle", "amount", "render"]

HTML, PLAIN = "text/html", "text/plain"

Bundle = dict[str, str]
"""What one output of a notebook holds: the same facts as `HTML` and as `PLAIN`."""

_THEMES = {
    **dict.fromkeys(("up", "RUNNING", "COMPLETE"), "good"),
    **dict.fromkeys(("away", "restarting", "unreachable", "rejoining", "QUEUED", "PAUSED"), "warn"),
    **dict.fromkeys(("HELD", "CANCELLED", "failed", "error"), "bad"),
}


def render(template: str, **values: object) -> str:
    """The page or panel that this template makes of these values."""
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    loader = PackageLoader("raycolab.view")
    made = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "amount": amount,
        "bytes": bytes_text,
        "config": config_text,
        "counted": counted,
        "duration": duration_text,
        "number": number_text,
        "theme": _theme,
    }
    # Every output that a notebook shows and saves has the style sheet in it: without comments and indentation.
    style, _, _ = loader.get_source(made, "style.css")
    made.globals["style"] = Markup(re.sub(r"(?:/\*.*?\*/|\s)+", " ", style, flags=re.DOTALL).strip())
    return made


def _finalized(value: object) -> object:
    """A text's control characters, and those that turn its direction, are shown on a page as on a terminal."""
    return visible(value) if type(value) is str else value


def amount(count: float | None) -> str:
    """How many CPUs or GPUs: `2`, `0.5`, `-` where that is not known."""
    return "-" if count is None else f"{count:g}"


def _theme(state: str) -> str:
    """The class of a node's or a sweep's state: good, warn, bad or soft."""
    return _THEMES.get(state, "soft")
