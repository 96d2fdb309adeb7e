"""Models x datasets as a table with colours: the best of each pair, how far it is, what failed in it.

Pure: from numbers to markup. A cell's colour compares it with the other models on its dataset, for one dataset is
easier than another; the bar at its foot is what is done. Without its style it is still a table that can be read.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raycolab.summary import PairTally, causes
from raycolab.text import bytes_text, config_text, duration_text, number_text
from raycolab.view.html import HTML, PLAIN, Bundle, facts, header, panel, part, told, tone
from raycolab.view.tables import snapshot_lines, traffic_lines, warning_lines

if TYPE_CHECKING:
    from raycolab.results.table import Results

__all__ = [
    "MASK",
    "TRUST",
    "JoinerEvent",
    "JoinerView",
    "causes_part",
    "count_bar",
    "error_panel",
    "head_bundle",
    "head_panel",
    "joiner_bundle",
    "joiner_panel",
    "lanes",
    "next_steps",
    "nodes_rows",
    "pairs_map",
    "results_panel",
    "sweep_header",
    "sweep_panel",
]

_PALEST, _DEEPEST = 0.07, 0.42  # how much colour the worst and the best of a dataset get
_DENSE = 9  # datasets, from which on a cell has its number alone


def pairs_map(
    models: Sequence[str], datasets: Sequence[str], cells: Mapping[tuple[str, str], PairTally], mode: str
) -> str:
    """The table; a pair that is not there stays empty. `mode` is the metric's, "max" or "min"."""
    dense = len(datasets) >= _DENSE
    columns = {data: _column([cells.get((model, data)) for model in models], mode) for data in datasets}
    heads = "".join(f"<th scope=col><span>{html.escape(data)}</span></th>" for data in ("", *datasets))
    body = []
    for at, model in enumerate(models):
        row = "".join(_cell(model, data, cells.get((model, data)), columns[data][at], dense) for data in datasets)
        body.append(f"<tr><th scope=row><span>{html.escape(model)}</span></th>{row}</tr>")
    kind = "map dense" if dense else "map"
    return (
        f'<div class=scroll><table class="{kind}"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _column(column: Sequence[PairTally | None], mode: str) -> list[float | None]:
    """How good each model is on one dataset: the best 1, the worst 0, None where there is nothing yet."""
    values = [None if cell is None else cell.best for cell in column]
    known = [value for value in values if value is not None]
    if not known:
        return [None for _ in values]
    low, high = min(known), max(known)
    good, bad = (high, low) if mode == "max" else (low, high)
    return [None if value is None else 1.0 if high == low else (value - bad) / (good - bad) for value in values]


def _cell(model: str, dataset: str, cell: PairTally | None, share: float | None, dense: bool) -> str:
    if cell is None:
        return "<td></td>"
    value = "-" if cell.best is None else number_text(cell.best)
    failed = f"{cell.failed} failed" if cell.failed else ""
    told = f"{model} on {dataset}: {cell.done} of {cell.total} done, best {value}" + (f", {failed}" if failed else "")
    heat = "" if share is None else f' style="--heat:{_PALEST + (_DEEPEST - _PALEST) * share:.2f}"'
    top = " class=top" if share == 1.0 else ""
    under = _under(cell, failed) if not dense else ""
    bar = f'<i style="width:{cell.done / cell.total * 100:.0f}%"></i>' if 0 < cell.done < cell.total else ""
    return f'<td{top}{heat} title="{html.escape(told)}"><b>{value}</b>{under}{bar}</td>'


def _under(cell: PairTally, failed: str) -> str:
    """What is said below a pair's best: how far it is while it is not done, and its failures."""
    parts = [] if cell.done == cell.total else [f"<span>{cell.done}/{cell.total}</span>"]
    parts += [f"<em>{failed}</em>"] if failed else []
    return f" <small>{' '.join(parts)}</small>" if parts else ""


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


TRUST = "Whoever runs the head runs code here and reads what this tab has mounted."
_LEAVE = "Stop only detaches this cell: this machine stays in the cluster. raycolab.leave() leaves it."
_OVER_JOINER_PANEL = ("ended", "failed")
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
    before = [] if view.state in _OVER_JOINER_PANEL else [_LEAVE, TRUST]
    lines = [*before, *view.notes, *texts, *([view.detached] if view.detached else [])]
    return {HTML: joiner_panel(view), PLAIN: "\n".join(lines)}


def joiner_panel(view: JoinerView) -> str:
    """The panel."""
    is_over = view.state in _OVER_JOINER_PANEL
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


_MOST_CAUSES = 12


def results_panel(results: Results) -> str:
    """The panel."""
    metric = results.metric
    counts = results.counts()
    best = results.best_trial
    named = {}
    if best is not None:
        named[f"best {metric.name}"] = number_text(metric.value_of(best))
        named["of"] = f"{best.model} on {best.dataset}, trial {best.number}"
        named["configuration"] = config_text(best.config or {})
    found = [{"text": cause.told, "count": cause.count} for cause in causes(results.rows)]
    table = pairs_map(results.models, results.datasets, results.pairs, metric.mode) if results.rows else ""
    return panel(
        (
            sweep_header(results.name, "", counts),
            count_bar(counts),
            facts(named),
            part("Models by datasets", table, f"best {metric.name} ({metric.mode}) of each pair"),
            causes_part(found[:_MOST_CAUSES], len(found) - _MOST_CAUSES),
            f"<p class='part steps'>{_NEXT}</p>" if results.rows else "",
        )
    )


_NEXT = "; ".join(
    f"<code>{html.escape(call)}</code> {what}"
    for call, what in (
        (".dataframe", "every trial"),
        (".errors", "failures with their tracebacks"),
        ('.report("out.html")', "a page to keep"),
    )
)


def error_panel(name: str, sentence: str) -> str:
    """The panel."""
    return panel((header(name, "error"), told([sentence], "bad")))
