"""The pieces of the report's page: sections, cards and tables. Texts given as cells and titles are escaped here."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

__all__ = ["card", "grid", "section", "table"]


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
