"""This machine's sockets as an endpoint of the router: two back to back with real TCP connections, and one alone."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import resource
import socket
from collections.abc import Awaitable, Callable

import pytest

from tests.in_loop import in_loop
from tests.tunnel.mesh import (
    echo,
    eventually,
    free_block,
    in_each_loop,
    listening,
    machine,
    nothing_left,
    reset,
    reset_on_close,
)
from tunnel.errors import ListenFailed, PortTaken
from tunnel.frames import ResetCode
from tunnel.nodes import Node, NodeId
from tunnel.router import Endpoint, Router
from tunnel.sockets import LEAST_READ_AHEAD, READ_AHEAD, READ_BUDGET, LocalEndpoint
from tunnel.stream import (
    StreamAccepted,
    StreamData,
    StreamDelivered,
    StreamEvent,
    StreamFinished,
    StreamId,
    StreamOpened,
    StreamReset,
)

HERE, THERE = machine(1), machine(2)
TARGET = NodeId(7)

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Pair:
    """Programs here reach the node THERE: its block is listened for here, and dialed there."""

    def __init__(self) -> None:
        self.block = free_block()
        self.router = Router(self._route)
        self.here = LocalEndpoint(lambda event: self._emit(self.here, event), HERE.address_of)
        self.there = LocalEndpoint(lambda event: self._emit(self.there, event), THERE.address_of)
        self.there.become(Node(TARGET, "target", self.block))
        self.service: asyncio.Server | None = None

    async def __aenter__(self) -> Pair:
        await self.here.listen(TARGET, self.block)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.here.close()
        await self.there.close()
        if self.service is not None:
            self.service.close()
            await self.service.wait_closed()

    async def serve(self, serve: Serve) -> None:
        """A service of the node's, at the first port of its block."""
        self.service = await asyncio.start_server(serve, THERE.address_of(TARGET), self.block.first)

    async def dial(self, at: int = 0) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect as a program here does."""
        return await asyncio.open_connection(HERE.address_of(TARGET), self.block.first + at)

    def _route(self, entry: Endpoint, node: int, port: int) -> Endpoint | None:
        return self.there if entry is self.here else None

    def _emit(self, port: LocalEndpoint, event: StreamEvent) -> None:
        self.router.receive(port, event)


class TestRelaying:
    """What a program sees of another one behind the tunnel."""

    @in_each_loop
    async def test_bytes_arrive_whole_in_both_directions_with_half_close(self, loop: str) -> None:
        """Each side sends a megabyte, ends its half at another time, and gets the other's whole."""
        sent = [random.Random(seed).randbytes(1_000_003) for seed in (1, 2)]
        got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            got.set_result(await reader.read())  # until the other half has ended; ours is still open
            writer.write(sent[1])
            writer.close()

        async with nothing_left(), Pair() as pair:
            await pair.serve(serve)
            reader, writer = await pair.dial()
            writer.write(sent[0])
            writer.write_eof()
            answer = await reader.read()
            assert hashlib.sha256(await got).digest() == hashlib.sha256(sent[0]).digest()
            assert hashlib.sha256(answer).digest() == hashlib.sha256(sent[1]).digest()
            writer.close()
            await eventually(lambda: pair.router.stream_count == 0)

    @in_each_loop
    async def test_the_dialing_program_resets(self, loop: str) -> None:
        """A connection reset here is reset there, not ended in order."""
        ended: asyncio.Future[BaseException | bytes] = asyncio.get_running_loop().create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                ended.set_result(await reader.read())
            except ConnectionResetError as error:
                ended.set_result(error)
            writer.close()

        async with nothing_left(), Pair() as pair:
            await pair.serve(serve)
            _, writer = await pair.dial()
            await eventually(lambda: pair.router.stream_count)
            reset(writer)
            assert isinstance(await ended, ConnectionResetError)

    @in_each_loop
    async def test_the_accepting_program_resets(self, loop: str) -> None:
        """A connection reset there is reset here."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            reset(writer)

        async with nothing_left(), Pair() as pair:
            await pair.serve(serve)
            reader, writer = await pair.dial()
            writer.write(b"x")
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()

    @in_each_loop
    async def test_small_writes_waited_for_the_answer_to_the_last_one(self, loop: str) -> None:
        """Nagle's algorithm is off at both ends: asyncio only turns it off in sockets that say that they are TCP."""
        async with nothing_left(), Pair() as pair:
            await pair.serve(echo)
            _, writer = await pair.dial()
            await eventually(lambda: pair.here._relays and pair.there._relays)
            for relay in (*pair.here._relays.values(), *pair.there._relays.values()):
                await eventually(lambda relay=relay: relay._transport)  # type: ignore[misc]
                ours = relay._transport.get_extra_info("socket")  # type: ignore[union-attr]
                assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            writer.close()

    @in_loop
    async def test_bytes_sent_before_the_far_dial_is_done_are_not_lost(self) -> None:
        """What a program sends at once, and its end, wait for the service's connection."""
        async with nothing_left(), Pair() as pair:
            await pair.serve(echo)
            reader, writer = await pair.dial()
            writer.write(b"early")
            writer.write_eof()
            assert await reader.read() == b"early"
            writer.close()


