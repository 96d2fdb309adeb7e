"""The report's pictures: what is drawn where, read from their SVG, and that they stay small; scales and labels."""

from __future__ import annotations

import dataclasses
import math
import random
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycolab.trials import Config, Metric, TrialRow
from raycolab.view.charts import (
    MOST_CURVES,
    MOST_LINES,
    MOST_POINTS,
    MOST_STEPS,
    Bar,
    Curve,
    Scale,
    history,
    learning_curves,
    number_label,
    number_labels,
    parallel_coordinates,
    parallel_width,
    timeline,
)
from tests.raycolab.results.sweeps import ended

MAX, MIN = Metric("accuracy"), Metric("loss", "min")
ROW = TrialRow(0, "svc", "iris", {})


def path(picture: str, kind: str) -> str:
    """What the path of this class draws."""
    root = ElementTree.fromstring(picture)
    return next(node.attrib["d"] for node in root.iter("path") if node.attrib["class"] == kind)


def texts(picture: str) -> list[str]:
    """What is written."""
    return [node.text or "" for node in ElementTree.fromstring(picture).iter("text")]


def points(drawn: str) -> list[tuple[float, float]]:
    """The places a path goes to from scratch."""
    return [(float(x), float(y)) for x, y in re.findall(r"M([\d.]+) ([\d.]+)", drawn)]


def ranked(*configs: Config) -> list[tuple[TrialRow, float]]:
    """Trials from best to worst."""
    return [
        (ended(dataclasses.replace(ROW, number=number, config=config), 1.0 - number / 10), 1.0 - number / 10)
        for number, config in enumerate(configs)
    ]


@pytest.mark.parametrize(("metric", "steps"), [(MAX, 2), (MIN, 1)])
def test_the_line_of_a_history_is_the_best_so_far(metric: Metric, steps: int) -> None:
    """One step per improvement, to the last trial; a point per trial, larger values higher."""
    values = [0.5, 0.4, 0.6, 0.7, 0.7]
    picture = history(values, metric, "h")
    line, dots = path(picture, "best"), points(path(picture, "dot"))
    assert line.count("V") == steps
    assert sorted(range(5), key=lambda index: -dots[index][1]) == sorted(range(5), key=lambda index: values[index])
    assert [x for x, _ in dots] == sorted({x for x, _ in dots})
    assert float(line.rsplit("H", 1)[1]) == dots[-1][0]


def test_one_value_far_out_does_not_flatten_a_history() -> None:
    """A loss of 1e9 once: it is drawn at the edge, the others keep their height."""
    values = [1e9, *(1 - index / 100 for index in range(50))]
    dots = points(path(history(values, MIN, "h"), "dot"))
    heights = [y for _, y in dots[1:]]
    assert max(heights) - min(heights) > 150
    assert dots[0][1] == min(y for _, y in dots)


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.5], [0.0, 0.0, 0.0], [1e300, -1e300], [1, 2**60]])
def test_a_history_of_little_is_drawn_too(values: list[float]) -> None:
    """One trial, no difference, or an enormous one."""
    assert len(points(path(history(values, MAX, "h"), "dot"))) == len(values)


def test_a_long_history_keeps_every_improvement() -> None:
    """Few of 100,000 points are drawn, and the best is among them."""
    chance = random.Random(0)
    values = [chance.random() for _ in range(100_000)]
    picture = history(values, MAX, "h")
    dots = points(path(picture, "dot"))
    assert len(dots) <= MOST_POINTS + path(picture, "best").count("V") + 2
    assert len(picture) < 20_000
    best = min(y for _, y in dots)
    assert best == float(re.findall(r"V([\d.]+)", path(picture, "best"))[-1])


def test_learning_curves_tell_the_pruned_and_the_best_apart() -> None:
    """A line per trial from its first step to its last, by how it ended; a dot where one was pruned."""
    curves = [Curve({1: 0.2, 2: 0.4, 9: 0.6}, "COMPLETE"), Curve({1: 0.1, 2: 0.2}, "PRUNED"), Curve({1: 0.3}, "FAILED")]
    picture = learning_curves(curves, Curve({1: 0.3, 9: 0.9}, "COMPLETE"), MAX, "l")
    assert [path(picture, kind).count("M") for kind in ("complete", "pruned", "failed", "first")] == [1, 1, 1, 1]
    assert path(picture, "complete").count("L") == 2
    assert path(picture, "cut") == f"M{path(picture, 'pruned').rpartition('L')[2]}h0"
    assert path(picture, "failed").endswith("h0")
    begin, end = (tuple(map(float, place.split())) for place in path(picture, "first")[1:].split("L"))
    assert begin[0] < end[0]
    assert begin[1] > end[1]
    kinds = [node.attrib["class"] for node in ElementTree.fromstring(picture).iter("path")]
    assert kinds[-2:] == ["cut", "first"]


