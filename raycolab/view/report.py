"""The report about a sweep: one page, complete in itself, of what was found, when, where, and by which code.

What the page shows is computed here; how is said by `report.html.j2`. A sweep over hundreds of pairs has pictures of
those with the most trials, and its tables have all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import TypeVar

from raycolab.main.notebook import MainNotebook
from raycolab.results.study import IMPORTANCE_TRIALS, importance_method, importances
from raycolab.spec.spec import SweepSpec
from raycolab.summary import causes
from raycolab.text import config_text, counted, duration_text, number_text, tally_text, utc_text
from raycolab.trials import TrialRow
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
from raycolab.view.pages import render
from raycolab.view.panels import Findings

__all__ = ["Card", "page"]

_MOST_PICTURES = 24  # of a kind
_FEWEST_TO_DRAW = 3  # trials
_MOST_PARAMETERS = 10  # axes of one picture
_MOST_CAUSES = 20
_KIND_ORDER = ("complete", "pruned", "failed", "lost", "cancelled", "running")

_Pair = tuple[str, str]
_Drawn = TypeVar("_Drawn", bound=Sized)


@dataclass(frozen=True, slots=True)
class Card:
    """One picture with its title and a note."""

    title: str
    picture: str  # SVG
    note: str = ""


def page(found: Findings) -> str:
    """The page as text."""
    spec = None if found.declared is None else SweepSpec.from_json(found.declared.spec)
    drawn = _drawn_pairs(found)
    curves, curve_kinds = _curves(found)
    grouped = causes(found.rows)
    return render(
        "report.html.j2",
        found=found,
        tally=tally_text(found.counts),
        facts=_facts(found, spec),
        notes="" if spec is None else spec.notes or "",
        best_of_pairs=_best_lines(found),
        importances=_importances(found, spec, drawn),
        importances_note=f"How much each parameter mattered, by Optuna's {importance_method()} from at most"
        f" {IMPORTANCE_TRIALS} trials of a pair. Few trials tell little.",
        histories=_histories(found, drawn),
        curves=curves,
        curve_kinds=curve_kinds,
        parallel=_parallel(found, spec, drawn),
        **_timelines(found),
        causes=grouped[:_MOST_CAUSES],
        causes_left_out=len(grouped) - _MOST_CAUSES,
        **_sources(found, spec),
    )


def _facts(found: Findings, spec: SweepSpec | None) -> dict[str, str]:
    facts = {"metric": f"{found.metric.name} ({found.metric.mode})"}
    if found.declared is not None and spec is not None:
        facts |= {"method": spec.method.value, "seed": str(spec.seed), "state": found.declared.state.value}
        facts["declared"] = _minute(found.declared.created_at)
        facts |= {"tags": ", ".join(spec.tags)} if spec.tags else {}
    ends = [row.ended_at for row in found.rows if row.ended_at is not None]
    if ends:
        start = min(row.started_at for row in found.rows if row.started_at is not None)
        facts |= {"first start": _minute(start), "last end": _minute(max(ends))}
        facts["wall time"] = duration_text(max(ends) - start)
        facts["computed"] = duration_text(sum(row.duration_s or 0.0 for row in found.rows if row.attempts))
    return facts


def _best_lines(found: Findings) -> list[tuple[str, ...]]:
    return [
        (
            row.model,
            row.dataset,
            number_text(found.metric.value_of(row)),
            config_text(row.config or {}),
            str(row.number),
            row.node or "",
            "" if row.duration_s is None else duration_text(row.duration_s),
        )
        for row in found.best_of_pairs.values()
    ]


def _importances(
    found: Findings, spec: SweepSpec | None, drawn: Mapping[_Pair, list[TrialRow]]
) -> list[tuple[str, int, dict[str, float]]]:
    """Of each pair its title, how many trials it has, and the share of each parameter."""
    if spec is None:
        return []
    shares = {pair: importances(rows, spec.models.get(pair[0], {}), found.metric) for pair, rows in drawn.items()}
    return [(" on ".join(pair), len(drawn[pair]), share) for pair, share in shares.items() if share]


def _histories(found: Findings, drawn: Mapping[_Pair, list[TrialRow]]) -> list[Card]:
    cards = []
    for pair, rows in drawn.items():
        title = " on ".join(pair)
        values = [found.metric.value_of(row) for row in rows]
        peak = max(values) if found.metric.mode == "max" else min(values)
        some = f" {MOST_POINTS} of {len(values)} drawn." if len(values) > MOST_POINTS else ""
        picture = history(values, found.metric, f"{found.metric.name} of {title} by trial")
        cards.append(Card(title, picture, f"best {number_text(peak)}.{some}"))
    return cards


def _curves(found: Findings) -> tuple[list[Card], list[str]]:
    """Pictures of the pairs whose trials reported at two steps or more, and how those trials ended."""
    pairs: dict[_Pair, dict[int, Curve]] = {}
    for row in found.rows:
        values = {step: value for step, value in found.reports.get(row.number, {}).items() if math.isfinite(value)}
        if values:
            pairs.setdefault((row.model, row.dataset), {})[row.number] = Curve(values, row.state.value)
    several = {
        pair: curves
        for pair, curves in pairs.items()
        if len({step for curve in curves.values() for step in curve.values}) > 1
    }
    cards, kinds = [], set()
    for pair, curves in _most(several).items():
        title = " on ".join(pair)
        best = found.best_of_pairs[pair].number if pair in found.best_of_pairs else -1
        rest = [curve for number, curve in curves.items() if number != best]
        label = f"what trials of {title} reported, by step"
        picture = learning_curves(rest, curves.get(best), found.metric, label)
        kinds |= {curve.outcome for curve in rest}
        cards.append(Card(title, picture, _curves_note(curves, best)))
    return cards, _in_order(kinds)


def _curves_note(curves: Mapping[int, Curve], best: int) -> str:
    """Which trial is the best, how many were pruned and how early, and what was left out."""
    notes = []
    if best in curves:
        notes.append(f"Best: trial {best}.")
    if cut := sorted(max(curve.values) for curve in curves.values() if curve.outcome == "PRUNED"):
        half = "half of them by" if len(cut) > 1 else "at"
        notes.append(f"{len(cut)} pruned, {half} step {cut[(len(cut) - 1) // 2]}.")
    if len(curves) > MOST_CURVES + 1:
        notes.append(f"About {MOST_CURVES} of {len(curves)} drawn.")
    longest = max(len(curve.values) for curve in curves.values())
    if longest > MOST_STEPS:
        notes.append(f"{MOST_STEPS} of up to {longest} steps drawn.")
    return " ".join(notes)


def _parallel(found: Findings, spec: SweepSpec | None, drawn: Mapping[_Pair, list[TrialRow]]) -> dict[int, list[Card]]:
    """Pictures by their width in CSS pixels."""
    cards: dict[int, list[Card]] = {}
    for pair, rows in drawn.items():
        title = " on ".join(pair)
        names = _searched(rows)[:_MOST_PARAMETERS]
        if names:
            ranked = [(row, found.metric.value_of(row)) for row in rows]
            ranked.sort(key=lambda item: item[1], reverse=found.metric.mode == "max")
            label = f"parameters of {title} and their {found.metric.name}"
            some = f"About {MOST_LINES} of {len(rows)} drawn." if len(rows) > MOST_LINES else ""
            space = {} if spec is None else spec.models.get(pair[0], {})
            by_logarithm = [name for name in names if getattr(space.get(name), "log", False)]
            card = Card(title, parallel_coordinates(ranked, names, found.metric, label, by_logarithm), some)
            cards.setdefault(parallel_width(len(names)), []).append(card)
    return cards


def _timelines(found: Findings) -> dict[str, object]:
    """What each node did: the picture's cards, when they begin, the marks below them, and how attempts ended."""
    last = max((row.ended_at or row.started_at or 0.0 for row in found.rows), default=0.0)
    nodes: dict[str, list[Bar]] = {}
    for item in found.attempts:
        end = item.ended_at if item.ended_at is not None else max(last, item.started_at)
        nodes.setdefault(item.node, []).append(Bar(item.started_at, end, item.outcome))
    every = [bar for bars in nodes.values() for bar in bars]
    if not every:
        return {"timelines": [], "timeline_kinds": [], "began": "", "marks": []}
    start, end = min(bar.started_at for bar in every), max(bar.ended_at for bar in every)
    cards = []
    for node in sorted(nodes, key=lambda name: (name != "head", len(name), name)):
        picture, slots = timeline(nodes[node], start, end)
        busy = sum(bar.ended_at - bar.started_at for bar in nodes[node]) / max((end - start) * slots, 1e-9)
        said = f"{counted(len(nodes[node]), 'attempt')}, at most {slots} at once, busy {min(busy, 1.0) * 100:.0f} %"
        cards.append(Card(node, picture, said))
    return {
        "timelines": cards,
        "timeline_kinds": _in_order(bar.outcome for bar in every),
        "began": _minute(start),
        "marks": ["start", *(duration_text((end - start) * share) for share in (0.5, 1))],
    }


