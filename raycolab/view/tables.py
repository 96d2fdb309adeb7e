"""Nodes, sweeps and results as a terminal shows them, and the sentences of a status that panels have too."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Group
from rich.table import Table
from rich.text import Text

from raycolab.summary import Best, NodeStatus, SnapshotStatus, SweepStatus, TrafficStatus
from raycolab.text import bytes_text, duration_text, number_text, tally_text, visible
from raycolab.view.pages import amount

if TYPE_CHECKING:
    from raycolab.results.table import Results

__all__ = [
    "best_text",
    "nodes_table",
    "plain",
    "results_table",
    "snapshot_lines",
    "sweeps_table",
    "text_table",
    "traffic_lines",
    "warning_lines",
]


def plain(text: str, style: str = "") -> Text:
    """A person's or MAIN's own text for a terminal: nothing in it is markup, and nothing is obeyed."""
    return Text(visible(text), style)


def nodes_table(nodes: Sequence[NodeStatus] | Sequence[Mapping[str, Any]]) -> Group:
    """One row per node of `status --json`: where it stands, what it computes, its link; then the warnings."""
    seen = msgspec.convert(nodes, list[NodeStatus])
    lines = [
        (
            node.name,
            node.state,
            amount(node.cpus),
            amount(node.gpus),
            node.at_work or "-",
            "-" if node.rtt_ms is None else f"{node.rtt_ms:.0f} ms",
            bytes_text(node.bytes_sent),
            bytes_text(node.bytes_received),
        )
        for node in seen
    ]
    heads = ("node", "state", "CPUs", "GPUs", "trial", "round trip", "sent", "received")
    return Group(text_table(heads, lines), *map(plain, warning_lines([], seen)))


def sweeps_table(sweeps: Sequence[SweepStatus] | Sequence[Mapping[str, Any]]) -> Group:
    """One row per sweep of `status --json`: how far it is, when it will be done, its best; then the sentences."""
    seen = msgspec.convert(sweeps, list[SweepStatus])
    lines = [
        (
            sweep.name,
            sweep.state,
            tally_text(sweep.counts),
            "-" if sweep.eta_s is None else duration_text(sweep.eta_s),
            best_text(sweep.best) or "-",
        )
        for sweep in seen
    ]
    return Group(text_table(("sweep", "state", "trials", "left", "best"), lines), *map(plain, warning_lines(seen, [])))


def results_table(results: Results) -> Group:
    """Models x datasets with the best of each dataset in bold, then the best trial and the causes of failures."""
    pivot, metric = results.pivot(), results.metric
    best = (pivot.max() if metric.mode == "max" else pivot.min()).tolist()
    lines: list[list[str | Text]] = [
        [
            str(model),
            *(
                plain("-" if math.isnan(value) else number_text(value), "bold" if value == top else "")
                for value, top in zip(values, best, strict=True)
            ),
        ]
        for model, values in zip(pivot.index, pivot.to_numpy().tolist(), strict=True)
    ]
    table = text_table((f"{metric.name} ({metric.mode})", *map(str, pivot.columns)), lines)
    return Group(plain(results.headline()), table, *map(plain, [*results.closing_lines(), *results.failure_details()]))


def text_table(heads: Sequence[str], lines: Iterable[Sequence[str | Text]]) -> Table:
    """A table whose first column names the row; names are a person's own, so nothing in them is markup."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in heads:
        table.add_column(plain(name))
    for line in lines:
        table.add_row(*(plain(cell) if isinstance(cell, str) else cell for cell in line))
    return table


def traffic_lines(traffic: TrafficStatus | Mapping[str, Any]) -> list[str]:
    """What went through the tunnel since the head started, and this month where the provider counts; its warning."""
    seen = msgspec.convert(traffic, TrafficStatus)
    line = f"through the tunnel: {bytes_text(seen.bytes)}, of which {bytes_text(seen.control_bytes)} is its overhead"
    if seen.limit_bytes is not None:
        line += f"; {seen.month}: {bytes_text(seen.month_bytes)} of the {bytes_text(seen.limit_bytes)} that"
        line += f" {seen.provider}'s free plan includes each month"
    return [line, seen.warning] if seen.warning else [line]


def snapshot_lines(snapshots: SnapshotStatus | Mapping[str, Any] | None) -> list[str]:
    """The last snapshot, its age and where it is, and why there is no newer one; nothing where none are taken."""
    if snapshots is None:
        return []
    seen = msgspec.convert(snapshots, SnapshotStatus)
    lines = []
    if seen.number is not None:
        age = duration_text(seen.age_s or 0.0)
        current = ", nothing finished since" if seen.up_to_date else ""
        lines.append(f"snapshot {seen.number}, {age} old{current}, in {seen.folder}")
    if seen.error is not None:
        lines.append(f"{'no newer one' if lines else 'no snapshots'}: {seen.error}")
    return lines


def warning_lines(sweeps: Sequence[SweepStatus], nodes: Sequence[NodeStatus]) -> list[str]:
    """The sentences of a status that a person should read: a sweep's `sentence` and hints, a node's `warning`."""
    found = [f"{sweep.name}: {text}" for sweep in sweeps for text in (sweep.sentence, *sweep.hints) if text]
    return found + [f"{node.name}: {node.warning}" for node in nodes if node.warning]


def best_text(best: Best | None) -> str:
    """`accuracy 0.9833 (svc on iris)`; "" while there is none."""
    if best is None:
        return ""
    return f"{best.metric} {number_text(best.value)} ({best.model} on {best.dataset})"
