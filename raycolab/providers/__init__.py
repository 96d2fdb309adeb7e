"""Providers make the hub reachable: ngrok, direct, unix. `choose_provider` picks one from what was asked for.

pyngrok is imported by `ngrok.py` alone, and only when an agent starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from raycolab.errors import UsageError
from raycolab.providers.base import Provider, bind_failure, check_free
from raycolab.providers.direct import DirectProvider, UnixProvider, loopback_note
from raycolab.providers.ngrok import (
    AGENT_PATH_VARIABLE,
    TOKEN_PAGE,
    TOKEN_VARIABLE,
    NgrokProvider,
    edge_sentence,
    ngrok_sentence,
)

__all__ = [
    "AGENT_PATH_VARIABLE",
    "PROVIDER_NAMES",
    "TOKEN_PAGE",
    "TOKEN_VARIABLE",
    "Provider",
    "bind_failure",
    "check_free",
    "choose_provider",
    "edge_sentence",
    "loopback_note",
    "ngrok_sentence",
]

PROVIDER_NAMES = ("auto", "ngrok", "direct", "unix")


def choose_provider(
    name: str,
    *,
    listen: str | None,
    url: str | None,
    environ: Mapping[str, str],
    remembered: Mapping[str, str],
    run_dir: Path,
    token: str | None = None,
) -> Provider:
    """The provider for what a person asked for; nothing is reached or written yet. Raises UsageError.

    `auto` is ngrok where a token is found (`token`, else NGROK_AUTHTOKEN) and neither `listen` nor `url` says
    where joiners dial; else unix for a `listen` that is a path, else direct. `remembered` is what an earlier
    provider's `remember` gave; `run_dir` is private to this head (mode 0700) and has a short path.
    """
    token = (token or environ.get(TOKEN_VARIABLE, "")).strip()
    if name == "auto":
        name = _automatic(listen, url, bool(token))
    if name == "direct":
        return DirectProvider(listen=listen, url=url, remembered=remembered)
    if name == "unix":
        if url is not None:
            raise UsageError(
                "--url does not go with --provider unix: joiners dial the socket's own path; leave it out."
            )
        return UnixProvider(listen=listen, run_dir=run_dir, remembered=remembered)
    if name == "ngrok":
        if listen is not None:
            raise UsageError(
                "--listen does not go with --provider ngrok, whose agent finds the head's port by itself:"
                " leave it out, or use --provider direct."
            )
        agent = environ.get(AGENT_PATH_VARIABLE)
        return NgrokProvider(
            token=token,
            run_dir=run_dir,
            url=url,
            remembered=remembered,
            agent_path=Path(agent).absolute() if agent else None,
        )
    raise UsageError(f"There is no provider {name!r}: choose one of {', '.join(PROVIDER_NAMES)}.")


def _automatic(listen: str | None, url: str | None, has_token: bool) -> str:
    if listen is not None and "/" in listen:
        return "unix"
    return "ngrok" if has_token and listen is None and url is None else "direct"
