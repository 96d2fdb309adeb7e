"""A token is judged by its shape and never repeated; `tests/integration/test_doctor.py` has what takes a hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from raycolab.diagnostics.check import Verdict
from raycolab.diagnostics.network import join_address, ngrok, token
from tunnel.address import JoinAddress, unix_url

TOKEN = "2aBcDeFgHiJkLmNoPqRsTuVwXyZ_4AbCdEfGhIjKlMnOpQrSt"


@pytest.mark.parametrize(
    ("text", "verdict", "words"),
    [
        (TOKEN, Verdict.GOOD, "looks like an authtoken"),
        (f"  {TOKEN}\n", Verdict.GOOD, "looks like an authtoken"),
        (f"'{TOKEN}'", Verdict.BAD, "does not look like an ngrok authtoken"),
        (f"ngrok config add-authtoken {TOKEN}", Verdict.BAD, "does not look like an ngrok authtoken"),
        (TOKEN[:20], Verdict.BAD, "does not look like an ngrok authtoken"),
        (TOKEN.replace("_", "-"), Verdict.BAD, "does not look like an ngrok authtoken"),
        ("cr_2aBcDeFgHiJkLmNoPqRsTuVwXyZ", Verdict.BAD, "does not look like an ngrok authtoken"),
        ("", Verdict.NOTE, "is not set, so a head here is dialled directly"),
    ],
)
def test_the_shape_of_a_token(text: str, verdict: Verdict, words: str) -> None:
    """No part of what was given is in the sentence."""
    found = token(text, on_colab=False, has_kernel=True)
    assert (found.verdict, words in found.message) == (verdict, True), found.message
    assert TOKEN[:8] not in found.message


@pytest.mark.parametrize(
    ("has_kernel", "verdict", "words"),
    [(True, Verdict.BAD, "no other tab can join"), (False, Verdict.NOTE, "raycolab.doctor()` in one")],
)
def test_no_token_on_colab(has_kernel: bool, verdict: Verdict, words: str) -> None:
    """A head there needs one; a shell command cannot see Colab's secrets, so it says what can."""
    found = token("", on_colab=True, has_kernel=has_kernel)
    assert (found.verdict, words in found.message) == (verdict, True), found.message


def test_the_first_thing_that_is_wrong_is_told(tmp_path: Path) -> None:
    """Without a token nothing else is looked at; with one, the agent that the environment names is."""
    nothing = ngrok("", str(tmp_path / "none"), on_colab=False, has_kernel=False)
    assert (nothing.verdict, "is not set" in nothing.message) == (Verdict.NOTE, True)
    no_agent = ngrok(TOKEN, str(tmp_path / "none"), on_colab=False, has_kernel=False)
    assert (no_agent.verdict, "which is no program" in no_agent.message) == (Verdict.BAD, True)


def test_nothing_is_there(tmp_path: Path) -> None:
    """The sentence says where, and shows no secret."""
    address = JoinAddress(unix_url(str(tmp_path / "hub.sock")), bytes(32), bytes(range(32)))
    found = join_address(address)
    assert found.verdict is Verdict.BAD
    assert found.message.startswith(f"The hub at {address.url} cannot be reached: ")
    assert address.text[-20:-5] not in found.message
