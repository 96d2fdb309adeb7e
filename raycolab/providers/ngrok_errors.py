"""What ngrok's error codes mean for the person at the keyboard: one sentence each, with the cure.

The code (`ERR_NGROK_105`) is ngrok's stable identifier; its text changes and may repeat the authtoken, so it
is not shown. Sources: https://ngrok.com/docs/errors. A joiner meets the later ones, in the `Ngrok-Error-Code`
header of an answer to its WebSocket handshake: `edge_sentence`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["DOMAIN_NOT_OURS", "STILL_ONLINE", "TOKEN_PAGE", "edge_sentence", "ngrok_code", "ngrok_sentence"]

TOKEN_PAGE = "https://dashboard.ngrok.com/get-started/your-authtoken"
DIRECT = "start the head with --provider direct where joiners can reach it"
NOT_OURS = (
    "This ngrok account does not own the address that --url names: take one listed at"
    " https://dashboard.ngrok.com/domains, or leave --url out and ngrok gives the account's own."
)

DOMAIN_NOT_OURS = frozenset({"ERR_NGROK_313", "ERR_NGROK_314", "ERR_NGROK_319", "ERR_NGROK_320"})
"""The codes for an address that the account may not open (another plan, another account, never reserved)."""

STILL_ONLINE = "ERR_NGROK_334"
"""The code for an address that another agent has, or had when it died: ngrok frees it within seconds."""

TOO_MANY_REQUESTS = (
    "ngrok holds this account back because it made too many requests in a short time: wait a minute and try again; the"
    " limit resets by itself."
)
TOO_OLD = (
    "The ngrok agent on this machine is too old for ngrok's service: delete it (PYNGROK_NGROK_PATH, or"
    " ~/.config/ngrok/ngrok) and start the head again, which downloads the current one."
)

SENTENCES = {
    "ERR_NGROK_105": (
        f"ngrok says that what was given is no authtoken: copy it again from {TOKEN_PAGE} into"
        " NGROK_AUTHTOKEN"
        " and start the head again."
    ),
    "ERR_NGROK_107": (
        "ngrok no longer accepts this authtoken, which was reset or revoked: copy the current one from"
        f" {TOKEN_PAGE} into NGROK_AUTHTOKEN and start the head again."
    ),
    "ERR_NGROK_4018": (
        "ngrok needs a verified account and its authtoken: sign up at https://dashboard.ngrok.com/signup, put"
        " the"
        f" token from {TOKEN_PAGE} into NGROK_AUTHTOKEN and start the head again."
    ),
    "ERR_NGROK_108": (
        "This ngrok account already runs as many agents as its plan allows: shut another head down, or stop"
        " an agent"
        " at https://dashboard.ngrok.com/agents, and start this head again."
    ),
    "ERR_NGROK_120": TOO_OLD,
    "ERR_NGROK_121": TOO_OLD,
    "ERR_NGROK_334": (
        "This ngrok address is already online: another head of this account uses it, or one that just died"
        " still"
        " holds it. Shut the other one down (https://dashboard.ngrok.com/agents lists it), or wait a minute,"
        " and start"
        " this head again."
    ),
    "ERR_NGROK_725": (
        "This ngrok account has used up its traffic for the month: wait for the next one, look at"
        f" https://dashboard.ngrok.com/billing, or {DIRECT}."
    ),
    "ERR_NGROK_727": (
        "This ngrok account has used up its requests for the month: wait for the next one, look at"
        f" https://dashboard.ngrok.com/billing, or {DIRECT}."
    ),
    "ERR_NGROK_702": TOO_MANY_REQUESTS,
    "ERR_NGROK_734": TOO_MANY_REQUESTS,
    "ERR_NGROK_3200": (
        "Nothing is online at this ngrok address: the head is not running, or it has a new address. Start it,"
        " and use"
        " the join address it prints."
    ),
    "ERR_NGROK_8012": (
        "ngrok reached the head's machine and nothing listens behind the tunnel: the head is still starting"
        " or has"
        " ended. Wait for its join address, or start it again."
    ),
    "ERR_NGROK_8013": (
        "ngrok opens this kind of endpoint only for accounts with a payment card on file: leave --url out,"
        " because"
        " raycolab needs only the HTTPS endpoint that every account has."
    ),
    **dict.fromkeys(DOMAIN_NOT_OURS, NOT_OURS),
}


def ngrok_code(text: str) -> str | None:
    """The error code in what ngrok wrote, such as `ERR_NGROK_105`."""
    found = re.search(r"ERR_NGROK_\d+", text)
    return found.group(0) if found else None


def ngrok_sentence(code: str) -> str | None:
    """The sentence for a code, or None for one that is not in the table."""
    sentence = SENTENCES.get(code)
    return None if sentence is None else f"{sentence} ({code})"


def edge_sentence(headers: Mapping[str, str]) -> str | None:
    """What ngrok's edge says in the headers (lower case) of its answer to a joiner; None when it is not ngrok's."""
    code = ngrok_code(headers.get("ngrok-error-code", ""))
    if code is None:
        return None
    page = f"https://ngrok.com/docs/errors/{code.lower()}"
    return ngrok_sentence(code) or f"ngrok did not let this machine through to the head ({code}): {page} says why."
