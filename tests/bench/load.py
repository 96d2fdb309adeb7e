"""The load of a bench, in processes of its own: `python -m tests.bench.load KIND HOST:PORT`.

`serve` takes connections; the first line of each says what to do with the rest: `echo` it, `sink` it, count it and
answer with what came when, or `chat` as well. The others are clients, and say one JSON line when they are done. Times
are of the machine's monotonic clock, which all processes share. Threads and blocking sockets: nothing here is to be
the limit.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

__all__ = ["PING_BYTES", "compressible"]

PING_BYTES = 64
CHUNK_BYTES = 256 * 1024
CYCLE_BYTES = 4 * 1024 * 1024  # data begin anew after so much, past the 512 KiB that zstd's level 1 remembers
SAMPLE_S = 0.02  # between two notes of a sink
PATIENCE_S = 120.0

Address = tuple[str, int]


def compressible(size: int, seed: int = 0) -> bytes:
    """Text as logs and metrics are: the same words, other numbers; zstd makes about a quarter of it."""
    draw = random.Random(seed)
    text = bytearray()
    while len(text) < size:
        number, accuracy, seconds = draw.randrange(10_000), draw.random(), draw.random()
        text += f"trial {number} model=svc dataset=iris accuracy={accuracy:.4f} s={seconds:.3f}\n".encode()
    return bytes(text[:size])


# The service.


def _serve(at: Address) -> None:
    listener = socket.create_server(at, backlog=128)
    _say(listening=listener.getsockname()[:2])
    threading.Thread(target=_accept, args=(listener,), daemon=True).start()
    sys.stdin.read()


def _accept(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_answer, args=(connection,), daemon=True).start()


def _answer(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    said = b""
    with contextlib.suppress(OSError), connection:
        while b"\n" not in said:
            piece = connection.recv(4096)
            if not piece:
                return
            said += piece
        word, _, data = said.partition(b"\n")
        if word == b"chat":
            _chatter(connection)
        else:
            (_echo if word == b"echo" else _sink)(connection, data, word == b"sink sha256")


def _echo(connection: socket.socket, data: bytes, _: bool) -> None:
    while True:
        connection.sendall(data)
        data = connection.recv(65536)
        if not data:
            return


def _sink(connection: socket.socket, data: bytes, hashed: bool) -> None:
    count, noted = len(data), 0.0
    digest = hashlib.sha256(data)
    samples: list[tuple[float, int]] = []
    buffer = memoryview(bytearray(1 << 20))
    while size := connection.recv_into(buffer):
        count += size
        if hashed:
            digest.update(buffer[:size])
        now = time.monotonic()
        if now - noted >= SAMPLE_S:
            noted = now
            samples.append((now, count))
    samples.append((time.monotonic(), count))
    answer = {"bytes": count, "sha256": digest.hexdigest() if hashed else None, "samples": samples}
    connection.sendall(json.dumps(answer).encode())


def _chatter(connection: socket.socket) -> None:
    """Say a little about twice a second, as idle programs of a cluster do, until the other end closes."""
    draw, told = random.Random(), 0
    name = draw.randbytes(28)  # a node's id; what is said differs in few bytes from what was said before
    pause_s = 0.0
    while True:
        connection.settimeout(pause_s or 0.001)
        began = time.monotonic()
        with contextlib.suppress(TimeoutError):
            if not connection.recv(65536):
                return
        pause_s -= time.monotonic() - began
        if pause_s <= 0:
            told += 1
            what = b"PRI heartbeat /cluster.NodeInfo/Report " + name + told.to_bytes(8, "big") + draw.randbytes(6)
            connection.sendall(what + b"CPU=1.0 memory=8589934592 object_store=2147483648 idle=" + b"0" * (told % 40))
            pause_s = draw.uniform(0.3, 0.7)


# The clients.


def _dial(at: Address, word: bytes) -> socket.socket:
    connection = socket.create_connection(at, PATIENCE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(word + b"\n")
    return connection


def _receive(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise EOFError("the connection ended")
        data += piece
    return data


def _bulk(at: Address, given: argparse.Namespace, index: int) -> dict[str, Any]:
    """Send for so long, or so many bytes; what the sink says of it, and the digest of what was sent."""
    text = given.data == "text"
    data = memoryview(compressible(CYCLE_BYTES, index) if text else os.urandom(CYCLE_BYTES))
    left = given.bytes
    digest = hashlib.sha256()
    with _dial(at, b"sink sha256" if left else b"sink") as connection:
        deadline = time.monotonic() + given.seconds
        place = 0
        while left > 0 if given.bytes else time.monotonic() < deadline:
            chunk = data[place : place + (min(CHUNK_BYTES, left) if left else CHUNK_BYTES)]
            connection.sendall(chunk)
            if left:
                digest.update(chunk)
                left -= len(chunk)
            place = (place + len(chunk)) % CYCLE_BYTES
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(1 << 20):
            answer += piece
    return {**json.loads(answer), "sent": digest.hexdigest()}


def _ping(at: Address, given: argparse.Namespace, index: int) -> list[tuple[float, float]]:
    """One 64-byte ping after the other; when each was sent and how long it took."""
    samples = []
    with _dial(at, b"echo") as connection:
        time.sleep(index * given.apart)
        deadline = time.monotonic() + given.seconds
        while (began := time.monotonic()) < deadline:
            data = os.urandom(PING_BYTES)
            connection.sendall(data)
            if _receive(connection, PING_BYTES) != data:
                raise AssertionError("another ping came back")
            samples.append((began, time.monotonic() - began))
    return samples


def _connect(at: Address, given: argparse.Namespace, index: int) -> list[tuple[float, float]]:
    """Connect and get the first byte back, time after time."""
    samples = []
    deadline = time.monotonic() + given.seconds
    while (began := time.monotonic()) < deadline:
        with _dial(at, b"echo") as connection:
            connection.sendall(b"!")
            _receive(connection, 1)
            samples.append((began, time.monotonic() - began))
    return samples


def _chat(at: Address, given: argparse.Namespace) -> None:
    connection = _dial(at, b"chat")
    threading.Thread(target=_chatter, args=(connection,), daemon=True).start()
    _say(chats=True)
    sys.stdin.read()


def _hold(at: Address, given: argparse.Namespace) -> None:
    """Open connections, get a byte across each, and keep them until stdin ends."""
    with contextlib.ExitStack() as stack:
        for _ in range(given.streams):
            connection = stack.enter_context(_dial(at, b"echo"))
            connection.sendall(b"!")
            _receive(connection, 1)
        _say(held=given.streams)
        sys.stdin.read()


def _say(**fields: object) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Serve until stdin ends, or be a client and say what was seen."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.load", description=__doc__)
    parser.add_argument("kind", choices=["serve", "bulk", "ping", "connect", "hold", "chat"])
    parser.add_argument("at")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--bytes", type=int, default=0, help="instead of --seconds, and hash them")
    parser.add_argument("--data", choices=["random", "text"], default="random")
    parser.add_argument("--apart", type=float, default=0.0, help="seconds between the first pings of two streams")
    given = parser.parse_args()
    host, _, port = given.at.rpartition(":")
    at = (host, int(port))
    if given.kind == "serve":
        _serve(at)
        return
    if given.kind in ("hold", "chat"):
        (_hold if given.kind == "hold" else _chat)(at, given)
        return
    client: Callable[..., Any] = {"bulk": _bulk, "ping": _ping, "connect": _connect}[given.kind]
    with ThreadPoolExecutor(given.streams) as pool:
        _say(streams=list(pool.map(lambda index: client(at, given, index), range(given.streams))))


if __name__ == "__main__":
    main()
