"""Nodes as a panel shows them: a table of what each is, or a lane of what each has done."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from raycolab.display.panel import tone
from raycolab.wording import bytes_text

__all__ = ["lanes", "nodes_rows"]

MOST_NODES = 40
"""Rows of one panel; a cluster of more is read in `raycolab status`."""

_SPEAKS = ("node", "state", "runs")  # columns that need no head where a row is broken up
_WIDEST = 60  # of a lane, in CSS pixels

Node = Mapping[str, Any]


def nodes_rows(nodes: Sequence[Node]) -> str:
    """Name, state, CPUs, GPUs where there are any, trial, round trip and bytes of every node."""
    has_gpus = any(node.get("gpus") for node in nodes)
    heads = ["node", "state", "CPUs", *(["GPUs"] if has_gpus else []), "runs", "round trip", "sent", "received"]
    body = "".join(_row(node, heads) for node in nodes[:MOST_NODES])
    top = "".join(f"<th scope=col{_kind(head)}>{head}</th>" for head in heads)
    table = f'<table class="plain flows"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'
    return f"<div class=scroll>{table}</div>{_rest(nodes)}"


def lanes(nodes: Sequence[Node], done_on: Mapping[str, int]) -> str:
    """What every node runs and how many trials ended there, the nodes that are gone last."""
    present = {str(node["name"]) for node in nodes}
    gone = [{"name": name, "state": "gone"} for name in done_on if name not in present]
    shown = [*nodes, *gone]
    most = max(done_on.values(), default=0)
    body = "".join(_lane(node, done_on.get(str(node["name"]), 0), most) for node in shown[:MOST_NODES])
    return f'<table class="plain flows"><tbody>{body}</tbody></table>{_rest(shown)}' if body else ""


def _row(node: Node, heads: Sequence[str]) -> str:
    rtt_ms = node.get("rtt_ms")
    state = str(node.get("state", ""))
    has_link = rtt_ms != 0.0  # the head reaches itself
    cells = {
        "node": f"<b>{html.escape(str(node['name']))}</b>",
        "state": f'<span class="dot {tone(state)}">{html.escape(state)}</span>',
        "CPUs": _count(node.get("cpus")),
        "GPUs": _count(node.get("gpus")),
        "runs": html.escape(str(node.get("trial") or "-")),
        "round trip": "-" if not rtt_ms else f"{rtt_ms:.0f} ms",
        "sent": bytes_text(node.get("bytes_sent") or 0) if has_link else "-",
        "received": bytes_text(node.get("bytes_received") or 0) if has_link else "-",
    }
    named = {head: "" if head in _SPEAKS else f' data-head="{head}"' for head in heads}
    named["runs"] += _whole(node)
    row = "".join(f"<td{named[head]}{_kind(head, cells[head])}>{cells[head]}</td>" for head in heads)
    return f"<tr>{row}</tr>"


def _lane(node: Node, done: int, most: int) -> str:
    state = str(node.get("state", ""))
    runs = html.escape(str(node.get("trial") or ""))
    if state != "up":
        runs = f"<span class={tone(state)}>{html.escape(state)}</span> {runs}"
    width = done / most * _WIDEST if most else 0
    bar = f'<i style="width:{width:.0f}px"></i>' if done else ""
    name = f'<b><span class="dot {tone(state)}"></span>{html.escape(str(node["name"]))}</b>'
    what = f'<td class="wide soft"{_whole(node)}>{runs}</td>'
    return f"<tr><td>{name}</td><td class=lane>{bar}{done} done</td>{what}</tr>"


def _whole(node: Node) -> str:
    """What a page shows to who points at a trial, which is cut where it is too long for one line."""
    return f' title="{html.escape(str(node["trial"]))}"' if node.get("trial") else ""


def _rest(nodes: Sequence[Node]) -> str:
    left = len(nodes) - MOST_NODES
    return f"<p class=note>and {left} more: <code>raycolab status</code> shows all</p>" if left > 0 else ""


def _kind(head: str, cell: str = "") -> str:
    if head == "runs":
        return " class=wide"
    kind = "number none" if cell == "-" else "number"
    return f' class="{kind}"' if head in ("CPUs", "GPUs", "round trip", "sent", "received") else ""


def _count(count: float | None) -> str:
    return "-" if count is None else f"{count:g}"
