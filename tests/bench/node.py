"""A hub or some agents in a process of their own: `python -m tests.bench.node hub|agent|passer --subnet N`.

A hub says its join address. Agents are given one on stdin, and one JSON line says who they are once all are ready. A
passer is an agent that joins, leaves and joins again. All end when stdin does; a passer then says how often it came.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Mapping
from typing import Any

import uvloop

from tunnel.address import JoinAddress
from tunnel.agent import Agent
from tunnel.hub import Hub
from tunnel.listen import TcpListen
from tunnel.machine import Machine
from tunnel.messages import Welcome
from tunnel.nodes import Node
from tunnel.secure import HubIdentity

__all__: list[str] = []


class _Everybody:
    """A hub's application that lets everybody in."""

    def admit(self, application: Mapping[str, Any]) -> Mapping[str, Any]:
        return {}

    def node_joined(self, node: Node, application: Mapping[str, Any]) -> None:
        pass

    def node_ready(self, node: Node) -> None:
        pass

    def node_left(self, node: Node, reason: str) -> None:
        pass

    def message(self, node: Node, body: Mapping[str, Any]) -> None:
        pass


class _Joining:
    """An agent's application that notes when it was ready."""

    def __init__(self) -> None:
        self.is_ready = asyncio.Event()

    def joined(self, welcome: Welcome) -> None:
        pass

    def ready(self) -> None:
        self.is_ready.set()

    def message(self, body: Mapping[str, Any]) -> None:
        pass

    def link(self, up: bool, reason: str) -> None:
        pass

    async def left(self, reason: str) -> None:
        pass


def _machine(subnet: int) -> Machine:
    return Machine(f"bench machine {subnet}", subnet)


def _say(**fields: object) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


async def _stdin() -> asyncio.StreamReader:
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    return lines


async def _hub(subnets: list[int], ports: int) -> None:
    identity = HubIdentity.create(time.time())
    hub = Hub(identity, _Everybody(), ports=ports, machine=_machine(subnets[0]))
    bound = await hub.start(TcpListen("127.0.0.1", 0))
    address = JoinAddress(f"ws://{bound}", identity.pin, identity.secret)
    _say(join_address=address.text, node=hub.node.id, first=hub.node.block.first)
    await (await _stdin()).read()
    await hub.close("the bench is over", final=True)


class _Member:
    """An agent that runs."""

    def __init__(self, address: JoinAddress, subnet: int, ports: int) -> None:
        self.application = _Joining()
        self.agent = Agent(address, self.application, ports=ports, machine=_machine(subnet))
        self.running = asyncio.create_task(self.agent.run())

    async def ready(self) -> Node:
        """Wait until it is; who it became."""
        await self.application.is_ready.wait()
        assert self.agent.node is not None
        return self.agent.node

    async def leave(self) -> None:
        """Say goodbye."""
        self.agent.leave()
        await asyncio.gather(self.running, return_exceptions=True)


async def _address(lines: asyncio.StreamReader) -> JoinAddress:
    return JoinAddress.parse((await lines.readline()).decode().strip())


async def _agents(subnets: list[int], ports: int) -> None:
    """One after the other join, so that each join's time is its own."""
    lines = await _stdin()
    address = await _address(lines)
    members, nodes = [], []
    for subnet in subnets:
        began = time.monotonic()
        members.append(_Member(address, subnet, ports))
        node = await members[-1].ready()
        join_s = time.monotonic() - began
        nodes.append({"node": node.id, "first": node.block.first, "subnet": subnet, "join_s": join_s})
    _say(nodes=nodes)
    await lines.read()
    await asyncio.gather(*(member.leave() for member in members))


async def _passer(subnets: list[int], ports: int) -> None:
    lines = await _stdin()
    address = await _address(lines)
    end = asyncio.create_task(lines.read())
    times = 0
    while not end.done():
        member = _Member(address, subnets[0], ports)
        await member.ready()
        await member.leave()
        times += 1
    _say(times=times)


def main() -> None:
    """Run until stdin ends."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.node", description=__doc__)
    parser.add_argument("role", choices=["hub", "agent", "passer"])
    parser.add_argument("--subnet", dest="subnets", type=int, nargs="+", required=True, metavar="N")
    parser.add_argument("--ports", type=int, default=8)
    given = parser.parse_args()
    roles = {"hub": _hub, "agent": _agents, "passer": _passer}
    uvloop.run(roles[given.role](given.subnets, given.ports))


if __name__ == "__main__":
    main()
