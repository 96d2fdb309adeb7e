"""The processes of a bench: hubs, agents and edges of their own, each on a machine of its own as far as it knows.

A `Way` is one manner of getting from a client to a service across two hops; the benches compare several. The relays
of a way are counted (CPU, memory), the clients and services of the load are not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from tunnel.address import JoinAddress

__all__ = ["LINE", "Child", "Line", "Way", "edge", "free_subnets", "load", "tunnel"]

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0


class Child:
    """A process that says JSON lines and ends when its stdin does; `with` it."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-m", *argv], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self._said = b""
        self.process = psutil.Process(self._popen.pid)

    def cpu_s(self) -> float:
        """CPU seconds it took so far, user and system."""
        return _cpu_s(self.process)

    def rss(self) -> int:
        """Bytes of its memory."""
        return int(self.process.memory_info().rss)

    def hears(self, line: str) -> None:
        """Write a line to its stdin."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(line.encode() + b"\n")

    def says(self, patience_s: float = PATIENCE_S) -> Any:
        """The next line of its stdout; TimeoutError when it takes too long, EOFError when it ended."""
        assert self._popen.stdout is not None
        deadline = time.monotonic() + patience_s
        while b"\n" not in self._said:
            if not select.select([self._popen.stdout], [], [], max(deadline - time.monotonic(), 0))[0]:
                raise TimeoutError(f"{self._popen.args!r} said nothing for {patience_s} s")
            piece = os.read(self._popen.stdout.fileno(), 1 << 20)
            if not piece:
                raise EOFError(f"{self._popen.args!r} ended")
            self._said += piece
        line, _, self._said = self._said.partition(b"\n")
        return json.loads(line)

    def end(self) -> None:
        """Let its stdin end; what it then says can still be heard."""
        assert self._popen.stdin is not None
        self._popen.stdin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._popen.stdout is not None
        self.end()
        try:
            self._popen.wait(10)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        self._popen.stdout.close()


@dataclass(frozen=True, slots=True)
class Line:
    """What stands between a node and the hub."""

    rate: float  # bytes per second, each direction of each connection; infinity: as much as there is
    delay_s: float  # one way
    buffer_bytes: int


LINE = Line(rate=50e6 / 8, delay_s=0.05, buffer_bytes=1_000_000)
"""50 Mbit/s with a round trip of 100 ms and a buffer of 1 MB: a home or a notebook's share of a busy host."""


@dataclass(slots=True)
class Way:
    """From `entry`, where clients dial, by two hops to `service`, where a service is to listen."""

    name: str
    entry: tuple[str, int]
    service: tuple[str, int]
    relays: list[psutil.Process] = field(default_factory=list)  # the processes in between, the hub first

    def cpu_s(self) -> float:
        """CPU seconds that the relays took so far, user and system."""
        return sum(map(_cpu_s, self.relays))


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def free_subnets(count: int) -> list[int]:
    """Subnets of 127.77.0.0/16 at which nobody listens, for machines of their own."""
    used = set()
    for row in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        number = row.split()[1].partition(":")[0]  # of 127.77.s.k little endian: kkss4D7F
        if number.endswith("4D7F"):
            used.add(int(number[2:4], 16))
    return [subnet for subnet in range(255, -1, -1) if subnet not in used][:count]


@contextlib.contextmanager
def edge(to: str, line: Line) -> Iterator[tuple[str, Child]]:
    """An edge in front of `to` (HOST:PORT); gives where it listens, and itself, for what it obeys."""
    options = ["--delay", str(line.delay_s), "--buffer", str(line.buffer_bytes)]
    if line.rate < math.inf:
        options += ["--rate", str(line.rate)]
    with Child(["tests.tunnel.edge", "--listen", "127.0.0.1:0", "--to", to, *options]) as child:
        yield child.says()["listening"], child


@contextlib.contextmanager
def tunnel(line: Line | None = None) -> Iterator[Way]:
    """Client, agent A, hub, agent B, service, each agent through `line` if there is one."""
    subnets = free_subnets(3)
    with contextlib.ExitStack() as stack:
        hub = stack.enter_context(Child(["tests.bench.node", "hub", "--subnet", str(subnets[0])]))
        address = JoinAddress.parse(hub.says()["join_address"])
        if line is not None:
            at, _ = stack.enter_context(edge(address.url.removeprefix("ws://"), line))
            address = dataclasses.replace(address, url=f"ws://{at}")
        agents = []
        for subnet in subnets[1:]:
            agents.append(stack.enter_context(Child(["tests.bench.node", "agent", "--subnet", str(subnet)])))
            agents[-1].hears(address.text)
        nodes = [agent.says()["nodes"][0] for agent in agents]
        port = nodes[1]["first"]
        entry, service = (f"127.77.{subnet}.{nodes[1]['node']}" for subnet in subnets[1:])
        relays = [hub.process, *(agent.process for agent in agents)]
        yield Way("tunnel", (entry, port), (service, port), relays)


def load(kind: str, at: tuple[str, int], **options: object) -> Child:
    """A client or a service of the load (see `tests.bench.load`), in a process of its own."""
    given = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    return Child(["tests.bench.load", kind, f"{at[0]}:{at[1]}", *given])
