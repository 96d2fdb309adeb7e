"""The report's pictures as SVG text, with classes instead of colours: the style sheet gives those, light or dark.

Pure: from rows to text. Sizes are CSS pixels of a phone's width, so a picture can be read there as well as three of
them side by side on a desk. However many trials there are, a picture stays small: points that would cover each other
are left out, and the caller says so.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeGuard

from raycolab.text import value_text
from raycolab.trials import Metric, TrialRow, Value

__all__ = [
    "MOST_CURVES",
    "MOST_LINES",
    "MOST_POINTS",
    "MOST_STEPS",
    "Bar",
    "Curve",
    "Scale",
    "history",
    "learning_curves",
    "number_label",
    "number_labels",
    "parallel_coordinates",
    "parallel_width",
    "timeline",
]

MOST_POINTS = 400
"""The most trials drawn as points in one history, besides every improvement."""

MOST_LINES = 240
"""The most trials drawn as lines in one picture of parallel coordinates; the best are always among them."""

MOST_CURVES = 60
"""The most trials drawn in one picture of learning curves, besides the best."""

MOST_STEPS = 60
"""The most steps drawn of one curve, besides its last."""

_WIDTH, _HEIGHT = 360, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 28
_CHARACTER = 6.2  # the width of one in a label
_AXIS = 92  # between two axes of parallel coordinates
_SIDE = 40  # beside the first and the last
_SHORT = 13  # characters of a label between two axes
_LINE = 13  # the height of a line of labels
_TOP_SHARE = 0.1  # of the trials are drawn as the best
_TIMELINE = 1000  # its width in units; it is stretched to the page
_LANE = 10


@dataclass(frozen=True, slots=True)
class Bar:
    """One try at a trial on a node's timeline."""

    started_at: float
    ended_at: float
    outcome: str


@dataclass(frozen=True, slots=True)
class Curve:
    """What one trial reported on its way: the values by step, finite ones, and how it ended."""

    values: Mapping[int, float]
    outcome: str


def history(values: Sequence[float], metric: Metric, label: str) -> str:
    """The metric of trials in the order they ended, and the best so far as a line."""
    best: list[tuple[int, float]] = []
    for index, value in enumerate(values):
        if not best or (value > best[-1][1] if metric.mode == "max" else value < best[-1][1]):
            best.append((index, value))
    across, up = _scales((0, max(len(values) - 1, 1)), _robust(values, metric))
    every = max(math.ceil(len(values) / MOST_POINTS), 1)
    drawn = sorted({*range(0, len(values), every), *(index for index, _ in best)})
    points = "".join(f"M{across(index):.1f} {up(values[index]):.1f}h0" for index in drawn)
    line = _steps([(across(index), up(value)) for index, value in best], across(len(values) - 1))
    parts = [_axes(across, up), f'<path class="dot" d="{points}"/>', f'<path class="best" d="{line}"/>']
    return _svg(_WIDTH, _HEIGHT, label, parts)


def learning_curves(curves: Sequence[Curve], first: Curve | None, metric: Metric, label: str) -> str:
    """What trials reported by step, by how they ended; a dot where one was pruned.

    Of many `curves` an even part is drawn, so that the pruned ones keep their share. `first` is the best, not in them.
    """
    some = curves[:: max(math.ceil(len(curves) / MOST_CURVES), 1)]
    drawn = [*some, first] if first is not None else some
    steps = [step for curve in drawn for step in curve.values]
    values = _robust([value for curve in drawn for value in curve.values.values()], metric)
    across, up = _scales((min(steps), max(steps)), values)
    paths: dict[str, list[str]] = {"pruned": []}  # below the others, which are longer
    cuts: list[str] = []
    for curve in some:
        line, (x, y) = _curve(curve, across, up)
        paths.setdefault(curve.outcome.lower(), []).append(line)
        cuts += [f"M{x:.1f} {y:.1f}h0"] if curve.outcome == "PRUNED" else []
    paths |= {"cut": cuts, "first": [] if first is None else [_curve(first, across, up)[0]]}
    parts = [f'<path class="{html.escape(kind)}" d="{"".join(lines)}"/>' for kind, lines in paths.items() if lines]
    return _svg(_WIDTH, _HEIGHT, label, [_axes(across, up), *parts], kind="curves")


