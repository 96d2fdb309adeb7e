"""The panels of a notebook: the head's, a joiner's, a sweep's, and that of results.

From values to HTML by the templates; nothing here asks a head or reads a database. A status may be given as the object
of `status --json`, as it comes from the head, or as the struct that declares it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from raycolab.summary import (
    CauseCount,
    ClusterStatus,
    NodeStatus,
    PairTally,
    SnapshotStatus,
    SweepStatus,
    causes,
)
from raycolab.text import config_text, counted, duration_text, number_text
from raycolab.trials import AttemptRow, Metric, SweepRow, TrialRow
from raycolab.view.charts import Curve, learning_curves
from raycolab.view.pages import HTML, PLAIN, Bundle, render
from raycolab.view.tables import snapshot_lines, traffic_lines, warning_lines

__all__ = [
    "MASK",
    "TRUST",
    "Findings",
    "JoinerEvent",
    "JoinerView",
    "PairsMap",
    "head_bundle",
    "head_panel",
    "joiner_bundle",
    "joiner_panel",
    "next_steps",
    "results_panel",
    "sweep_panel",
]

MASK = "tunnel+•••://•••••••• (hidden)"
"""What replaces a join address that has become worthless."""

TRUST = "Whoever runs the head runs code here and reads what this tab has mounted."

_BLANK = "From a blank notebook: this cell installs the same versions and joins"
_OVER = "This head has ended. Results stay in its database: raycolab.find(NAME).results"
_NO_SNAPSHOTS = "No snapshots are taken: results and the head's identity are on this machine's disk only."
_LEAVE = "Stop only detaches this cell: this machine stays in the cluster. raycolab.leave() leaves it."
_MEANING = {
    "DECLARED": "Declared, and not at work: .run() starts it and shows it, .start() starts it.",
    "PAUSED": "No new trials start; those that run go on. To continue: sweep.resume(), or raycolab resume {name}",
    "STOPPED": "Stopped: what had not run is cancelled. To run it: sweep.retry(), or raycolab retry {name}",
}
"""What a state means where the engine says no more."""

_MOST_NODES = 40  # rows of one panel; `raycolab status` shows a larger cluster
_MOST_EVENTS = 8
_MOST_SHAPES = 3  # of slots that are named; others are rare
_MOST_CAUSES = 12
_MOST_TRACEBACKS = 3  # of the most frequent causes
_DENSE = 9  # from this many datasets on a cell of the map has its number alone
_PALEST, _DEEPEST = 0.07, 0.42  # how much colour the worst and the best of a dataset get


# ----- models by datasets -----


@dataclass(frozen=True, slots=True)
class MapCell:
    """One pair on the map."""

    pair: PairTally
    share: float | None  # how good its model is on its dataset: the best 1, the worst 0; None while it has no result

    @property
    def heat(self) -> float:
        """How deep its colour is, from 0 to 1."""
        return _PALEST + (_DEEPEST - _PALEST) * (self.share or 0.0)

    @property
    def value(self) -> str:
        """The best metric, or a dash."""
        return "-" if self.pair.best is None else number_text(self.pair.best)

    @property
    def title(self) -> str:
        """All there is to say of it: `svc on iris: 35 of 60 done, best 0.9953, 1 failed`."""
        pair = self.pair
        failed = f", {pair.failed} failed" if pair.failed else ""
        return f"{pair.model} on {pair.dataset}: {pair.done} of {pair.total} done, best {self.value}{failed}"


@dataclass(frozen=True, slots=True)
class PairsMap:
    """Models x datasets. A colour compares models on one dataset only, for one dataset is easier than another."""

    datasets: Sequence[str]
    rows: Sequence[tuple[str, Sequence[MapCell | None]]]  # None for a pair that is not there

    @classmethod
    def of(
        cls, pairs: Sequence[PairTally], mode: str, models: Sequence[str] = (), datasets: Sequence[str] = ()
    ) -> PairsMap:
        """The map of these pairs, the given models and datasets first; `mode` is the metric's, "max" or "min"."""
        models = list(dict.fromkeys([*models, *(pair.model for pair in pairs)]))
        datasets = list(dict.fromkeys([*datasets, *(pair.dataset for pair in pairs)]))
        shares: dict[tuple[str, str], float] = {}
        for dataset in datasets:
            shares |= _shares([pair for pair in pairs if pair.dataset == dataset], mode)
        cells = {(pair.model, pair.dataset): MapCell(pair, shares.get((pair.model, pair.dataset))) for pair in pairs}
        return cls(datasets, [(model, [cells.get((model, dataset)) for dataset in datasets]) for model in models])

    @property
    def is_dense(self) -> bool:
        """Whether there is room for numbers alone."""
        return len(self.datasets) >= _DENSE


