"""A carrier over a WebSocket that is two queues: order, limits, compression, what it costs."""

from __future__ import annotations

import asyncio
import random
from typing import cast

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.connection import Connection

from tests.in_loop import in_loop
from tests.tunnel.carriers import carriers, data_frame, identity, line
from tests.tunnel.mesh import eventually
from tunnel.errors import PinMismatch, RemoteProtocolError
from tunnel.frames import Frame, FrameType
from tunnel.secure import SecureSession, server_context
from tunnel.transport import MAX_BATCH, STORE_RUN, STORED, Carrier


class TestCarrier:
    """Batches of frames in messages, and back."""

    @pytest.mark.parametrize("compressed", [False, True], ids=["bare", "compressed"])
    def test_batches_arrive_whole_and_in_order(self, compressed: bool) -> None:
        """Empty, small, repetitive and incompressible ones, each as one message."""

        @in_loop
        async def main() -> None:
            agent, hub, *_ = await carriers(compressed=compressed)
            for payload in (b"", b"x", bytes(60_000), random.Random(0).randbytes(65_536), b"abc" * 9):
                await agent.send(data_frame(payload))
                assert await hub.receive() == [Frame(FrameType.DATA, 1, 1, payload)]
                await hub.send(data_frame(payload))
                assert await agent.receive() == [Frame(FrameType.DATA, 1, 1, payload)]

        main()

    @in_loop
    async def test_what_cannot_be_compressed_is_stored(self) -> None:
        """Large random batches are tried now and then only; what repeats is found again after STORE_RUN of them."""
        agent, hub, *_ = await carriers()
        source = random.Random(2)
        payloads = [source.randbytes(60_000) for _ in range(3)] + [bytes(60_000)] * (STORE_RUN + 2)
        costs = []
        for payload in payloads:
            before = agent.meter.traffic.sent
            await agent.send(data_frame(payload))
            assert await hub.receive() == [Frame(FrameType.DATA, 1, 1, payload)]
            costs.append(agent.meter.traffic.sent - before > 60_000)
        assert costs == [True] * (STORE_RUN + 1) + [False] * 4

    @in_loop
    async def test_what_repeats_costs_little(self) -> None:
        """One context serves a whole direction: the second copy of random bytes is cheap; all bytes are counted."""
        agent, hub, *_ = await carriers()
        payload = random.Random(1).randbytes(2_000)
        costs = []
        for _ in range(2):
            before = agent.meter.traffic.sent
            await agent.send(data_frame(payload))
            await hub.receive()
            costs.append(agent.meter.traffic.sent - before)
        assert costs[0] > 2_000
        assert costs[1] < 100
        here, there = agent.meter.traffic, hub.meter.traffic
        assert (here.sent, here.received) == (there.received, there.sent)

    @in_loop
    async def test_another_certificate_is_told_nothing(self) -> None:
        """PinMismatch at the node, and the hub gets nothing after the node's greeting."""
        one, two = line()
        agent = Carrier(cast("Connection", one), SecureSession.client(bytes(32)))
        hub = Carrier(cast("Connection", two), SecureSession.server(server_context(identity())))
        shaking = asyncio.create_task(hub.handshake())
        with pytest.raises(PinMismatch):
            await agent.handshake()
        greeting = agent.meter.traffic.sent
        await eventually(lambda: hub.meter.traffic.received == greeting)
        assert not shaking.done()
        shaking.cancel()

    def test_lying_batches_raise(self) -> None:
        """A length that is too large, or not the batch's, and bytes that are not zstd."""
        honest = zstandard.ZstdCompressor().compressobj()
        batch = honest.compress(b"12345") + honest.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        bomb = zstandard.ZstdCompressor().compress(bytes(100 * MAX_BATCH))
        for message in (
            (MAX_BATCH + 1).to_bytes(3, "big") + batch,
            (STORED | 5).to_bytes(3, "big") + bytes(4),
            (6).to_bytes(3, "big") + batch,
            (5).to_bytes(3, "big") + b"no zstd at all",
            (5).to_bytes(3, "big"),
            b"\0",
            MAX_BATCH.to_bytes(3, "big") + bomb,  # as much as a batch may be, and zeros are no frames
        ):
            assert _received_by_hub(message) is None

    @settings(deadline=None, max_examples=60)
    @given(st.binary(max_size=300))
    def test_any_bytes_inside_tls_are_frames_or_an_error(self, message: bytes) -> None:
        """A joiner with broken code raises RemoteProtocolError here and nothing else."""
        _received_by_hub(message)

    @in_loop
    async def test_bytes_that_are_not_tls_raise(self) -> None:
        """Whoever alters a message in the middle ends the WebSocket, and is not heard."""
        agent, hub, one, two = await carriers()
        await agent.send(data_frame(b"x"))
        message = bytearray(await two.recv())
        message[-1] ^= 1
        await one.send(bytes(message))
        with pytest.raises(RemoteProtocolError):
            await hub.receive()

    @in_loop
    async def test_close_gives_a_dead_end_half_a_second(self) -> None:
        """A WebSocket whose other end never answers the close is aborted."""
        agent, _, one, _ = await carriers()
        one.stuck = True
        async with asyncio.timeout(2):
            await agent.close()
        assert one.aborted


def _received_by_hub(message: bytes) -> list[Frame] | None:
    """What the hub makes of a message inside an agent's TLS; None when it breaks the protocol."""

    async def main() -> list[Frame] | None:
        one, two = line()
        session = SecureSession.client(identity().pin)
        agent = Carrier(cast("Connection", one), session)
        hub = Carrier(cast("Connection", two), SecureSession.server(server_context(identity())))
        await asyncio.gather(agent.handshake(), hub.handshake())
        hub.compress()
        session.send(message)
        await one.send(session.data_to_send())
        try:
            return await hub.receive()
        except RemoteProtocolError:
            return None

    return asyncio.run(main())
