"""Connections in memory, and what each symptom of one comes to; real ones are in `tests/integration`."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import cast

import pytest

from raycolab.errors import ClusterError, RaycolabError, UnknownSweepError, UsageError
from raycolab.node import api, rpc
from raycolab.node.rpc import FRAME_BYTES, Answer, Channel, Client, EngineLine, Place, Server
from raycolab.trials import Outcome, TrialState
from tests.in_loop import in_loop


class Transport:
    """What a writer says of what it holds."""

    def get_write_buffer_size(self) -> int:
        """Nothing."""
        return 0

    def abort(self) -> None:
        """Nothing is held."""


class Writer:
    """The half of a StreamWriter that a channel uses; what is written is read at the other end at once."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self.transport = Transport()
        self._reader = reader

    def write(self, data: bytes) -> None:
        """Let the other end read this."""
        self._reader.feed_data(data)

    async def drain(self) -> None:
        """Never full."""

    def close(self) -> None:
        """The other end reads the end."""
        self._reader.feed_eof()


class Pair:
    """Two ends of one connection: the head's, which asks, and the engine's, which answers."""

    def __init__(self, answer: Answer) -> None:
        readers = asyncio.StreamReader(), asyncio.StreamReader()
        self.heard: list[bytes] = []
        self.to_head = cast(asyncio.StreamWriter, Writer(readers[0]))
        self.head = Channel(readers[0], cast(asyncio.StreamWriter, Writer(readers[1])), nothing)
        self.engine = Channel(readers[1], self.to_head, answer, lambda body, channel: self.heard.append(body))
        self.running = [asyncio.create_task(end.run()) for end in (self.head, self.engine)]

    async def end(self) -> None:
        """The engine's process ends."""
        self.to_head.close()
        await asyncio.wait(self.running)


async def nothing(body: bytes, channel: Channel) -> bytes:
    """Asked of nobody."""
    raise AssertionError


async def echo(body: bytes, channel: Channel) -> bytes:
    """The request as its answer."""
    return body


async def refuse(body: bytes, channel: Channel) -> bytes:
    """A no."""
    raise UnknownSweepError("No sweep x.")


async def stall(body: bytes, channel: Channel) -> bytes:
    """No answer."""
    await asyncio.Event().wait()
    return body


def asked(line: EngineLine, body: bytes = b"\x01") -> asyncio.Task[bytes]:
    """Ask the engine, as the head does."""
    return asyncio.create_task(line.ask(body, restart_s=10))


@in_loop
async def test_answers_may_come_in_any_order() -> None:
    """Each request gets its own."""
    gates = {b"\x01": asyncio.Event(), b"\x02": asyncio.Event()}

    async def later(body: bytes, channel: Channel) -> bytes:
        await gates[body].wait()
        return body

    pair = Pair(later)
    first, second = (asyncio.create_task(pair.head.ask(body)) for body in gates)
    await asyncio.sleep(0)
    gates[b"\x02"].set()
    assert await second == b"\x02"
    assert not first.done()
    gates[b"\x01"].set()
    assert await first == b"\x01"
    await pair.end()


@in_loop
async def test_a_no_is_raised_as_its_class() -> None:
    """And not asked again."""
    pair = Pair(refuse)
    line = EngineLine(lambda: None)
    line.connected(pair.head)
    with pytest.raises(UnknownSweepError, match=r"^No sweep x\.$"):
        await asked(line)
    await pair.end()


@in_loop
async def test_notices_are_heard_and_disturb_no_request() -> None:
    """They want no answer; once the connection has ended they are dropped."""
    pair = Pair(echo)
    pair.head.tell(b"\x05")
    assert await pair.head.ask(b"\x01") == b"\x01"
    await pair.end()
    pair.head.tell(b"\x06")
    assert pair.heard == [b"\x05"]


@in_loop
async def test_what_an_engine_took_with_it_the_next_one_is_asked_again() -> None:
    """Whoever asked does not see the restart; a third engine is left alone: it may be the request that ends them."""
    line = EngineLine(lambda: None)
    reached = asyncio.Event()

    async def reach(body: bytes, channel: Channel) -> bytes:
        reached.set()
        return await stall(body, channel)

    first, second, third = Pair(stall), Pair(reach), Pair(echo)
    line.connected(first.head)
    ends = asked(line)
    await asyncio.sleep(0)
    await first.end()
    assert not line.up.is_set()
    line.connected(second.head)
    await reached.wait()
    await second.end()
    line.connected(third.head)
    with pytest.raises(ClusterError, match="The engine ended before it answered"):
        await ends
    assert await asked(line) == b"\x01"
    await third.end()


