"""Nodes, sweeps and results as a terminal shows them."""

from __future__ import annotations

import io

from rich.console import Console, RenderableType

from raycolab.results.table import Results
from raycolab.trials import ErrorKind, Metric, TrialRow, TrialState
from raycolab.view.tables import nodes_table, results_table, snapshot_lines, sweeps_table, traffic_lines


def lines(renderable: RenderableType, *, styled: bool = False) -> list[str]:
    """What a 120-column terminal shows, without trailing blanks."""
    console = Console(file=io.StringIO(), width=120, force_terminal=styled, force_jupyter=False)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_nodes_show_state_load_and_traffic() -> None:
    """What is not known is a dash; names are not markup."""
    nodes: list[dict[str, object]] = [
        {"name": "head", "state": "ready", "cpus": 2.0, "gpus": 0, "trial": "#0", "rtt_ms": None},
        {
            "name": "[red]",
            "state": "ready",
            "cpus": None,
            "trial": None,
            "rtt_ms": 99.6,
            "bytes_sent": 1_200_000,
            "warning": "slow",
        },
    ]
    assert [line.split() for line in lines(nodes_table(nodes))] == [
        ["node", "state", "CPUs", "GPUs", "trial", "round", "trip", "sent", "received"],
        ["head", "ready", "2", "0", "#0", "-", "0", "B", "0", "B"],
        ["[red]", "ready", "-", "-", "-", "100", "ms", "1.2", "MB", "0", "B"],
        ["[red]:", "slow"],
    ]


def test_sweeps_show_how_far_they_are() -> None:
    """A sweep without an ETA or a best has dashes there."""
    best = {"metric": "score", "value": 0.5, "model": "svc", "dataset": "iris", "number": 1}
    sweeps = [
        {"name": "a", "state": "RUNNING", "total": 4, "complete": 1, "running": 2, "eta_s": 61.0, "best": best},
        {"name": "b", "state": "QUEUED", "total": 4, "eta_s": None, "best": None, "sentence": "waits for its turn"},
    ]
    assert lines(sweeps_table(sweeps)) == [
        "sweep  state    trials                          left       best",
        "a      RUNNING  1/4  ok 1  failed 0  running 2  1 min 1 s  score 0.5 (svc on iris)",
        "b      QUEUED   0/4  ok 0  failed 0  running 0  -          -",
        "b: waits for its turn",
    ]


def results(mode: str) -> Results:
    """Two models on one data set and one without results."""
    rows = [
        TrialRow(number, model, "iris", {"C": 1.0}, TrialState.COMPLETE, {"score": value})
        for number, (model, value) in enumerate([("svc", 0.5), ("forest", 0.25)])
    ]
    return Results(Metric("score", mode), rows, models=["svc", "forest"], datasets=["iris", "wine"], name="s")


def test_the_best_of_a_dataset_stands_out() -> None:
    """By the sweep's mode."""
    bold = "\x1b[1m"
    assert f"{bold}0.5" in "".join(lines(results_table(results("max")), styled=True))
    assert f"{bold}0.25" in "".join(lines(results_table(results("min")), styled=True))


def test_traffic_is_told_in_a_line() -> None:
    """The month only where the provider counts; the warning is a line of its own."""
    traffic = {"bytes": 12_300_000, "control_bytes": 400_000, "provider": "ngrok", "month": "2026-11"}
    plain = {**traffic, "month_bytes": 900_000_000, "limit_bytes": None, "warning": None}
    assert traffic_lines(plain) == ["through the tunnel: 12.3 MB, of which 400 kB is its overhead"]
    assert traffic_lines({**plain, "limit_bytes": 10**9, "warning": "Mind."}) == [
        "through the tunnel: 12.3 MB, of which 400 kB is its overhead; 2026-11: 900 MB of the 1.0 GB that "
        "ngrok's free plan includes each month",
        "Mind.",
    ]


def test_the_last_snapshot_is_told_with_its_age() -> None:
    """And why there is no newer one; nothing where none are taken."""
    kept: dict[str, object] = {"folder": "/drive", "number": 12, "age_s": 8.0, "up_to_date": False, "error": None}
    assert snapshot_lines(None) == []
    assert snapshot_lines(kept) == ["snapshot 12, 8.0 s old, in /drive"]
    assert snapshot_lines({**kept, "up_to_date": True, "age_s": 480.0, "error": "it is full."}) == [
        "snapshot 12, 8 min old, nothing finished since, in /drive",
        "no newer one: it is full.",
    ]
    none: dict[str, object] = {**kept, "folder": None, "number": None, "age_s": None}
    assert snapshot_lines({**none, "error": "results end with this tab."}) == [
        "no snapshots: results end with this tab."
    ]


def test_an_error_does_not_clear_the_screen() -> None:
    """Names, sentences and causes of failures are MAIN's and people's own."""
    odd = "\x1b[2J\u202e"
    sweeps = [{"name": f"a{odd}", "state": "HELD", "total": 1, "sentence": f"ValueError: {odd}"}]
    nodes = [{"name": "head", "state": "up", "trial": f"#1 {odd}", "warning": odd}]
    row = TrialRow(0, f"svc{odd}", "iris", {}, TrialState.FAILED, error_kind=ErrorKind.EXCEPTION, error=f"E: {odd}")
    found = Results(Metric("score"), [row], models=[f"svc{odd}"], datasets=["iris"], name=f"s{odd}")
    for shown in (sweeps_table(sweeps), nodes_table(nodes), results_table(found)):
        text = "".join(lines(shown))
        assert "\\x1b[2J\\u202e" in text
        assert "\x1b" not in text
        assert "\u202e" not in text
