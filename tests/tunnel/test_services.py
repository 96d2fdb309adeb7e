"""A service of the hub that is a unix socket, reached by programs through a unix socket of their agent."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.in_loop import in_loop
from tests.tunnel.mesh import Member, Mesh, Serve, echo, in_each_loop, nothing_left
from tunnel.errors import ListenFailed, LocalProtocolError, PortTaken
from tunnel.frames import ResetCode
from tunnel.nodes import HUB
from tunnel.sockets import LocalEndpoint

SERVICE = 1


@contextlib.asynccontextmanager
async def serving(folder: Path, serve: Serve = echo) -> AsyncIterator[Mesh]:
    """A mesh whose hub has a service; nothing is left of them."""
    path = folder / "service.sock"
    async with (
        nothing_left(),
        await asyncio.start_unix_server(serve, path),
        Mesh(folder, services={SERVICE: path}) as mesh,
    ):
        yield mesh


async def door(mesh: Mesh, member: Member) -> Path:
    """A unix socket of this member's that leads to the service."""
    path = mesh.folder / f"door-{mesh.members.index(member)}.sock"
    await member.agent.listen_unix(path, node=HUB, port=SERVICE)
    return path


async def echoes(path: Path, size: int = 1000) -> None:
    """Whoever connects to the path gets back what it sends, whole."""
    data = random.Random(size).randbytes(size)
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(data)
    writer.write_eof()
    assert hashlib.sha256(await reader.read()).digest() == hashlib.sha256(data).digest()
    writer.close()


async def closed_at_once(path: Path) -> None:
    """Whoever connects to the path is let in and sees the end."""
    reader, writer = await asyncio.open_unix_connection(path)
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()


class TestTheWay:
    """From a program, through its agent and the hub, to the service."""

    @in_each_loop
    async def test_two_clients_with_big_transfers_both_ways_and_half_close(self, loop: str, tmp_path: Path) -> None:
        """Each sends megabytes and ends its half; the service answers with megabytes only after that end."""
        answer = random.Random(1).randbytes(5_000_003)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard = hashlib.sha256(await reader.read()).digest()
            writer.write(heard + answer)
            writer.close()

        async def call(path: Path, seed: int) -> None:
            data = random.Random(seed).randbytes(5_000_003)
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(data)
            writer.write_eof()
            assert await reader.read() == hashlib.sha256(data).digest() + answer
            writer.close()

        async with serving(tmp_path, serve) as mesh:
            one, two = await mesh.join(), await mesh.join()
            here, there = await door(mesh, one), await door(mesh, two)
            await asyncio.gather(call(here, 2), call(here, 3), call(there, 4))

    @in_loop
    async def test_an_agent_beside_the_hub_reaches_it_too(self, tmp_path: Path) -> None:
        """In the hub's own network namespace nobody listens for node 1, but each agent has a link of its own."""
        async with serving(tmp_path) as mesh:
            await echoes(await door(mesh, await mesh.join(mesh.machine)))

    @in_loop
    async def test_it_works_on_the_same_path_after_the_node_was_lost(self, tmp_path: Path) -> None:
        """While there is no link what connects is closed at once; what was open then has ended."""
        async with serving(tmp_path) as mesh:
            member = await mesh.join()
            path = await door(mesh, member)
            reader, writer = await asyncio.open_unix_connection(path)
            await mesh.hub.close("back in a minute", final=False)
            await member.log.saw("left")
            assert await reader.read() == b""
            writer.close()
            await closed_at_once(path)
            await mesh.start()
            await member.log.saw("ready", times=2)
            await echoes(path)


class TestRefusals:
    """What leads nowhere says so."""

    @in_loop
    async def test_a_hub_without_that_service(self, tmp_path: Path) -> None:
        """UNREACHABLE, as an older hub says too; a program sees the end."""
        async with nothing_left(), Mesh(tmp_path) as mesh:
            member = await mesh.join()
            assert await member.agent.probe(HUB, SERVICE) is ResetCode.UNREACHABLE
            await closed_at_once(await door(mesh, member))

    @in_loop
    async def test_a_service_that_is_not_there(self, tmp_path: Path) -> None:
        """REFUSED while nobody listens at its socket; it may come later."""
        path = tmp_path / "service.sock"
        async with nothing_left(), Mesh(tmp_path, services={SERVICE: path}) as mesh:
            member = await mesh.join()
            assert await member.agent.probe(HUB, SERVICE) is ResetCode.REFUSED
            async with await asyncio.start_unix_server(echo, path):
                assert await member.agent.probe(HUB, SERVICE) is None


class TestTheSocket:
    """The file that programs connect to."""

    @in_loop
    async def test_it_is_for_this_user_alone_and_goes_with_the_agent(self, tmp_path: Path) -> None:
        """Mode 0600 from the start; unlinked when the agent ends, and not made again."""
        async with serving(tmp_path) as mesh:
            member = await mesh.join()
            path = await door(mesh, member)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            await member.leave()
            assert not path.exists()
            with pytest.raises(LocalProtocolError):
                await door(mesh, member)

    @in_loop
    async def test_it_takes_the_place_of_a_dead_socket_only(self, tmp_path: Path) -> None:
        """One that nobody listens on is left over; one in use, a file, and no folder at all are told."""
        sockets = LocalEndpoint(lambda event: None)
        left_over, in_use, file = tmp_path / "a", tmp_path / "b", tmp_path / "c"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(left_over))
        await sockets.listen_unix(left_over, HUB, SERVICE)
        await sockets.listen_unix(in_use, HUB, SERVICE)
        with pytest.raises(PortTaken, match="Another program listens at"):
            await sockets.listen_unix(in_use, HUB, SERVICE)
        file.write_text("kept")
        with pytest.raises(ListenFailed, match="something that is not a socket is there"):
            await sockets.listen_unix(file, HUB, SERVICE)
        with pytest.raises(ListenFailed, match="No such file or directory"):
            await sockets.listen_unix(tmp_path / "no" / "d", HUB, SERVICE)
        await sockets.close()
        assert not left_over.exists()
        assert not in_use.exists()
        assert file.read_text() == "kept"
