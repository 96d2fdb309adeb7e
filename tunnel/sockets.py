"""The sockets of this machine as an endpoint of the router: listeners for other nodes, dialers to our own ports.

Bytes read from a socket enter the tunnel; at most READ_AHEAD of them per connection may be on their way before the
next hop has them, and LEAST_READ_AHEAD once all connections together have READ_BUDGET. Bytes for a socket count as
delivered when the kernel took them. A reset in the tunnel is a reset here, so that the program sees what it would have
seen without a tunnel. It also sees who calls: a connection is dialed from the address of the node that it comes from.

Programs can also reach a port of a node through a unix socket here, and a service of this node can be a unix socket,
with a port number outside every block. Unix sockets have no reset: a program sees one as the end of what it reads, so
it must be able to tell whether it has all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

from tunnel.errors import LocalProtocolError
from tunnel.frames import ResetCode
from tunnel.listen import BACKLOG, bind_tcp, bind_unix, tcp_socket
from tunnel.nodes import FIRST_PORT, Node, NodeId, PortBlock, address_of
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
from tunnel.window import Budget

__all__ = ["LocalEndpoint"]

READ_AHEAD = 4 * 1024 * 1024  # 100 ms at 40 MB/s
LEAST_READ_AHEAD = 256 * 1024
READ_BUDGET = 64 * 1024 * 1024
DIAL_TIMEOUT_S = 10.0

# IP_BIND_ADDRESS_NO_PORT of Linux: the port is chosen by connect, so that it is only in use toward one target. A bind
# that chose it would run out of ports where many short connections come from one node.
_BIND_ADDRESS_NO_PORT = 24
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, 0 seconds


class _Relay(asyncio.Protocol):
    """One connection of this machine, of TCP or a unix socket, and the stream it is relayed on."""

    def __init__(self, local: LocalEndpoint, stream: StreamId | None, target: tuple[int, int] = (0, 0)) -> None:
        self._local = local
        # None until an accepted connection is announced, which is for the node and port of `target`.
        self.stream = stream
        self.target = target
        self._transport: asyncio.Transport | None = None
        self.entered = 0  # bytes read here that the next hop does not have yet
        self._paused = False  # while too much is on its way
        self._leaving = 0  # bytes written here that the kernel has not taken yet
        self._early: list[bytes] = []  # bytes that came before the dial was done; bounded by the window
        self._finish_wanted = False
        self._read_done = False
        self._write_done = False
        self._over = False  # the router knows that the stream is over

    # asyncio's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its bases
        self._transport.set_write_buffer_limits(high=0)
        if self.stream is None:
            self._local.accepted(self)
        elif self._over:
            self._abort()
        else:
            self._local.emit(StreamAccepted(self.stream))
            for data in self._early:
                self._transport.write(data)
            self._early.clear()
            self._settle()
            self._finish_if_due()

    def data_received(self, data: bytes) -> None:
        self.entered += len(data)
        self._local.entered += len(data)
        if self.entered > self._local.read_ahead and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        if self.stream is not None:
            self._local.emit(StreamData(self.stream, data))

    def eof_received(self) -> bool:
        self._read_done = True
        if self.stream is not None and not self._over:
            self._local.emit(StreamFinished(self.stream))
        self._close_if_done()
        return True

    def resume_writing(self) -> None:
        self._settle()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.stream is None:
            return
        self._local.forget(self.stream)
        if not self._over and not (self._read_done and self._write_done and not self._leaving):
            self._over = True
            self._local.emit(StreamReset(self.stream, ResetCode.CONNECTION))

    # The router's side.

    def write(self, data: bytes) -> None:
        self._leaving += len(data)
        if self._transport is None:
            self._early.append(data)
        elif not self._transport.is_closing():  # else it broke, and `connection_lost` is about to be called
            self._transport.write(data)
            self._settle()

    def finish(self) -> None:
        self._finish_wanted = True
        self._finish_if_due()

    def delivered(self, count: int) -> None:
        self.entered -= count
        self._local.entered -= count
        transport = self._transport
        if self._paused and self.entered <= self._local.read_ahead:
            self._paused = False
            if transport is not None and not transport.is_closing():
                transport.resume_reading()

    def reset(self) -> None:
        self._over = True
        self._abort()

    # Both.

    def _settle(self) -> None:
        """Say that bytes were delivered, once the kernel has all of them."""
        if self._leaving and self._transport is not None and not self._transport.get_write_buffer_size():
            count, self._leaving = self._leaving, 0
            if self.stream is not None and not self._over:
                self._local.emit(StreamDelivered(self.stream, count))

    def _finish_if_due(self) -> None:
        if self._finish_wanted and self._transport is not None and not self._write_done:
            try:
                if not self._transport.is_closing():
                    self._transport.write_eof()
            except OSError:  # the program has reset it, and `connection_lost` is about to be called
                return
            self._write_done = True
            self._close_if_done()

    def _close_if_done(self) -> None:
        if self._read_done and self._write_done and self._transport is not None:
            self._transport.close()

    def _abort(self) -> None:
        if self._transport is not None:
            connection = self._transport.get_extra_info("socket")
            if connection is not None and not self._transport.is_closing():
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self._transport.abort()


class LocalEndpoint:
    """This machine's sockets as a `router.Endpoint`.

    `emit` is called with what happens here and must pass it to the router. Dials go only to `node`'s own address and
    only to ports of its block, or to the unix sockets in `services`, by port: the mesh reaches nothing else of this
    machine. They come from the address of the node that calls, where the tunnel says which that is.
    """

    def __init__(
        self,
        emit: Callable[[StreamEvent], None],
        address_of: Callable[[int], str] = address_of,
        services: Mapping[int, Path] | None = None,
    ) -> None:
        self.emit = emit
        # For what may wait here to be written; the windows of the hop before are charged to it.
        self.budget = Budget()
        self.entered = 0  # bytes read from all connections that the next hop does not have yet
        self._address_of = address_of
        self._services = dict(services or {})
        for port in self._services:
            if not 0 < port < FIRST_PORT:
                raise LocalProtocolError(f"a service's port is 1 to {FIRST_PORT - 1}, outside every block, not {port}")
        self._node: Node | None = None
        self._relays: dict[StreamId, _Relay] = {}
        self._probes: dict[StreamId, asyncio.Future[ResetCode | None]] = {}
        self._listeners: dict[NodeId, list[asyncio.Server]] = {}
        self._unix_listeners: dict[Path, asyncio.Server] = {}
        self._closed = False
        self._dials: set[asyncio.Task[None]] = set()
        self._next_stream = 1

    @property
    def read_ahead(self) -> int:
        """How many bytes of one connection may be on their way."""
        return READ_AHEAD if self.entered <= READ_BUDGET else LEAST_READ_AHEAD

    def become(self, node: Node) -> None:
        """From now on this machine is `node`."""
        self._node = node

    async def listen(self, node: NodeId, block: PortBlock) -> None:
        """Listen at another node's address on all ports of its block; ListenFailed, and on none, if one fails."""
        loop = asyncio.get_running_loop()
        address = self._address_of(node)
        with contextlib.ExitStack() as unless_all:
            servers: list[asyncio.Server] = []
            for port in block.ports:
                listener = bind_tcp(address, port)
                unless_all.callback(listener.close)
                accept = functools.partial(_Relay, self, None, (node, port))
                servers.append(await loop.create_server(accept, sock=listener, backlog=BACKLOG))
                unless_all.callback(servers[-1].close)
            self._listeners[node] = servers
            unless_all.pop_all()

    def unlisten(self, node: NodeId) -> None:
        """Stop listening for a node."""
        for server in self._listeners.pop(node, []):
            server.close()

    async def listen_unix(self, path: Path, node: int, port: int) -> None:
        """Listen at `path`, for this user only, and relay to `node`:`port` until `close`; ListenFailed if it cannot.

        A connection that comes while there is no way to that node is closed at once.
        """
        if self._closed:
            raise LocalProtocolError("these sockets are closed for good")
        listener = bind_unix(path)
        accept = functools.partial(_Relay, self, None, (node, port))
        server = await asyncio.get_running_loop().create_unix_server(accept, sock=listener, backlog=BACKLOG)
        self._unix_listeners[path] = server
        if self._closed:
            self._unlisten_unix()

    async def probe(self, node: int, port: int, timeout_s: float) -> ResetCode | None:
        """Open a stream to `node`:`port` and close it; None when something accepted, else why not."""
        stream = self._take_id()
        answer: asyncio.Future[ResetCode | None] = asyncio.get_running_loop().create_future()
        self._probes[stream] = answer
        try:
            self.emit(StreamOpened(stream, node, port, self._own_id))
            return await asyncio.wait_for(answer, timeout_s)
        except TimeoutError:
            return ResetCode.LOST
        finally:
            del self._probes[stream]
            self.emit(StreamReset(stream, ResetCode.CONNECTION))

    async def leave(self) -> None:
        """This machine is no longer a node: close every listener for others and every connection.

        Probes end with LOST. The unix sockets go on listening.
        """
        self._node = None
        for node in list(self._listeners):
            self.unlisten(node)
        for dial in list(self._dials):
            dial.cancel()
        await asyncio.gather(*self._dials, return_exceptions=True)
        for stream in [*self._relays, *self._probes]:
            self.reset(stream, ResetCode.LOST)

    async def close(self) -> None:
        """Leave, and close the unix sockets too, for good."""
        self._closed = True
        self._unlisten_unix()
        await self.leave()

    # As an endpoint of the router.

    def open(self, node: int, port: int, source: int | None = None) -> StreamId | None:
        """Dial our own `port`, or the service of that number, for a stream that comes out of the tunnel."""
        stream = self._take_id()
        relay = _Relay(self, stream)
        self._relays[stream] = relay
        dial = asyncio.get_running_loop().create_task(self._dial(relay, stream, node, port, source))
        self._dials.add(dial)
        dial.add_done_callback(self._dials.discard)
        return stream

    def assign(self, stream_id: StreamId, budget: Budget) -> None:
        """Nothing to charge: the bound on reading ahead is a socket's window."""

    def opened(self, stream_id: StreamId) -> None:
        """The far end is connected; only a probe waits for that, a program was accepted long before."""
        probe = self._probes.get(stream_id)
        if probe is not None and not probe.done():
            probe.set_result(None)

    def send(self, stream_id: StreamId, data: bytes) -> None:
        """Write to the stream's socket."""
        relay = self._relays.get(stream_id)
        if relay is not None:
            relay.write(data)

    def finish(self, stream_id: StreamId) -> None:
        """End the writing half of the stream's socket."""
        relay = self._relays.get(stream_id)
        if relay is not None:
            relay.finish()

    def reset(self, stream_id: StreamId, code: ResetCode) -> None:
        """Reset the stream's socket."""
        probe = self._probes.get(stream_id)
        if probe is not None and not probe.done():
            probe.set_result(code)
        relay = self.forget(stream_id)
        if relay is not None:
            relay.reset()

    def delivered(self, stream_id: StreamId, count: int) -> None:
        """The next hop has `count` more bytes of what was read here."""
        relay = self._relays.get(stream_id)
        if relay is not None:
            relay.delivered(count)

    # For the relays.

    def accepted(self, relay: _Relay) -> None:
        """A program of this machine connected to a listener."""
        relay.stream = self._take_id()
        self._relays[relay.stream] = relay
        self.emit(StreamOpened(relay.stream, *relay.target, self._own_id))

    def forget(self, stream: StreamId) -> _Relay | None:
        """A connection is closed; returns it unless it was forgotten before."""
        relay = self._relays.pop(stream, None)
        if relay is not None:
            relay.delivered(relay.entered)  # nobody waits for it any more
        return relay

    async def _dial(self, relay: _Relay, stream: StreamId, node: int, port: int, source: int | None) -> None:
        loop = asyncio.get_running_loop()
        service = self._services.get(port)
        if self._node is None or node != self._node.id or (service is None and port not in self._node.block.ports):
            self._fail(stream, ResetCode.UNREACHABLE)
            return
        try:
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                if service is not None:
                    await loop.create_unix_connection(lambda: relay, str(service))
                    return
                with contextlib.ExitStack() as unless_connected:
                    caller = unless_connected.enter_context(tcp_socket())
                    if source is not None:
                        with contextlib.suppress(OSError):  # a kernel that does not know it, gVisor's for one
                            caller.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
                        caller.bind((self._address_of(source), 0))
                    await loop.sock_connect(caller, (self._address_of(node), port))
                    await loop.create_connection(lambda: relay, sock=caller)
                    unless_connected.pop_all()
        except (OSError, TimeoutError):
            self._fail(stream, ResetCode.REFUSED)

    @property
    def _own_id(self) -> int | None:
        return None if self._node is None else self._node.id

    def _unlisten_unix(self) -> None:
        for path, server in self._unix_listeners.items():
            server.close()
            path.unlink(missing_ok=True)
        self._unix_listeners.clear()

    def _fail(self, stream: StreamId, code: ResetCode) -> None:
        if self.forget(stream) is not None:
            self.emit(StreamReset(stream, code))

    def _take_id(self) -> StreamId:
        self._next_stream += 1
        return StreamId(self._next_stream)
