"""Trials by pair, node and cause are the same kept up row by row as counted at once."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from raycolab.summary import PairTally, Tally
from raycolab.trials import ErrorKind, Metric, TrialRow, TrialState

METRIC = Metric("m")
ROWS = [TrialRow(number, "ab"[number % 2], "xy"[number // 2 % 2], {}) for number in range(8)]
ENDS = st.sampled_from([TrialState.COMPLETE, TrialState.FAILED, TrialState.LOST, TrialState.PRUNED])


def ended(row: TrialRow, state: TrialState, node: str) -> TrialRow:
    """The trial in this final state."""
    error = "ValueError: no" if state is TrialState.FAILED else None
    kind = ErrorKind.EXCEPTION if error else None
    worth = {"m": float(row.number)} if state is TrialState.COMPLETE else {}
    return replace(row, state=state, node=node, attempts=1, metrics=worth, error=error, error_kind=kind)


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


def test_the_best_of_a_pair_follows_the_mode() -> None:
    """Lowest for a loss."""
    for mode, best in (("max", 6.0), ("min", 0.0)):
        tally = Tally(Metric("m", mode))
        for row in ROWS:
            done = ended(row, TrialState.COMPLETE, "head")
            tally.moved(None, done)
        assert tally.pairs["a", "x"] == PairTally(total=2, done=2, failed=0, best=0.0 if mode == "min" else 4.0)
        assert best in {pair.best for pair in tally.pairs.values()}


def test_a_repeated_configuration_ran_nowhere() -> None:
    """It is done, on no node."""
    tally = Tally(METRIC)
    tally.moved(None, replace(ended(ROWS[0], TrialState.COMPLETE, "head"), attempts=0))
    assert tally.pairs["a", "x"].done == 1
    assert not +tally.done_on
