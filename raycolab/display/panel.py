"""The pieces every panel is made of: its frame, its state, facts, sentences, parts. Texts are escaped here.

Pure: from texts to markup, as `raycolab.results.markup` is for the report. A panel has no script and reaches for
nothing outside itself. Where a page takes its style away, as one that does not trust a notebook does, it can be read.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence

from raycolab.display.panel_style import STYLE

__all__ = ["HTML", "PLAIN", "Bundle", "facts", "header", "panel", "part", "told", "tone"]

HTML, PLAIN = "text/html", "text/plain"

Bundle = dict[str, str]
"""What one output holds: the same facts as `HTML` and as `PLAIN`."""

_TONES = {
    **dict.fromkeys(("up", "RUNNING", "COMPLETE"), "good"),
    **dict.fromkeys(("away", "restarting", "unreachable", "rejoining", "QUEUED", "PAUSED"), "warn"),
    **dict.fromkeys(("HELD", "CANCELLED", "failed", "error"), "bad"),
}


def tone(state: str) -> str:
    """The class of a node's or a sweep's state: good, warn, bad or soft."""
    return _TONES.get(state, "soft")


def panel(parts: Iterable[str]) -> str:
    """The whole: parts are markup, and empty ones are left out."""
    return f'<div class="raycolab"><style>{STYLE}</style>{"".join(parts)}</div>'


def header(title: str, state: str = "", *, count: str = "") -> str:
    """The first line: what it is, how it stands, and how many of how many."""
    pill = f' <span class="state {tone(state)}">{html.escape(state.lower())}</span>' if state else ""
    right = f" <span class=count>{html.escape(count)}</span>" if count else ""
    return f"<header><span class=title>{html.escape(title)}</span>{pill}{right}</header>"


def facts(named: Mapping[str, str]) -> str:
    """Short facts side by side, each below its name; those without a text are left out."""
    items = "".join(
        f"<div><span>{html.escape(name)}</span> <b>{html.escape(text)}</b></div>"
        for name, text in named.items()
        if text
    )
    return f"<div class=facts>{items}</div>" if items else ""


def told(sentences: Sequence[str], kind: str = "warn") -> str:
    """Sentences that a person should read, each with a mark before it: warn, bad or soft."""
    return "".join(f'<p class="told {kind}">{html.escape(sentence)}</p>' for sentence in sentences)


def part(title: str, content: str, note: str = "", *, whole: bool = False) -> str:
    """A part with its title and a note beside it, which are text; the content is markup, nothing without it.

    One that is `whole` stands beside no other.
    """
    if not content:
        return ""
    beside = f" <small>{html.escape(note)}</small>" if note else ""
    kind = "part whole" if whole else "part"
    return f'<div class="{kind}"><p class=name>{html.escape(title)}{beside}</p>{content}</div>'
