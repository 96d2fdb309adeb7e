"""What a head and its joiners say to each other over the mesh, beside the tunnel's own frames.

Each message is a Struct below, carried as a JSON object (a MESSAGE frame of the tunnel). Both ends run the same version
of raycolab, so what does not fit is the other end's fault and ends its link. Which versions have to agree, and what is
said when they do not, stands here too.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata
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
    "mismatch",
    "read_message",
    "versions",
    "written",
]

_LONGEST_VERSION = 40  # characters of what a joiner claims to have
_RULES = {  # what each is called, and the cure, for the version that the joiner needs
    "python": ("Python", "give the joiner a runtime with any Python {0}"),
    "ray": ("Ray", "run `pip install ray=={0}` on the joiner"),
    "raycolab": ("raycolab", "install raycolab {0} on the joiner"),
}

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


def versions() -> dict[str, str]:
    """The versions of raycolab, Ray and Python here; neither package is imported."""
    return {
        "raycolab": metadata.version("raycolab"),
        "ray": metadata.version("ray"),
        "python": platform.python_version(),
    }


def mismatch(head: Mapping[str, str], joiner: Mapping[str, object]) -> str | None:
    """The sentence for a joiner whose versions do not fit the head's; None when they do.

    Of Python the patch release may differ, as Ray is told too (RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL, `ray_command`).
    """
    for name, (label, cure) in _RULES.items():
        needed = _what_counts(name, head[name])
        if _what_counts(name, joiner.get(name)) != needed:
            theirs = str(joiner.get(name, "none"))[:_LONGEST_VERSION]
            return (
                f"The head has {label} {head[name]} and this joiner {theirs}, which cannot form one cluster:"
                f" {cure.format(needed)}, then join again."
            )
    return None


def _what_counts(name: str, version: object) -> object:
    """`3.11` of Python's `3.11.7`; of all else the whole version."""
    return ".".join(version.split(".")[:2]) if name == "python" and isinstance(version, str) else version
