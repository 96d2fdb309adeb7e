"""What people are told of sweeps: the keys of `status --json`, within bounds; trials by pair, node and cause."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycolab.main.compute import BadReturnError, metrics_of
from raycolab.main.traceback import cell_code_name, traceback_text
from raycolab.summary import MOST_PAIRS, Causes, Curves, PairTally, SweepStatus, Tally, causes, sweeps_json
from raycolab.trials import ErrorKind, Failure, Metric, SweepState, TrialRow, TrialState
from tests.raycolab.view import cluster_of_six as six

CONTROL_LINE_BYTES = 2**20  # what the engine's line takes


def status_of(models: int, datasets: int, name: str = "model") -> SweepStatus:
    """A sweep over this many pairs, one trial each, every one FAILED of a cause of its own."""
    tally = Tally(Metric("accuracy"))
    for number in range(models * datasets):
        at = f"{name}-{number // datasets}", f"{name}-data-{number % datasets}"
        error = f"Error{number}: " + name * 5
        row = TrialRow(number, *at, {}, TrialState.FAILED, node=f"joiner-{number}", attempts=1, error=error)
        tally.moved(None, row)
    counts = Counter({TrialState.FAILED: models * datasets})
    return SweepStatus.of("sweep", SweepState.RUNNING, counts, Metric("accuracy"), tally=tally)


def test_the_contract_is_kept() -> None:
    """The first keys are those of `status --json`; the rest is for panels."""
    told = six.sweep()
    contract = "name state total pending running complete pruned failed lost cancelled eta_s best"
    assert list(told)[:12] == contract.split()
    assert list(told)[12:] == [
        *("sentence", "hints", "slots", "metric", "pairs", "pairs_left_out", "causes", "causes_left_out", "done_on"),
        *("curves", "repeats"),
        "setup_failures",
    ]
    assert msgspec.convert(json.loads(json.dumps(told)), SweepStatus).to_json() == told


def test_every_pair_cause_and_node_is_told() -> None:
    """Of a sweep that fits."""
    told = six.sweep()
    assert told["metric"] == {"name": "accuracy", "mode": "max"}
    assert told["pairs"][0] == {
        "model": "svc",
        "dataset": "iris",
        "total": 60,
        "done": 35,
        "failed": 1,
        "best": max(pair["best"] for pair in told["pairs"] if pair["dataset"] == "iris"),
    }
    assert sum(pair["done"] for pair in told["pairs"]) == sum(told["done_on"].values()) == 412
    assert [cause["count"] for cause in told["causes"]] == [6, 3]
    assert (told["pairs_left_out"], told["causes_left_out"]) == (0, 0)


def test_ten_thousand_pairs_fit_the_control_line() -> None:
    """As a whole map of the first models and datasets, and how many are left out; names are cut."""
    told = status_of(100, 100, "ü" * 80).to_json()
    assert len(json.dumps(told)) < CONTROL_LINE_BYTES
    assert len(told["pairs"]) == MOST_PAIRS
    assert told["pairs_left_out"] == 10_000 - MOST_PAIRS


def test_few_models_keep_more_datasets() -> None:
    """Two models with a thousand datasets, and the other way round."""
    for shape, models, datasets in (((2, 1000), 2, 200), ((1000, 2), 200, 2)):
        pairs = status_of(*shape).pairs
        assert len({pair.model for pair in pairs}) == models
        assert len({pair.dataset for pair in pairs}) == datasets


def test_many_sweeps_share_one_bound() -> None:
    """The latest has its pairs first; those before them go without."""
    told = sweeps_json([status_of(20, 20)] * 50)
    assert len(json.dumps({"progress": {"sweeps": told, "trials": {}}})) < CONTROL_LINE_BYTES
    sizes = [len(each["pairs"]) for each in told]
    assert sizes[-1] == MOST_PAIRS
    assert sizes[0] == 0
    assert sum(sizes) <= 1000
    assert {each["pairs_left_out"] + len(each["pairs"]) for each in told} == {400}


def test_a_metric_beyond_a_float_is_never_the_best() -> None:
    """It is COMPLETE all the same; the status of a sweep with nothing else has no best."""
    rows = [
        TrialRow(0, "a", "x", {}, TrialState.COMPLETE, {"m": 10**400}),
        TrialRow(1, "a", "x", {}, TrialState.COMPLETE, {"m": 1}),
    ]
    tally = Tally(METRIC)
    tally.moved(None, rows[0])
    assert tally.pairs["a", "x"] == PairTally("a", "x", total=1, done=1)
    tally.moved(None, rows[1])
    assert tally.pairs["a", "x"].best == 1


METRIC = Metric("m")
ROWS = [TrialRow(number, "ab"[number % 2], "xy"[number // 2 % 2], {}) for number in range(8)]
ENDS = st.sampled_from([TrialState.COMPLETE, TrialState.FAILED, TrialState.LOST, TrialState.PRUNED])


def ended(row: TrialRow, state: TrialState, node: str) -> TrialRow:
    """The trial in this final state."""
    error = "ValueError: no" if state is TrialState.FAILED else None
    kind = ErrorKind.EXCEPTION if error else None
    worth = {"m": float(row.number)} if state is TrialState.COMPLETE else {}
    return replace(row, state=state, node=node, attempts=1, metrics=worth, error=error, error_kind=kind)


def test_curves_of_the_trials_that_reported_last_are_told_within_bounds() -> None:
    """The best one's stays, long ones are thinned but for their ends; one that runs again has none."""
    curves, rows = Curves(), {number: TrialRow(number, "a", "x", {}, TrialState.RUNNING) for number in range(40)}
    for number in rows:
        for step in range(500 if number == 30 else 3):
            curves.report(number, step, float(step), best=0)
    curves.report(39, 3, float("nan"), best=0)
    found = {curve.number: curve for curve in curves.found(rows)}
    assert sorted(found) == [0, *range(25, 40)]
    assert found[39].steps == [0, 1, 2]
    assert len(found[30].steps) <= 34
    assert (found[30].steps[-1], found[30].values[-1]) == (499, 499.0)
    curves.forget(39)
    assert 39 not in {curve.number for curve in curves.found(rows)}


