"""The control socket with real clients and servers on one machine, and the data directory's record of a live head."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar, TypeVar

import pytest

from raycolab.errors import ClusterError, NoHeadError, UnknownSweepError
from raycolab.node import api, rpc
from raycolab.node.data_dir import DataDir, HeadRecord, make_run_dir
from raycolab.node.rpc import FRAME_BYTES, Answer, Channel, Client, Place, Server
from tests.in_loop import LoopThread, in_loop

A = TypeVar("A")


@pytest.fixture
def path() -> Iterator[Path]:
    """Where a control socket may lie."""
    folder = make_run_dir()
    yield folder / "control.sock"
    folder.rmdir()


@pytest.fixture
def client(path: Path) -> Iterator[Client]:
    """A client of whoever listens there."""
    made = Client(lambda: Place(str(path), "The head ended before it answered."))
    yield made
    made.close()


@asynccontextmanager
async def serving(path: Path, answer: Answer) -> AsyncIterator[Server]:
    """A server that answers with `answer`."""
    server = Server(path, answer)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


async def ask(client: Client, request: api.Request[A], timeout_s: float = 10.0) -> A:
    """A client's request, from a thread, since the client blocks."""
    return await asyncio.to_thread(client.ask, request, timeout_s=timeout_s)


class Head:
    """Answers `Status` with how many requests came, and knows the connections they came over."""

    def __init__(self) -> None:
        self.requests = 0
        self.channels: set[Channel] = set()

    async def answer(self, body: bytes, channel: Channel) -> bytes:
        """One more."""
        self.requests += 1
        self.channels.add(channel)
        return api.encode({"requests": self.requests})


class Brief(api.Request[dict[str, int]], frozen=True):
    """A question that is answered at once or not at all."""

    timeout_s: ClassVar[float] = 0.1


async def stall(body: bytes, channel: Channel) -> bytes:
    """No answer."""
    await asyncio.sleep(60)
    return body


@in_loop
async def test_a_client_keeps_its_connection(path: Path, client: Client) -> None:
    """Request after request, large ones too; only this user may connect."""
    head = Head()
    async with serving(path, head.answer):
        for count in range(1, 6):
            assert await ask(client, api.Status()) == {"requests": count}
        await ask(client, api.Pull("x" * 3_000_000, "p", "head"))
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert len(head.channels) == 1


@in_loop
async def test_a_request_that_is_held_blocks_no_other_thread(path: Path, client: Client) -> None:
    """A notebook that waits for a trial still says that it lives; both connections are kept."""
    released = asyncio.Event()
    channels: set[Channel] = set()

    async def hold(body: bytes, channel: Channel) -> bytes:
        channels.add(channel)
        if isinstance(api.decode(body, api.EngineRequest), api.Pull):
            await released.wait()
            return api.encode(api.Pulled())
        return api.encode(api.HeartbeatAnswer(held=True))

    async with serving(path, hold):
        for _ in range(3):
            released.clear()
            pulling = asyncio.create_task(ask(client, api.Pull("s", "p", "head")))
            assert (await ask(client, api.Heartbeat("s", "p", 1))).held
            released.set()
            assert await pulling == api.Pulled()
    assert len(channels) == 2


@in_loop
async def test_a_request_from_a_joined_tab_outlasts_an_outage_of_its_link(path: Path) -> None:
    """It waits for as long as the link may be away, beside what the head may take; beside the head it does not."""
    back = asyncio.Event()

    async def away(body: bytes, channel: Channel) -> bytes:
        await back.wait()
        return api.encode({"requests": 1})

    joined, beside = (Client(lambda away_s=away_s: Place(str(path), "ended", away_s)) for away_s in (1000.0, 0.0))
    async with serving(path, away):
        with pytest.raises(ClusterError, match=r"did not answer within 0\.1 s"):
            await asyncio.to_thread(beside.ask, Brief())
        asking = asyncio.create_task(asyncio.to_thread(joined.ask, Brief()))
        await asyncio.wait([asking], timeout=2 * Brief.timeout_s)
        back.set()
        assert await asking == {"requests": 1}
    joined.close()
    beside.close()


@in_loop
async def test_a_head_that_was_started_again_is_asked_again(path: Path, client: Client) -> None:
    """Where the connection that was kept is of the former one; once, and on a new connection."""
    first, second = Head(), Head()
    async with serving(path, first.answer):
        await ask(client, api.Status())
    async with serving(path, second.answer):
        assert await ask(client, api.Status()) == {"requests": 1}
    with pytest.raises(NoHeadError):
        await ask(client, api.Status())


