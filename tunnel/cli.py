"""`python -m tunnel hub` and `python -m tunnel agent`: a mesh for programs that know nothing of it.

Each prints one JSON line per event on stdout: the join address, the node it became and its ports, who came and went.
A service on a node listens at the node's address (127.77.0.k) on a port of its block; every other node reaches it
there under the same address and port.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
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
from tunnel.errors import TunnelError
from tunnel.handshake import Welcome
from tunnel.hub import Hub
from tunnel.listen import Listen, TcpListen, UnixListen
from tunnel.nodes import Node
from tunnel.secure import HubIdentity

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a hub or an agent until it is told to stop; returns the exit code (0 done, 3 refused or not reached)."""
    options = _parser().parse_args(argv)
    run = _hub(options) if options.role == "hub" else _agent(options)
    try:
        asyncio.run(run)
    except TunnelError as error:
        print(str(error), file=sys.stderr)  # noqa: T201 - this is the command line
        return 3
    return 0


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

    def left(self, reason: str) -> None:
        _say("left", reason=reason)


async def _hub(options: argparse.Namespace) -> None:
    identity = _identity(options.identity)
    hub = Hub(identity, _HubVoice(), ports=options.ports, grace_s=options.grace)
    bound = await hub.start(_listen(options.listen))
    url = options.url or (unix_url(str(bound.path)) if isinstance(bound, UnixListen) else f"ws://{bound}")
    address = JoinAddress(url, identity.pin, identity.secret)
    _say("hub", join_address=address.text, **_node_fields(hub.node))
    await _told_to_stop()
    await hub.close("the hub was stopped", final=True)


async def _agent(options: argparse.Namespace) -> None:
    agent = Agent(_address(options.address), _AgentVoice(), ports=options.ports, name=options.name)
    running = asyncio.create_task(agent.run())
    stopping = asyncio.create_task(_told_to_stop())
    await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not running.done():
        agent.leave()
        await asyncio.wait({running}, timeout=3.0)
        running.cancel()
    stopping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def _told_to_stop() -> None:
    """Return at SIGINT or SIGTERM."""
    told = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    await told.wait()


def _address(text: str | None) -> JoinAddress:
    text = text or os.environ.get("TUNNEL_ADDRESS", "")
    return JoinAddress.parse(Path(text[1:]).read_text() if text.startswith("@") else text)


def _listen(text: str) -> Listen:
    if "/" in text:
        return UnixListen(Path(text).absolute())
    host, _, port = text.rpartition(":")
    return TcpListen(host.strip("[]") or "127.0.0.1", int(port))


def _identity(path: Path | None) -> HubIdentity:
    if path is not None and path.exists():
        return HubIdentity.from_pem(path.read_bytes())
    identity = HubIdentity.create(time.time())
    if path is not None:
        path.touch(mode=0o600)
        path.write_bytes(identity.to_pem())
    return identity
