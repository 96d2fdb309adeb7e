"""What a middlebox that sees and alters everything gets: nothing to read, nothing to use, and one WebSocket to break.

It has its own WebSocket to each side of every dial, so the `Meddler` holds whole messages in its hand; what only passes
is captured by `tests.tunnel.edge.Edge`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

import pytest
from msgspec.structs import replace
from websockets.asyncio.client import unix_connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, unix_serve
from websockets.exceptions import ConnectionClosed

from tests.in_loop import in_loop
from tests.tunnel.door import HELLO, hail
from tests.tunnel.edge import Edge
from tests.tunnel.mesh import Mesh, echo, eventually, nothing_left
from tunnel.dial import dial
from tunnel.errors import Refused
from tunnel.frames import FrameType, encode_header, encode_json
from tunnel.gate import PATH
from tunnel.listen import UnixListen
from tunnel.messages import Resume
from tunnel.secure import prove
from tunnel.transport import MAX_MESSAGE

MARKER = b"the-marker-that-programs-and-applications-said"

Change = Callable[[list[bytes]], Iterable[bytes]]
"""What a meddler makes of one message and those it kept back; what it leaves in the list is kept back."""


class Meddler:
    """A middlebox with a WebSocket to each side, which keeps all messages and may change one of them."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "edge.sock"
        self.messages: list[tuple[str, bytes]] = []  # direction and message, all that ever passed
        self.requests: list[str] = []  # path and headers of every dial
        self._hub = str(folder / "hub.sock")
        self._change: Change | None = None
        self._direction = ""
        self.changed = 0

    def change_next(self, direction: str, change: Change) -> None:
        """Do this to the next messages of that direction, until one was changed."""
        self._direction, self._change = direction, change

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Stand between agents and the hub."""
        options = {"compression": None, "max_size": MAX_MESSAGE, "ping_interval": None, "close_timeout": 0.2}
        async with await unix_serve(self._serve, str(self.path), **options):
            yield

    async def _serve(self, agent: ServerConnection) -> None:
        assert agent.request is not None
        self.requests.append(f"{agent.request.path}\n{agent.request.headers}")
        options = {"compression": None, "max_size": MAX_MESSAGE, "ping_interval": None, "close_timeout": 0.2}
        async with unix_connect(self._hub, f"ws://localhost{PATH}", **options) as hub:
            ways = [self._relay("up", agent, hub), self._relay("down", hub, agent)]
            tasks = [asyncio.create_task(way) for way in ways]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _relay(self, direction: str, source: Connection, target: Connection) -> None:
        held: list[bytes] = []
        with contextlib.suppress(ConnectionClosed):
            async for message in source:
                assert isinstance(message, bytes)
                self.messages.append((direction, message))
                held.append(message)
                if self._change is not None and direction == self._direction:
                    for altered in self._change(held):
                        await target.send(altered)
                    if not held:
                        self._change = None
                        self.changed += 1
                else:
                    for kept in held:
                        await target.send(kept)
                    held.clear()


def flipped(held: list[bytes]) -> Iterable[bytes]:
    """One bit of a message is another one."""
    message = held.pop()
    at = random.Random(len(message)).randrange(len(message))
    return [message[:at] + bytes([message[at] ^ 4]) + message[at + 1 :]]


def dropped(held: list[bytes]) -> Iterable[bytes]:
    """A message does not arrive."""
    held.clear()
    return []


def doubled(held: list[bytes]) -> Iterable[bytes]:
    """A message arrives twice."""
    return [held[0], held.pop()]


def swapped(held: list[bytes]) -> Iterable[bytes]:
    """Two messages change places."""
    if len(held) < 2:
        return []
    later, earlier = held
    held.clear()
    return [earlier, later]


@contextlib.asynccontextmanager
async def meddled(folder: Path) -> AsyncIterator[tuple[Mesh, Meddler]]:
    """A mesh whose agents come through a meddler."""
    meddler = Meddler(folder)
    async with Mesh(folder, via=meddler.path) as mesh, meddler.open():
        yield mesh, meddler
        for member in mesh.members:
            await member.leave()


class TestReplaying:
    """What was said once cannot be used again."""

    @in_loop
    async def test_a_captured_handshake_opens_nothing(self, tmp_path: Path) -> None:
        """Every message an agent sent, sent again on a new WebSocket: TLS itself refuses it, and nobody joined."""
        async with meddled(tmp_path) as (mesh, meddler):
            await mesh.join()
            said = [message for direction, message in meddler.messages if direction == "up"]
            async with unix_connect(str(mesh.path), f"ws://localhost{PATH}", compression=None) as thief:
                heard: list[str | bytes] = []
                with contextlib.suppress(ConnectionClosed):
                    for once in said:
                        await thief.send(once)
                    async for message in thief:
                        heard.append(message)
            assert len(heard) <= 1  # the hub's half of a TLS handshake that the thief cannot finish
            assert mesh.log.count("joined") == 1
            assert len(mesh.hub.peers) == 1

    @in_loop
    async def test_a_proof_made_for_another_challenge_opens_nothing(self, tmp_path: Path) -> None:
        """Even who had read a HELLO inside TLS could not say it again."""
        async with nothing_left(), Mesh(tmp_path) as mesh:
            first, challenge = await hail(UnixListen(mesh.path))
            proof = prove(mesh.identity.secret, mesh.identity.pin, challenge)
            second, _ = await hail(UnixListen(mesh.path))
            payload = encode_json(FrameType.HELLO, replace(HELLO, proof=proof).to_json())
            await second.send(encode_header(FrameType.HELLO, len(payload)) + payload)
            assert [frame.type for frame in await second.receive()] == [FrameType.REFUSED]
            assert mesh.hub.peers == []
            for carrier in (first, second):
                await carrier.close()


class TestStolenLinks:
    """Resuming what is somebody else's; without the instance it is refused, as test_hub shows."""

    @in_loop
    async def test_an_agent_with_the_secret_and_a_stolen_link_id_is_refused(self, tmp_path: Path) -> None:
        """A second agent that knows the link's id and has its own instance is refused; the owner is not disturbed."""
        async with Mesh(tmp_path) as mesh:
            owner, _ = await mesh.join(), await mesh.join()
            peer = mesh.peer(owner)
            thief = replace(HELLO, instance="thief", namespace="thief")
            joined, carrier = await dial(mesh.address, thief, 5.0)
            assert joined.link != peer.link_id
            with pytest.raises(Refused) as caught:
                await dial(mesh.address, replace(thief, resume=Resume(peer.link_id, peer.link.received_count)), 5.0)
            assert caught.value.code == "unknown-link"
            with pytest.raises(Refused):  # and the instance without the id is not enough either
                await dial(mesh.address, replace(thief, instance=peer.instance, resume=Resume(joined.link, 0)), 5.0)
            await carrier.close()
            await mesh.echoes(owner, await mesh.serve(None, echo))
            assert owner.log.count("down") == 0


