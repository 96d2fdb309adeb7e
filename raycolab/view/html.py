"""The pieces every panel is made of: its frame, its state, facts, sentences, parts. Texts are escaped here.

Pure: from texts to markup, as `raycolab.view.html` is for the report. A panel has no script and reaches for
nothing outside itself. Where a page takes its style away, as one that does not trust a notebook does, it can be read.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence

from raycolab.view.style import STYLE

__all__ = [
    "HTML",
    "PLAIN",
    "Bundle",
    "card",
    "facts",
    "grid",
    "header",
    "panel",
    "part",
    "section",
    "table",
    "told",
    "tone",
]

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


def section(title: str, content: str, note: str = "") -> str:
    """A part of the page; title, content and note are markup."""
    under = f"<p class=note>{note}</p>" if note else ""
    return f"<section><h2>{title}</h2>{under}{content}</section>"


def grid(cards: Iterable[str], *, least: int = 340) -> str:
    """Cards side by side, as many as the page is wide; `least` is how wide each is at least, in CSS pixels."""
    return f'<div class=grid-of style="--least:{least}px">{"".join(cards)}</div>'


def card(title: str, content: str, note: str = "") -> str:
    """One picture with its title and note, which are text; the content is markup."""
    under = f"<p class=note>{html.escape(note)}</p>" if note else ""
    return f"<div class=card><h3>{html.escape(title)}</h3>{content}{under}</div>"


def table(
    heads: Sequence[str],
    lines: Sequence[Sequence[str]],
    *,
    numeric: Iterable[int] = (),
    code: Iterable[int] = (),
    stacks: bool = False,
) -> str:
    """A table of text; `numeric` columns are flush right, `code` ones are set as code and may break.

    One that `stacks` has its cells below each other, each with its head, where the page is narrow.
    """
    kinds = dict.fromkeys(numeric, " class=number") | dict.fromkeys(code, " class=code")
    top = "".join(f"<th scope=col{kinds.get(at, '')}>{html.escape(head)}</th>" for at, head in enumerate(heads))
    names = [f' data-head="{html.escape(head)}"' if stacks else "" for head in heads]
    body = "".join(
        "<tr>"
        + "".join(f"<td{names[at]}{kinds.get(at, '')}>{html.escape(cell)}</td>" for at, cell in enumerate(line))
        + "</tr>"
        for line in lines
    )
    kind = " class=stacks" if stacks else ""
    return f"<div class=scroll><table{kind}><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
