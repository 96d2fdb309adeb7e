"""Every error of the tunnel, as one tree; each one carries its data and reads as a sentence for a person.

    TunnelError
    ├── LocalProtocolError     we called our own code in an order or with values it does not allow
    ├── RemoteProtocolError    the peer sent what the protocol does not allow
    ├── AddressError           a join address cannot be read (also a ValueError)
    ├── IdentityError          a hub's stored identity cannot be read (also a ValueError)
    ├── PinMismatch            the hub's certificate is not the one the join address names
    ├── Refused                the hub answered the handshake with no: `code` says why
    ├── LinkLost               a link ended and will not come back
    ├── HubUnreachable         the hub cannot be reached
    └── ListenFailed           this machine cannot listen at an address where it has to
        └── PortTaken          because another program already does

A LocalProtocolError is a bug on this side; every other one can happen to a person who did nothing wrong.
"""

# ruff: noqa: N818 - PinMismatch, Refused, LinkLost and the others say what happened, as websockets' do.

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "AddressError",
    "HubUnreachable",
    "IdentityError",
    "LinkLost",
    "ListenFailed",
    "LocalProtocolError",
    "PinMismatch",
    "PortTaken",
    "Refused",
    "RemoteProtocolError",
    "SessionDamaged",
    "TunnelError",
]


class TunnelError(Exception):
    """Base of everything the tunnel raises on purpose."""


class LocalProtocolError(TunnelError):
    """This side misused an API: nothing was sent, and the caller has a bug."""


class RemoteProtocolError(TunnelError):
    """The peer broke the protocol: close its WebSocket and believe nothing that it sent since."""


class SessionDamaged(RemoteProtocolError):
    """The bytes are not those that the other end of the TLS session sent: somebody in between altered them."""


class AddressError(TunnelError, ValueError):
    """A join address cannot be read; the text says how it is damaged and where to get a good one."""


class IdentityError(TunnelError, ValueError):
    """A hub's stored key, certificate and secret cannot be read, or do not belong together."""


class PinMismatch(TunnelError):
    """The hub's certificate is not the one the join address names; it was told nothing."""

    def __str__(self) -> str:
        return (
            "The certificate at this address is not the one the join address names: either the address is "
            "from an earlier head, or someone stands in between. It was told nothing. Ask the head for "
            "its current join address."
        )


class Refused(TunnelError):
    """The hub refused the handshake, or found soon after it that the node cannot be part of the mesh.

    `code` is for programs: "secret" (wrong secret), "full" (no room for another node), "unreachable" (another node
    cannot listen for this one), "unknown-link" (the hub cannot resume this link), "dismissed" (the hub ended it for
    good), "protocol" (the hub could not understand the handshake), or one of the application's own, such as "version".
    `message` is the hub's sentence for a person.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message or f"The hub refused this node ({self.code}). Ask whoever runs the head."


class LinkLost(TunnelError):
    """A link ended for good: its streams are reset, and only a new link can take its place."""

    def __str__(self) -> str:
        return f"The link to the hub is lost: {self.args[0]}."


class HubUnreachable(TunnelError):
    """The hub at `url`, which holds no secret, cannot be reached; `reason` says why.

    `headers`, with names in lower case, are those of the HTTP response that came in the hub's place, if one did.
    """

    def __init__(self, url: str, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(url, reason)
        self.url = url
        self.reason = reason
        self.headers = dict(headers or {})

    def __str__(self) -> str:
        return (
            f"The hub at {self.url} cannot be reached: {self.reason}. Check that the head is running and "
            "that this machine can open that address, then try again."
        )


class ListenFailed(TunnelError):
    """This machine cannot listen at `address`:`port`, where it has to; `reason` is what the system says.

    For a unix socket `address` is its path and `port` is 0.
    """

    def __init__(self, address: str, port: int, reason: str) -> None:
        super().__init__(address, port, reason)
        self.address = address
        self.port = port
        self.reason = reason

    def __str__(self) -> str:
        where = f"{self.address}:{self.port}" if self.port else self.address
        return f"This machine cannot listen at {where}: {self.reason}. Fix that, then try again."


class PortTaken(ListenFailed):
    """Another program already listens at `address`:`port`, where this machine has to."""

    def __init__(self, address: str, port: int) -> None:
        super().__init__(address, port, "in use by another program")

    def __str__(self) -> str:
        if not self.port:
            return (
                f"Another program listens at {self.address}. End that program "
                f"(`ss -lxp src {self.address}` names it), then try again."
            )
        return (
            f"Port {self.port} of {self.address} is in use by another program on this machine. "
            f"End that program (`ss -ltnp 'sport = :{self.port}'` names it), then try again."
        )
