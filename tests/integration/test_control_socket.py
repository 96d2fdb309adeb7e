"""The control socket with real clients and servers on one machine, and the data directory's record of a live head."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from raycolab.errors import ClusterError, NoHeadError, RaycolabError, UnknownSweepError
from raycolab.node import rpc
from raycolab.node.data_dir import DataDir, HeadRecord, make_run_dir
from raycolab.node.rpc import LINE_BYTES, MAX_CLIENTS, Answer, ControlClient, ControlServer, EngineChannel, Peer
from tests.in_loop import in_loop


@pytest.fixture
def path() -> Iterator[Path]:
    """Where a control socket may lie."""
    folder = make_run_dir()
    yield folder / "control.sock"
    folder.rmdir()


@asynccontextmanager
async def serving(path: Path, answer: Answer) -> AsyncIterator[ControlServer]:
    """A server that answers with `answer`."""
    server = ControlServer(path, answer)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


async def ask(path: Path, op: str, timeout_s: float = 10.0, **fields: Any) -> dict[str, Any]:
    """A client's request, from a thread, since the client blocks."""
    return await asyncio.to_thread(ControlClient(path).request, op, timeout_s=timeout_s, **fields)


async def repeat(message: dict[str, Any], peer: Peer) -> dict[str, Any]:
    """The request as the answer, with who asked."""
    return {"message": message, "pid": peer.pid, "uid": peer.uid}


@in_loop
async def test_a_request_is_answered_with_its_fields(path: Path) -> None:
    """The client gets what the server gave; the server knows who asks, and only this user may."""
    async with serving(path, repeat):
        answer = await ask(path, "declare", main="x" * 3_000_000)
        assert answer["message"] == {"op": "declare", "main": "x" * 3_000_000}
        assert (answer["pid"], answer["uid"]) == (os.getpid(), os.getuid())
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


@in_loop
async def test_an_answer_may_be_empty(path: Path) -> None:
    """None is a plain yes."""

    async def agree(message: dict[str, Any], peer: Peer) -> None:
        return None

    async with serving(path, agree):
        assert await ask(path, "pause") == {}


@in_loop
async def test_a_no_is_raised_as_its_class(path: Path) -> None:
    """The exit code of the command line is the head's."""

    async def refuse(message: dict[str, Any], peer: Peer) -> None:
        raise UnknownSweepError("No sweep x: run `raycolab status`.")

    async with serving(path, refuse):
        with pytest.raises(UnknownSweepError, match="No sweep x: run `raycolab status`"):
            await ask(path, "results")


