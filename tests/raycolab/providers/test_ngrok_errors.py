"""The table of ngrok's error codes."""

from __future__ import annotations

import re

import pytest

from raycolab.providers.ngrok_errors import DOMAIN_NOT_OURS, STILL_ONLINE, edge_sentence, ngrok_code, ngrok_sentence

NUMBERS = [
    105,
    107,
    4018,
    108,
    120,
    121,
    334,
    702,
    725,
    727,
    734,
    3200,
    8012,
    8013,
    *(int(c[10:]) for c in DOMAIN_NOT_OURS),
]
# What somebody can do about it: each sentence has at least one of these.
CURES = re.compile(r"copy |sign up|shut |delete |wait|Wait|leave |take |Start it|start it")


@pytest.mark.parametrize("number", sorted(NUMBERS))
def test_every_error_a_person_meets_has_a_cure(number: int) -> None:
    """Each sentence says what to do, in plain words, and ends with the code to search for."""
    code = f"ERR_NGROK_{number}"
    sentence = ngrok_sentence(code)
    assert sentence is not None
    assert CURES.search(sentence)
    assert sentence.endswith(f". ({code})")
    assert len(sentence) < 330


def test_an_unknown_code_has_no_sentence() -> None:
    """What is not in the table is not guessed."""
    assert ngrok_sentence("ERR_NGROK_1") is None


def test_the_code_is_found_in_what_the_agent_writes() -> None:
    """Log lines end with the code, with line breaks as backslash and letter."""
    assert ngrok_code(r"authentication failed: bad.\r\n\r\nERR_NGROK_105\r\n") == "ERR_NGROK_105"
    assert ngrok_code("dial tcp: lookup failed") is None


def test_the_edge_names_its_code_in_a_header() -> None:
    """A joiner gets it with the answer that comes in the hub's place."""
    headers = {"content-type": "text/html", "ngrok-error-code": "ERR_NGROK_3200"}
    assert edge_sentence(headers) == ngrok_sentence("ERR_NGROK_3200")


def test_an_unknown_code_of_the_edge_leads_to_its_page() -> None:
    """ngrok has a page for each."""
    sentence = edge_sentence({"ngrok-error-code": "ERR_NGROK_9999"})
    assert sentence is not None
    assert "https://ngrok.com/docs/errors/err_ngrok_9999" in sentence


@pytest.mark.parametrize("headers", [{}, {"server": "nginx"}, {"ngrok-error-code": "<b>"}])
def test_an_answer_that_is_not_ngroks_has_no_sentence(headers: dict[str, str]) -> None:
    """Other things stand before a hub too."""
    assert edge_sentence(headers) is None


def test_the_address_of_a_dead_head_says_to_wait() -> None:
    """After the provider itself has waited."""
    assert "wait a minute" in str(ngrok_sentence(STILL_ONLINE))
