"""A joiner as one panel: whether it is part of the cluster, whose, what it runs, what happened, how to leave.

Pure: from what `raycolab.join` knows of the joiner's process to markup and to text.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from raycolab.display.panel import HTML, PLAIN, Bundle, facts, header, panel, part, told

__all__ = ["TRUST", "JoinerEvent", "JoinerView", "joiner_bundle", "joiner_panel"]

TRUST = "Whoever runs the head runs code here and reads what this tab has mounted."
_LEAVE = "Stop only detaches this cell: this machine stays in the cluster. raycolab.leave() leaves it."
_OVER = ("ended", "failed")
_MOST_EVENTS = 8


@dataclass(frozen=True, slots=True)
class JoinerEvent:
    """Something that happened; `at` is the local time as text, "" where it is not known."""

    at: str
    text: str


@dataclass(frozen=True, slots=True)
class JoinerView:
    """What there is to show."""

    name: str | None  # None until the head has given one
    state: str  # of the joiner: connecting, joining, starting, up, away, rejoining; or ended, failed
    head: str = ""  # where the head is, without the address's secret
    trial: str | None = None
    events: Sequence[JoinerEvent] = ()
    notes: Sequence[str] = ()  # sentences about the cell that shows it
    detached: str = ""  # the sentence of a cell that does not watch it any more


def joiner_bundle(view: JoinerView) -> Bundle:
    """The panel and its twin in plain text, which has every event."""
    texts = [event.text for event in view.events]
    before = [] if view.state in _OVER else [_LEAVE, TRUST]
    lines = [*before, *view.notes, *texts, *([view.detached] if view.detached else [])]
    return {HTML: joiner_panel(view), PLAIN: "\n".join(lines)}


def joiner_panel(view: JoinerView) -> str:
    """The panel."""
    is_over = view.state in _OVER
    shown = list(view.events)[-_MOST_EVENTS:]
    items = "".join(
        f"<li><span>{html.escape(event.at)}</span> <div>{html.escape(event.text)}</div></li>" for event in shown
    )
    leave = "" if view.detached else _LEAVE
    left_out = len(view.events) - len(shown)
    runs = "" if is_over else (view.trial or "nothing yet" if view.state != "up" else view.trial or "waits for trials")
    return panel(
        (
            header(view.name or "a joiner", view.state),
            facts({"head": view.head, "runs": runs}),
            part("What happened", f"<ul class=events>{items}</ul>", f"{left_out} earlier" if left_out else ""),
            told(view.notes, "soft" if view.state != "failed" else "bad"),
            told([view.detached] if view.detached else []),
            "" if is_over else f"<p class='part note'>{html.escape(f'{leave} {TRUST}'.strip())}</p>",
        )
    )
