"""The head as one panel: the join address while it is good for anything, the nodes, the allowance, what to read.

Pure: from the object of `status --json`, see `raycolab.node.status`. The address is a credential, so a panel of a head
that has ended has none: a notebook is saved and shared with its last output.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from raycolab.display.node_rows import nodes_rows
from raycolab.display.panel import HTML, PLAIN, Bundle, header, panel, part, told
from raycolab.display.progress import warning_lines
from raycolab.display.tables import snapshot_lines, traffic_lines
from raycolab.wording import bytes_text

__all__ = ["MASK", "head_bundle", "head_panel", "next_steps"]

MASK = "tunnel+•••://•••••••• (hidden)"

_KEEP = (
    "Keep it to yourself: whoever has it can join and run code on every node. Clear this output before you share the"
    " notebook."
)

_BLANK = "From a blank notebook: this cell installs the same versions and joins"

_NO_SNAPSHOTS = "None are taken: results and the head's identity are on this machine's disk alone."

_OVER = "This head has ended. Results stay in its database: raycolab.find(NAME).results"

_KINDS = ("cpus", "gpus")

Status = Mapping[str, Any]


def head_bundle(status: Status | None, join_address: str | None, cell: str = "") -> Bundle:
    """The panel and its twin in plain text. `status` is None where nothing is known, the address where none is left.

    `cell` is the whole cell that joins from a blank notebook; it holds the address too, and goes when that goes.
    """
    return {HTML: head_panel(status, join_address, cell), PLAIN: _text(status, join_address, cell)}


def head_panel(status: Status | None, join_address: str | None, cell: str = "") -> str:
    """The panel."""
    nodes: Sequence[Mapping[str, Any]] = (status or {}).get("nodes", ())
    traffic = (status or {}).get("traffic")
    is_over = join_address is None
    return panel(
        (
            header("raycolab head", "ended" if is_over else "up", count="" if is_over else _size(nodes)),
            _address(join_address, cell),
            told([_OVER], "soft") if is_over else told(_warnings(status)),
            part("Nodes", nodes_rows(nodes) if nodes and not is_over else ""),
            part("Traffic", _allowance(traffic) if traffic else ""),
            part("Snapshots", _snapshots(status)),
        )
    )


def next_steps(join_address: str, cell: str = "") -> str:
    """What a person does with the address, and what comes next, for where there is no panel."""
    blank = f"\n{_BLANK}:\n\n{cell}" if cell else ""
    return (
        f"\n{join_address}\n\n"
        "This line is the join address. Keep it to yourself: whoever has it can join and run code here.\n"
        "In other tabs: give it to joiner.ipynb, or run  raycolab.join('THE LINE ABOVE')\n"
        "In this one:   raycolab.declare(...).run()  starts at once, with or without them;\n"
        "               head shows who has joined, head.shutdown() ends them all."
        f"{blank}"
    )


def _address(join_address: str | None, cell: str) -> str:
    if join_address is None:
        return part("Join address", f"<pre class=address>{html.escape(MASK)}</pre>")
    steps = (
        "<p class=steps>In other tabs: give it to <code>joiner.ipynb</code>, or run"
        " <code>raycolab.join('THE LINE ABOVE')</code>. In this one: <code>raycolab.declare(...).run()</code> starts at"
        " once, with or without them; <code>head</code> shows who has joined, <code>head.shutdown()</code> ends them"
        " all.</p>"
    )
    line = f"<pre class=address>{html.escape(join_address)}</pre>"
    blank = f"<details class=steps><summary>{_BLANK}</summary><pre class=address>{html.escape(cell)}</pre></details>"
    content = f"{line}<p class=note>{_KEEP}</p>{steps}{blank if cell else ''}"
    return part("Join address", content, "one click selects it")


def _size(nodes: Sequence[Mapping[str, Any]]) -> str:
    """`6 nodes, 12 CPUs`."""
    named = {"node": len(nodes), **{kind[:-1].upper(): sum(node.get(kind) or 0 for node in nodes) for kind in _KINDS}}
    return ", ".join(f"{count:g} {name}{'' if count == 1 else 's'}" for name, count in named.items() if count)


def _warnings(status: Status | None) -> list[str]:
    if status is None:
        return []
    traffic = status.get("traffic") or {}
    found = warning_lines(status.get("sweeps", ()), status.get("nodes", ()))
    found += [str(traffic["warning"])] if traffic.get("warning") else []
    return found


def _allowance(traffic: Mapping[str, Any]) -> str:
    """The month's bytes beside the allowance, as a bar where there is one."""
    line = f"<p class=note>{html.escape(traffic_lines({**traffic, 'warning': None})[0])}</p>"
    limit = traffic["limit_bytes"]
    if limit is None:
        return line
    share = min(traffic["month_bytes"] / limit, 1.0)
    kind = "failed" if share >= 1 else "lost" if share >= 0.8 else "complete"
    label = f"{bytes_text(traffic['month_bytes'])} of {bytes_text(limit)}"
    width = f"width:{share * 100:.1f}%"
    return f'<div class="bar allowance" role=img aria-label="{label}"><i class={kind} style="{width}"></i></div>{line}'


def _snapshots(status: Status | None) -> str:
    """The newest snapshot and its age, or what it means that none are taken."""
    if status is None or "snapshots" not in status:
        return ""
    lines = snapshot_lines(status["snapshots"]) if status["snapshots"] else [_NO_SNAPSHOTS]
    wrong = lines[-1:] if (status["snapshots"] or {}).get("error") else []
    good = lines[: len(lines) - len(wrong)]
    return "".join(f"<p class=note>{html.escape(line)}</p>" for line in good) + told(wrong)


def _text(status: Status | None, join_address: str | None, cell: str) -> str:
    if join_address is None:
        return f"{MASK}\n{_OVER}"
    lines = [next_steps(join_address, cell), ""]
    for node in (status or {}).get("nodes", ()):
        lines.append(f"{node['name']}: {node.get('state', '')}, {_size([node]).partition(', ')[2]}")
    lines += snapshot_lines((status or {}).get("snapshots"))
    return "\n".join([*lines, *_warnings(status)])
