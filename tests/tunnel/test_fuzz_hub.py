"""A fuzzer at a real hub: strangers with garbage, newcomers with a bad HELLO, agents with mutated frames.

Each visit ends at most its own link. What the words are is in test_fuzz and mutations.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from pathlib import Path

import pytest
from msgspec.structs import replace
from websockets.exceptions import ConnectionClosed

from tests.in_loop import in_loop
from tests.tunnel.door import HELLO, hail
from tests.tunnel.mesh import Member, Mesh, echo, eventually
from tests.tunnel.mutations import Piece, as_bytes, mutate, mutate_json, spoil
from tests.tunnel.test_fuzz import NOISE_BLOCKS, Core, memory_blocks
from tunnel.dial import dial
from tunnel.errors import RemoteProtocolError
from tunnel.frames import FrameType, encode_json
from tunnel.listen import UnixListen
from tunnel.secure import SecureSession, prove

VISITS = [120, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
VISIT_BLOCKS = 30  # of memory for each visit, beside NOISE_BLOCKS: timers that were cancelled and are not yet due
REQUEST = (
    b"GET /tunnel HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class Fuzzer:
    """Whoever comes to a real hub with something mutated."""

    def __init__(self, mesh: Mesh, rng: random.Random) -> None:
        self.mesh = mesh
        self.rng = rng
        self.words = Core().words

    async def stranger(self) -> None:
        """HTTP that is none, or a WebSocket whose first frames are none."""
        rng = self.rng
        reader, writer = await asyncio.open_unix_connection(str(self.mesh.path))
        greeting = SecureSession.client(self.mesh.identity.pin).data_to_send()
        head = spoil(rng, REQUEST) if rng.random() < 0.4 else REQUEST
        frame = b"\x82\xfe" + len(greeting).to_bytes(2, "big") + bytes(4) + greeting
        writer.write(head + (spoil(rng, frame) if rng.random() < 0.8 else frame + rng.randbytes(60)))
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(0.005):
                await reader.read()
        writer.transport.abort()

    async def newcomer(self) -> None:
        """A WebSocket and TLS as they should be, and a HELLO that is not."""
        hello = replace(HELLO, instance=f"fuzz {self.rng.random()}", namespace="fuzz")
        carrier, challenge = await hail(UnixListen(self.mesh.path))
        secret = self.mesh.identity.secret if self.rng.random() < 0.8 else bytes(32)
        proven = replace(hello, proof=prove(secret, self.mesh.identity.pin, challenge)).to_json()
        words = [Piece(int(FrameType.HELLO), 0, mutate_json(self.rng, encode_json(FrameType.HELLO, proven)))]
        if self.rng.random() < 0.3:
            words = mutate(self.rng, words, 0)
        with contextlib.suppress(RemoteProtocolError, ConnectionClosed, TimeoutError):
            async with asyncio.timeout(0.02):
                await carrier.send(as_bytes(words, 0)[0] or b"\x00")
                await carrier.receive()
        carrier._websocket.transport.abort()

    async def joiner(self) -> None:
        """An agent with the secret that joins and then says what no agent says."""
        rng = self.rng
        hello = replace(HELLO, instance=f"fuzz {rng.random()}", namespace="fuzz")
        _, carrier = await dial(self.mesh.address, hello, 5.0)
        first, sequence = rng.randrange(len(self.words)), 0
        with contextlib.suppress(RemoteProtocolError, ConnectionClosed, TimeoutError):
            async with asyncio.timeout(0.5):
                for number, words in enumerate(self.words):
                    if number >= first:
                        words = mutate(rng, words, rng.randrange(len(words)))
                    batch, sequence = as_bytes(words, sequence)
                    await carrier.send(batch)
                carrier._session.send(rng.randbytes(50))
                await carrier._flush()
                while True:
                    await carrier.receive()
        await carrier.close()


class TestHub:
    """A real hub with two real agents."""

    @pytest.mark.parametrize("count", VISITS)
    @in_loop
    async def test_mutated_visits(self, count: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """The bystanders notice nothing, nothing is logged as a bug, and nobody and nothing of the visits stays."""
        async with Mesh(tmp_path, grace_s=0.05) as mesh:
            one, two = await mesh.join(), await mesh.join()
            beats = Beats(mesh, one, await mesh.serve(two, echo))
            beating = asyncio.create_task(beats.run())
            fuzzer = Fuzzer(mesh, random.Random(count))
            await self.visits(fuzzer, count // 5)
            bugs = self.bugs(caplog)
            before = memory_blocks()
            await self.visits(fuzzer, count)
            assert bugs + self.bugs(caplog) == []
            assert memory_blocks() - before < NOISE_BLOCKS + VISIT_BLOCKS * count
            assert mesh.hub._router.stream_count == 1
            assert [peer.link.budget.reserved for peer in mesh.hub.peers] == [0, 0]
            assert [member.log.count("down") for member in (one, two)] == [0, 0]
            seen = beats.count
            await eventually(lambda: beats.count > seen + 3)
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    def bugs(self, caplog: pytest.LogCaptureFixture) -> list[str]:
        """What was logged that ours are guilty of; websockets' own errors are its view of strangers who broke off."""
        told = [record for record in caplog.records if record.levelno >= logging.ERROR]
        ours = [one for one in told if one.name != "tunnel.websockets" or one.msg == "connection handler failed"]
        caplog.clear()  # the tracebacks in them keep what they speak of
        return [one.getMessage() for one in ours]

    async def visits(self, fuzzer: Fuzzer, count: int) -> None:
        """So many, of every kind."""
        kinds = (fuzzer.joiner, fuzzer.newcomer, fuzzer.stranger, fuzzer.joiner)
        for number in range(count):
            await kinds[number % len(kinds)]()
        mesh = fuzzer.mesh
        await (await mesh.join()).leave()  # what it needs to become ready comes after all that the visits asked for
        await eventually(lambda: len(mesh.hub.peers) == 2)
        await eventually(lambda: not mesh.hub._gate._strangers)


class Beats:
    """A stream between two members on which a word goes out and comes back for as long as it runs."""

    def __init__(self, mesh: Mesh, member: Member, target: tuple[int, int]) -> None:
        self._dialing = mesh.dial(member, target)
        self.count = 0

    async def run(self) -> None:
        """Never ends by itself."""
        reader, writer = await self._dialing
        try:
            while True:
                word = b"%08d" % self.count
                writer.write(word)
                assert await reader.readexactly(8) == word
                self.count += 1
                await asyncio.sleep(0.001)
        finally:
            writer.close()
