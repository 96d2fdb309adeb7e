"""A fuzzer at the hub: mutated frames before and after authentication break one link, never the hub.

Whatever comes, the core raises RemoteProtocolError and nothing else, two bystanders go on echoing through the same hub,
and what was taken is given back. The mutations begin with the true words of an agent, so that they get past the first
checks. `slow` feeds a hundred times as many. A real hub is in test_fuzz_hub.
"""

from __future__ import annotations

import contextlib
import gc
import random
import sys

import pytest
from msgspec.structs import replace

from tests.tunnel.carriers import at_once, carriers, data_frame
from tests.tunnel.door import HELLO, WELCOME
from tests.tunnel.mutations import Piece, as_bytes, mutate, mutate_json, pieces, spoil
from tests.tunnel.switched import Switched
from tunnel.errors import RemoteProtocolError
from tunnel.frames import Frame, FrameParser, FrameType, ResetCode, decode_json, encode_header, encode_json
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
from tunnel.transport import MAX_BATCH, Carrier

# In CI and `slow`: with the visits of test_fuzz_hub 4,000 and a million mutations.
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
