"""Clocks, judged; what takes a hub is in tests/integration/test_doctor.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from raycolab.diagnostics.check import Verdict
from raycolab.diagnostics.reach import clock, entrance, skew
from tunnel.address import JoinAddress, unix_url


@pytest.mark.parametrize(
    ("seconds", "verdict", "words"),
    [
        (0.9, Verdict.GOOD, "agrees with the head's"),
        (-4.0, Verdict.GOOD, "agrees with the head's"),
        (90.0, Verdict.NOTE, "1 min 30 s ahead of the head's"),
        (-600.0, Verdict.NOTE, "10 min behind the head's"),
        (-7200.0, Verdict.BAD, "2 h behind the head's, so certificates may look outdated"),
    ],
)
def test_skew(seconds: float, verdict: Verdict, words: str) -> None:
    """A few seconds are an HTTP date's own; an hour breaks TLS."""
    found = skew(seconds)
    assert (found.verdict, words in found.message) == (verdict, True), found.message


def test_one_machine_has_one_clock() -> None:
    """A unix socket leads to this very machine."""
    assert clock(JoinAddress(unix_url("/none/hub.sock"), bytes(32), bytes(32))) is None


def test_nothing_is_there(tmp_path: Path) -> None:
    """The sentence says where, and shows no secret."""
    address = JoinAddress(unix_url(str(tmp_path / "hub.sock")), bytes(32), bytes(range(32)))
    found = entrance(address)
    assert found.verdict is Verdict.BAD
    assert found.message.startswith(f"The hub at {address.url} cannot be reached: ")
    assert address.text[-20:-5] not in found.message
