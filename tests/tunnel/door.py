"""A hub's gate with real sockets, for tests: it welcomes whoever knows the secret."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from websockets.asyncio.client import connect, unix_connect
from websockets.exceptions import ConnectionClosed

from tests.tunnel.mesh import identity, nothing_left
from tunnel.address import JoinAddress, unix_url
from tunnel.dial import dial
from tunnel.errors import Refused
from tunnel.frames import FrameType
from tunnel.gate import PATH, Gate, Visitor
from tunnel.listen import Listen, UnixListen
from tunnel.messages import Hello, Welcome
from tunnel.nodes import NodeId
from tunnel.secure import SecureSession
from tunnel.transport import Carrier

__all__ = ["HELLO", "WELCOME", "Door", "address_of_hub", "get_in", "hail", "open_door"]

HELLO = Hello(
    proof=b"",
    instance="0123456789abcdef",
    name="gpu",
    ports=8,
    namespace="3b1d/4026531840",
    busy=(10_100, 20_000),
    application={"python": "3.13"},
)
WELCOME = Welcome(
    link="cafe",
    node_id=NodeId(3),
    name="joiner-2",
    first=10_016,
    count=32,
    incarnation="beef",
    grace_s=1.0,
    received=7,
    application={"ray": "2.60.0"},
)


class Door:
    """A gate that welcomes everybody it is given, and remembers them."""

    def __init__(self) -> None:
        self.visitors: list[Visitor] = []
        self.refusal: Refused | None = None
        self.gate = Gate(identity(), self._enter)

    async def _enter(self, visitor: Visitor) -> None:
        self.visitors.append(visitor)
        if self.refusal is not None:
            raise self.refusal
        await visitor.answer(WELCOME)
        with contextlib.suppress(ConnectionClosed):
            await visitor.carrier.receive()


@contextlib.asynccontextmanager
async def open_door(listen: Listen) -> AsyncIterator[tuple[Door, Listen]]:
    """A door that accepts there as long as the block, and the address bound; it leaves nothing."""
    door = Door()
    async with nothing_left():
        bound = await door.gate.open(listen)
        try:
            yield door, bound
        finally:
            await door.gate.close()


def address_of_hub(at: Listen, *, pin: bytes | None = None, secret: bytes | None = None) -> JoinAddress:
    """The join address of the door there, or one with another pin or secret."""
    url = unix_url(str(at.path)) if isinstance(at, UnixListen) else f"ws://{at}"
    return JoinAddress(url, pin or identity().pin, secret or identity().secret)


async def get_in(at: Listen, **other: bytes) -> Carrier:
    """Dial once and be welcomed."""
    _, carrier = await dial(address_of_hub(at, **other), HELLO, 5.0)
    return carrier


async def hail(at: Listen) -> tuple[Carrier, bytes]:
    """A stranger's carrier past TLS, which has proved nothing yet, and the challenge it was sent."""
    if isinstance(at, UnixListen):
        websocket = await unix_connect(str(at.path), f"ws://localhost{PATH}", compression=None)
    else:
        websocket = await connect(f"ws://{at}{PATH}", compression=None)
    carrier = Carrier(websocket, SecureSession.client(identity().pin))
    frames = await carrier.handshake() or await carrier.receive()
    assert [frame.type for frame in frames] == [FrameType.CHALLENGE]
    return carrier, frames[0].payload