@in_loop
async def test_a_bug_in_one_operation_ends_no_server(path: Path) -> None:
    """Its client is told, and the next one is served."""

    async def stumble(message: dict[str, Any], peer: Peer) -> dict[str, Any]:
        return {"value": 1 // message["by"]}

    async with serving(path, stumble):
        sentence = (
            r"The head failed in the operation 'divide' \(ZeroDivisionError\): its log says more\. Please report it"
        )
        with pytest.raises(RaycolabError, match=sentence):
            await ask(path, "divide", by=0)
        assert await ask(path, "divide", by=1) == {"value": 1}


@pytest.mark.parametrize("state", ["absent", "dead"])
def test_nobody_listening_is_no_head(path: Path, state: str) -> None:
    """A socket file without a process behind it is as good as none."""
    if state == "dead":
        with socket.socket(socket.AF_UNIX) as former:
            former.bind(str(path))
    with pytest.raises(NoHeadError, match="No head answers here: start one with"):
        ControlClient(path).request("status")
    path.unlink(missing_ok=True)


@in_loop
async def test_a_silent_head_ends_a_request_at_its_deadline(path: Path) -> None:
    """A client never waits longer than it said, and the head stops working for it."""
    cancelled = asyncio.Event()

    async def stall(message: dict[str, Any], peer: Peer) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    async with serving(path, stall):
        with pytest.raises(ClusterError, match=r"The head did not answer within 0\.2 s: it is busy or stalled"):
            await ask(path, "status", timeout_s=0.2)
        await asyncio.wait_for(cancelled.wait(), 5)


@in_loop
async def test_a_request_that_ends_the_head_is_answered(path: Path) -> None:
    """`shutdown` gets its yes although the server closes at once."""
    stop = asyncio.Event()

    async def shut_down(message: dict[str, Any], peer: Peer) -> None:
        stop.set()

    async with serving(path, shut_down):
        asking = asyncio.create_task(ask(path, "shutdown"))
        await stop.wait()
    assert await asking == {}
    with pytest.raises(NoHeadError):
        await ask(path, "status")


@in_loop
async def test_a_head_that_ends_first_is_said(path: Path) -> None:
    """A request that the closing server gives up is no mystery."""

    async def stall(message: dict[str, Any], peer: Peer) -> None:
        await asyncio.sleep(60)

    async with serving(path, stall):
        asking = asyncio.create_task(ask(path, "wait", timeout_s=30))
        await asyncio.sleep(0.2)
    with pytest.raises(ClusterError, match="The head ended before it answered"):
        await asking


@pytest.mark.parametrize("line", [b"GET / HTTP/1.1\r\n", b"[]\n", b"\xff\n", b"x" * (2 * LINE_BYTES + 1)])
@in_loop
async def test_what_is_no_request_is_refused(path: Path, line: bytes) -> None:
    """A stranger's line, or one without an end, gets an error and the end of its connection."""
    async with serving(path, repeat):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(line)
        try:
            answer = json.loads(await reader.readline())
            assert answer["ok"] is False
            assert (answer["kind"], answer["error"]) == ("ClusterError", "The head was sent what is no request.")
        except ConnectionResetError:
            assert len(line) > LINE_BYTES  # closed while it was still sending
        writer.close()
        assert (await ask(path, "status"))["message"] == {"op": "status"}


@in_loop
async def test_clients_are_bounded(path: Path) -> None:
    """One too many is told so; when others leave there is room again."""
    async with serving(path, repeat):
        idle = [await asyncio.open_unix_connection(path) for _ in range(MAX_CLIENTS)]
        with pytest.raises(ClusterError, match="Too many programs talk to the head"):
            await ask(path, "status")
        for _, writer in idle:
            writer.close()
            await writer.wait_closed()
        answered = None
        async with asyncio.timeout(30):  # until the server has seen them go
            while answered is None:
                with contextlib.suppress(ClusterError):
                    answered = (await ask(path, "status"))["message"]
        assert answered == {"op": "status"}


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
        "    connection.sendall(b'{}\\n')\n"
        "    print(connection.recv(99))\n"
        "except OSError:\n"  # it was shown the door while it spoke
        "    print(b'')\n"
    )
    async with serving(path, repeat):
        os.chmod(path.parent, 0o711)
        os.chmod(path, 0o666)
        run = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
        )
    assert run.stdout == "b''\n"


@in_loop
async def test_an_engine_is_asked_through_its_connection(path: Path) -> None:
    """The first line turns the connection round: the server asks, the engine answers and tells its progress."""
    channels: asyncio.Queue[EngineChannel] = asyncio.Queue()
    seen: list[dict[str, Any]] = []

    def joined(channel: EngineChannel) -> None:
        channel.on_progress = seen.append
        channels.put_nowait(channel)

    server = ControlServer(path, repeat, joined)
    await server.start()
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b'{"op": "engine"}\n{"progress": {"complete": 3}}\n')
    channel = await channels.get()
    asking = asyncio.create_task(channel.request({"op": "start", "sweep": "x"}, 5))
    asked = json.loads(await reader.readline())
    assert asked == {"op": "start", "sweep": "x", "id": 1}
    writer.write(b'{"id": 1, "ok": true}\n')
    assert await asking == {}
    assert seen == [{"complete": 3}]
    writer.close()
    await asyncio.wait_for(channel.lost(), 5)
    await server.close()


@in_loop
async def test_an_idle_engine_does_not_hold_a_closing_server(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing ends the engine's connection without the grace that a request has."""
    monkeypatch.setattr(rpc, "CLOSE_GRACE_S", 1000.0)
    server = ControlServer(path, repeat, lambda channel: None)
    await server.start()
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b'{"op": "engine"}\n')
    await asyncio.sleep(0.1)
    await asyncio.wait_for(server.close(), 60)
    assert await reader.read() == b""
    writer.close()


@in_loop
async def test_a_live_head_is_read_from_its_record(path: Path, tmp_path: Path) -> None:
    """The record counts while its socket is answered, and no longer."""
    data = DataDir(tmp_path)
    record = HeadRecord(os.getpid(), str(path), 1.5, "sqlite://")
    data.save(record)
    async with serving(path, repeat):
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
