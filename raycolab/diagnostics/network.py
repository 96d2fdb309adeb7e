"""The ways of a cluster's network: from joiners to a head here, by ngrok, and from here to a head, by its join address.

Nothing is started and nothing joins. ngrok judges a token only when an agent starts, and no token is shown. A head's
hub is asked to resume a link that never was: it answers no like any hub in order, and only after it has shown its
certificate and has seen that the secret and the versions are right.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import shutil
import socket
import time
from collections.abc import Mapping

from raycolab.diagnostics.check import Finding, Verdict, bad, good, note
from raycolab.node.messages import versions
from raycolab.providers import AGENT_PATH_VARIABLE, TOKEN_PAGE, TOKEN_VARIABLE, ngrok_sentence
from tunnel.address import JoinAddress
from tunnel.dial import Transient, dial
from tunnel.errors import HubUnreachable, PinMismatch, Refused
from tunnel.machine import namespace_id
from tunnel.messages import Hello, Resume

__all__ = ["join_address", "ngrok", "token"]

SERVICE = ("connect.ngrok-agent.com", 443)  # what the agent dials
NGROK_ANSWER_S = 5.0
HUB_ANSWER_S = 6.0

# Two parts of letters and digits; those of today have 27 and 21 or 22.
_TOKEN = re.compile(r"[A-Za-z0-9]{15,60}_[A-Za-z0-9]{15,60}")
_IDENTIFIERS = ("cr_", "ak_", "rd_", "ep_", "usr_", "ac_")  # of other things on ngrok's pages
_RESUMED_NOTHING = "unknown-link"


def ngrok(text: str, agent: str | None, *, on_colab: bool, has_kernel: bool) -> Finding:
    """Whether a head here can be reached by ngrok: a token, the agent that the environment names, and ngrok's service.

    Without a token that is all there is to say: a head is then dialled directly.
    """
    found = token(text, on_colab=on_colab, has_kernel=has_kernel)
    if found.verdict is not Verdict.GOOD:
        return found
    if agent and shutil.which(agent) is None:
        return bad(f"{AGENT_PATH_VARIABLE} names {agent}, which is no program: correct it, or unset it.")
    host, port = SERVICE
    try:
        socket.create_connection(SERVICE, NGROK_ANSWER_S).close()
    except OSError:
        return bad(
            f"ngrok's service cannot be reached ({host}, port {port}): check that this session reaches the internet, or"
            " start the head with --provider direct."
        )
    return good(f"{found.message} ngrok's service answers.")


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
    if text.startswith(_IDENTIFIERS) or not _TOKEN.fullmatch(text):
        return bad(
            f"{TOKEN_VARIABLE} does not look like an ngrok authtoken (it was cut, or has quotes, a whole command or"
            f" another of ngrok's ids in it): {copy} alone into it."
        )
    return good(f"{TOKEN_VARIABLE} is there and looks like an authtoken; ngrok judges it when a head starts.")


def join_address(
    address: JoinAddress, *, ours: Mapping[str, str] | None = None, limit_s: float = HUB_ANSWER_S
) -> Finding:
    """Whether the hub at an address would let this machine in; it is not joined. `ours` are the versions here."""
    hello = Hello(
        proof=b"",
        instance=secrets.token_hex(8),
        name=None,
        ports=1,
        namespace=namespace_id(),
        busy=(),
        resume=Resume(secrets.token_hex(16), 0),
        application={"versions": dict(ours or versions())},
    )
    began = time.monotonic()
    try:
        asyncio.run(_dial(address, hello, limit_s))
    except Refused as refused:
        if refused.code != _RESUMED_NOTHING:
            return bad(str(refused))
        took = time.monotonic() - began
        return good(
            f"The head at {address.url} answers in {took * 1000:.0f} ms; certificate, secret and versions are right."
        )
    except PinMismatch as error:
        return bad(str(error))
    except Transient as error:
        code = str(error).rpartition(" ")[2]
        return bad(ngrok_sentence(code) or str(HubUnreachable(address.url, str(error))))
    return bad(f"What answers at {address.url} resumed a link that never was, so it is no head of raycolab.")


async def _dial(address: JoinAddress, hello: Hello, limit_s: float) -> None:
    _, carrier = await dial(address, hello, limit_s)
    await carrier.close()