def _shares(pairs: Sequence[PairTally], mode: str) -> dict[tuple[str, str], float]:
    """How good each model with a result is on the one dataset of these pairs."""
    known = {(pair.model, pair.dataset): pair.best for pair in pairs if pair.best is not None}
    if not known:
        return {}
    low, high = min(known.values()), max(known.values())
    good, bad = (high, low) if mode == "max" else (low, high)
    return {pair: 1.0 if high == low else (value - bad) / (good - bad) for pair, value in known.items()}


# ----- the head -----


def head_bundle(status: ClusterStatus | Mapping[str, Any] | None, join_address: str | None, cell: str = "") -> Bundle:
    """The panel and its twin in plain text. `status` is None where nothing is known, the address where none is left.

    `cell` is the whole cell that joins from a blank notebook; it holds the address too, and goes when that goes.
    """
    return {HTML: head_panel(status, join_address, cell), PLAIN: _head_text(status, join_address, cell)}


def head_panel(status: ClusterStatus | Mapping[str, Any] | None, join_address: str | None, cell: str = "") -> str:
    """The head's panel, as `head_bundle` has it."""
    seen = msgspec.convert(status or {}, ClusterStatus)
    nodes = [] if join_address is None else seen.nodes
    snapshots, snapshot_warnings = _snapshots(seen)
    return render(
        "head.html.j2",
        address=join_address,
        cell=cell,
        size=_size(nodes),
        mask=MASK,
        blank_notebook=_BLANK,
        over=_OVER,
        warnings=_warnings(seen),
        nodes=nodes[:_MOST_NODES],
        nodes_left_out=len(nodes) - _MOST_NODES,
        has_gpus=any(node.gpus for node in nodes),
        traffic=seen.traffic,
        traffic_line=traffic_lines(seen.traffic)[0] if seen.traffic else "",
        snapshot_lines=snapshots,
        snapshot_warnings=snapshot_warnings,
    )


def next_steps(join_address: str, cell: str = "") -> str:
    """What a person does with the address, and what comes next, for where there is no panel."""
    blank = f"\n{_BLANK}:\n\n{cell}" if cell else ""
    return (
        f"\n{join_address}\n\n"
        "This line is the join address. Keep it to yourself: whoever has it can join and run code here.\n"
        "In other tabs: give it to joiner.ipynb, or run  raycolab.join('THE LINE ABOVE')\n"
        "In this one:   raycolab.declare(...).run()  starts at once, with or without them;\n"
        "               head shows who has joined, head.shutdown() ends them all. The head goes on when this\n"
        "               program ends: `raycolab down` ends it too."
        f"{blank}"
    )


def _head_text(status: ClusterStatus | Mapping[str, Any] | None, join_address: str | None, cell: str) -> str:
    if join_address is None:
        return f"{MASK}\n{_OVER}"
    seen = msgspec.convert(status or {}, ClusterStatus)
    nodes = [f"{node.name}: {node.state}, {_size([node]).partition(', ')[2]}" for node in seen.nodes]
    snapshots = snapshot_lines(seen.snapshots) if isinstance(seen.snapshots, SnapshotStatus) else []
    return "\n".join([next_steps(join_address, cell), "", *nodes, *snapshots, *_warnings(seen)])


def _size(nodes: Sequence[NodeStatus]) -> str:
    """`6 nodes, 12 CPUs`."""
    kinds = {
        "node": len(nodes),
        "CPU": sum(node.cpus or 0 for node in nodes),
        "GPU": sum(node.gpus or 0 for node in nodes),
    }
    return ", ".join(counted(count, kind) for kind, count in kinds.items() if count)


