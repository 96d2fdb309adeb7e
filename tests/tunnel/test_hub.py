"""A hub and its agents over real sockets: who is who, who reaches whom, who leaves, and what a broken agent can do."""

from __future__ import annotations

import asyncio
import base64
import logging
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from tests.in_loop import in_loop
from tests.tunnel.mesh import (
    NOW,
    HubLog,
    Member,
    Mesh,
    echo,
    eventually,
    in_each_loop,
    listening,
    machine,
    nothing_left,
)
from tunnel.errors import PortTaken, Refused
from tunnel.frames import ResetCode
from tunnel.hub import Hub
from tunnel.listen import TcpListen
from tunnel.nodes import NodeId
from tunnel.secure import HubIdentity


class TestJoining:
    """Names, numbers, and when a node is ready."""

    @in_loop
    async def test_ready_means_that_everybody_reaches_it(self, tmp_path: Path) -> None:
        """When a node is ready all others listen on its whole block, and it on theirs."""
        async with Mesh(tmp_path) as mesh:
            members = [await mesh.join() for _ in range(3)]
            found = listening()
            places = [mesh.machine, *(member.machine for member in members)]
            nodes = [mesh.hub.node, *(member.node for member in members)]
            for place in places:
                for node, home in zip(nodes, places, strict=True):
                    wanted = {(place.address_of(node.id), port) for port in node.block.ports}
                    assert (wanted <= found) is (place is not home)

    @in_loop
    async def test_listeners_bind_nothing_outside_the_mesh(self, tmp_path: Path) -> None:
        """Every listener is in 127.77.0.0/16, but for the hub's own, which is the address given."""
        before = listening()
        async with Mesh(tmp_path) as mesh:
            other = Hub(mesh.identity, HubLog(), ports=8, machine=machine(9))
            bound = await other.start(TcpListen("127.0.0.9", 0))
            assert isinstance(bound, TcpListen)
            await mesh.join()
            opened = listening() - before
            assert ("127.0.0.9", bound.port) in opened
            assert all(address.startswith("127.77.") for address, _ in opened - {("127.0.0.9", bound.port)})
            await other.close("done", final=True)
        await eventually(lambda: listening() == before)

    @in_loop
    async def test_what_admit_says_reaches_the_agent(self, tmp_path: Path) -> None:
        """The newcomer's own object goes to `admit`, and its answer into the WELCOME."""
        async with Mesh(tmp_path) as mesh:
            member = await mesh.join(hello={"versions": "1"})
            assert member.log.events[0][2].application == {"seen": {"versions": "1"}}

    @in_loop
    async def test_whom_admit_refuses_is_told_why(self, tmp_path: Path) -> None:
        """The agent ends with the sentence, and no node came to be."""
        async with Mesh(tmp_path) as mesh:
            mesh.log.refusal = Refused("version", "Install raycolab 2, then join again.")
            member = mesh.begin()
            with pytest.raises(Refused, match="Install raycolab 2"):
                await member.running
            assert mesh.hub.peers == []
            mesh.log.refusal = None

    @in_loop
    async def test_nodes_of_one_machine_need_one_agent_to_listen(self, tmp_path: Path) -> None:
        """The first there listens for the rest of the mesh; when it leaves the next one takes over."""
        async with Mesh(tmp_path) as mesh:
            far = await mesh.join()
            first = await mesh.join(machine(5))
            second = await mesh.join(machine(5))
            target = await mesh.serve(far, echo)
            await mesh.echoes(second, target)
            await first.leave()
            assert await mesh.log.saw("left", first.node.name) == ("left", first.node.name, "it left")
            await eventually(lambda: (machine(5).address_of(far.node.id), target[1]) in listening())
            await mesh.echoes(second, target)
            assert second.log.count("left") == far.log.count("left") == 0


class TestSwitching:
    """Streams between any two nodes."""

    @in_each_loop
    async def test_everybody_reaches_everybody(self, loop: str, tmp_path: Path) -> None:
        """Hub to agent, agent to hub and agent to agent, all bytes both ways, and nothing is left of it."""
        async with nothing_left(), Mesh(tmp_path) as mesh:
            everybody: list[Member | None] = [None, await mesh.join(), await mesh.join()]
            for server in everybody:
                target = await mesh.serve(server, echo)
                for client in everybody:
                    if client is not server:
                        await mesh.echoes(client, target)
            await eventually(lambda: not any(peer.link.streams for peer in mesh.hub.peers))

    @in_loop
    async def test_probe_codes(self, tmp_path: Path) -> None:
        """None, REFUSED, UNREACHABLE: from the hub, from an agent, and for a node that is gone."""
        async with Mesh(tmp_path) as mesh:
            here, there = await mesh.join(), await mesh.join()
            node, port = await mesh.serve(there, echo)
            assert await mesh.hub.probe(node, port) is None
            assert await here.agent.probe(node, port) is None
            assert await mesh.hub.probe(node, port + 1) is ResetCode.REFUSED
            assert await here.agent.probe(node, port + 1) is ResetCode.REFUSED
            assert await mesh.hub.probe(NodeId(77), port) is ResetCode.UNREACHABLE
            assert await here.agent.probe(77, port) is ResetCode.UNREACHABLE
            assert await here.agent.probe(node, here.node.block.first) is ResetCode.UNREACHABLE
            assert await here.agent.probe(here.node.id, here.node.block.first) is ResetCode.UNREACHABLE


