"""How often the engine is started again."""

from __future__ import annotations

from pathlib import Path

from raycolab.engine import Starts


def test_three_restarts_within_ten_minutes_are_enough(tmp_path: Path) -> None:
    """The fourth is refused, and the head knows it from then on; before the first start there is nothing to say."""
    starts = Starts(tmp_path / "run")
    assert not starts.are_too_many()
    assert [starts.note(1000.0 + second) for second in range(5)] == [False, False, False, False, True]
    assert Starts(tmp_path / "run").are_too_many()


def test_rare_restarts_go_on_for_ever(tmp_path: Path) -> None:
    """One every five minutes is no engine that cannot live."""
    starts = Starts(tmp_path)
    assert {starts.note(300.0 * count) for count in range(50)} == {False}