def _warnings(seen: ClusterStatus) -> list[str]:
    found = warning_lines(seen.sweeps, seen.nodes)
    return [*found, seen.traffic.warning] if seen.traffic and seen.traffic.warning else found


def _snapshots(seen: ClusterStatus) -> tuple[list[str], list[str]]:
    """What there is to say of the newest snapshot, or of there being none, and what is wrong with the next one."""
    match seen.snapshots:
        case SnapshotStatus() as snapshots:
            lines = snapshot_lines(snapshots)
            return (lines[:-1], lines[-1:]) if snapshots.error else (lines, [])
        case None:
            return [_NO_SNAPSHOTS], []
        case _:
            return [], []


# ----- a joiner -----


@dataclass(frozen=True, slots=True)
class JoinerEvent:
    """Something that happened; `at` is the local time as text, "" where it is not known."""

    at: str
    text: str


@dataclass(frozen=True, slots=True)
class JoinerView:
    """What there is to show of a joiner."""

    name: str | None  # None until the head has given one
    state: str  # connecting, joining, starting, up, away or rejoining; then ended or failed
    head: str = ""  # where the head is, without the address's secret
    trial: str | None = None
    events: Sequence[JoinerEvent] = ()
    notes: Sequence[str] = ()  # sentences about the cell that shows it
    detached: str = ""  # the sentence of a cell that no longer watches it

    @property
    def is_over(self) -> bool:
        """Whether the machine has left the cluster."""
        return self.state in ("ended", "failed")


def joiner_bundle(view: JoinerView) -> Bundle:
    """The panel and its twin in plain text, which has every event."""
    before = [] if view.is_over else [_LEAVE, TRUST]
    lines = [*before, *view.notes, *(event.text for event in view.events)]
    return {HTML: joiner_panel(view), PLAIN: "\n".join([*lines, view.detached] if view.detached else lines)}


def joiner_panel(view: JoinerView) -> str:
    """The joiner's panel."""
    idle = "waiting for trials" if view.state == "up" else "nothing yet"
    facts = {"head": view.head, "runs": "" if view.is_over else view.trial or idle}
    return render(
        "joiner.html.j2",
        view=view,
        facts={name: text for name, text in facts.items() if text},
        events=view.events[-_MOST_EVENTS:],
        events_left_out=max(len(view.events) - _MOST_EVENTS, 0),
        closing=TRUST if view.detached else f"{_LEAVE} {TRUST}",
    )


# ----- a sweep -----


def sweep_panel(
    sweep: SweepStatus | Mapping[str, Any],
    nodes: Sequence[NodeStatus] | Sequence[Mapping[str, Any]] = (),
    elapsed_s: float | None = None,
    notes: Sequence[str] = (),
) -> str:
    """The sweep's panel; `elapsed_s` since somebody began to watch, `notes` are sentences about the watching itself."""
    seen = msgspec.convert(sweep, SweepStatus)
    present = msgspec.convert(nodes, list[NodeStatus])
    metric = seen.metric or Metric("")
    sentence = seen.sentence or _MEANING.get(seen.state, "").format(name=seen.name)
    lanes = _lanes(seen, present)
    shown = f"; {len(seen.pairs)} of {len(seen.pairs) + seen.pairs_left_out} pairs shown" if seen.pairs_left_out else ""
    return render(
        "sweep.html.j2",
        sweep=seen,
        warnings=[*([sentence] if sentence else []), *seen.hints, *warning_lines([], present)],
        facts=_sweep_facts(seen, present, elapsed_s),
        map=PairsMap.of(seen.pairs, metric.mode),
        map_note=f"{_map_note(metric)}{shown}",
        nodes=lanes[:_MOST_NODES],
        nodes_left_out=len(lanes) - _MOST_NODES,
        slots=_slots(seen),
        curves=_curves(seen, metric),
        curve_kinds=list(dict.fromkeys(curve.state.lower() for curve in seen.curves)),
        best=seen.best,
        notes=notes,
    )