@in_loop
async def test_an_engine_that_stays_away_is_said() -> None:
    """After a while; at once where it is not started again, with the reason. What needs no answer is dropped."""
    why: list[str] = []
    line = EngineLine(lambda: why[0] if why else None)
    line.tell(api.NodeLost("joiner-1"))
    with pytest.raises(ClusterError, match=r"^The sweep engine is restarting: try again in a few seconds"):
        await line.ask(b"\x01", restart_s=0.01)
    why.append("It is not started any more.")
    with pytest.raises(ClusterError, match=r"^It is not started any more\.$"):
        await line.ask(b"\x01", restart_s=600)


@in_loop
async def test_the_old_engine_s_end_does_not_hide_the_new_one() -> None:
    """Its connection may end after the next has come."""
    line = EngineLine(lambda: None)
    first, second = Pair(stall), Pair(echo)
    line.connected(first.head)
    line.connected(second.head)
    await first.end()
    assert line.up.is_set()
    assert line.is_heard(second.head)
    assert not line.is_heard(first.head)
    await second.end()


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n", b"\0\0\0\1\xc1", b"\0\0\0\1\x07", (FRAME_BYTES + 1).to_bytes(4, "big")]
)
@in_loop
async def test_garbage_ends_the_connection(garbage: bytes) -> None:
    """Nothing can be trusted after it; what was asked ends, and nobody waits."""
    pair = Pair(stall)
    waiting = asyncio.create_task(pair.head.ask(b"\x01"))
    await asyncio.sleep(0)
    pair.to_head.write(garbage)
    with pytest.raises(ConnectionResetError):
        await waiting
    await asyncio.wait(pair.running)


@in_loop
async def test_a_bug_in_one_request_is_its_answer() -> None:
    """Others are served on."""

    async def stumble(body: bytes, channel: Channel) -> bytes:
        if api.decode_known(body, api.Pause):
            raise ZeroDivisionError
        return body

    pair = Pair(stumble)
    sentence = r"^The head failed in the request 'Pause' \(ZeroDivisionError\): its log says more\. Please report it\.$"
    with pytest.raises(RaycolabError, match=sentence):
        await pair.head.ask(api.encode(api.Pause("x")))
    assert await pair.head.ask(b"\x01") == b"\x01"
    await pair.end()


@in_loop
async def test_one_client_s_many_requests_wait() -> None:
    """No more of them are answered at once than it may have open."""
    running = 0

    async def count(body: bytes, channel: Channel) -> bytes:
        nonlocal running
        running += 1
        assert running <= rpc.CLIENT_REQUESTS
        await asyncio.sleep(0)
        running -= 1
        return body

    pair = Pair(count)
    assert len(await asyncio.gather(*(pair.head.ask(b"\x01") for _ in range(5 * rpc.CLIENT_REQUESTS)))) == 80
    await pair.end()


@in_loop
async def test_a_socket_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """The run directory was deleted beneath the head."""
    path = tmp_path / "gone" / "control"
    with pytest.raises(ClusterError) as refused:
        await Server(path, nothing).start()
    assert re.fullmatch(
        rf"The head's control socket {path} cannot be made \(.*No such file or directory.*\): set TMPDIR to a folder of"
        r" a short path that you may write to, such as /tmp\.",
        str(refused.value),
    )


def test_a_result_that_is_too_long_does_not_blame_main(tmp_path: Path) -> None:
    """Nor is it tried again for a minute: it is what was given that has to change."""
    client = Client(lambda: Place(str(tmp_path / "none"), "ended"))
    long = "x" * (FRAME_BYTES + 1)
    push = api.Push("s", "p", 1, Outcome(TrialState.COMPLETE, {"metric": 1.0, "note": long}))
    with pytest.raises(UsageError, match=r"32 MiB to say.*: send fewer or shorter values"):
        client.ask(push)
    with pytest.raises(UsageError, match="clear the outputs of MAIN"):
        client.ask(api.Declare("{}", long, {}))
