"""A fuzzer at the hub, and what attacks on a real one showed: whatever comes breaks one link, never the hub.

Whatever comes, the core raises RemoteProtocolError and nothing else, two bystanders go on echoing through the same hub,
and what was taken is given back. The mutations begin with the true words of an agent, so that they get past the first
checks. `slow` feeds a hundred times as many.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import random
import sys
import time
from pathlib import Path

import pytest
from msgspec.structs import replace
from websockets.exceptions import ConnectionClosed

from tests.in_loop import in_loop
from tests.tunnel.carriers import at_once, carriers, data_frame
from tests.tunnel.door import HELLO, WELCOME, hail, open_door
from tests.tunnel.mesh import Member, Mesh, echo, eventually
from tests.tunnel.mutations import Piece, as_bytes, mutate, mutate_json, pieces, spoil
from tests.tunnel.switched import Switched
from tunnel.dial import dial
from tunnel.errors import RemoteProtocolError
from tunnel.frames import Frame, FrameParser, FrameType, ResetCode, decode_json, encode_header, encode_json
from tunnel.link import Link
from tunnel.listen import UnixListen
from tunnel.messages import (
    Hello,
    LinkOver,
    Listening,
    NodePort,
    NodePorts,
    Orders,
    Ready,
    Taken,
    Welcome,
    roster_of_agent,
    roster_of_hub,
)
from tunnel.nodes import NodeId
from tunnel.secure import SecureSession, prove
from tunnel.transport import MAX_BATCH, MAX_MESSAGE, Carrier, Wake, carry

# In CI and `slow`: with the visits below 4,000 and a million mutations.
FRAMES = [2000, pytest.param(700_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
HANDSHAKES = [1500, pytest.param(260_000, marks=pytest.mark.slow)]
MESSAGES = [250, pytest.param(30_000, marks=pytest.mark.slow)]
NOISE_BLOCKS = 2000  # of memory: what the interpreter's own caches grow by; one lost link would be some hundreds


def memory_blocks() -> int:
    """Blocks of memory that Python holds once all garbage is gone."""
    gc.collect()
    return sys.getallocatedblocks()


class Core:
    """A hub without sockets, two members that echo, and the recorded words of a third."""

    def __init__(self) -> None:
        self.hub = Switched()
        self.one, self.two = self.hub.join(), self.hub.join()
        self.hub.settle()
        self.stream = self.hub.members[self.one].open(self.two, 10_016)
        self.said = 0
        self.words = self._record()

    def _record(self) -> list[list[Piece]]:
        """What an agent says from its welcome to its goodbye, by batches."""
        node_id = self.hub.join()
        member = self.hub.members[node_id]
        member.seen = []
        member.link.tick(self.hub.now)
        self.hub.settle()
        streams = [member.open(self.two, 10_016 + at) for at in range(3)]
        for stream in streams:
            member.link.send(stream, bytes(range(100)) * 3)
        self.hub.settle()
        self.opened_at = len(member.seen)
        self._opens_to(node_id)  # stream 2 of this link
        self.hub.settle()
        member.link.message({"verb": "hello", "list": [1, 2, {"x": None}]})
        member.link.finish(streams[0])
        member.link.send(streams[1], bytes(40_000))
        self.hub.settle()
        member.link.reset(streams[2], ResetCode.CONNECTION)
        self.hub.wait(1)
        member.link.goodbye(LinkOver("it left", final=True))
        self.hub.settle()
        self.hub.leave(node_id)
        self.hub.settle()
        parser = FrameParser()
        return [pieces(parser.receive(batch)) for batch in member.seen]

    def echoes(self) -> None:
        """The bystanders still have their stream."""
        self.said += 1
        member = self.hub.members[self.one]
        member.link.send(self.stream, b"%08d" % self.said)
        self.hub.settle()
        assert bytes(member.answers[self.stream]) == b"%08d" % self.said
        member.answers[self.stream].clear()

    def life(self, rng: random.Random) -> int:
        """An agent joins, says mutated words until it has broken the protocol, and is forgotten; mutations it said."""
        node_id = self.hub.join()
        member = self.hub.members[node_id]
        member.up = False  # its own end of the link says nothing: we do
        parser, sequence, mutations = FrameParser(), 0, 0
        first = rng.randrange(len(self.words))
        with contextlib.suppress(RemoteProtocolError):
            for number, words in enumerate(self.words):
                if number == self.opened_at:
                    self._opens_to(node_id)
                for _ in range(rng.randrange(1, 3) if number >= first and words else 0):
                    words = mutate(rng, words, rng.randrange(len(words))) or words
                    mutations += 1
                batch, sequence = as_bytes(words, sequence)
                if number >= first and rng.random() < 0.05:
                    batch = spoil(rng, batch)
                    mutations += 1
                if self._hears(node_id, parser.receive(batch)):
                    break
        self.hub.leave(node_id)
        self.hub.settle()
        return mutations

    def _hears(self, node_id: NodeId, frames: list[Frame]) -> bool:
        """Do with a batch what the hub's driver does; whether the link is over."""
        link = self.hub.members[node_id].joined.hub.link
        over = self.hub.act(node_id, link.receive(frames, self.hub.now)) is not None
        self.hub.settle()
        self._says(node_id)
        return over or link.lost is not None

    def _says(self, node_id: NodeId) -> None:
        """What the hub has to say to an agent that is played goes nowhere."""
        while self.hub.members[node_id].joined.hub.link.data_to_send(self.hub.now):
            pass

    def _opens_to(self, node_id: NodeId) -> None:
        """A bystander opens a stream to the agent that is played."""
        member = self.hub.members[self.one]
        member.link.send(member.open(node_id, 10_024), bytes(30_000))
        self.hub.settle()
        self._says(node_id)

    def nothing_is_left(self) -> None:
        """The hub has two members and one stream, and owes nobody anything."""
        assert len(self.hub.roster.nodes) == 3
        assert self.hub.router.stream_count == 1
        assert list(self.hub.members[self.one].answers) == [self.stream]
        for member in self.hub.members.values():
            for end in member.joined.ends:
                assert len(end.link.streams) == 1
                assert (end.link.budget.reserved, end.link.lost) == (0, None)
                assert (end.link._control_bytes, end.link._ledger.control, end.link._ledger.flight) == (0, 0, 0)