def _sweep_facts(sweep: SweepStatus, nodes: Sequence[NodeStatus], elapsed_s: float | None) -> dict[str, str]:
    named = {}
    if sweep.state == "RUNNING":
        named["time left"] = "measuring" if sweep.eta_s is None else f"about {duration_text(sweep.eta_s)}"
    if elapsed_s is not None:
        named["watched for"] = duration_text(elapsed_s)
    if nodes:
        away = sum(node.state != "up" for node in nodes)
        named["nodes"] = f"{len(nodes)}, {away} not up" if away else str(len(nodes))
    if sweep.repeats:
        named["repeats"] = f"{sweep.repeats}, not run again"
    if (best := sweep.best) is not None:
        where = f"{best.model} on {best.dataset}, trial {best.number}"
        named[f"best {best.metric}"] = f"{number_text(best.value)} ({where})"
    return named


def _lanes(sweep: SweepStatus, nodes: Sequence[NodeStatus]) -> list[NodeStatus]:
    """The nodes to show, those that are gone last; none where nothing is known of nodes."""
    present = {node.name for node in nodes}
    gone = [NodeStatus(name=name, state="gone") for name in sweep.done_on if name not in present]
    return [*nodes, *gone] if nodes else []


def _slots(sweep: SweepStatus) -> str:
    """What a trial takes, and on how many nodes: `slots: 5 x 1 CPU on 3 nodes; 1 x 1 CPU, 1 GPU on 1 node`."""
    slots, nodes = Counter[str](), Counter[str]()
    for said in sweep.slots.values():
        for part in said.split(" + "):
            count, _, shape = part.partition(" x ")
            slots[shape] += int(count)
            nodes[shape] += 1
    most = slots.most_common(_MOST_SHAPES)
    said = "; ".join(f"{count} x {shape} on {counted(nodes[shape], 'node')}" for shape, count in most)
    return f"slots: {said}" if said else ""


def _curves(sweep: SweepStatus, metric: Metric) -> str:
    """What the trials that reported last have reported, as a picture; "" where that is no curve."""
    curves = {each.number: Curve(dict(zip(each.steps, each.values, strict=True)), each.state) for each in sweep.curves}
    if len({step for curve in curves.values() for step in curve.values}) < 2:
        return ""
    first = curves.pop(sweep.best.number, None) if sweep.best is not None else None
    return learning_curves(list(curves.values()), first, metric, "what trials reported, by step")


def _map_note(metric: Metric) -> str:
    return f"best {metric.name} ({metric.mode}) of each pair"


# ----- results -----


@dataclass(frozen=True, slots=True)
class Findings:
    """What a sweep has found at one moment, for the panel and for the report."""

    name: str
    metric: Metric
    counts: Mapping[str, int]  # by the keys of `status --json`
    rows: Sequence[TrialRow]
    attempts: Sequence[AttemptRow]
    models: Sequence[str]
    datasets: Sequence[str]
    best: TrialRow | None
    best_of_pairs: Mapping[tuple[str, str], TrialRow]  # without the pairs that have none
    pairs: Sequence[PairTally]
    reports: Mapping[int, Mapping[int, float]]  # what trials reported on the way, by trial and step
    declared: SweepRow | None

    @property
    def map(self) -> PairsMap:
        """Models by datasets in their declared order."""
        return PairsMap.of(self.pairs, self.metric.mode, self.models, self.datasets)


def results_panel(found: Findings) -> str:
    """The panel of results."""
    facts = {}
    if (best := found.best) is not None:
        facts = {
            f"best {found.metric.name}": number_text(found.metric.value_of(best)),
            "of": f"{best.model} on {best.dataset}, trial {best.number}",
            "configuration": config_text(best.config or {}),
        }
    found_causes = causes(found.rows)
    grouped = [CauseCount(cause.description, cause.count) for cause in found_causes]
    examples = [(cause.example.title, cause.example) for cause in found_causes[:_MOST_TRACEBACKS]]
    return render(
        "results.html.j2",
        found=found,
        facts={name: text for name, text in facts.items() if text},
        map=found.map,
        map_note=_map_note(found.metric),
        causes=grouped[:_MOST_CAUSES],
        causes_left_out=len(grouped) - _MOST_CAUSES,
        failures=[(f"{title}: {row.error}", (row.traceback, row.output)) for title, row in examples],
    )