@given(st.lists(st.tuples(st.integers(0, 7), ENDS, st.sampled_from(["head", "joiner-1"])), max_size=40))
def test_changes_add_up_to_the_whole(moves: list[tuple[int, TrialState, str]]) -> None:
    """Whatever ends, is tried again and ends otherwise; what was COMPLETE stays."""
    rows = {row.number: row for row in ROWS}
    kept = Tally(METRIC)
    for row in ROWS:
        kept.moved(None, row)
    for number, state, node in moves:
        before = rows[number]
        if before.state is TrialState.COMPLETE:
            continue
        pending = replace(ROWS[number], attempts=before.attempts)
        rows[number] = ended(ROWS[number], state, node) if before.state is TrialState.PENDING else pending
        kept.moved(before, rows[number])
    whole = Tally(METRIC)
    for row in rows.values():
        whole.moved(None, row)
    assert kept.pairs == whole.pairs
    assert +kept.done_on == +whole.done_on
    counted = [(cause.count, cause.ename) for cause in kept.causes.found()]
    assert sorted(counted) == sorted((cause.count, cause.ename) for cause in whole.causes.found())


@pytest.mark.parametrize(("mode", "best"), [("max", 4.0), ("min", 0.0)])
def test_the_best_of_a_pair_follows_the_mode(mode: str, best: float) -> None:
    """Lowest for a loss."""
    tally = Tally(Metric("m", mode))
    for row in ROWS:
        tally.moved(None, ended(row, TrialState.COMPLETE, "head"))
    assert tally.pairs["a", "x"] == PairTally("a", "x", total=2, done=2, failed=0, best=best)


def test_what_is_done_and_what_the_nodes_did_had_two_sums() -> None:
    """A repeated configuration is done, on no node, and counted as what it is."""
    tally = Tally(METRIC)
    for number, row in enumerate(ROWS[:3]):
        same_as = None if number == 0 else 0
        done = replace(ended(row, TrialState.COMPLETE, "head"), attempts=int(number == 0), same_as=same_as)
        tally.moved(None, done)
    assert sum(pair.done for pair in tally.pairs.values()) == tally.done_on["head"] + tally.repeats == 3


def test_repeats_were_counted_as_failures_again() -> None:
    """They are named beside the trial whose failure they have, and go when it is tried again."""
    first = ended(ROWS[0], TrialState.FAILED, "head")
    repeat = replace(first, number=1, attempts=0, same_as=0)
    tally = Causes()
    for row in (first, repeat):
        tally.count(row)
    assert [cause.headline for cause in tally.found()] == ["1 trial: ValueError: no (and 1 repeat)"]
    tally.count(repeat, -1)
    assert [cause.headline for cause in tally.found()] == ["1 trial: ValueError: no"]