def parallel_width(names: int) -> int:
    """How wide a picture of this many parameters is."""
    return max(_WIDTH, 2 * _SIDE + _AXIS * names)


def parallel_coordinates(
    rows: Sequence[tuple[TrialRow, float]],
    names: Sequence[str],
    metric: Metric,
    label: str,
    logarithmic: Collection[str] = (),
) -> str:
    """One line per trial through its parameters to its metric; the best tenth stands out. `rows` are best first.

    `logarithmic` are the parameters that are searched by their logarithm.
    """
    some = max(math.ceil(len(rows) * _TOP_SHARE), 1)
    rest = rows[some:]
    rest = rest[:: max(math.ceil(len(rest) / MOST_LINES), 1)]
    top = rows[: min(some, MOST_LINES)]
    axes = [
        _parameter_axis([(row.config or {}).get(name) for row, _ in rows], name, name in logarithmic) for name in names
    ]
    axes.append(_number_axis([value for _, value in rows], metric.name))
    width = parallel_width(len(names))
    step = (width - 2 * _SIDE) / max(len(axes) - 1, 1)
    places = [_SIDE + step * index for index in range(len(axes))]
    parts = [
        f'<path class="{kind}" d="{_lines(drawn, names, axes, places)}"/>'
        for kind, drawn in (("faint", rest), ("strong", top), ("first", rows[:1]))
    ]
    # Long names take turns in two lines, so that each has the room of two axes.
    is_long = any(len(axis.name) > _SHORT for axis in axes)
    for index, (place, axis) in enumerate(zip(places, axes, strict=True)):
        parts.append(f'<path class="axis" d="M{place:.1f} {_TOP + 12}V{_HEIGHT - _BOTTOM}"/>')
        parts += [
            f'<text class="halo" x="{place:.1f}" y="{up + 3.5:.1f}" text-anchor="middle">{_short(text, _SHORT)}</text>'
            for text, up in axis.labels
        ]
        anchor = "start" if is_long and index == 0 else "end" if is_long and index == len(axes) - 1 else "middle"
        x = {"start": 2.0, "end": width - 2.0, "middle": place}[anchor]
        y = _TOP + 2 - (_LINE if is_long and index % 2 == 0 else 0)
        name = _short(axis.name, 2 * _SHORT if is_long else _SHORT)
        parts.append(f'<text class="name" x="{x:.1f}" y="{y}" text-anchor="{anchor}">{name}</text>')
    return _svg(width, _HEIGHT, label, parts, above=_LINE if is_long else 0)


def timeline(bars: Sequence[Bar], start: float, end: float) -> tuple[str, int]:
    """What a node did between two times, and at most how many trials it ran at once. Bars too thin to see merge."""
    lanes = _lanes(sorted(bars, key=lambda bar: (bar.started_at, bar.ended_at)))
    across = Scale(start, max(end, start + 1e-6), 0, _TIMELINE)
    lane_height = max(min(_LANE, 120 / max(len(lanes), 1)), 1.0)
    paths: dict[str, list[str]] = {}
    for index, lane in enumerate(lanes):
        for bar in _merged(lane, (end - start) / _TIMELINE):
            left, right = across(bar.started_at), across(bar.ended_at)
            size = f"h{max(right - left, 0.7):.1f}v{lane_height * 0.8:.1f}h-{max(right - left, 0.7):.1f}z"
            paths.setdefault(bar.outcome, []).append(f"M{left:.1f} {index * lane_height:.1f}{size}")
    seen = sorted(paths, key=lambda kind: kind != "COMPLETE")  # so that a failure is drawn above its neighbours
    drawn = "".join(f'<path class="{html.escape(kind.lower())}" d="{"".join(paths[kind])}"/>' for kind in seen)
    height = max(lane_height * len(lanes), lane_height)
    box = f'viewBox="0 0 {_TIMELINE} {height:.0f}" style="height:{height:.0f}px" preserveAspectRatio="none"'
    return f'<svg class="lanes" {box} role="img" aria-label="{len(bars)} attempts">{drawn}</svg>', len(lanes)