@in_loop
async def test_a_head_that_dies_over_a_request_is_not_asked_for_ever(path: Path, client: Client) -> None:
    """The connection it was asked over may have been old: the second time it is new, and that is told."""
    asked: list[bytes] = []

    async def die(body: bytes, channel: Channel) -> bytes:
        asked.append(body)
        if len(asked) > 1:
            next(task for task in asyncio.all_tasks() if task.get_name() == "connection").cancel()
            await asyncio.sleep(60)
        return api.encode({})

    real = Channel.run

    async def named(channel: Channel) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.set_name("connection")
        await real(channel)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Channel, "run", named)
        async with serving(path, die):
            await ask(client, api.Status())
            with pytest.raises(ClusterError, match="The head ended before it answered"):
                await ask(client, api.Status())
    assert len(asked) == 3


@in_loop
async def test_a_no_is_raised_as_its_class(path: Path, client: Client) -> None:
    """The exit code of the command line is the head's; the connection is kept."""
    channels: set[Channel] = set()

    async def refuse(body: bytes, channel: Channel) -> bytes:
        channels.add(channel)
        raise UnknownSweepError("No sweep x: run `raycolab status`.")

    async with serving(path, refuse):
        for _ in range(2):
            with pytest.raises(UnknownSweepError, match="No sweep x: run `raycolab status`"):
                await ask(client, api.Find("x"))
    assert len(channels) == 1


@in_loop
async def test_an_answer_of_another_version_is_told(path: Path, client: Client) -> None:
    """Rather than shown as a bug."""

    async def strange(body: bytes, channel: Channel) -> bytes:
        return api.encode([1, 2])

    async with serving(path, strange):
        with pytest.raises(ClusterError, match="is of another version of raycolab: end it with `raycolab down`"):
            await ask(client, api.Facts())


@pytest.mark.parametrize("state", ["absent", "dead"])
def test_nobody_listening_is_no_head(path: Path, client: Client, state: str) -> None:
    """A socket file without a process behind it is as good as none."""
    if state == "dead":
        with socket.socket(socket.AF_UNIX) as former:
            former.bind(str(path))
    with pytest.raises(NoHeadError, match="No head answers here: start one with"):
        client.ask(api.Status())
    path.unlink(missing_ok=True)


@in_loop
async def test_a_silent_head_ends_a_request_at_its_deadline(path: Path, client: Client) -> None:
    """A client never waits longer than it said, and the head stops working for it."""
    cancelled = asyncio.Event()

    async def notice(body: bytes, channel: Channel) -> bytes:
        try:
            return await stall(body, channel)
        finally:
            cancelled.set()

    async with serving(path, notice):
        with pytest.raises(ClusterError, match=r"The head did not answer within 0\.2 s: it is busy or stalled"):
            await ask(client, api.Status(), timeout_s=0.2)
        await asyncio.wait_for(cancelled.wait(), 5)


@in_loop
async def test_a_request_that_ends_the_head_is_answered(path: Path, client: Client) -> None:
    """`Shutdown` gets its yes although the server closes at once."""
    stop = asyncio.Event()

    async def shut_down(body: bytes, channel: Channel) -> bytes:
        stop.set()
        return api.encode(None)

    async with serving(path, shut_down):
        asking = asyncio.create_task(ask(client, api.Shutdown()))
        await stop.wait()
    await asking
    with pytest.raises(NoHeadError):
        await ask(client, api.Status())


@in_loop
async def test_a_head_that_ends_in_mid_answer_is_said(path: Path, client: Client) -> None:
    """A request that the closing server gives up is no mystery."""
    asked = asyncio.Event()

    async def begin(body: bytes, channel: Channel) -> bytes:
        asked.set()
        return await stall(body, channel)

    async with serving(path, begin):
        asking = asyncio.create_task(ask(client, api.Status(), timeout_s=30))
        await asked.wait()
    with pytest.raises(ClusterError, match="The head ended before it answered"):
        await asking


