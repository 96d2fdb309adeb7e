"""What one hostile peer can cost a hub: memory has a bound, and everybody else has a turn.

Each test is named after what an attack on a real hub showed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time

import pytest

from tests.in_loop import in_loop
from tests.tunnel.carriers import carriers
from tests.tunnel.door import hail, open_door
from tests.tunnel.test_fuzz_hub import REQUEST
from tunnel.frames import FrameType, decode_json, encode_header
from tunnel.link import Link
from tunnel.listen import UnixListen
from tunnel.transport import MAX_BATCH, MAX_MESSAGE, Wake, carry

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
