"""A joiner before ngrok's edge: what the edge answers in the hub's place reaches the person as a sentence."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from raycolab.errors import ClusterError
from raycolab.node.joiner import JoinerOptions, JoinerSupervisor
from raycolab.providers import ngrok_sentence
from tests.in_loop import in_loop
from tunnel.address import JoinAddress


@asynccontextmanager
async def edge(answers: Sequence[str]) -> AsyncIterator[JoinAddress]:
    """A server that answers each WebSocket handshake with the next of these headers, and then with the last one."""
    left = list(answers)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        header = left.pop(0) if len(left) > 1 else left[0]
        writer.write(f"HTTP/1.1 404 Not Found\r\n{header}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield JoinAddress(f"ws://127.0.0.1:{port}", bytes(32), bytes(range(32)))


def code(number: int) -> str:
    """The header by which the edge names its error."""
    return f"Ngrok-Error-Code: ERR_NGROK_{number}\r\n"


async def join(address: JoinAddress, run_dir: Path, reach_s: float = 0.5) -> tuple[str, list[str]]:
    """What joining fails with, and what was said before."""
    said: list[str] = []
    options = JoinerOptions(reach_s=reach_s)
    joiner = JoinerSupervisor(address, options, run_dir, os.environ, lambda state, text: said.append(text))
    with pytest.raises(ClusterError) as caught:
        await joiner.run()
    return str(caught.value), said


@pytest.mark.parametrize("number", [702, 725, 727, 734, 3200, 8012])
@in_loop
async def test_what_the_edge_refuses_is_a_sentence_at_the_joiner(number: int, tmp_path: Path) -> None:
    """Said at once, while the joiner goes on trying, and again as what joining failed with."""
    async with edge([code(number)]) as address:
        failure, said = await join(address, tmp_path)
    assert failure == ngrok_sentence(f"ERR_NGROK_{number}")
    assert said == [f"connecting to {address.url}", failure]


@in_loop
async def test_each_reason_is_said_once(tmp_path: Path) -> None:
    """A head that is starting is offline first, then not listening yet."""
    async with edge([code(3200), code(3200), code(8012)]) as address:
        _, said = await join(address, tmp_path, reach_s=2.0)
    assert said[1:] == [ngrok_sentence("ERR_NGROK_3200"), ngrok_sentence("ERR_NGROK_8012")]


@in_loop
async def test_another_server_at_the_address_is_told_by_its_status(tmp_path: Path) -> None:
    """Not everything before a hub is ngrok."""
    async with edge(["Server: nginx\r\n"]) as address:
        failure, said = await join(address, tmp_path)
    assert failure.startswith(f"The hub at {address.url} cannot be reached: HTTP 404.")
    assert len(said) == 1
