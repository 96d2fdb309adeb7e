"""`choose_provider`: which provider a person gets for what they asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from raycolab.errors import UsageError
from raycolab.providers import Provider, choose_provider

TOKEN = {"NGROK_AUTHTOKEN": "t"}


def choose(
    name: str = "auto",
    *,
    listen: str | None = None,
    url: str | None = None,
    environ: dict[str, str] | None = None,
    token: str | None = None,
) -> Provider:
    """A choice with most of it as by default."""
    return choose_provider(
        name, listen=listen, url=url, environ=environ or {}, remembered={}, run_dir=Path("/tmp/rc"), token=token
    )


@pytest.mark.parametrize(
    ("chosen", "name"),
    [
        (choose(), "direct"),
        (choose(environ=TOKEN), "ngrok"),
        (choose(token="t"), "ngrok"),
        (choose(environ={"NGROK_AUTHTOKEN": "  "}), "direct"),
        (choose(environ=TOKEN, listen="127.0.0.1:0"), "direct"),
        (choose(environ=TOKEN, url="ws://h:1"), "direct"),
        (choose(listen="/tmp/hub.sock"), "unix"),
        (choose("unix"), "unix"),
        (choose("direct", environ=TOKEN), "direct"),
        (choose("ngrok", environ=TOKEN, url="https://h.ngrok.app"), "ngrok"),
    ],
)
def test_the_choice(chosen: Provider, name: str) -> None:
    """A name is obeyed; auto is ngrok where a token is found and no other address was asked for."""
    assert chosen.name == name


@pytest.mark.parametrize(
    ("name", "listen", "url", "part"),
    [
        ("ngrok", "127.0.0.1:1", None, "--listen does not go with --provider ngrok"),
        ("unix", None, "ws://h:1", "--url does not go with --provider unix"),
        ("bore", None, None, "There is no provider 'bore': choose one of auto, ngrok, direct, unix."),
    ],
)
def test_what_does_not_go_together_is_refused(name: str, listen: str | None, url: str | None, part: str) -> None:
    """A combination that would be ignored in part is an error."""
    with pytest.raises(UsageError, match=part):
        choose(name, listen=listen, url=url, environ=TOKEN)
