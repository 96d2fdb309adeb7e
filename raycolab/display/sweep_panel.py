"""A sweep as one panel: how far it is, when it will be done, its best, its pairs, its nodes, what failed and why.

Pure: from the sweep's object of `status --json`, see `raycolab.engine.progress`, and the nodes' ones.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from raycolab.display.node_rows import lanes
from raycolab.display.panel import facts, header, panel, part, told
from raycolab.results.pairs_map import pairs_map
from raycolab.results.tally import PairTally
from raycolab.wording import duration_text, number_text

__all__ = ["causes_part", "count_bar", "sweep_header", "sweep_panel"]

_SEGMENTS = ("complete", "pruned", "failed", "lost", "cancelled", "running")
_ALWAYS = ("complete", "failed", "running")

_MOST_SHAPES = 3  # of slots that are told; the rest is rare
_WIDEST_BESIDE = 5  # datasets of a map that leaves room for the nodes
_MEANING = {
    "DECLARED": "Declared, and not started yet: .run() starts it and shows it, .start() starts it.",
    "PAUSED": "No new trials start, running ones go on. To go on: sweep.resume(), or raycolab resume {name}",
    "STOPPED": "Stopped: what is pending was not run. To go on: sweep.resume(), or raycolab resume {name}",
}
"""What a state means where the engine says no more."""

Sweep = Mapping[str, Any]


def sweep_panel(
    sweep: Sweep, nodes: Sequence[Mapping[str, Any]] = (), elapsed_s: float | None = None, notes: Sequence[str] = ()
) -> str:
    """The panel; `elapsed_s` since somebody began to watch, `notes` are sentences about the watching itself."""
    state = str(sweep.get("state", ""))
    name = str(sweep.get("name", ""))
    sentence = sweep.get("sentence") or _MEANING.get(state, "").format(name=name)
    warnings = [str(sentence)] if sentence else []
    warnings += [f"{node['name']}: {node['warning']}" for node in nodes if node.get("warning")]
    return panel(
        (
            sweep_header(name, state, sweep),
            count_bar(sweep),
            told(warnings, "bad" if state == "HELD" else "warn"),
            facts(_facts(sweep, state, nodes, elapsed_s)),
            f"<div class=parts>{_pairs(sweep)}{_nodes(sweep, nodes)}</div>",
            causes_part(sweep.get("causes") or [], sweep.get("causes_left_out", 0)),
            told(notes, "soft"),
        )
    )


def sweep_header(name: str, state: str, counts: Mapping[str, int]) -> str:
    """Its name, its state, n / N."""
    done = sum(counts.get(key, 0) for key in _SEGMENTS if key != "running")
    return header(name, state, count=f"{done} / {counts.get('total', 0)}")


def count_bar(tally: Mapping[str, int]) -> str:
    """The share of every state, and below it how many they are."""
    total = tally.get("total", 0)
    counts = {key: tally.get(key, 0) for key in _SEGMENTS}
    widths = "".join(
        f'<i class={key} style="width:{count / total * 100:.2f}%"></i>'
        for key, count in counts.items()
        if count and total
    )
    words = {**counts, "pending": tally.get("pending", 0)}
    legend = "".join(
        f"<span><i class={key}></i>{'ok' if key == 'complete' else key} {count}</span> "
        for key, count in words.items()
        if count or key in _ALWAYS
    )
    return f'<div class=bar role=img aria-label="{total} trials">{widths}</div><p class=legend>{legend}</p>'


def _facts(sweep: Sweep, state: str, nodes: Sequence[Mapping[str, Any]], elapsed_s: float | None) -> dict[str, str]:
    eta_s, best = sweep.get("eta_s"), sweep.get("best")
    left = "" if state != "RUNNING" else "measuring" if eta_s is None else f"about {duration_text(eta_s)}"
    named = {"time left": left, "watched for": "" if elapsed_s is None else duration_text(elapsed_s)}
    if nodes:
        away = sum(node.get("state") != "up" for node in nodes)
        named["nodes"] = f"{len(nodes)}, {away} not up" if away else str(len(nodes))
    if best is not None:
        where = f"{best['model']} on {best['dataset']}, trial {best['number']}"
        named[f"best {best['metric']}"] = f"{number_text(best['value'])} ({where})"
    return named


def _pairs(sweep: Sweep) -> str:
    rows = sweep.get("pairs") or []
    if not rows:
        return ""
    cells = {
        (row["model"], row["dataset"]): PairTally(row["total"], row["done"], row["failed"], row["best"]) for row in rows
    }
    models, datasets = (list(dict.fromkeys(names)) for names in zip(*cells, strict=True))
    metric = sweep.get("metric") or {"name": "", "mode": "max"}
    left_out = sweep.get("pairs_left_out", 0)
    some = f"; {len(rows)} of {len(rows) + left_out} pairs shown" if left_out else ""
    return part(
        "Models by datasets",
        pairs_map(models, datasets, cells, metric["mode"]),
        f"best {metric['name']} ({metric['mode']}) of each pair{some}",
        whole=len(datasets) > _WIDEST_BESIDE,
    )


def _nodes(sweep: Sweep, nodes: Sequence[Mapping[str, Any]]) -> str:
    return part("Nodes", lanes(nodes, sweep.get("done_on") or {}), _slots(sweep)) if nodes else ""


def _slots(sweep: Sweep) -> str:
    """What a trial takes: `slots: 2 x 1 CPU on 3 nodes, 1 x 1 CPU, 1 GPU on 1 node`."""
    counts = Counter((sweep.get("slots") or {}).values()).most_common(_MOST_SHAPES)
    said = (f"{shape} on {count} node{'' if count == 1 else 's'}" for shape, count in counts)
    return f"slots: {'; '.join(said)}" if counts else ""


def causes_part(found: Sequence[Mapping[str, Any]], left_out: int) -> str:
    """Each cause's `count` and `text`, and how many more there are."""
    items = "".join(f"<li><b>{cause['count']}</b> <span>{html.escape(cause['text'])}</span></li>" for cause in found)
    more = f"<p class=note>and {left_out} more causes: see results.errors</p>" if left_out > 0 else ""
    return part(
        "Failures by cause", f"<ul class=causes>{items}</ul>{more}" if items else "", "trials, and what each failed of"
    )
