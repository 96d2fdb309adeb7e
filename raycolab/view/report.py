"""How the report looks: one style sheet, light and dark, from a phone's width to a desk's."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

from raycolab.main.notebook import CellRole, MainNotebook
from raycolab.results.study import IMPORTANCE_TRIALS, importance_method, importances
from raycolab.spec.spec import SweepSpec
from raycolab.summary import PairTally, causes
from raycolab.text import config_text, duration_text, number_text, tally_text, utc_text
from raycolab.trials import AttemptRow, Metric, SweepRow, TrialRow
from raycolab.view.charts import (
    MOST_CURVES,
    MOST_LINES,
    MOST_POINTS,
    MOST_STEPS,
    Bar,
    Curve,
    history,
    learning_curves,
    parallel_coordinates,
    parallel_width,
    timeline,
)
from raycolab.view.html import card, grid, section, table
from raycolab.view.panels import pairs_map
from raycolab.view.style import DARK, LIGHT, NARROW_PIECES, PIECES, STATES

__all__ = ["STYLE", "Subject", "page"]

STYLE = (
    f":root{{color-scheme:light dark;{LIGHT}}}\n@media (prefers-color-scheme:dark){{:root{{{DARK}}}}}\n"
    + """\
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--text);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue","DejaVu Sans",sans-serif;-webkit-text-size-adjust:100%}
main{max-width:1200px;margin:0 auto;padding:20px 16px 60px}
h1{font-size:1.7rem;line-height:1.2;margin:.2em 0;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2.2em 0 .3em}
h3{font-size:.95rem;margin:.9em 0 .3em;overflow-wrap:anywhere}
h3 small{font-weight:400;color:var(--soft)}
p{margin:.4em 0}.axis-text,.legend{color:var(--soft);font-size:.85rem}
.tally{font-variant-numeric:tabular-nums;white-space:pre-wrap;color:var(--soft)}
header .best{background:var(--card);border:1px solid var(--line);border-left:4px solid var(--first);border-radius:8px;
padding:10px 14px;margin:12px 0}
header .best b{font-size:1.15rem}
"""
    + PIECES
    + """\
