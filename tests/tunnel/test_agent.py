"""An agent over real sockets: why it ends without having been a node, and how it leaves."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

import pytest

from tests.in_loop import in_loop
from tests.tunnel.mesh import (
    NOW,
    AgentLog,
    Mesh,
    behind_an_edge,
    echo,
    eventually,
    machine,
    nothing_left,
)
from tunnel.agent import Agent
from tunnel.dial import Backoff
from tunnel.errors import HubUnreachable, PortTaken
from tunnel.gate import Gate, Visitor
from tunnel.listen import UnixListen
from tunnel.secure import HubIdentity

PROMPT_S = 8.0  # on a busy machine; less than the waits that these tests are about


class TestRefusals:
    """Why an agent ends without having been a node."""

    @in_loop
    async def test_another_certificate_during_an_outage_is_waited_out(self, tmp_path: Path) -> None:
        """Whoever answers in the hub's place for a while is told nothing, and the true hub gets its agent back."""
        async with Mesh(tmp_path) as mesh:
            member = await mesh.join()
            await mesh.hub._gate.close()
            impostor = Gate(HubIdentity.create(NOW), _nobody_enters)
            await impostor.open(UnixListen(mesh.path))
            await member.log.saw("down")
            await asyncio.sleep(0.3)
            await impostor.close()
            await mesh.hub.close("was dead already", final=False)
            await mesh.start()
            await member.log.saw("ready", times=2)

    @in_loop
    async def test_nobody_there_is_told_after_the_time_to_reach(self, tmp_path: Path) -> None:
        """HubUnreachable names the address without its secret and what the system said."""
        mesh = Mesh(tmp_path)
        began = time.monotonic()
        member = mesh.begin(reach_s=0.3)
        with pytest.raises(HubUnreachable, match=r"unix:///.*/hub\.sock cannot be reached: .*No such file") as caught:
            await member.running
        assert time.monotonic() - began >= 0.3
        assert mesh.address.text.partition("#")[2] not in str(caught.value)

    @in_loop
    async def test_it_gives_up_on_a_hub_that_stays_away(self, tmp_path: Path) -> None:
        """HubUnreachable `give_up_s` after the last life ended."""
        async with Mesh(tmp_path) as mesh:
            member = await mesh.join(give_up_s=0.3)
            await mesh.hub.close("back in a minute", final=False)
            with pytest.raises(HubUnreachable):
                await member.running
            assert member.log.events[-1] == ("left", "back in a minute")

    @in_loop
    async def test_a_port_in_use_here_left_a_ghost_for_the_grace_period(self, tmp_path: Path) -> None:
        """PortTaken names it; the hub hears why at once, and the mesh is free for others."""
        async with nothing_left(), Mesh(tmp_path) as mesh:
            port = mesh.hub.node.block.first
            with socket.create_server((machine(7).address_of(1), port)):
                member = mesh.begin(machine(7))
                with pytest.raises(PortTaken) as caught:
                    await member.running
            assert (caught.value.address, caught.value.port) == (machine(7).address_of(1), port)
            assert (await mesh.log.saw("left"))[2] == str(caught.value)
            await mesh.join()


async def _nobody_enters(visitor: Visitor) -> None:
    raise AssertionError("somebody trusted an impostor")


class TestLeaving:
    """`leave` ends `run` at once, whatever the agent is doing."""

    @in_loop
    async def test_while_it_waited_to_dial_again_it_waited_on(self, tmp_path: Path) -> None:
        """No hub there, and half a minute until the next attempt: `run` returns all the same."""
        async with nothing_left():
            member = Mesh(tmp_path).begin(reach_s=600.0)
            member.agent._backoff = Backoff(60.0, 60.0)
            await asyncio.sleep(0.1)
            async with asyncio.timeout(PROMPT_S):
                assert await member.leave() == "it left"

    @in_loop
    async def test_while_a_dial_hung_it_hung_too(self, tmp_path: Path) -> None:
        """A hub that accepts and says nothing."""
        async with behind_an_edge(tmp_path) as (mesh, edge):
            edge.blackhole(True)
            member = mesh.begin()
            await asyncio.sleep(0.1)
            async with asyncio.timeout(PROMPT_S):
                assert await member.leave() == "it left"

    @in_loop
    async def test_during_an_outage(self, tmp_path: Path) -> None:
        """The link is down: nobody to say goodbye to; the hub learns it after the grace period."""
        async with behind_an_edge(tmp_path, grace_s=0.8) as (mesh, edge):
            member = await mesh.join()
            edge.refuse(True)
            edge.cut()
            await member.log.saw("down")
            async with asyncio.timeout(PROMPT_S):
                assert await member.leave() == "it left"
            assert await mesh.log.saw("left") == ("left", "node-1", "it was away for 1 s")

    @in_loop
    async def test_in_a_black_hole(self, tmp_path: Path) -> None:
        """The goodbye goes nowhere and no one answers: a moment of patience, then the end."""
        async with behind_an_edge(tmp_path) as (mesh, edge):
            member = await mesh.join()
            edge.blackhole(True)
            async with asyncio.timeout(PROMPT_S):
                assert await member.leave() == "it left"

    @in_loop
    async def test_before_it_ran(self, tmp_path: Path) -> None:
        """`run` returns at once and dials nobody."""
        agent = Agent(Mesh(tmp_path).address, AgentLog(), ports=8, machine=machine(1))
        agent.leave()
        assert await agent.run() == "it left"

    @in_loop
    async def test_cancelling_run_leaves_nothing(self, tmp_path: Path) -> None:
        """No listener, connection or task outlives it; the hub sees an outage."""
        async with Mesh(tmp_path, grace_s=0.1) as mesh:
            async with nothing_left():
                member = await mesh.join()
                reader, writer = await mesh.dial(member, await mesh.serve(None, echo))
                writer.write(b"a")
                await reader.readexactly(1)
                member.running.cancel()
                await asyncio.wait({member.running})
                with pytest.raises(ConnectionResetError):
                    await reader.read()
                writer.close()
                await mesh.log.saw("left")
                mesh._servers.pop().close()
            mesh.members.clear()

    @in_loop
    async def test_what_is_said_without_a_link_goes_nowhere(self, tmp_path: Path) -> None:
        """No node, no round trip; messages and probes before `run` do no harm."""
        agent = Agent(Mesh(tmp_path).address, AgentLog(), ports=8, machine=machine(1))
        agent.message({"n": 1})
        assert agent.round_trip_s is None
        assert agent.node is None
        assert await agent.probe(1, 10000) is not None


@in_loop
async def test_the_round_trip_is_known(tmp_path: Path) -> None:
    """Seconds to the hub and back, on both sides: 20 ms each way through the edge is 40."""
    async with behind_an_edge(tmp_path) as (mesh, edge):
        edge.set_delay(0.02)
        member = await mesh.join()
        await eventually(lambda: member.agent.round_trip_s)
        assert member.agent.round_trip_s is not None
        assert 0.04 <= member.agent.round_trip_s < 0.4