class TestLeaving:
    """Ends in order, and what they leave."""

    @in_loop
    async def test_a_node_that_leaves_is_gone_at_once(self, tmp_path: Path) -> None:
        """The hub hears the goodbye, its streams are reset, its name is free."""
        async with Mesh(tmp_path) as mesh:
            member, other = await mesh.join(name="tab"), await mesh.join()
            target = await mesh.serve(member, echo)
            reader, writer = await mesh.dial(other, target)
            writer.write(b"x")
            await reader.readexactly(1)
            assert await member.leave() == "it left"
            assert await mesh.log.saw("left", "tab") == ("left", "tab", "it left")
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()
            assert (await mesh.join(name="tab")).node.name == "tab"

    @in_loop
    async def test_remove_ends_the_agent_with_the_reason(self, tmp_path: Path) -> None:
        """`remove` sends a node away for good: its run returns, and says why; a second time nothing happens."""
        async with Mesh(tmp_path) as mesh:
            member, other = await mesh.join(), await mesh.join()
            await mesh.hub.remove(member.node.id, "removed by a person")
            assert await member.running == "removed by a person"
            assert mesh.log.events[-1] == ("left", "node-1", "removed by a person")
            await mesh.hub.remove(member.node.id, "again")
            assert not other.running.done()

    @in_each_loop
    async def test_nothing_is_left(self, loop: str, tmp_path: Path) -> None:
        """After a busy life with open connections: no task, no socket, no file."""
        async with nothing_left():
            async with Mesh(tmp_path) as mesh:
                one, two = await mesh.join(), await mesh.join()
                target = await mesh.serve(two, echo)
                reader, writer = await mesh.dial(one, target)
                writer.write(b"x")
                await reader.readexactly(1)
                mesh.begin()  # in the middle of joining
            writer.close()
        assert not mesh.path.exists()

    @in_loop
    async def test_nobody_joins_a_hub_that_closes(self, tmp_path: Path) -> None:
        """Whoever comes during the close is turned away and leaves no timer behind."""
        async with nothing_left(), Mesh(tmp_path) as mesh:
            await mesh.join()
            closing = asyncio.create_task(mesh.hub.close("closing", final=False))
            late = mesh.begin()
            await closing
            assert mesh.hub.peers == []
            assert late.log.count("joined") == 0

    @in_loop
    async def test_a_port_in_use_left_a_task_behind(self, tmp_path: Path) -> None:
        """PortTaken from `start`: the hub is as if it had never been."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            hub = Hub(HubIdentity.create(NOW), HubLog(), ports=8, machine=machine(0))
            async with nothing_left():
                with pytest.raises(PortTaken):
                    await hub.start(TcpListen("127.0.0.1", other.getsockname()[1]))


@in_loop
async def test_no_log_line_holds_a_secret_or_a_payload(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A whole life at the most talkative level: joining, refusals, streams, a cut, leaving."""
    caplog.set_level(logging.DEBUG)
    marker = b"marker-that-only-programs-see"
    async with Mesh(tmp_path) as mesh:
        secret = mesh.identity.secret
        one, two = await mesh.join(hello={"token": "app-token"}), await mesh.join()
        wrong = replace(mesh.address, secret=bytes(32))
        with pytest.raises(Refused):
            await mesh.begin(address=wrong).running
        reader, writer = await mesh.dial(one, await mesh.serve(two, echo))
        writer.write(marker)
        assert await reader.readexactly(len(marker)) == marker
        writer.close()
        mesh.hub.message(one.node.id, {"start": "app-secret"})
        await one.log.saw("message")
        token = mesh.address.text.partition("#")[2]
    texts = "\n".join(record.getMessage() + str(record.exc_text) for record in caplog.records)
    assert "node-1 joined" in texts
    for word in (token, secret.hex(), base64.b64encode(secret).decode(), "app-token", "app-secret", marker.decode()):
        assert word not in texts
    assert marker.hex(" ") not in texts