CELL = """
def check(value):
    raise ValueError(f"{value} is too large, see cell 3, line 4")


def compute(value):
    return check(value)
"""


def failed(number: int, value: float) -> TrialRow:
    """A trial whose compute raised in cell 7."""
    names: dict[str, object] = {}
    exec(compile(CELL, cell_code_name(7), "exec"), names)
    try:
        names["compute"](value)  # type: ignore[operator]
    except ValueError as error:
        failure = Failure(ErrorKind.EXCEPTION, "ValueError", str(error), traceback_text(error), 7)
    return TrialRow(
        number,
        "svc",
        "iris",
        {},
        TrialState.FAILED,
        error_kind=failure.kind,
        error=failure.summary,
        traceback=failure.traceback,
        cell_index=failure.cell_index,
    )


def bare(number: int, kind: ErrorKind, error: str) -> TrialRow:
    """A trial that ended without an exception of MAIN."""
    state = TrialState.LOST if kind is ErrorKind.LOST else TrialState.FAILED
    return TrialRow(number, "svc", "iris", {}, state, error_kind=kind, error=error)


def test_one_line_of_one_cell_is_one_cause() -> None:
    """Whatever the message quotes, places that look like frames included."""
    found = causes([failed(4, 0.5), failed(2, 0.25), failed(3, 0.125)])
    assert [cause.headline for cause in found] == [
        "3 trials, one cause: ValueError at cell 7 line 3: 0.5 is too large, see cell 3, line 4"
    ]
    assert found[0].example.number == 4


def test_a_cause_without_an_exception_is_its_kind() -> None:
    """A sentence of ours is no exception's name."""
    found = causes(
        [bare(0, ErrorKind.TIMEOUT, "ran longer than 5 s and was ended"), bare(1, ErrorKind.LOST, "lost three times")]
    )
    assert [cause.headline for cause in found] == [
        "1 trial: timeout: ran longer than 5 s and was ended",
        "1 trial: lost: lost three times",
    ]


def test_a_cause_that_says_nothing_is_its_name() -> None:
    """`raise KeyError` has no message, and one that never ends is shortened."""
    found = causes([bare(0, ErrorKind.OOM, "OutOfMemory"), bare(1, ErrorKind.EXCEPTION, f"KeyError: {'x' * 1000}")])
    assert [cause.headline for cause in found] == ["1 trial: OutOfMemory", f"1 trial: KeyError: {'x' * 158} …"]


def test_different_bad_returns_were_one_cause() -> None:
    """What compute returned is part of the cause, where it is of another kind; two texts are one."""
    returned = [
        None,
        "high",
        "low",
        [1, 2],
        (1,),
        {1},
        b"",
        1j,
        object,
        range(3),
        {},
        {"other": 1},
        {"m": None},
        {"m": [1]},
        {3: 1},
    ]
    rows = []
    for number, value in enumerate(returned):
        with pytest.raises(BadReturnError) as refused:
            metrics_of(value, METRIC)
        rows.append(bare(number, ErrorKind.BAD_RETURN, f"BadReturn: {refused.value}"))
    assert [cause.count for cause in causes(rows)] == [2, *[1] * (len(returned) - 2)]


def test_the_most_frequent_cause_comes_first() -> None:
    """Then the one that was met first."""
    rows = [bare(0, ErrorKind.OOM, "OutOfMemory"), *(failed(number, 0.5) for number in (1, 2))]
    assert [(cause.count, cause.text) for cause in causes(rows)] == [
        (2, "ValueError at cell 7 line 3"),
        (1, "OutOfMemory"),
    ]


def test_what_did_not_fail_has_no_cause() -> None:
    """A NaN is no failure, nor is a trial that somebody cancelled."""
    kinds = {TrialState.FAILED: ErrorKind.OOM, TrialState.LOST: ErrorKind.LOST}
    rows = [
        TrialRow(number, "svc", "iris", {}, state, error_kind=kinds.get(state))
        for number, state in enumerate(TrialState)
    ]
    assert {cause.example.state for cause in causes(rows)} == {TrialState.FAILED, TrialState.LOST}


def test_a_trial_that_is_tried_again_no_longer_counts() -> None:
    """Its cause keeps its example while others have it, and is gone with the last."""
    kept = Causes()
    first, second = failed(1, 1.0), failed(2, 2.0)
    kept.count(first)
    kept.count(second)
    kept.count(first, -1)
    assert [(cause.count, cause.example.number) for cause in kept.found()] == [(1, 1)]
    kept.count(second, -1)
    assert kept.found() == []