def _sources(found: Findings, spec: SweepSpec | None) -> dict[str, object]:
    """MAIN, the search space line by line, and the versions of what ran."""
    if found.declared is None or spec is None:
        return {}
    declared = found.declared
    fingerprints = {"code": declared.code_fingerprint or "", "declaration": declared.spec_fingerprint}
    return {
        "main": None if declared.main is None else MainNotebook.from_json(declared.main),
        "spaces": [
            (model, name, str(domain)) for model, space in spec.models.items() for name, domain in space.items()
        ],
        "versions": [*declared.versions.items(), *fingerprints.items()],
    }


def _drawn_pairs(found: Findings) -> dict[_Pair, list[TrialRow]]:
    """The comparable trials of each pair that ran, in the order they ended; of many pairs those with the most."""
    pairs: dict[_Pair, list[TrialRow]] = {(model, data): [] for model in found.models for data in found.datasets}
    for row in found.rows:
        if found.metric.objective(row) is not None and not row.is_repeat:
            pairs[row.model, row.dataset].append(row)
    drawn = _most({pair: rows for pair, rows in pairs.items() if len(rows) >= _FEWEST_TO_DRAW})
    return {pair: sorted(rows, key=lambda row: (row.ended_at or 0.0, row.number)) for pair, rows in drawn.items()}


def _most(pairs: Mapping[_Pair, _Drawn]) -> dict[_Pair, _Drawn]:
    """All of them where they are few, else as many as are drawn, those with the most trials."""
    most = set(sorted(pairs, key=lambda pair: -len(pairs[pair]))[:_MOST_PICTURES])
    return {pair: found for pair, found in pairs.items() if pair in most}


def _in_order(outcomes: Iterable[str]) -> list[str]:
    """These outcomes as a legend has them."""
    kinds = {outcome.lower() for outcome in outcomes}
    return [kind for kind in _KIND_ORDER if kind in kinds]


def _searched(rows: Sequence[TrialRow]) -> list[str]:
    """The parameters that differ between trials."""
    seen: dict[str, set[str]] = {}
    for row in rows:
        for name, value in (row.config or {}).items():
            if len(values := seen.setdefault(name, set())) < 2:
                values.add(repr(value))
    return [name for name, values in seen.items() if len(values) > 1]


def _minute(seconds: float) -> str:
    return f"{utc_text(seconds)[:16].replace('T', ' ')} UTC" if math.isfinite(seconds) else ""
