"""A hub and its agents over real sockets: who is who, who reaches whom, who leaves, and what a broken agent can do."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import logging
import socket
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

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
from tunnel.dial import dial
from tunnel.errors import PortTaken, Refused, RemoteProtocolError
from tunnel.frames import ResetCode
from tunnel.hub import Hub
from tunnel.link import Link
from tunnel.listen import TcpListen
from tunnel.messages import Hello, NodePort, Resume, Taken, Welcome
from tunnel.nodes import Node, NodeId
from tunnel.secure import HubIdentity
from tunnel.transport import Carrier, Wake, carry


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

    @in_loop
    async def test_what_admit_says_reaches_the_agent(self, tmp_path: Path) -> None:
        """The newcomer's own object goes to `admit`, and its answer into the WELCOME."""
        async with Mesh(tmp_path) as mesh:
            member = await mesh.join(hello={"versions": "1"})
            assert member.log.events[0][2].application == {"seen": {"versions": "1"}}


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

    @in_loop
    async def test_nothing_is_left(self, tmp_path: Path) -> None:
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
        wrong = dataclasses.replace(mesh.address, secret=bytes(32))
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


class Scripted:
    """An agent in the test's hand: it dials, and says what it is told to."""

    def __init__(self, mesh: Mesh, instance: str = "scripted") -> None:
        self._mesh = mesh
        self.hello = Hello(proof=b"", instance=instance, ports=8, namespace=instance, busy=(), application={})
        self.link = Link(initiator=True, now=time.monotonic())
        self.wake = Wake()
        self.events: list[Any] = []
        self.carrying: asyncio.Task[str] | None = None

    async def dial(self, resume: Resume | None = None) -> tuple[Welcome, Carrier]:
        """Shake hands."""
        return await dial(self._mesh.address, replace(self.hello, resume=resume), 5.0)

    def carry(self, carrier: Carrier) -> None:
        """Carry our link from now on."""
        self.carrying = asyncio.create_task(self._carry(carrier))

    async def _carry(self, carrier: Carrier) -> str:
        why = await carry(self.link, carrier, self.wake, self.events.extend)
        await carrier.close()
        return why

    async def join(self) -> Welcome:
        """Be a node that listens for nobody yet."""
        welcome, carrier = await self.dial()
        self.carry(carrier)
        return welcome

    def say(self, body: dict[str, Any]) -> None:
        """Send a ROSTER."""
        self.link.roster(body)
        self.wake.set()

    def let_go(self) -> None:
        """Carry the link no more, without a word."""
        assert self.carrying is not None
        self.carrying.cancel()

    async def end(self) -> str:
        """Why the hub let go of us."""
        assert self.carrying is not None
        return await asyncio.wait_for(self.carrying, 5)


@contextlib.asynccontextmanager
async def _two_and(tmp_path: Path) -> AsyncIterator[tuple[Mesh, Member, Member]]:
    """A mesh with two members, who still reach each other and the hub in the end."""
    async with Mesh(tmp_path) as mesh:
        one, two = await mesh.join(), await mesh.join()
        yield mesh, one, two
        await mesh.echoes(one, await mesh.serve(two, echo))
        await mesh.echoes(two, await mesh.serve(None, echo))
        assert [member.log.count("down") for member in (one, two)] == [0, 0]


