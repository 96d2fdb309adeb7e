"""`python -m tunnel hub` and `python -m tunnel agent`: a mesh for programs that know nothing of it.

Each prints one JSON line per event on stdout: the join address, the node it became and its ports, who came and went.
A service on a node listens at the node's address (127.77.0.k) on a port of its block; every other node reaches it
under the same address and port, and is seen there by its own. A connection is accepted before the far node is asked,
and reset where nothing listens: a program that waits for a service must wait for its answer.
SIGINT and SIGTERM end either of them in order.

Exit codes: 0 ended in order, 2 the arguments are wrong, 3 refused, the hub was not reached, or a port is taken.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunnel.address import JoinAddress, unix_url
from tunnel.agent import Agent
from tunnel.errors import AddressError, IdentityError, ListenFailed, TunnelError
from tunnel.hub import Hub
from tunnel.listen import Listen, TcpListen, UnixListen
from tunnel.messages import Welcome
from tunnel.nodes import Node
from tunnel.secure import HubIdentity

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a hub or an agent until it is told to stop; returns the exit code."""
    options = _parser().parse_args(argv)
    try:
        asyncio.run(_hub(options) if options.role == "hub" else _agent(options))
    except TunnelError as error:
        print(str(error), file=sys.stderr)  # noqa: T201 - this is the command line
        return 2 if isinstance(error, AddressError | IdentityError | _UsageError) else 3
    return 0


class _UsageError(TunnelError):
    """The arguments are wrong; the text is for the person who typed them."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tunnel", description=__doc__)
    roles = parser.add_subparsers(dest="role", required=True)
    hub = roles.add_parser("hub", help="accept agents and relay between them")
    hub.add_argument("--listen", required=True, metavar="HOST:PORT|PATH", help="where to accept agents")
    hub.add_argument("--url", help="what agents dial, when it differs from --listen (https:// behind a tunnel)")
    hub.add_argument("--identity", type=Path, metavar="FILE", help="keep key and secret here, and so the address")
    hub.add_argument("--ports", type=int, default=8, help="size of this node's port block")
    hub.add_argument("--grace", type=float, default=120.0, metavar="S", help="how long an agent may be away")
    agent = roles.add_parser("agent", help="join a hub; the address is an argument or in TUNNEL_ADDRESS")
    agent.add_argument("address", nargs="?", help="join address, or @FILE that holds it")
    agent.add_argument("--name", help="what this node is called")
    agent.add_argument("--ports", type=int, default=8, help="size of this node's port block")
    return parser


def _say(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)  # noqa: T201 - this is the command line


def _node_fields(node: Node) -> dict[str, object]:
    return {"node": node.id, "name": node.name, "address": node.address, "ports": list(node.block.ports)}


class _HubVoice:
    """Says on stdout what happens at the hub; admits everyone who knows the secret."""

    def admit(self, application: Mapping[str, Any]) -> Mapping[str, Any]:
        return {}

    def node_joined(self, node: Node, application: Mapping[str, Any]) -> None:
        _say("joined", **_node_fields(node))

    def node_ready(self, node: Node) -> None:
        _say("ready", **_node_fields(node))

    def node_left(self, node: Node, reason: str) -> None:
        _say("left", name=node.name, reason=reason)

    def message(self, node: Node, body: Mapping[str, Any]) -> None:
        _say("message", name=node.name, body=dict(body))


class _AgentVoice:
    """Says on stdout what happens to this node."""

    def joined(self, welcome: Welcome) -> None:
        _say("joined", **_node_fields(welcome.node))

    def ready(self) -> None:
        _say("ready")

    def message(self, body: Mapping[str, Any]) -> None:
        _say("message", body=dict(body))

    def link(self, up: bool, reason: str) -> None:
        _say("up" if up else "down", reason=reason)

    async def left(self, reason: str) -> None:
        _say("left", reason=reason)


async def _hub(options: argparse.Namespace) -> None:
    told_to_stop = _stop_signals()
    listen = _listen(options.listen)
    identity = _identity(options.identity)
    if options.url is not None:
        JoinAddress(options.url, identity.pin, identity.secret)  # raises for a bad one before anything listens
    hub = Hub(identity, _HubVoice(), ports=options.ports, grace_s=options.grace)
    try:
        bound = await hub.start(listen)
    except OSError as error:
        at = (listen.host, listen.port) if isinstance(listen, TcpListen) else (str(listen.path), 0)
        raise ListenFailed(*at, error.strerror or str(error)) from error
    url = options.url or (unix_url(str(bound.path)) if isinstance(bound, UnixListen) else f"ws://{bound}")
    address = JoinAddress(url, identity.pin, identity.secret)
    _say("hub", join_address=address.text, **_node_fields(hub.node))
    await told_to_stop.wait()
    await hub.close("the hub was stopped", final=True)


async def _agent(options: argparse.Namespace) -> None:
    told_to_stop = _stop_signals()
    agent = Agent(_address(options), _AgentVoice(), ports=options.ports, name=options.name)
    leaving = asyncio.create_task(_leave_when(told_to_stop, agent))
    try:
        await agent.run()
    finally:
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)


async def _leave_when(told_to_stop: asyncio.Event, agent: Agent) -> None:
    await told_to_stop.wait()
    agent.leave()


def _stop_signals() -> asyncio.Event:
    """An event that SIGINT and SIGTERM set from now on."""
    told_to_stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, told_to_stop.set)
    return told_to_stop


def _address(options: argparse.Namespace) -> JoinAddress:
    text = options.address or os.environ.get("TUNNEL_ADDRESS", "")
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise _UsageError(
                f"The file with the join address, {text[1:]}, cannot be read: {reason}. Name the file that"
                " holds the hub's address."
            ) from error
    return JoinAddress.parse(text)


def _listen(text: str) -> Listen:
    if "/" in text:
        return UnixListen(Path(text).absolute())
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise _UsageError(f"--listen takes HOST:PORT or the path of a unix socket with a slash in it, not {text!r}.")
    return TcpListen(host.strip("[]") or "127.0.0.1", int(port))


def _identity(path: Path | None) -> HubIdentity:
    """The identity in the file, or a new one that is written there."""
    if path is None:
        return HubIdentity.create(time.time())
    try:
        if path.exists():
            try:
                return HubIdentity.from_pem(path.read_bytes())
            except IdentityError as error:
                raise _UsageError(f"{error} Delete {path}, and give the agents the new address.") from error
        identity = HubIdentity.create(time.time())
        path.touch(mode=0o600)
        path.write_bytes(identity.to_pem())
    except OSError as error:
        raise _UsageError(
            f"The identity cannot be kept in {path}: {error.strerror}. Name a file that you may write to."
        ) from error
    return identity


if __name__ == "__main__":
    raise SystemExit(main())