def test_learning_curves_of_many_long_trials_stay_small() -> None:
    """An even part of the trials and of their steps, the last step always; the best whatever its number."""
    kinds = ("COMPLETE", "PRUNED", "PRUNED")
    curves = [Curve({step: step + number for step in range(1000)}, kinds[number % 3]) for number in range(2000)]
    picture = learning_curves(curves, Curve({0: 1.0, 999: 2.0}, "COMPLETE"), MAX, "l")
    drawn = [path(picture, kind).count("M") for kind in ("complete", "pruned")]
    assert sum(drawn) <= MOST_CURVES
    assert drawn[1] == pytest.approx(2 * drawn[0], abs=2)
    assert path(picture, "complete").count("L") <= MOST_STEPS * drawn[0]
    assert float(path(picture, "complete").rpartition("L")[2].split()[0]) == points(path(picture, "cut"))[0][0]
    assert "first" in picture
    assert len(picture) < 60_000


def test_parallel_coordinates_have_an_axis_per_parameter_and_the_metric() -> None:
    """Numbers by their size, by the logarithm where they span a thousand, alternatives by name; the best apart."""
    rows = ranked(
        {"lr": 1e-4, "depth": 2, "kind": "b", "flag": True},
        {"lr": 1e-2, "depth": 6, "kind": None, "flag": False},
        {"lr": 1.0, "depth": 4, "kind": 0.5, "flag": True},
    )
    names = ["lr", "depth", "kind", "flag"]
    picture = parallel_coordinates(rows, names, MAX, "p")
    assert [text for text in texts(picture) if text in (*names, "accuracy")] == [*names, "accuracy"]
    assert {"0.0001", "1", "2", "6", "None", "0.5", "b", "True", "False"} <= set(texts(picture))
    best = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", path(picture, "first"))]
    middle = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", path(picture, "faint"))][:5]
    bottom, top = best[0], best[4]
    assert middle[0] == pytest.approx((bottom + top) / 2, abs=1)  # 0.01 is half-way from 0.0001 to 1
    assert best[1] == bottom
    assert middle[1] == top


def test_parallel_coordinates_of_many_stay_small() -> None:
    """The best are all there, of the rest an even part."""
    rows = ranked(*({"x": number / 7, "y": number % 5} for number in range(20_000)))
    picture = parallel_coordinates(rows, ["x", "y"], MAX, "p")
    assert path(picture, "faint").count("M") <= MOST_LINES
    assert path(picture, "strong").count("M") == MOST_LINES
    assert len(picture) < 60_000


def test_a_trial_without_one_of_the_parameters_is_drawn_without_it() -> None:
    """An extended space: its line goes on at the next axis."""
    rows = ranked({"x": 1.0, "y": 2.0}, {"y": 3.0}, {"x": 2.0, "y": 4.0})
    assert path(parallel_coordinates(rows, ["x", "y"], MAX, "p"), "faint").count("L") >= 3


def test_more_parameters_make_a_wider_picture() -> None:
    """A phone scrolls it, its letters keep their size."""
    assert parallel_width(2) == 360
    names = [f"p{number}" for number in range(8)]
    picture = parallel_coordinates(ranked(dict.fromkeys(names, 1.0), dict.fromkeys(names, 2.0)), names, MAX, "p")
    assert f'viewBox="0 0 {parallel_width(8)} 220" style="min-width:{parallel_width(8)}px"' in picture


def test_what_overlaps_in_time_lies_in_different_lanes() -> None:
    """As few as there can be; outcomes have their own class; the whole width is the time from start to end."""
    bars = [Bar(0, 5, "COMPLETE"), Bar(1, 6, "FAILED"), Bar(5, 10, "COMPLETE")]
    picture, lanes = timeline(bars, 0, 10)
    assert lanes == 2
    assert points(path(picture, "complete")) == [(0, 0), (500, 0)]
    assert points(path(picture, "failed")) == [(100, 10)]
    assert re.findall(r"h([\d.]+)v", picture) == ["500.0", "500.0", "500.0"]