class TestCore:
    """The sans-I/O core, driven as the hub drives it."""

    def test_the_recorded_words_are_good_ones(self) -> None:
        """Unchanged they lead to the goodbye at their end: a mutation is the only reason for a breach."""
        core = Core()
        node_id = core.hub.join()
        core.hub.members[node_id].up = False
        parser, sequence = FrameParser(), 0
        over = []
        for number, words in enumerate(core.words):
            if number == core.opened_at:
                core._opens_to(node_id)
            batch, sequence = as_bytes(words, sequence)
            over.append(core._hears(node_id, parser.receive(batch)))
        assert over == [False] * (len(over) - 1) + [True]
        kinds = {piece.kind for words in core.words for piece in words}
        assert len(kinds) >= 10, kinds

    @pytest.mark.parametrize("count", FRAMES)
    def test_mutated_frames_of_agents_with_the_secret(self, count: int) -> None:
        """RemoteProtocolError or nothing; the bystanders' stream goes on, and no memory, stream or budget is kept."""
        rng, core = random.Random(count), Core()
        done = self.feed(core, rng, count // 10)
        before = memory_blocks()
        while done < count:
            done += self.feed(core, rng, 500)
        assert memory_blocks() - before < NOISE_BLOCKS
        core.hub.wait(1)
        core.nothing_is_left()

    def feed(self, core: Core, rng: random.Random, count: int) -> int:
        """Some lives with this many mutations."""
        done = 0
        while done < count:
            done += core.life(rng)
            core.echoes()
        return done

    @pytest.mark.parametrize("count", HANDSHAKES)
    def test_mutated_handshakes_and_rosters(self, count: int) -> None:
        """Whoever reads the JSON of a peer gets a value or a RemoteProtocolError, and the refusal can be told."""
        rng = random.Random(count)
        hello = replace(HELLO, busy=(80, 443), name="n", application={"versions": {"ray": "2.60", "list": [1]}})
        bodies = [hello.to_json(), WELCOME.to_json(), Taken(NodePort(NodeId(2), 80)).to_json()]
        orders = Orders((NodePorts.of(WELCOME.node),), (NodeId(3),))
        bodies += [Listening((NodeId(2), NodeId(3))).to_json(), orders.to_json(), Ready().to_json()]
        for _ in range(count):
            payload = mutate_json(rng, encode_json(FrameType.HELLO, rng.choice(bodies)))
            for read in (Hello.from_json, Welcome.from_json, roster_of_hub, roster_of_agent):
                with contextlib.suppress(RemoteProtocolError):
                    read(decode_json(Frame(FrameType.HELLO, payload=payload)))


class TestMessages:
    """WebSocket messages: TLS records, lengths and zstd blocks that are not what they were."""

    @pytest.mark.parametrize("count", MESSAGES)
    def test_mutated_messages(self, count: int) -> None:
        """Whatever layer is damaged, the carrier gives the true frames or raises RemoteProtocolError."""
        rng = random.Random(count)
        true = data_frame(bytes(range(100)) * 3)
        for number in range(count):
            agent, hub, _, into = carriers()
            for _ in range(3):
                at_once(agent.send(true))
            sent = into.take()
            if number % 2:
                into.put(*self.altered(rng, sent))
            else:
                agent._session.send(self.batch(rng, agent, true))
                into.put(sent[0], agent._session.data_to_send())
            heard = 0
            with contextlib.suppress(RemoteProtocolError):
                while not into.inbox.empty():
                    frames = at_once(hub.receive())
                    heard += sum(HEADER + len(frame.payload) for frame in frames)
                    assert number % 2 == 0 or all(frame.payload == true[HEADER:] for frame in frames)
            assert heard <= 4 * MAX_BATCH

    def altered(self, rng: random.Random, messages: list[bytes]) -> list[bytes]:
        """What a middlebox makes of messages."""
        at = rng.randrange(len(messages))
        match rng.randrange(4):
            case 0:
                return [*messages[:at], messages[at], *messages[at:]]
            case 1:
                return messages[:at] + messages[at + 1 :]
            case 2:
                return [messages[at], *messages[:at], *messages[at + 1 :]]
            case _:
                return [*messages[:at], spoil(rng, messages[at]), *messages[at + 1 :]]

    def batch(self, rng: random.Random, agent: Carrier, true: bytes) -> bytes:
        """What an agent with the secret and broken code puts into TLS: a length that lies, or zstd that is none."""
        compressor = agent._compressor
        assert compressor is not None
        size = rng.choice([len(true), 0, len(true), 30_000, MAX_BATCH, MAX_BATCH + 1, 3_000_000])
        stored = compressor.compress((true * (size // len(true) + 1))[:size]) + compressor.flush(1)
        said = rng.choice([size, 0, size + 1, max(size - 1, 0), MAX_BATCH, 2**24 - 1])
        batch = min(said, 2**24 - 1).to_bytes(3, "big") + stored
        return spoil(rng, batch) if rng.random() < 0.5 else batch


HEADER = len(encode_header(FrameType.PING, 8))


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


PING = b"\x89\xfd" + bytes(4) + b"p" * 125  # a masked WebSocket ping, as long as one may be
BATCHES = 8


@in_loop
async def test_a_flood_of_tiny_frames_kept_the_loop_from_everybody_else() -> None:
    """Some KB of compressed frames are seconds of work: between two messages the loop serves the others."""
    agent, hub, _, into = carriers()
    pongs = (encode_header(FrameType.PONG, 8) + bytes(8)) * (MAX_BATCH // 20)
    for _ in range(BATCHES):
        await agent.send(pongs)
    into.put(*(sent := into.take()))
    assert sum(map(len, sent)) < 20_000
    link = Link(initiator=False, now=time.monotonic())
    carrying = asyncio.create_task(carry(link, hub, Wake(), lambda events: None))
    turns = 0
    while not into.inbox.empty():
        await asyncio.sleep(0)
        turns += 1
    carrying.cancel()
    await asyncio.gather(carrying, return_exceptions=True)
    assert turns >= BATCHES


@in_loop
async def test_websocket_pings_of_a_stranger_who_never_reads_filled_the_memory(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """websockets answers each by itself: whoever takes no answers is dropped before they are more than a message."""
    path = tmp_path_factory.mktemp("door") / "hub.sock"
    async with open_door(UnixListen(path)) as (door, _):
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(REQUEST)
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        (stranger,) = door.gate._strangers
        waiting = 0
        with contextlib.suppress(ConnectionError):
            for _ in range(1000):
                writer.write(PING * 100)
                await writer.drain()
                await asyncio.sleep(0)
                waiting = max(waiting, stranger.transport.get_write_buffer_size())
        writer.transport.abort()
        assert waiting <= 2 * MAX_MESSAGE


@in_loop
async def test_a_hello_whose_refusal_was_too_long_to_tell_was_a_bug(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """What the refusal quotes of a stranger's words is short: it is told, and nothing breaks at the hub."""
    path = tmp_path_factory.mktemp("door") / "hub.sock"
    async with open_door(UnixListen(path)) as (_, at):
        carrier, _ = await hail(at)
        payload = json.dumps({"protocol": "\u20ac" * 15_000}, ensure_ascii=False).encode()
        await carrier.send(encode_header(FrameType.HELLO, len(payload)) + payload)
        (answer,) = await carrier.receive()
        assert decode_json(answer)["code"] == "protocol"
        await carrier.close()