class TestBrokenAgents:
    """Agents with the secret and with bugs: they end their own link and nobody else's."""

    @pytest.mark.parametrize(
        ("complaint", "reason", "logged"),
        [
            (RemoteProtocolError("a message without a verb"), ["a message without a verb"], []),
            (KeyError("verb"), [], ["node-3: a bug"]),
        ],
        ids=["a breach", "a bug"],
    )
    @in_loop
    async def test_a_message_the_application_cannot_use(
        self,
        complaint: Exception,
        reason: list[str],
        logged: list[str],
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """It is the end of that link alone; only a bug in the application is logged as one."""
        async with _two_and(tmp_path) as (mesh, *_):
            scripted = Scripted(mesh)
            await scripted.join()
            mesh.log.complaint = complaint
            scripted.link.message({"no": "verb"})
            scripted.wake.set()
            await scripted.end()
            mesh.log.complaint = None
            await mesh.log.saw("left", "node-3", *reason)
        assert [record.message for record in caplog.records if record.levelno == logging.ERROR] == logged

    @in_loop
    async def test_an_agent_could_have_anybody_sent_away(self, tmp_path: Path) -> None:
        """Who says it cannot listen for a node that is ready goes itself; the ready one stays."""
        async with _two_and(tmp_path) as (mesh, one, _):
            scripted = Scripted(mesh)
            await scripted.join()
            scripted.say(Taken(NodePort(one.node.id, one.node.block.first)).to_json())
            reason = await scripted.end()
            assert reason.startswith(f"node-3 cannot join: port {one.node.block.first} is in use by another program")
            await mesh.log.saw("left", "node-3", reason)

    @in_loop
    async def test_a_port_in_use_for_a_node_that_left_is_nobodys_fault(self, tmp_path: Path) -> None:
        """The word of it crossed the node's own leaving: nobody is sent away."""
        async with _two_and(tmp_path) as (mesh, *_):
            scripted = Scripted(mesh)
            await scripted.join()
            scripted.say(Taken(NodePort(NodeId(200), 10_777)).to_json())
            scripted.link.message({"still": "here"})
            scripted.wake.set()
            await mesh.log.saw("message", "node-3", {"still": "here"})
            assert len(mesh.hub.peers) == 3
            await mesh.hub.remove(mesh.hub.peers[-1].node.id, "enough")

    @pytest.mark.parametrize(("at", "place"), [(0, "the hub"), (1, "tab")])
    @in_loop
    async def test_a_port_in_use_by_now_sends_the_newcomer_away(self, at: int, place: str, tmp_path: Path) -> None:
        """Whoever is part of the mesh stays; the node that it cannot listen for is told why it cannot join."""
        taken: list[socket.socket] = []

        class Unlucky(HubLog):
            def node_joined(self, node: Node, application: Mapping[str, Any]) -> None:
                super().node_joined(node, application)
                if node.id == 3:  # too late for `busy_ports` to see
                    taken.append(socket.create_server((machine(at).address_of(node.id), node.block.first + 2)))

        async with Mesh(tmp_path, log=Unlucky()) as mesh:
            member = await mesh.join(name="tab")
            newcomer = mesh.begin()
            with pytest.raises(
                Refused,
                match=rf"^node-1 cannot join: port \d+ is in use by another program where {place} runs; "
                r"end that program, then join again$",
            ):
                await newcomer.running
            assert newcomer.log.count("ready") == member.log.count("left") == 0
            taken.pop().close()

    @in_loop
    async def test_a_newcomer_nobody_can_listen_for_is_sent_away(self, tmp_path: Path) -> None:
        """The sentence names port and place; an agent that does not go by itself is let go of."""
        async with _two_and(tmp_path) as (mesh, one, _):
            scripted = Scripted(mesh)
            welcome = await scripted.join()
            one.agent._link.roster(Taken(NodePort(welcome.node.id, 10_777)).to_json())  # type: ignore[union-attr]
            one.agent._wake.set()
            reason = await scripted.end()
            assert reason == (
                "node-3 cannot join: port 10777 is in use by another program where node-1 runs; "
                "end that program, then join again"
            )
            await mesh.log.saw("left", "node-3", reason)


class TestTakingOver:
    """A link and the WebSockets that carry it, one at a time."""

    @in_loop
    async def test_a_second_websocket_takes_the_link_over(self, tmp_path: Path) -> None:
        """The hub lets go of the first, nothing is lost, and the node never left."""
        async with Mesh(tmp_path) as mesh:
            scripted = Scripted(mesh)
            welcome = await scripted.join()
            old = scripted.carrying
            scripted.link.message({"n": 1})
            scripted.wake.set()
            await mesh.log.saw("message")
            resumed, carrier = await scripted.dial(Resume(welcome.link, scripted.link.received_count))
            assert (resumed.node, resumed.link) == (welcome.node, welcome.link)
            assert old is not None
            assert await old == "the WebSocket closed"
            scripted.link.resume(resumed.received, time.monotonic())
            scripted.carry(carrier)
            scripted.link.message({"n": 2})
            scripted.wake.set()
            await mesh.log.saw("message", times=2)
            assert mesh.log.count("left") == 0

    @in_loop
    async def test_two_websockets_at_once_shared_one_link(self, tmp_path: Path) -> None:
        """An agent that dials again while its last dial is being answered: one carries, the other is closed."""
        async with Mesh(tmp_path) as mesh:
            scripted = Scripted(mesh)
            welcome = await scripted.join()
            await eventually(lambda: scripted.link.received_count == 1)
            scripted.let_go()
            resume = Resume(welcome.link, scripted.link.received_count)
            dials = await asyncio.gather(*(scripted.dial(resume) for _ in range(4)), return_exceptions=True)
            carriers = [dialed[1] for dialed in dials if not isinstance(dialed, BaseException)]
            peer = mesh.hub.peers[0]
            await eventually(lambda: sum(not _closed(carrier) for carrier in carriers) == 1)
            assert peer.carrier is not None
            assert peer.link.lost is None
            for carrier in carriers:
                await carrier.close()

    @in_loop
    async def test_a_resumption_with_a_wrong_count_looped_until_the_grace_was_over(self, tmp_path: Path) -> None:
        """Who says it has frames that were never sent loses the link at once, and can join again."""
        async with Mesh(tmp_path) as mesh:
            scripted = Scripted(mesh)
            welcome = await scripted.join()
            await scripted.dial(Resume(welcome.link, 1_000_000))
            await mesh.log.saw("left", "node-1")
            with pytest.raises(Refused):
                await scripted.dial(Resume(welcome.link, 0))
            _, carrier = await scripted.dial()
            await carrier.close()

    @in_loop
    async def test_an_agent_that_missed_its_welcome_left_a_ghost(self, tmp_path: Path) -> None:
        """Its second HELLO is the same agent's: the first node, which nobody is, goes, or nobody would get ready."""
        async with Mesh(tmp_path) as mesh:
            scripted = Scripted(mesh)
            _, carrier = await scripted.dial()
            await carrier.close()
            welcome, carrier = await scripted.dial()
            assert await mesh.log.saw("left") == ("left", "node-1", "it joined again")
            assert [peer.node for peer in mesh.hub.peers] == [welcome.node]
            await carrier.close()

    @in_loop
    async def test_a_killed_agent_kept_its_machine_from_joining_again(self, tmp_path: Path) -> None:
        """A newcomer from the same machine that sees none of its listeners takes its place before the grace is over."""
        async with Mesh(tmp_path) as mesh:
            killed = Scripted(mesh, "killed")
            _, carrier = await killed.dial()
            killed.carry(carrier)
            killed.say({"listening": [1]})
            await mesh.log.saw("ready")
            killed.let_go()
            await carrier.close()
            await eventually(lambda: mesh.hub.peers[0].carrier is None)
            alive = Scripted(mesh, "alive")
            held = tuple(mesh.hub.node.block.ports)
            alive.hello = replace(alive.hello, namespace="killed", busy=held)
            await alive.join()
            assert len(mesh.hub.peers) == 2  # its listeners are there: it may come back
            again = Scripted(mesh, "again")
            again.hello = replace(again.hello, namespace="killed", busy=(held[0] + 5000,))
            await again.join()
            assert await mesh.log.saw("left") == ("left", "node-1", "its process has ended")
            for scripted in (alive, again):
                scripted.let_go()


def _closed(carrier: Carrier) -> bool:
    return carrier._websocket.protocol.state.name != "OPEN"