code{overflow-wrap:anywhere}
dl{display:flex;flex-wrap:wrap;gap:6px 26px;margin:12px 0 0}dt{color:var(--soft);font-size:.8rem}dd{margin:0}
.grid-of{display:grid;gap:12px;grid-template-columns:repeat(auto-fill,minmax(min(100%,var(--least)),1fr));margin-top:10px}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:4px 12px 8px;min-width:0}
svg{display:block;width:100%;height:auto}
svg text{fill:var(--soft);font:11px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
svg path{fill:none}
svg .grid{stroke:var(--line)}svg .axis{stroke:var(--line);stroke-width:1.5}
svg .dot{stroke:var(--faint);stroke-width:4;stroke-linecap:round;opacity:.8}
svg .best{stroke:var(--accent);stroke-width:2}
svg .faint{stroke:var(--faint);opacity:.22}svg .strong{stroke:var(--strong);stroke-width:1.3;opacity:.75}
svg .first{stroke:var(--first);stroke-width:2.4}
.curves path{stroke-linecap:round;stroke-linejoin:round}.curves .grid{stroke-linecap:butt}
.curves .complete{opacity:.55}.curves .pruned{stroke-dasharray:1 3.2;opacity:.8}
.curves .cut{stroke:var(--pruned);stroke-width:4.5}
svg .name{fill:var(--text);font-weight:600}
svg .halo{paint-order:stroke;stroke:var(--card);stroke-width:3.5px;stroke-linejoin:round}
.lanes{background:var(--card);border:1px solid var(--line);border-radius:4px}
.share{display:grid;grid-template-columns:minmax(70px,42%) 1fr 44px;gap:8px;align-items:center;
font-size:.85rem;margin:5px 0}
.share span:first-child{overflow-wrap:anywhere}.share span:last-child{text-align:right}
.share i{background:var(--line);border-radius:3px;height:10px;display:block}
.share b{background:var(--accent);border-radius:3px;height:10px;display:block;min-width:2px}
.axis-text{display:flex;justify-content:space-between;margin:4px 0 0}
.legend span{margin-right:16px;white-space:nowrap}
.legend .first{background:var(--first)}
.legend i{display:inline-block;width:11px;height:11px;border-radius:2px;margin-right:5px;vertical-align:-1px}
details{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:8px 14px;margin:8px 0}
summary{cursor:pointer;overflow-wrap:anywhere}
pre{overflow-x:auto;background:var(--page);border:1px solid var(--line);border-radius:6px;padding:10px 12px;
margin:.4em 0}
"""
    + "@media (max-width:600px){\n"
    + NARROW_PIECES
    + "}\n"
    + "".join(f".lanes .{kind}{{fill:var(--{kind})}}.legend .{kind}{{background:var(--{kind})}}\n" for kind in STATES)
    + "".join(f".curves .{kind}{{stroke:var(--{kind})}}\n" for kind in STATES)
)


_MOST_PICTURES = 24  # of a kind; a sweep over hundreds of pairs is read in its tables
_FEWEST_TO_DRAW = 3  # trials
_MOST_PARAMETERS = 10  # axes of one picture
_MOST_CAUSES = 20
_BEST = "<span><i class=first></i>best of the pair</span>"
_KIND_ORDER = ("COMPLETE", "PRUNED", "FAILED", "LOST", "CANCELLED", "RUNNING")

_Pair = tuple[str, str]
_Drawn = TypeVar("_Drawn", bound=Sized)


@dataclass(frozen=True, slots=True)
class Subject:
    """What the page is about; pairs without trials have no entry in `best`."""

    name: str
    metric: Metric
    counts: Mapping[str, int]
    rows: Sequence[TrialRow]
    attempts: Sequence[AttemptRow]
    models: Sequence[str]
    datasets: Sequence[str]
    best: Mapping[tuple[str, str], TrialRow]
    pairs: Mapping[tuple[str, str], PairTally]
    declared: SweepRow | None
    reports: Mapping[int, Mapping[int, float]]  # what trials reported on the way, by trial and step


def page(subject: Subject) -> str:
    """The page as text."""
    found = (_headline, _best_per_pair, _pivot, _importances)
    pictures = (_histories, _curves, _parallel, _timelines)
    title = html.escape(f"{subject.name} · raycolab")
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f'<meta name="color-scheme" content="light dark"><title>{title}</title><style>{STYLE}</style>'
    )
    body = "\n".join(text for part in (*found, *pictures, _failures, _sources) if (text := part(subject)))
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body><main>\n{body}\n</main></body></html>\n'


def _headline(subject: Subject) -> str:
    best = _best_of(subject)
    lines = [f"<p class=tally>{html.escape(tally_text(subject.counts))}</p>"]
    if best is not None:
        value = number_text(subject.metric.value_of(best))
        where = f"{best.model} on {best.dataset}"
        lines.append(
            f"<p class=best><b>{html.escape(subject.metric.name)} {value}</b> {html.escape(where)}, trial {best.number}"
            f"<br><code>{html.escape(config_text(best.config or {}))}</code></p>"
        )
    return f"<header><h1>{html.escape(subject.name)}</h1>{''.join(lines)}{_facts(subject)}</header>"


def _facts(subject: Subject) -> str:
    facts = {"metric": f"{subject.metric.name} ({subject.metric.mode})"}
    if subject.declared is not None:
        spec = SweepSpec.from_json(subject.declared.spec)
        facts |= {"method": spec.method.value, "seed": str(spec.seed), "state": subject.declared.state.value}
        facts["declared"] = _minute(subject.declared.created_at)
    ends = [row.ended_at for row in subject.rows if row.ended_at is not None]
    if ends:
        start = min(row.started_at for row in subject.rows if row.started_at is not None)
        facts |= {"first start": _minute(start), "last end": _minute(max(ends))}
        facts["wall time"] = duration_text(max(ends) - start)
        facts["computed"] = duration_text(sum(row.duration_s or 0.0 for row in subject.rows if row.attempts))
    items = "".join(
        f"<div><dt>{html.escape(key)}</dt><dd>{html.escape(value)}</dd></div>" for key, value in facts.items()
    )
    return f"<dl>{items}</dl>"


def _best_per_pair(subject: Subject) -> str:
    lines = [
        (
            row.model,
            row.dataset,
            number_text(subject.metric.value_of(row)),
            config_text(row.config or {}),
            str(row.number),
            row.node or "",
            "" if row.duration_s is None else duration_text(row.duration_s),
        )
        for row in subject.best.values()
    ]
    heads = ("model", "dataset", subject.metric.name, "configuration", "trial", "node", "took")
    return section("Best per pair", table(heads, lines, numeric={2, 4, 6}, code={3}, stacks=True)) if lines else ""


def _pivot(subject: Subject) -> str:
    if not subject.best or len(subject.models) * len(subject.datasets) < 2:
        return ""
    note = f"Best {html.escape(subject.metric.name)} of each pair; the deeper, the better on that dataset."
    content = pairs_map(subject.models, subject.datasets, subject.pairs, subject.metric.mode)
    return section("Models by datasets", content, note)


def _importances(subject: Subject) -> str:
    if subject.declared is None:
        return ""
    spaces = SweepSpec.from_json(subject.declared.spec).models
    cards = []
    for (model, data), rows in _drawn_pairs(subject):
        shares = importances(rows, spaces.get(model, {}), subject.metric)
        bars = "".join(
            f"<div class=share><span>{html.escape(name)}</span><i><b style='width:{share * 100:.1f}%'></b></i>"
            f"<span>{share * 100:.0f} %</span></div>"
            for name, share in shares.items()
        )
        if bars:
            cards.append(card(f"{model} on {data}", f"{bars}<p class=note>{len(rows)} trials</p>"))
    by = f"Optuna's {importance_method()} from at most {IMPORTANCE_TRIALS} trials of a pair"
    note = f"How much each parameter mattered, by {by}. It tells little of few trials."
    return section("Parameter importances", grid(cards), note) if cards else ""


def _histories(subject: Subject) -> str:
    cards = []
    for (model, data), rows in _drawn_pairs(subject):
        values = [subject.metric.value_of(row) for row in rows]
        picture = history(values, subject.metric, f"{subject.metric.name} of {model} on {data} by trial")
        some = f" {MOST_POINTS} of {len(values)} drawn." if len(values) > MOST_POINTS else ""
        cards.append(card(f"{model} on {data}", picture, f"best {number_text(_peak(values, subject.metric))}.{some}"))
    word = html.escape(subject.metric.name)
    return (
        section("History", grid(cards), f"Each trial's {word} in the order they ended; the line is the best so far.")
        if cards
        else ""
    )


def _curves(subject: Subject) -> str:
    """Of the pairs whose trials reported at two steps or more."""
    pairs: dict[_Pair, dict[int, Curve]] = {}
    for row in subject.rows:
        values = {step: value for step, value in subject.reports.get(row.number, {}).items() if math.isfinite(value)}
        if values:
            pairs.setdefault((row.model, row.dataset), {})[row.number] = Curve(values, row.state.value)
    several = {
        pair: found for pair, found in pairs.items() if len({*chain(*(each.values for each in found.values()))}) > 1
    }
    cards, kinds = [], set()
    for pair, found in _most(several):
        best = subject.best[pair].number if pair in subject.best else -1
        rest = [curve for number, curve in found.items() if number != best]
        label = f"what trials of {pair[0]} on {pair[1]} reported, by step"
        picture = learning_curves(rest, found.get(best), subject.metric, label)
        kinds |= {curve.outcome for curve in rest}
        cards.append(card(" on ".join(pair), picture, _curves_note(found, best)))
    legend = f"<p class=legend>{_legend(kinds)}{_BEST}</p>"
    note = "What trials reported on their way, by step; a line of one that was pruned ends in a dot."
    return section("Learning curves", f"{legend}{grid(cards)}", note) if cards else ""


def _curves_note(found: Mapping[int, Curve], best: int) -> str:
    """Which trial is the best, how many were pruned and how early, and what was left out."""
    told = [f"Best: trial {best}."] if best in found else []
    cut = sorted(max(curve.values) for curve in found.values() if curve.outcome == "PRUNED")
    half = "half of them by" if len(cut) > 1 else "at"
    told += [f"{len(cut)} pruned, {half} step {cut[(len(cut) - 1) // 2]}."] if cut else []
    told += [f"About {MOST_CURVES} of {len(found)} drawn."] if len(found) > MOST_CURVES + 1 else []
    longest = max(len(curve.values) for curve in found.values())
    told += [f"{MOST_STEPS} of up to {longest} steps drawn."] if longest > MOST_STEPS else []
    return " ".join(told)


def _parallel(subject: Subject) -> str:
    sign = -1.0 if subject.metric.mode == "max" else 1.0
    cards: dict[int, list[str]] = {}
    for (model, data), rows in _drawn_pairs(subject):
        names = _searched(rows)[:_MOST_PARAMETERS]
        if not names:
            continue
        ranked = sorted(((row, subject.metric.value_of(row)) for row in rows), key=lambda item: sign * item[1])
        label = f"parameters of {model} on {data} and their {subject.metric.name}"
        picture = parallel_coordinates(ranked, names, subject.metric, label)
        some = f"About {MOST_LINES} of {len(rows)} drawn." if len(rows) > MOST_LINES else ""
        of_one_width = cards.setdefault(parallel_width(len(names)), [])
        of_one_width.append(card(f"{model} on {data}", f"<div class=scroll>{picture}</div>", some))
    note = "One line per trial; the best tenth stands out, the best of all most."
    grids = "".join(grid(some, least=width) for width, some in cards.items())
    return section("Parallel coordinates", grids, note) if cards else ""


def _timelines(subject: Subject) -> str:
    last = max((row.ended_at or row.started_at or 0.0 for row in subject.rows), default=0.0)
    nodes: dict[str, list[Bar]] = {}
    for item in subject.attempts:
        end = item.ended_at if item.ended_at is not None else max(last, item.started_at)
        nodes.setdefault(item.node, []).append(Bar(item.started_at, end, item.outcome))
    if not nodes:
        return ""
    start = min(bar.started_at for bars in nodes.values() for bar in bars)
    end = max(bar.ended_at for bars in nodes.values() for bar in bars)
    parts = []
    for node in sorted(nodes, key=lambda name: (name != "head", len(name), name)):
        picture, slots = timeline(nodes[node], start, end)
        busy = sum(bar.ended_at - bar.started_at for bar in nodes[node]) / max((end - start) * slots, 1e-9)
        count = len(nodes[node])
        said = f"{count} attempt{'' if count == 1 else 's'}, {slots} at once at most, busy {min(busy, 1.0) * 100:.0f} %"
        parts.append(f"<h3>{html.escape(node)} <small>{said}</small></h3>{picture}")
    marks = ["start", *(duration_text((end - start) * share) for share in (0.5, 1))]
    axis = "".join(f"<span>{mark}</span>" for mark in marks)
    kinds = {bar.outcome for bars in nodes.values() for bar in bars}
    return section(
        "Timeline",
        f"<p class=legend>{_legend(kinds)}</p>{''.join(parts)}<p class=axis-text>{axis}</p>",
        f"From {_minute(start)}.",
    )


def _failures(subject: Subject) -> str:
    found = causes(subject.rows)
    parts = []
    for cause in found[:_MOST_CAUSES]:
        row = cause.example
        place = f"{row.model} on {row.dataset}, {row.node or 'no node'}"
        where = f"trial {row.number}: {place}, {config_text(row.config or {})}"
        texts = [text for text in (row.traceback, row.output) if text and text.strip()]
        inside = f"<p class=note>{html.escape(where)}</p>" + "".join(
            f"<pre>{html.escape(text)}</pre>" for text in texts
        )
        parts.append(f"<details><summary>{html.escape(cause.headline)}</summary>{inside}</details>")
    if len(found) > _MOST_CAUSES:
        parts.append(f"<p class=note>and {len(found) - _MOST_CAUSES} more causes.</p>")
    return section("Failures by cause", "".join(parts)) if parts else ""


def _sources(subject: Subject) -> str:
    if subject.declared is None:
        return ""
    declared = subject.declared
    parts = [] if declared.main is None else [_cells(MainNotebook.from_json(declared.main))]
    spec = SweepSpec.from_json(declared.spec)
    spaces = [(model, name, str(domain)) for model, space in spec.models.items() for name, domain in space.items()]
    searched = table(("model", "parameter", "searched in"), spaces, code={2})
    parts.append(f"<details><summary>Search space</summary>{searched}</details>")
    fingerprints = {"code": declared.code_fingerprint or "", "declaration": declared.spec_fingerprint}
    versions = table(("of", "version"), [*declared.versions.items(), *fingerprints.items()], code={1})
    parts.append(f"<details open><summary>Versions</summary>{versions}</details>")
    return section("Code and versions", "".join(parts))


def _cells(main: MainNotebook) -> str:
    parts = []
    for cell in main.cells:
        why = (
            f" <small>not on workers: {html.escape(str(cell.why_skipped))}</small>"
            if cell.role is CellRole.SKIP
            else ""
        )
        parts.append(f"<h3>Cell {cell.index}{why}</h3><pre>{html.escape(cell.source)}</pre>")
    title = f"{html.escape(main.name)}: {len(parts)} code cells"
    return f"<details><summary>{title}</summary>{''.join(parts)}</details>"


def _drawn_pairs(subject: Subject) -> list[tuple[_Pair, list[TrialRow]]]:
    """The comparable trials of each pair in the order they ended; of many pairs those with the most."""
    pairs: dict[_Pair, list[TrialRow]] = {(model, data): [] for model in subject.models for data in subject.datasets}
    for row in subject.rows:
        if subject.metric.objective(row) is not None:
            pairs[row.model, row.dataset].append(row)
    drawn = _most({pair: rows for pair, rows in pairs.items() if len(rows) >= _FEWEST_TO_DRAW})
    return [(pair, sorted(rows, key=lambda row: (row.ended_at or 0.0, row.number))) for pair, rows in drawn]


def _most(pairs: Mapping[_Pair, _Drawn]) -> list[tuple[_Pair, _Drawn]]:
    """All of them where they are few, else as many as are drawn, those with the most trials."""
    most = set(sorted(pairs, key=lambda pair: -len(pairs[pair]))[:_MOST_PICTURES])
    return [(pair, found) for pair, found in pairs.items() if pair in most]


def _legend(kinds: set[str]) -> str:
    """The colours of these outcomes."""
    return "".join(
        f'<span><i class="{kind.lower()}"></i>{kind.lower()}</span>' for kind in _KIND_ORDER if kind in kinds
    )


def _searched(rows: Sequence[TrialRow]) -> list[str]:
    """The parameters that differ between trials."""
    seen: dict[str, set[str]] = {}
    for row in rows:
        for name, value in (row.config or {}).items():
            if len(values := seen.setdefault(name, set())) < 2:
                values.add(repr(value))
    return [name for name, values in seen.items() if len(values) > 1]


def _best_of(subject: Subject) -> TrialRow | None:
    sign = -1.0 if subject.metric.mode == "max" else 1.0
    return min(subject.best.values(), key=lambda row: (sign * subject.metric.value_of(row), row.number), default=None)


def _peak(values: Sequence[float], metric: Metric) -> float:
    return max(values) if metric.mode == "max" else min(values)


def _minute(seconds: float) -> str:
    return f"{utc_text(seconds)[:16].replace('T', ' ')} UTC" if math.isfinite(seconds) else ""
