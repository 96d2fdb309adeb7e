"""What a head and its joiners say to each other over the mesh, beside the tunnel's own frames.

Each message is a Struct below, carried as a JSON object (a MESSAGE frame of the tunnel). Both ends run the same version
of raycolab, so what does not fit is the other end's fault and ends its link.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from tunnel.errors import RemoteProtocolError

__all__ = [
    "Dial",
    "Dialed",
    "FromJoiner",
    "JoinerHello",
    "RayIsDown",
    "RayIsUp",
    "RunsTrial",
    "StartRay",
    "ToJoiner",
    "read_message",
    "written",
]

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Capacity = Annotated[int, msgspec.Meta(ge=0, le=65535)]


class JoinerHello(msgspec.Struct, frozen=True):
    """What a joiner says of itself before it is a node."""

    versions: dict[str, str]
    cpus: Capacity = 1
    gpus: Capacity = 0
    machine: str = ""  # equal for nodes on one machine; of one that does not say, nothing is known
    cores: Capacity = 0  # that it has


class StartRay(msgspec.Struct, frozen=True, tag="start-ray"):
    """Everyone listens for you and Ray's head is up: start Ray."""

    gcs: str  # address and port
    token: str
    secrets: dict[str, str]  # environment variables for trials


class Dial(msgspec.Struct, frozen=True, tag="dial"):
    """Dial these ports of these nodes."""

    question: int
    targets: list[tuple[int, Port]]


class RunsTrial(msgspec.Struct, frozen=True, tag="runs-trial"):
    """The trial that the engine knows to run on you, for your own panel."""

    trial: str | None  # as #12 svc x iris


class RayIsUp(msgspec.Struct, frozen=True, tag="ray-is-up"):
    """Ray here is part of the cluster."""


class RayIsDown(msgspec.Struct, frozen=True, tag="ray-is-down"):
    """Ray here ended, and will be started again."""

    reason: str


class Dialed(msgspec.Struct, frozen=True, tag="dialed"):
    """The answer to `Dial`."""

    question: int
    failed: list[tuple[int, Port]]


ToJoiner = StartRay | Dial | RunsTrial
FromJoiner = RayIsUp | RayIsDown | Dialed


def written(message: msgspec.Struct) -> dict[str, Any]:
    """The message as the tunnel carries it."""
    body: dict[str, Any] = msgspec.to_builtins(message)
    return body


def read_message(body: Mapping[str, Any], kind: Any) -> Any:
    """The message in what the tunnel carried, of the Struct `kind` or of one of several; else RemoteProtocolError."""
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise RemoteProtocolError(str(error)) from error
