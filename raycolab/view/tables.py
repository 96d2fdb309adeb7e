"""Nodes, sweeps and results as rich tables, for `raycolab status` and `raycolab results`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from raycolab.text import bytes_text, duration_text, number_text, tally_text

if TYPE_CHECKING:
    from raycolab.results.table import Results

__all__ = [
    "best_text",
    "nodes_table",
    "results_table",
    "snapshot_lines",
    "sweeps_table",
    "traffic_lines",
    "warning_lines",
]


def nodes_table(nodes: Sequence[Mapping[str, Any]]) -> Group:
    """One row per node of `status --json`: where it stands, what it computes, its link; then the warnings."""
    table = _table("node", "state", "CPUs", "GPUs", "trial", "round trip", "sent", "received")
    for node in nodes:
        trial, rtt_ms = node.get("trial"), node.get("rtt_ms")
        table.add_row(
            Text(str(node["name"])),
            Text(str(node.get("state", ""))),
            _plain(node.get("cpus")),
            _plain(node.get("gpus")),
            Text("-" if trial is None else str(trial)),
            "-" if rtt_ms is None else f"{rtt_ms:.0f} ms",
            bytes_text(node.get("bytes_sent") or 0),
            bytes_text(node.get("bytes_received") or 0),
        )
    return Group(table, *map(Text, warning_lines([], nodes)))


def sweeps_table(sweeps: Sequence[Mapping[str, Any]]) -> Group:
    """One row per sweep of `status --json`: how far it is, when it will be done, its best; then the sentences."""
    table = _table("sweep", "state", "trials", "left", "best")
    for sweep in sweeps:
        eta_s = sweep.get("eta_s")
        table.add_row(
            Text(str(sweep["name"])),
            Text(str(sweep.get("state", ""))),
            tally_text(sweep),
            "-" if eta_s is None else duration_text(eta_s),
            Text(best_text(sweep.get("best")) or "-"),
        )
    return Group(table, *map(Text, warning_lines(sweeps, [])))


def traffic_lines(traffic: Mapping[str, Any]) -> list[str]:
    """What went through the tunnel since the head started, and this month where the provider counts; its warning."""
    total, own = traffic["bytes"], traffic["control_bytes"]
    lines = [f"through the tunnel: {bytes_text(total)}, of which {bytes_text(own)} its own overhead"]
    if traffic["limit_bytes"] is not None:
        lines[0] += (
            f"; {traffic['month']}: {bytes_text(traffic['month_bytes'])} of {bytes_text(traffic['limit_bytes'])}"
        )
        lines[0] += f" that {traffic['provider']}'s free plan has a month"
    return lines + ([traffic["warning"]] if traffic["warning"] else [])


def snapshot_lines(snapshots: Mapping[str, Any] | None) -> list[str]:
    """The last snapshot, its age and where it is, and why there is no newer one; nothing where none are taken."""
    if snapshots is None:
        return []
    lines = []
    if snapshots["number"] is not None:
        age = duration_text(snapshots["age_s"])
        current = ", nothing finished since" if snapshots["up_to_date"] else ""
        lines.append(f"snapshot {snapshots['number']}, {age} old{current}, in {snapshots['folder']}")
    if snapshots["error"] is not None:
        lines.append(f"{'no newer one' if lines else 'no snapshots'}: {snapshots['error']}")
    return lines


def results_table(results: Results) -> Group:
    """Models x datasets with the best of each dataset in bold, then the best trial and the causes of failures."""
    pivot = results.pivot()
    metric = results.metric
    table = _table(f"{metric.name} ({metric.mode})", *map(str, pivot.columns))
    values = [[float(value) for value in row] for row in pivot.to_numpy()]
    pick = max if metric.mode == "max" else min
    finite = [[value for value in column if not math.isnan(value)] for column in zip(*values, strict=True)]
    best = [pick(column) if column else None for column in finite]
    for model, row in zip(pivot.index, values, strict=True):
        cells = [
            Text("-" if math.isnan(value) else number_text(value), style="bold" if value == top else "")
            for value, top in zip(row, best, strict=True)
        ]
        table.add_row(Text(str(model)), *cells)
    return Group(Text(results.headline()), table, *(Text(line) for line in results.closing_lines()))


def _table(first: str, *others: str) -> Table:
    """A table whose first column names the row; names are a person's own, so nothing in them is markup."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in (first, *others):
        table.add_column(Text(name))
    return table


def _plain(count: float | None) -> str:
    return "-" if count is None else f"{count:g}"


def best_text(best: Mapping[str, Any] | None) -> str:
    """`accuracy 0.9833 (svc on iris)` from a status's `best`; "" while there is none."""
    if best is None:
        return ""
    return f"{best['metric']} {number_text(best['value'])} ({best['model']} on {best['dataset']})"


def warning_lines(sweeps: Sequence[Mapping[str, Any]], nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """The sentences of a status that a person should read: a sweep's `sentence`, a node's `warning`."""
    told = [f"{sweep['name']}: {sweep['sentence']}" for sweep in sweeps if sweep.get("sentence")]
    return told + [f"{node['name']}: {node['warning']}" for node in nodes if node.get("warning")]
