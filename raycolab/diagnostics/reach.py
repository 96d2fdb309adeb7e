"""Whether a joiner would be let in at a join address: network, certificate, secret, versions, clock. Nothing joins.

The hub is asked to resume a link that never was: it answers with no like any hub in order, and only after it has shown
its certificate, and seen that the secret and the versions are right.
"""

from __future__ import annotations

import asyncio
import email.utils
import http.client
import secrets
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from raycolab.diagnostics.check import Finding, bad, good, note
from raycolab.node.versions import versions
from raycolab.providers import ngrok_sentence
from raycolab.text import duration_text
from tunnel.address import JoinAddress
from tunnel.dial import Transient, dial
from tunnel.errors import HubUnreachable, PinMismatch, Refused
from tunnel.gate import PATH
from tunnel.machine import namespace_id
from tunnel.messages import Hello, Resume

__all__ = ["clock", "entrance", "skew"]

ANSWER_S = 6.0
WORTH_KNOWING_S = 5.0  # of skew; an HTTP date has whole seconds, and takes time on its way
TOO_MUCH_S = 3600.0  # certificates of the provider begin to look outdated, or not yet valid

_RESUMED_NOTHING = "unknown-link"


def entrance(address: JoinAddress, *, ours: Mapping[str, str] | None = None, limit_s: float = ANSWER_S) -> Finding:
    """Whether the hub at an address would let this machine in; it is not joined. `ours` are the versions here."""
    hello = Hello(
        proof=b"",
        instance=secrets.token_hex(8),
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


def clock(address: JoinAddress, *, limit_s: float = ANSWER_S) -> Finding | None:
    """How far this machine's clock is from the head's, or the provider's, by one HTTP answer; None on one machine."""
    if address.unix_path is not None:
        return None
    parts = urlsplit(address.url)
    kind = http.client.HTTPSConnection if parts.scheme == "wss" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=limit_s)
    try:
        connection.request("HEAD", f"{parts.path.rstrip('/')}{PATH}", headers={"ngrok-skip-browser-warning": "1"})
        there = connection.getresponse().getheader("Date")
        now = time.time()
    except (OSError, http.client.HTTPException):
        return note("The head's clock could not be read: it cannot be reached.")
    finally:
        connection.close()
    try:
        return skew(now - email.utils.parsedate_to_datetime(there or "").timestamp())
    except ValueError:
        return note("The head's clock could not be read: what answers gives no time.")


def skew(seconds: float) -> Finding:
    """What it means that the clock here is ahead by so many seconds."""
    off = duration_text(abs(seconds))
    which = "ahead of" if seconds > 0 else "behind"
    cure = "set it, as with `sudo timedatectl set-ntp true`"
    if abs(seconds) >= TOO_MUCH_S:
        return bad(f"The clock here is {off} {which} the head's, so certificates may look outdated: {cure}.")
    if abs(seconds) >= WORTH_KNOWING_S:
        return note(f"The clock here is {off} {which} the head's, and so are times that this machine writes: {cure}.")
    return good("The clock here agrees with the head's to a few seconds.")


async def _dial(address: JoinAddress, hello: Hello, limit_s: float) -> None:
    _, carrier = await dial(address, hello, limit_s)
    await carrier.close()
