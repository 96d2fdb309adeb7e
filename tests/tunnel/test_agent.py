"""An agent over real sockets: outages that nobody notices, lives that end and start over, and how it leaves."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import socket
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.in_loop import in_loop
from tests.tunnel.door import WELCOME
from tests.tunnel.edge import Edge
from tests.tunnel.mesh import (
    NOW,
    AgentLog,
    Mesh,
    behind_an_edge,
    echo,
    eventually,
    listening,
    machine,
    nothing_left,
)
from tunnel.agent import Agent
from tunnel.dial import Backoff
from tunnel.errors import HubUnreachable, PortTaken, RemoteProtocolError
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
    async def test_before_it_ran(self, tmp_path: Path) -> None:
        """`run` returns at once and dials nobody."""
        agent = Agent(Mesh(tmp_path).address, AgentLog(), ports=8, machine=machine(1))
        agent.leave()
        assert await agent.run() == "it left"


@in_loop
async def test_the_round_trip_is_known(tmp_path: Path) -> None:
    """Seconds to the agent and back, which the hub hears of: 20 ms each way through the edge is 40."""
    async with behind_an_edge(tmp_path) as (mesh, edge):
        edge.set_delay(0.02)
        member = await mesh.join()
        link = mesh.peer(member).link
        await eventually(lambda: link.round_trip_s)
        assert 0.04 <= (link.round_trip_s or 0) < 0.4


class TestOutages:
    """A link outlives its WebSockets."""

    @in_loop
    async def test_a_cut_websocket_is_invisible_to_a_running_transfer(self, tmp_path: Path) -> None:
        """Bytes from agent to agent while every WebSocket is cut repeatedly: the same bytes, once, in order."""
        sent = random.Random(3).randbytes(12_000_000)
        got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            got.set_result(await reader.read())
            writer.close()

        async with behind_an_edge(tmp_path) as (mesh, edge):
            one, two = await mesh.join(), await mesh.join()
            edge.set_rate(30e6)
            _, writer = await mesh.dial(one, await mesh.serve(two, take))
            writer.write(sent)
            writer.write_eof()
            for times in range(1, 5):
                await _passed(edge, 1_500_000)
                assert not got.done()
                edge.cut()
                await one.log.saw("up", times=times)
            assert hashlib.sha256(await got).digest() == hashlib.sha256(sent).digest()
            writer.close()
            assert mesh.log.count("left") == 0

    @in_loop
    async def test_a_black_hole_ends_and_nothing_was_lost(self, tmp_path: Path) -> None:
        """Nothing passes, then the connection breaks, new dials hang: when it is over the link goes on."""
        async with behind_an_edge(tmp_path) as (mesh, edge):
            member = await mesh.join()
            reader, writer = await mesh.dial(member, await mesh.serve(None, echo))
            edge.blackhole(True)
            writer.write(b"into the dark")
            await asyncio.sleep(0.1)
            edge.cut()
            await member.log.saw("down")
            await asyncio.sleep(0.3)
            edge.blackhole(False)
            await member.log.saw("up")
            assert await reader.readexactly(13) == b"into the dark"
            writer.close()

    @pytest.mark.slow
    @pytest.mark.timeout(120)
    @in_loop
    async def test_a_black_hole_is_noticed_and_left(self, tmp_path: Path) -> None:
        """At full length: after PING_BUSY_S and SILENCE_S without an answer the agent dials again, and resumes."""
        async with behind_an_edge(tmp_path) as (mesh, edge):
            member = await mesh.join()
            reader, writer = await mesh.dial(member, await mesh.serve(None, echo))
            edge.blackhole(True)
            began = time.monotonic()
            writer.write(bytes(8_000_000))  # more than the edge's buffers hold: the writer is stuck
            async with asyncio.timeout(60):
                while not member.log.count("down"):  # noqa: ASYNC110 - the log's own patience is shorter
                    await asyncio.sleep(0.1)
            assert 15 < time.monotonic() - began < 25
            assert member.log.events[-1] == ("down", "the other end is silent")
            edge.blackhole(False)
            await member.log.saw("up")
            assert len(await reader.readexactly(8_000_000)) == 8_000_000
            writer.close()

    @in_loop
    async def test_a_websocket_that_breaks_at_once_was_dialed_again_without_a_pause(self, tmp_path: Path) -> None:
        """A middlebox that drops each WebSocket after its handshake costs a few requests, not one per round trip."""
        identity = HubIdentity.create(NOW)
        visits = 0

        async def drop(visitor: Visitor) -> None:
            nonlocal visits
            visits += 1
            await visitor.answer(replace(WELCOME, grace_s=60.0))

        gate = Gate(identity, drop)
        await gate.open(UnixListen(tmp_path / "hub.sock"))
        mesh = Mesh(tmp_path, identity=identity)
        member = mesh.begin()
        await asyncio.sleep(1.0)
        assert 1 <= visits <= 12
        assert await member.leave() == "it left"
        await gate.close()


async def _passed(edge: Edge, count: int) -> None:
    """Wait until this many more bytes went toward the hub."""
    enough = edge.stats.bytes_up + count
    await eventually(lambda: edge.stats.bytes_up > enough)


class TestLives:
    """A node that is lost for good joins again by itself."""

    @in_loop
    async def test_past_the_grace_it_joins_again_under_its_name(self, tmp_path: Path) -> None:
        """`left` on both sides with a reason, streams reset, then a new life: another link, the same name."""
        async with behind_an_edge(tmp_path, grace_s=0.5) as (mesh, edge):
            member, other = await mesh.join(), await mesh.join()
            before = member.node
            reader, writer = await mesh.dial(member, await mesh.serve(other, echo))
            there, _ = await mesh.dial(other, await mesh.serve(member, echo, at=1))
            edge.refuse(True)
            edge.cut()
            gone = await mesh.log.saw("left", before.name)
            assert gone[2] == "it was away for 0 s"
            reason = (await member.log.saw("left"))[1]
            assert reason.startswith("The hub at unix:///")
            for one in (reader, there):
                with pytest.raises(ConnectionResetError):
                    await one.read()
            edge.refuse(False)
            await member.log.saw("ready", times=2)
            await other.log.saw("ready", times=2)
            assert member.node.name == before.name
            assert [event[0] for event in member.log.events] == ["joined", "ready", "down", "left", "joined", "ready"]
            assert await member.agent.probe(other.node.id, other.node.block.first) is not None
            writer.close()

    @in_loop
    async def test_a_node_removed_while_it_was_away_came_back(self, tmp_path: Path) -> None:
        """Whoever was sent away for good hears of it when the network lets it, and ends with the reason."""
        async with behind_an_edge(tmp_path) as (mesh, edge):
            member = await mesh.join()
            edge.refuse(True)
            edge.cut()
            await member.log.saw("down")
            await mesh.hub.remove(member.node.id, "removed by a person")
            edge.refuse(False)
            assert await member.running == "removed by a person"
            assert member.log.count("joined") == 1

    @in_loop
    async def test_orders_that_cannot_be_read_killed_the_agent(self, tmp_path: Path) -> None:
        """That life as a node ends, without a listener outside the mesh; the next one begins."""
        async with nothing_left(), Mesh(tmp_path) as mesh:
            member = await mesh.join()
            before = listening()
            mesh.peer(member).link.roster({"listen": [{"node": "0.0.0.0", "first": 10000, "count": 8}]})
            mesh.peer(member).wake.set()
            await member.log.saw("left")
            await member.log.saw("ready", times=2)
            assert len(listening()) == len(before)

    @pytest.mark.parametrize(
        ("complaint", "reason", "logged"),
        [
            (RemoteProtocolError("a message without a verb"), "a message without a verb", []),
            (KeyError("verb"), "a bug at this node (KeyError)", ["a bug"]),
        ],
        ids=["a breach", "a bug"],
    )
    @in_loop
    async def test_a_message_the_application_cannot_use_ends_a_life(
        self, complaint: Exception, reason: str, logged: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The agent joins again instead of ending; only a bug in the application is logged as one."""
        async with Mesh(tmp_path) as mesh:
            member = await mesh.join()
            member.log.complaint = complaint
            mesh.hub.message(member.node.id, {})
            assert await member.log.saw("left") == ("left", reason)
            await member.log.saw("ready", times=2)
        assert [record.message for record in caplog.records if record.levelno == logging.ERROR] == logged

    @in_loop
    async def test_left_is_awaited_before_the_next_life(self, tmp_path: Path) -> None:
        """An application that has to clear up does so before the agent joins again."""
        cleared = asyncio.Event()

        class Slow(AgentLog):
            async def left(self, reason: str) -> None:
                await super().left(reason)
                await cleared.wait()

        async with Mesh(tmp_path) as mesh:
            log = Slow()
            await mesh.join(log=log)
            await mesh.hub.close("back in a minute", final=False)
            await mesh.start()
            await log.saw("left")
            await asyncio.sleep(0.1)
            assert log.count("joined") == 1
            cleared.set()
            await log.saw("joined", times=2)


def test_longest_waits_double_up_to_the_cap() -> None:
    """With the highest draw each wait is the ceiling: initial, doubled, and the cap from then on."""
    backoff = Backoff(initial_s=0.5, cap_s=5)
    assert [backoff.next(1.0) for _ in range(6)] == [0.5, 1, 2, 4, 5, 5]


def test_reset_starts_over() -> None:
    """After a success the next failure waits as little as the first."""
    backoff = Backoff(initial_s=1, cap_s=30)
    for _ in range(10):
        backoff.next(1.0)
    backoff.reset()
    assert backoff.next(1.0) == 1


@given(st.lists(st.floats(0, 1), max_size=2000), st.floats(0.001, 10), st.floats(1, 100))
def test_every_wait_stays_within_floor_and_cap(draws: list[float], initial_s: float, factor: float) -> None:
    """However often it fails, no wait is below the floor or above the cap."""
    backoff = Backoff(initial_s, cap_s=initial_s * factor)
    for draw in draws:
        assert initial_s / 2 <= backoff.next(draw) <= initial_s * factor * (1 + 1e-9)
