"""Who calls: a service sees the address of the node from which a connection comes, and can refuse it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg
import pytest

from tests.in_loop import in_loop
from tests.raycolab.store.postgres import postgres_server
from tests.tunnel.joined import Joined
from tests.tunnel.mesh import Member, Mesh, in_each_loop, nothing_left
from tunnel.errors import RemoteProtocolError
from tunnel.frames import Frame, FrameType, pack_open
from tunnel.link import Link
from tunnel.stream import StreamOpened


async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A service that says from which address it is called."""
    writer.write(writer.get_extra_info("peername")[0].encode())
    writer.close()


async def called_from(mesh: Mesh, member: Member | None, target: tuple[int, int]) -> str:
    """What such a service says to a program on a member."""
    reader, writer = await mesh.dial(member, target)
    address = (await reader.read()).decode()
    writer.close()
    return address


@in_each_loop
async def test_every_node_looked_like_this_machine_to_a_service(loop: str, tmp_path: Path) -> None:
    """From each node to each other, the hub included; and the node that comes after one that left."""
    async with nothing_left(), Mesh(tmp_path) as mesh:
        one, two = await mesh.join(), await mesh.join()
        for server in (None, one, two):
            target = await mesh.serve(server, tell)
            where = mesh.machine if server is None else server.machine
            for client, node in ((None, mesh.hub.node), (one, one.node), (two, two.node)):
                if client is not server:
                    assert await called_from(mesh, client, target) == where.address_of(node.id)
        await two.leave()
        three = await mesh.join()
        assert await called_from(mesh, three, await mesh.serve(one, tell, at=1)) == one.machine.address_of(4)


@in_loop
async def test_postgresql_lets_one_node_in_and_no_other(tmp_path: Path) -> None:
    """`inet_client_addr()` is the node's address, and so is what pg_hba.conf compares."""
    async with nothing_left(), Mesh(tmp_path) as mesh:
        one, two, three = await mesh.join(), await mesh.join(), await mesh.join()
        port = one.node.block.first
        allowed, other = (one.machine.address_of(member.node.id) for member in (two, three))
        with postgres_server((one.machine.address_of(one.node.id), port), f"host all all {allowed}/32 trust\n"):

            async def ask(member: Member) -> str:
                where = f"host={member.machine.address_of(one.node.id)} port={port} user=raycolab dbname=postgres"
                async with await psycopg.AsyncConnection.connect(where) as connection:
                    (address,) = await (await connection.execute("SELECT host(inet_client_addr())")).fetchone() or ("",)
                    return str(address)

            assert await ask(two) == allowed
            with pytest.raises(psycopg.OperationalError, match=f'no pg_hba.conf entry for host "{other}"'):
                await ask(three)


class TestTheWire:
    """Ends of now and of before carry each other's streams."""

    @pytest.mark.parametrize("asked", [True, False])
    def test_the_hub_names_the_source_to_whom_asked_for_it(self, asked: bool) -> None:
        """To an agent of before an OPEN is as it always was."""
        joined = Joined()
        joined.hub.link = Link(initiator=False, now=joined.now, names_sources=asked)
        stream = joined.hub.link.open(2, 80, 3)
        assert stream is not None
        assert pack_open(2, 80, *[3] * asked) in joined.hub.link.data_to_send(joined.now)

    def test_an_agent_takes_both(self) -> None:
        """With and without the source, in a row."""
        agent = Link(initiator=True, now=0.0)
        opens = [Frame(FrameType.OPEN, 2, 1, pack_open(2, 80)), Frame(FrameType.OPEN, 4, 2, pack_open(2, 80, 3))]
        assert agent.receive(opens, 0.0) == [StreamOpened(2, 2, 80), StreamOpened(4, 2, 80, 3)]  # type: ignore[arg-type]

    @pytest.mark.parametrize(("initiator", "source"), [(False, 3), (True, 0), (True, 255)])
    def test_a_source_that_cannot_be(self, initiator: bool, source: int) -> None:
        """An agent that says where its stream comes from could pass for another one; and no node has these numbers."""
        link = Link(initiator=initiator, now=0.0)
        with pytest.raises(RemoteProtocolError, match="cannot come from"):
            link.receive([Frame(FrameType.OPEN, 2 if initiator else 1, 1, pack_open(1, 80, source))], 0.0)