@pytest.mark.parametrize("words", [b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\1\xc1", struct.pack(">I", FRAME_BYTES + 1)])
@in_loop
async def test_what_is_not_a_request_is_refused(path: Path, client: Client, words: bytes) -> None:
    """A stranger's bytes, or a frame that is too long, get an error and the end of the connection."""
    head = Head()
    async with serving(path, head.answer):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(words)
        said = await reader.read()
        assert b"The head received something that is not a valid request." in said
        writer.close()
        assert await ask(client, api.Status()) == {"requests": 1}


@in_loop
async def test_who_says_nothing_or_half_a_word_is_not_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first request and in the midst of one; who has asked once may be silent for as long as he likes."""
    monkeypatch.setattr(rpc, "SILENCE_S", 0.2)
    head = Head()
    async with serving(path, head.answer):
        for words in (b"", struct.pack(">I", 100) + b"half"):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(words)
            assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()


@in_loop
async def test_who_does_not_read_his_answer_is_left(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for him in memory has an end, and others are served."""
    monkeypatch.setattr(rpc, "SEND_S", 0.2)
    ended = asyncio.Event()

    async def much(body: bytes, channel: Channel) -> bytes:
        channel.on_end = ended.set
        return api.encode("x" * 20_000_000)

    async with serving(path, much):
        _, writer = await asyncio.open_unix_connection(path)
        request = api.encode([0, 1, 0])
        writer.write(struct.pack(">I", len(request)) + request)
        await asyncio.wait_for(ended.wait(), 10)
        writer.close()


@in_loop
async def test_connections_are_bounded(path: Path, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is idle makes room for the next; while all are busy the next is told so."""
    monkeypatch.setattr(rpc, "MAX_CLIENTS", 3)
    head = Head()
    async with serving(path, head.answer):
        idle = [await asyncio.open_unix_connection(path) for _ in range(5)]
        assert await ask(client, api.Status()) == {"requests": 1}
        assert await asyncio.wait_for(idle[0][0].read(), 10) == b""
        for _, writer in idle:
            writer.close()
    client.close()
    all_busy = asyncio.Semaphore(0)

    async def hold(body: bytes, channel: Channel) -> bytes:
        all_busy.release()
        return await stall(body, channel)

    async with serving(path, hold):
        busy = [asyncio.create_task(ask(client, api.Status())) for _ in range(3)]
        for _ in busy:
            await all_busy.acquire()
        with pytest.raises(ClusterError, match="Too many programs talk to the head"):
            await ask(client, api.Status())
    await asyncio.gather(*busy, return_exceptions=True)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@in_loop
async def test_another_user_gets_no_answer(path: Path) -> None:
    """Even one who may open the file."""
    code = (
        "import os, socket, sys\n"
        "connection = socket.socket(socket.AF_UNIX)\n"
        "os.setuid(65534)\n"
        "connection.connect(sys.argv[1])\n"
        "try:\n"
        "    connection.sendall(bytes([0, 0, 0, 4, 0x93, 0, 1, 0]))\n"
        "    print(connection.recv(99))\n"
        "except OSError:\n"  # it was shown the door while it spoke
        "    print(b'')\n"
    )
    head = Head()
    async with serving(path, head.answer):
        os.chmod(path.parent, 0o711)
        os.chmod(path, 0o666)
        run = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
        )
    assert (run.stdout, head.requests) == ("b''\n", 0)


def test_a_fork_makes_a_connection_of_its_own(path: Path, client: Client) -> None:
    """Two processes on one connection would take each other's answers."""
    head, loop = Head(), LoopThread()
    server = Server(path, head.answer)
    loop.run(server.start())
    client.ask(api.Status())
    if (child := os.fork()) == 0:
        try:
            client.ask(api.Status())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    client.ask(api.Status())
    loop.run(server.close())
    loop.end()
    assert (head.requests, len(head.channels)) == (3, 2)


@in_loop
async def test_an_idle_engine_does_not_hold_a_closing_server(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing ends the engine's connection without the grace that a request has."""
    monkeypatch.setattr(rpc, "CLOSE_GRACE_S", 1000.0)
    line = rpc.EngineLine(lambda: None)

    async def engine_is_up(body: bytes, channel: Channel) -> bytes:
        line.connected(channel)
        return api.encode(None)

    server = Server(path, engine_is_up)
    await server.start()
    supervisor = rpc.SupervisorLine(str(path), stall, lambda body, channel: None)
    engine = asyncio.create_task(supervisor.run())
    await asyncio.wait_for(line.up.wait(), 10)
    asking = asyncio.create_task(line.ask(b"\x01", restart_s=0.1))
    await asyncio.wait_for(server.close(), 60)
    with pytest.raises(ClusterError):
        await asking
    engine.cancel()
    await asyncio.gather(engine, return_exceptions=True)


@in_loop
async def test_a_live_head_is_read_from_its_record(path: Path, tmp_path: Path) -> None:
    """The record counts while its socket is answered, and no longer."""
    data = DataDir(tmp_path)
    record = HeadRecord(os.getpid(), str(path), 1.5, "sqlite://")
    data.save(record)
    async with serving(path, Head().answer):
        assert data.read_head() == record
    assert data.read_head() is None


def test_a_killed_heads_lock_is_free(tmp_path: Path) -> None:
    """The kernel gives the lock back, so a killed head blocks nobody; a live one is named."""
    code = (
        "import sys, time; from raycolab.node.data_dir import DataDir\n"
        "held = DataDir(sys.argv[1]).lock(); print(1, flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as head:
        assert head.stdout is not None
        head.stdout.readline()
        with pytest.raises(ClusterError, match=rf"\(process {head.pid}\)"):
            DataDir(tmp_path).lock()
        head.kill()
    DataDir(tmp_path).lock().release()