class TestListening:
    """Where and for how long this machine listens for others."""

    @in_loop
    async def test_a_taken_port_leaves_no_half_of_a_block(self) -> None:
        """PortTaken names address and port, and every other port of the block is free again."""
        port = LocalEndpoint(lambda event: None, HERE.address_of)
        block = free_block(8)
        address = HERE.address_of(TARGET)
        before = listening()
        with socket.create_server((address, block.first + 5)):
            with pytest.raises(PortTaken) as caught:
                await port.listen(TARGET, block)
            assert (caught.value.address, caught.value.port) == (address, block.first + 5)
        await eventually(lambda: listening() == before)
        await port.listen(TARGET, block)
        await port.close()

    @in_loop
    async def test_an_address_that_is_not_here_is_not_a_taken_port(self) -> None:
        """Nobody is sent to look for a program that does not exist."""
        port = LocalEndpoint(lambda event: None, lambda node: "192.0.2.1")
        with pytest.raises(ListenFailed, match=r"192\.0\.2\.1:\d+: Cannot assign requested address") as caught:
            await port.listen(TARGET, free_block())
        assert not isinstance(caught.value, PortTaken)

    @in_loop
    async def test_too_many_open_files_were_taken_for_success(self) -> None:
        """asyncio listens on nothing and says nothing when there are no files left; we say so, with the cure."""
        port = LocalEndpoint(lambda event: None, HERE.address_of)
        block = free_block(8)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest_free = os.dup(0)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
        try:
            with pytest.raises(ListenFailed, match=r"Too many open files; `ulimit -n` raises the limit"):
                await port.listen(TARGET, block)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    @in_loop
    async def test_unlisten_ends_listening_and_spares_connections(self) -> None:
        """New connections are refused by the kernel; those that are there go on."""
        async with nothing_left(), Pair() as pair:
            await pair.serve(echo)
            reader, writer = await pair.dial()
            writer.write(b"a")
            assert await reader.read(1) == b"a"
            pair.here.unlisten(TARGET)
            await eventually(lambda: (HERE.address_of(TARGET), pair.block.first) not in listening())
            with pytest.raises(ConnectionRefusedError):
                await pair.dial()
            writer.write(b"b")
            writer.write_eof()
            assert await reader.read() == b"b"
            writer.close()

    @in_loop
    async def test_close_resets_what_is_open(self) -> None:
        """When the port is closed, programs on both sides see resets at once."""
        async with nothing_left(), Pair() as pair:
            await pair.serve(echo)
            reader, writer = await pair.dial()
            writer.write(b"a")
            assert await reader.read(1) == b"a"
            await pair.here.close()
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()

    @in_each_loop
    async def test_reading_stops_at_the_read_ahead(self, loop: str) -> None:
        """A program that sends without end gets READ_AHEAD into the tunnel, and more only as that moves on."""
        events: list[StreamEvent] = []
        port = LocalEndpoint(events.append, HERE.address_of)
        block = free_block()
        await port.listen(TARGET, block)

        def entered() -> int:
            return sum(len(event.data) for event in events if isinstance(event, StreamData))

        _, writer = await asyncio.open_connection(HERE.address_of(TARGET), block.first)
        writer.write(bytes(16 * 1024 * 1024))
        await eventually(lambda: entered() > READ_AHEAD)
        await asyncio.sleep(0.05)
        stopped = entered()
        assert stopped <= READ_AHEAD + 256 * 1024  # what one read brings
        assert isinstance(events[0], StreamOpened)
        port.delivered(events[0].stream, stopped)
        await eventually(lambda: entered() > stopped + READ_AHEAD // 2)
        assert port.entered == entered() - stopped
        port.reset(events[0].stream, ResetCode.LOST)
        assert port.entered == 0
        writer.transport.abort()
        await port.close()

    def test_many_readers_share_a_budget(self) -> None:
        """Past READ_BUDGET of all connections together each one has LEAST_READ_AHEAD."""
        port = LocalEndpoint(lambda event: None)
        port.entered = READ_BUDGET
        assert port.read_ahead == READ_AHEAD
        port.entered += 1
        assert port.read_ahead == LEAST_READ_AHEAD


class TestProbing:
    """Dialing a node's port only to learn whether something is there."""

    @in_loop
    async def test_no_answer_in_time_is_lost_and_leaves_no_stream(self) -> None:
        """LOST after the time given, and the stream is reset so that nobody keeps it."""
        events: list[StreamEvent] = []
        port = LocalEndpoint(events.append)
        assert await port.probe(TARGET, 20000, 0.01) is ResetCode.LOST
        stream = events[0].stream
        assert events == [StreamOpened(stream, TARGET, 20000), StreamReset(stream, ResetCode.CONNECTION)]

    @in_loop
    async def test_a_cancelled_probe_left_its_stream_open(self) -> None:
        """Whoever gives up on a probe leaves no stream behind either."""
        events: list[StreamEvent] = []
        port = LocalEndpoint(events.append)
        probing = asyncio.create_task(port.probe(TARGET, 20000, 5.0))
        await eventually(lambda: events)
        probing.cancel()
        await asyncio.wait({probing})
        assert [type(event) for event in events] == [StreamOpened, StreamReset]

    @in_loop
    async def test_close_ends_probes(self) -> None:
        """Nobody waits out a probe's time on a port that is closed."""
        events: list[StreamEvent] = []
        port = LocalEndpoint(events.append)
        probing = asyncio.create_task(port.probe(TARGET, 20000, 600.0))
        await eventually(lambda: events)
        await port.close()
        assert await asyncio.wait_for(probing, 30) is ResetCode.LOST


def test_a_stream_nobody_knows_is_ignored() -> None:
    """What the router still says of a connection that is gone changes nothing."""
    events: list[StreamEvent] = []
    port = LocalEndpoint(events.append)
    gone = StreamId(99)
    port.send(gone, b"x")
    port.finish(gone)
    port.delivered(gone, 1)
    port.opened(gone)
    port.reset(gone, ResetCode.LOST)
    assert events == []


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
            relay.entered = READ_AHEAD + 1
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
