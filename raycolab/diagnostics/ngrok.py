"""What a head needs of ngrok: a token that looks like one, and an agent that is there or can be had. Nothing is shown.

ngrok's own word on a token comes only when an agent starts.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from raycolab.diagnostics.check import Finding, bad, good, note
from raycolab.providers import AGENT_PATH_VARIABLE, TOKEN_VARIABLE
from raycolab.providers.ngrok import agent_places
from raycolab.providers.ngrok_errors import TOKEN_PAGE

__all__ = ["agent", "service", "token"]

OLDEST_AGENT = (3, 30)  # pyngrok 9's own bound: it speaks the endpoints of agent config v3
SERVICE = ("connect.ngrok-agent.com", 443)  # what the agent dials
ANSWER_S = 5.0

# Two parts of letters and digits; those of today have 27 and 21 or 22.
_TOKEN = re.compile(r"[A-Za-z0-9]{15,60}_[A-Za-z0-9]{15,60}")
_IDENTIFIERS = ("cr_", "ak_", "rd_", "ep_", "usr_", "ac_")  # of other things on ngrok's pages


def token(text: str, *, on_colab: bool, has_kernel: bool) -> Finding:
    """Whether this can be an authtoken; it is never repeated."""
    text = text.strip()
    copy = f"copy the authtoken from {TOKEN_PAGE}"
    if not text and on_colab and not has_kernel:
        return note(
            f"{TOKEN_VARIABLE} is not in the environment, and Colab's secrets are only for a cell to read: run"
            " `import raycolab; raycolab.doctor()` in one."
        )
    if not text and on_colab:
        return bad(
            f"{TOKEN_VARIABLE} is neither set nor in Colab's secrets, so no other tab can join a head here: {copy}"
            " into the secrets (the key on the left) and switch on Notebook access. A joiner needs none."
        )
    if not text:
        return note(
            f"{TOKEN_VARIABLE} is not set, so a head here is dialled directly: where joiners cannot do that, {copy}"
            " into it."
        )
    if text[0] in "'\"" or re.search(r"\s", text):
        return bad(f"{TOKEN_VARIABLE} holds quotes, spaces or a whole command: {copy} alone into it.")
    if text.startswith(_IDENTIFIERS):
        return bad(f"{TOKEN_VARIABLE} holds the id of something else of ngrok's, not the token: {copy} into it.")
    if not _TOKEN.fullmatch(text):
        return bad(f"{TOKEN_VARIABLE} does not look like an ngrok authtoken, or was cut: {copy} into it.")
    return good(f"{TOKEN_VARIABLE} is there and looks like an authtoken; ngrok judges it when a head starts.")


def agent(named: str | None) -> Finding:
    """Whether the ngrok agent is on this machine and new enough, or can be downloaded; `named` by the environment."""
    kept, url = agent_places()
    path = Path(named) if named else kept
    if os.access(path, os.X_OK) and path.is_file():
        return _version(path, bool(named))
    if named:
        return bad(f"{AGENT_PATH_VARIABLE} names {path}, which is no program: correct it, or unset it.")
    host = urlsplit(url).hostname or ""
    if _dials(host, 443):
        return good(f"The ngrok agent is not here yet; the head downloads it from {host}, which answers.")
    return bad(
        f"The ngrok agent is not on this machine and {host} cannot be reached to download it: check the internet, or"
        f" install ngrok and set {AGENT_PATH_VARIABLE} to it, or start the head with --provider direct."
    )


def service(host: str = SERVICE[0], port: int = SERVICE[1]) -> Finding:
    """Whether ngrok's service can be dialled."""
    if _dials(host, port):
        return good(f"ngrok's service answers ({host}, port {port}).")
    return bad(
        f"ngrok's service cannot be reached ({host}, port {port}): check that this session reaches the internet, or"
        " start the head with --provider direct."
    )


def _version(path: Path, named: bool) -> Finding:
    cure = f"set {AGENT_PATH_VARIABLE} to a current one, or unset it" if named else "delete it and a current one is had"
    try:
        ran = subprocess.run(
            [path, "version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=ANSWER_S, check=False
        )
    except subprocess.TimeoutExpired:
        return bad(f"The ngrok agent {path} does not even say its version: {cure}.")
    found = re.search(r"(\d+)\.(\d+)\S*", ran.stdout)
    if found is None:
        return bad(f"{path} does not say a version of ngrok, so it may be something else: {cure}.")
    if (int(found[1]), int(found[2])) < OLDEST_AGENT:
        oldest = ".".join(map(str, OLDEST_AGENT))
        return bad(f"The ngrok agent {path} is {found[0]} and {oldest} is needed: {cure}.")
    return good(f"The ngrok agent is {path}, version {found[0]}.")


def _dials(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), ANSWER_S).close()
    except OSError:
        return False
    return True