def spellings(secret: bytes) -> list[bytes]:
    """The ways a secret is written."""
    urlsafe = base64.urlsafe_b64encode(secret).rstrip(b"=")
    return [
        secret,
        base64.b64encode(secret).rstrip(b"="),
        urlsafe,
        secret.hex().encode(),
        secret.hex().upper().encode(),
    ]


class TestCapture:
    """All that passes at the edge, byte by byte and message by message."""

    @in_loop
    async def test_nothing_that_passes_can_be_read(self, tmp_path: Path) -> None:
        """Neither the secret in any spelling nor what streams and applications said, in either direction."""
        edge = Edge(f"unix:{tmp_path}/outer.sock", f"unix:{tmp_path}/edge.sock", capture_bytes=64 << 20)
        meddler = Meddler(tmp_path)
        async with edge, Mesh(tmp_path, via=tmp_path / "outer.sock") as mesh, meddler.open():
            one, two = await mesh.join(hello={"said": MARKER.decode()}), await mesh.join()
            reader, writer = await mesh.dial(one, await mesh.serve(two, echo))
            writer.write(MARKER * 50)
            assert await reader.readexactly(len(MARKER) * 50) == MARKER * 50
            writer.close()
            mesh.hub.message(one.node.id, {"said": MARKER.decode()})
            one.agent.message({"said": MARKER.decode()})
            await one.log.saw("message")
            await mesh.log.saw("message")
            edge.cut()
            await one.log.saw("up")
            await mesh.echoes(one, await mesh.serve(two, echo, at=1))
            for member in mesh.members:
                await member.leave()
            passed = bytes(edge.captured), b"".join(message for _, message in meddler.messages)
            words = [*spellings(mesh.identity.secret), MARKER, base64.b64encode(MARKER)[:40]]
            assert {direction for direction, _ in meddler.messages} == {"up", "down"}
            assert min(map(len, passed)) > 300_000
            assert [word for word in words for capture in passed if word in capture] == []


class TestAltering:
    """What is altered under way ends one WebSocket, and the link goes on."""

    @pytest.mark.parametrize("direction", ["up", "down"])
    @pytest.mark.parametrize("change", [flipped, dropped, doubled, swapped])
    @in_loop
    async def test_a_message_that_is_not_what_it_was(self, change: Change, direction: str, tmp_path: Path) -> None:
        """A bit flipped, a message lost, doubled or out of turn: a resumption, all bytes in order, no node lost."""
        async with meddled(tmp_path) as (mesh, meddler):
            one, two = await mesh.join(), await mesh.join()
            target = await mesh.serve(two, echo)
            await mesh.echoes(one, target)
            meddler.change_next(direction, change)
            await mesh.echoes(one, target)
            assert meddler.changed == 1
            await eventually(lambda: one.log.count("up") + two.log.count("up") == 1)
            await mesh.echoes(two, await mesh.serve(one, echo))
            assert one.log.count("down") + two.log.count("down") == 1
            assert [log.count("left") for log in (mesh.log, one.log, two.log)] == [0, 0, 0]
