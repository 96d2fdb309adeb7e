"""A port of the router alone: what streams out of the tunnel may dial, and what becomes of the connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from tests.in_loop import in_loop
from tests.tunnel.mesh import eventually, free_block, in_each_loop, machine, reset_on_close
from tunnel.frames import ResetCode
from tunnel.nodes import Node, NodeId
from tunnel.sockets import READ_AHEAD, LocalEndpoint
from tunnel.stream import StreamAccepted, StreamData, StreamDelivered, StreamEvent, StreamFinished, StreamReset

THERE = machine(2)
TARGET = NodeId(7)


class Scripted:
    """One port alone: what it emits is kept, what the tunnel would do is called."""

    def __init__(self) -> None:
        self.events: list[StreamEvent] = []
        self.port = LocalEndpoint(self.events.append, THERE.address_of)
        self.node = Node(TARGET, "target", free_block())
        self.port.become(self.node)

    def of(self, kind: type[StreamEvent]) -> list[StreamEvent]:
        """Events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def size(self, kind: type[StreamData] | type[StreamDelivered]) -> int:
        """Bytes that events of one kind tell of."""
        return sum(len(event.data) if isinstance(event, StreamData) else event.size for event in self._sized(kind))

    def _sized(self, kind: type[StreamData] | type[StreamDelivered]) -> list[StreamData | StreamDelivered]:
        return [event for event in self.events if isinstance(event, kind)]


class TestDialing:
    """What streams out of the tunnel may reach."""

    @pytest.mark.parametrize(
        ("node", "offset"),
        [(TARGET, -1), (TARGET, 2), (8, 0), (1, 0)],
        ids=["before-the-block", "past-the-block", "another-node", "the-hub"],
    )
    @in_loop
    async def test_nothing_outside_the_nodes_own_block_is_dialed(self, node: int, offset: int) -> None:
        """Another port of this machine, or another node's address, is UNREACHABLE even where somebody listens."""
        scripted = Scripted()
        port = scripted.node.block.first + offset
        called = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            called.set()
            writer.close()

        async with await asyncio.start_server(serve, THERE.address_of(node), port):
            stream = scripted.port.open(node, port)
            await eventually(lambda: scripted.events)
            assert scripted.events == [StreamReset(stream, ResetCode.UNREACHABLE)]  # type: ignore[arg-type]
        assert not called.is_set()
        await scripted.port.close()

    @in_loop
    async def test_a_refused_dial_says_so(self) -> None:
        """REFUSED, so that the other end knows a missing program from a missing node."""
        scripted = Scripted()
        stream = scripted.port.open(TARGET, scripted.node.block.first)
        await eventually(lambda: scripted.events)
        assert scripted.events == [StreamReset(stream, ResetCode.REFUSED)]  # type: ignore[arg-type]
        await scripted.port.close()

    @in_each_loop
    async def test_bytes_count_as_delivered_when_the_kernel_took_them(self, loop: str) -> None:
        """A service that reads nothing leaves the tunnel's bytes undelivered; reading delivers them."""
        scripted = Scripted()
        block = scripted.node.block
        with socket.create_server((THERE.address_of(TARGET), block.first)) as service:
            service.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            service.setblocking(False)
            stream = scripted.port.open(TARGET, block.first)
            assert stream is not None
            connection, _ = await asyncio.get_running_loop().sock_accept(service)
            await eventually(lambda: scripted.of(StreamAccepted))
            total = 8 * 1024 * 1024
            scripted.port.send(stream, bytes(total))
            scripted.port.finish(stream)
            await asyncio.sleep(0.05)
            assert scripted.size(StreamDelivered) == 0
            received = 0
            while chunk := await asyncio.get_running_loop().sock_recv(connection, 1 << 20):
                received += len(chunk)
            assert received == total
            await eventually(lambda: scripted.size(StreamDelivered) == total)
            connection.close()
            await eventually(lambda: scripted.of(StreamFinished))
        await scripted.port.close()

    @in_loop
    async def test_a_reset_while_dialing_leaves_no_connection(self) -> None:
        """The stream is over before its dial is: the connection that comes of it is reset."""
        scripted = Scripted()
        block = scripted.node.block
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
            ended.set_result(None)

        async with await asyncio.start_server(serve, THERE.address_of(TARGET), block.first):
            stream = scripted.port.open(TARGET, block.first)
            assert stream is not None
            await asyncio.sleep(0)  # the dial has begun
            scripted.port.reset(stream, ResetCode.CONNECTION)
            await ended
        assert scripted.events == []
        await scripted.port.close()

    @in_each_loop
    async def test_a_connection_that_just_broke_killed_the_link_that_wrote_to_it(self, loop: str) -> None:
        """Between the break and the word of it, uvloop raises for whatever is done to the connection."""
        scripted = Scripted()
        with socket.create_server((THERE.address_of(TARGET), scripted.node.block.first)):
            stream = scripted.port.open(TARGET, scripted.node.block.first)
            assert stream is not None
            await eventually(lambda: scripted.of(StreamAccepted))
            relay = scripted.port._relays[stream]
            assert relay._transport is not None
            relay._entered = READ_AHEAD + 1
            relay._transport.abort()
            scripted.port.send(stream, b"late")
            scripted.port.delivered(stream, 1)
            scripted.port.finish(stream)
            await eventually(lambda: scripted.of(StreamReset))
            assert scripted.size(StreamDelivered) == 0
        await scripted.port.close()

    @in_each_loop
    async def test_the_end_of_a_stream_whose_program_had_just_reset_killed_the_link(self, loop: str) -> None:
        """shutdown() of a connection that was reset raises ENOTCONN: it is a reset like any other."""
        scripted = Scripted()
        with socket.create_server((THERE.address_of(TARGET), scripted.node.block.first)) as service:
            stream = scripted.port.open(TARGET, scripted.node.block.first)
            assert stream is not None
            await eventually(lambda: scripted.of(StreamAccepted))
            connection, _ = service.accept()
            reset_on_close(connection)
            connection.close()
            scripted.port.finish(stream)
            await eventually(lambda: scripted.of(StreamReset))
        await scripted.port.close()