def _robust(values: Sequence[float], metric: Metric) -> tuple[float, float]:
    """The range to draw: all values, or all but the worst twentieth where that is far out, as one loss of 1e9 is."""
    ordered = sorted(values)
    low, high = ordered[0], ordered[-1]
    cut = ordered[len(ordered) // 20], ordered[-1 - len(ordered) // 20]
    if metric.mode == "max" and cut[0] - low > 2 * (high - cut[0]):
        low = cut[0]
    if metric.mode == "min" and high - cut[1] > 2 * (cut[1] - low):
        high = cut[1]
    margin = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    return low - margin, high + margin


def _curve(curve: Curve, across: Scale, up: Scale) -> tuple[str, tuple[float, float]]:
    """One trial's line and where it ends."""
    steps = sorted(curve.values)
    kept = sorted({*steps[:: max(math.ceil(len(steps) / MOST_STEPS), 1)], steps[-1]})
    points = [(across(step), up(curve.values[step])) for step in kept]
    line = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f"M{line}{'h0' if len(points) == 1 else ''}", points[-1]


def _steps(points: Sequence[tuple[float, float]], end: float) -> str:
    if not points:
        return ""
    path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    path += "".join(f"H{right:.1f}V{up:.1f}" for _, (right, up) in pairwise(points))
    return f"{path}H{end:.1f}"


def _scales(steps: tuple[float, float], values: tuple[float, float]) -> tuple[Scale, Scale]:
    """The places of steps and of values, which leave their labels the room that they need."""
    up = Scale(*values, _HEIGHT - _BOTTOM, _TOP)
    longest = max(len(label) for label in number_labels(up.ticks(4)))
    return Scale(*steps, max(_LEFT, longest * _CHARACTER + 10), _WIDTH - _RIGHT), up


def _axes(across: Scale, up: Scale) -> str:
    parts = []
    values, steps = up.ticks(4), [step for step in across.ticks(4) if step == int(step)]
    for value, label in zip(values, number_labels(values), strict=True):
        y = up(value)
        parts.append(f'<path class="grid" d="M{across.begin:.0f} {y:.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{across.begin - 5:.0f}" y="{y + 3.5:.1f}" text-anchor="end">{label}</text>')
    for step, label in zip(steps, number_labels(steps), strict=True):
        anchor = "start" if across(step) < across.begin + 9 else "middle"
        parts.append(f'<text x="{across(step):.1f}" y="{_HEIGHT - 10}" text-anchor="{anchor}">{label}</text>')
    return "".join(parts)


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis of parallel coordinates, from bottom to top."""

    name: str
    place: Callable[[Value], float | None]  # where a value is, None for one that has no place
    labels: Sequence[tuple[str, float]]


def _parameter_axis(values: Sequence[Value], name: str, is_log: bool) -> _Axis:
    is_numeric = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    return _number_axis(values, name, is_log) if is_numeric else _choice_axis(values, name)


def _number_axis(values: Sequence[Value], name: str, is_log: bool = False) -> _Axis:
    """Numbers, by their logarithm where they are searched so or span three powers of ten; the ends are labelled."""
    numbers = [float(value) for value in values if _is_finite(value)]
    low, high = min(numbers, default=0.0), max(numbers, default=1.0)
    is_log = 0 < low < high and (is_log or high / low >= 1000)
    if low == high:
        low, high = low - 0.5, high + 0.5
    unit = math.log10 if is_log else float
    scale = Scale(unit(low), unit(high), _HEIGHT - _BOTTOM, _TOP + 18)
    labels = [(number_label(low), scale.begin + 12), (number_label(high), scale.end - 2)]
    return _Axis(name, lambda value: scale(unit(value)) if _is_finite(value) else None, labels)


def _choice_axis(values: Sequence[Value], name: str) -> _Axis:
    """Alternatives by name, so that two pictures of one model are alike; of many some are labelled."""
    texts = sorted({value_text(value) for value in values}, reverse=True)
    scale = Scale(-0.5, len(texts) - 0.5, _HEIGHT - _BOTTOM, _TOP + 14)
    places = {text: scale(index) for index, text in enumerate(texts)}
    labels = list(places.items())[:: max(math.ceil(len(places) / 10), 1)]
    return _Axis(name, lambda value: places.get(value_text(value)), labels)


def _is_finite(value: Value) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _lines(
    rows: Sequence[tuple[TrialRow, float]],
    names: Sequence[str],
    axes: Sequence[_Axis],
    places: Sequence[float],
) -> str:
    parts = []
    for row, value in rows:
        config = row.config or {}
        heights = [
            axis.place(part) for axis, part in zip(axes, [*(config.get(name) for name in names), value], strict=True)
        ]
        points = [(x, y) for x, y in zip(places, heights, strict=True) if y is not None]
        parts.append("".join(f"{'L' if index else 'M'}{x:.1f} {y:.1f}" for index, (x, y) in enumerate(points)))
    return "".join(parts)


def _lanes(bars: Sequence[Bar]) -> list[list[Bar]]:
    """Bars that overlap in time in different lanes, as few as there can be."""
    lanes: list[list[Bar]] = []
    for bar in bars:
        free = next((lane for lane in lanes if lane[-1].ended_at <= bar.started_at), None)
        if free is None:
            lanes.append([bar])
        else:
            free.append(bar)
    return lanes


def _merged(lane: Sequence[Bar], shortest: float) -> list[Bar]:
    """A lane whose bars of one outcome are merged where nobody could tell them apart, so that few are left."""
    merged: dict[str, list[Bar]] = {}
    for bar in lane:
        same = merged.setdefault(bar.outcome, [])
        if same and bar.ended_at - same[-1].ended_at < shortest:
            same[-1] = Bar(same[-1].started_at, bar.ended_at, bar.outcome)
        else:
            same.append(bar)
    return [bar for bars in merged.values() for bar in bars]


def _short(text: str, longest: int) -> str:
    """The text as a label; one that is too long is cut, and shown whole where it is pointed at."""
    if len(text) <= longest:
        return html.escape(text)
    return f"<title>{html.escape(text)}</title>{html.escape(text[: longest - 1])}…"


def _svg(width: int, height: int, label: str, parts: Iterable[str], kind: str = "", above: int = 0) -> str:
    box = f'viewBox="0 {-above} {width} {height + above}"' + (f' style="min-width:{width}px"' if width > _WIDTH else "")
    box += f' class="{kind}"' if kind else ""
    return f'<svg {box} role="img" aria-label="{html.escape(label)}">{"".join(parts)}</svg>'


@dataclass(frozen=True, slots=True)
class Scale:
    """Values from `low` to `high` as places from `begin` to `end`; a value outside is put at the nearer end."""

    low: float
    high: float
    begin: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return self.begin + min(max(share, 0.0), 1.0) * (self.end - self.begin)

    def ticks(self, count: int) -> list[float]:
        """About `count` round values within."""
        span = self.high - self.low
        if not span > 0 or not math.isfinite(span):
            return [self.low]
        raw = span / count
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= raw * 0.999)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [index * step for index in range(first, min(last, first + 4 * count) + 1)]


def number_labels(values: Sequence[float]) -> list[str]:
    """A short number for each, with as many digits as it takes to tell them apart."""
    labels: list[str] = []
    for digits in range(4, 16):
        labels = [number_label(value, digits) for value in values]
        if len(set(labels)) == len(set(values)):
            break
    return labels


def number_label(value: float, digits: int = 4) -> str:
    """A short number: `0.25`, `1e-05`, `12k`, `3M`, without the rounding errors of binary fractions."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if unit <= abs(value) < 1e12 and abs(value) >= 10_000:
            return f"{value / unit:.{digits - 1}g}{name}"
    return f"{round(value, 12):.{digits}g}"