def test_bars_too_thin_to_see_are_merged() -> None:
    """100,000 attempts are few bars, also where outcomes alternate; a single other outcome among them is seen."""
    kinds = {777: "FAILED"} | dict.fromkeys(range(50001, 100000, 2), "PRUNED")
    bars = [Bar(at / 100, at / 100 + 0.009, kinds.get(at, "COMPLETE")) for at in range(100_000)]
    picture, lanes = timeline(bars, 0, 1_000)
    assert lanes == 1
    assert len(points(path(picture, "failed"))) == 1
    assert len(picture) < 60_000


def test_labels_are_text() -> None:
    """A parameter's name or value is no markup."""
    picture = parallel_coordinates(ranked({"<b>": "&lt;"}, {"<b>": "<i>"}, {"<b>": "x"}), ["<b>"], MAX, '"<p>')
    assert {"<b>", "<i>", "&lt;"} <= set(texts(picture))


@given(st.floats(-1e12, 1e12), st.floats(-1e12, 1e12))
def test_ticks_are_few_and_within(one: float, other: float) -> None:
    """Whatever the range, there is at least one and never a crowd."""
    low, high = min(one, other), max(one, other)
    ticks = Scale(low, high, 0, 100).ticks(4)
    assert len(ticks) <= 17
    room = (high - low) * 1e-6 + 1e-12
    assert all(low - room <= tick <= high + room for tick in ticks)


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0, 1, ["0", "0.25", "0.5", "0.75", "1"]),
        (0.58, 0.93, ["0.6", "0.7", "0.8", "0.9"]),
        (0, 59, ["0", "20", "40"]),
        (0, 100_000, ["0", "25k", "50k", "75k", "100k"]),
        (-2e-5, 1e-5, ["-2e-05", "-1e-05", "0", "1e-05"]),
    ],
)
def test_ticks_are_round_and_short(low: float, high: float, labels: list[str]) -> None:
    """As a person would write them."""
    assert [number_label(value) for value in Scale(low, high, 0, 1).ticks(4)] == labels


def test_labels_have_no_binary_dust() -> None:
    """0.30000000000000004 is 0.3; what is not finite has its name."""
    assert number_label(0.1 + 0.2) == "0.3"
    assert number_label(12_345.0) == "12.3k"
    assert number_label(3_000_000.0) == "3M"
    assert number_label(math.inf) == "inf"


def test_three_gridlines_had_one_label() -> None:
    """Labels have as many digits as tell them apart, and the room for them."""
    assert number_labels([0.999981, 0.999982, 0.999983]) == ["0.999981", "0.999982", "0.999983"]
    assert number_labels([12_001.0, 12_002.0]) == ["12.001k", "12.002k"]
    assert number_labels([0.25, 0.25]) == ["0.25", "0.25"]
    picture = history([0.9999811 + at / 1e7 for at in range(9)], MAX, "h")
    labels = re.findall(r'<text x="([0-9.]+)"[^>]*text-anchor="end">([^<]*)', picture)
    assert len({label for _, label in labels}) == len(labels) > 2
    assert all(len(label) * 6 < float(x) for x, label in labels)


def test_log_uniform_parameters_had_linear_axes() -> None:
    """What is searched by its logarithm is shown so, however small its range."""
    rows = [(TrialRow(at, "m", "d", {"x": x}), 1.0) for at, x in enumerate((1.0, 10.0, 100.0))]

    def middle(logarithmic: tuple[str, ...]) -> float:
        line = path(parallel_coordinates(rows, ["x"], MAX, "p", logarithmic), "faint")
        return float(line.partition("M")[2].split("L")[0].split()[1])

    ends = (28.0, 192.0)
    assert middle(("x",)) == pytest.approx(sum(ends) / 2, abs=1)
    assert middle(()) > middle(("x",)) + 50


def test_labels_were_cut() -> None:
    """Long names have the room of two axes, and what is cut all the same is whole where it is pointed at."""
    name = "optimizer/learning_rate"
    rows = [(TrialRow(at, "m", "d", {name: at, "y": "a-very-long-alternative"}), 1.0) for at in range(3)]
    picture = parallel_coordinates(rows, [name, "y"], MAX, "p")
    assert f">{name}</text>" in picture
    assert "<title>a-very-long-alternative</title>a-very-long-…" in picture
