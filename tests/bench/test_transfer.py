"""Random bytes from joiner to joiner while their WebSockets are cut again and again: all arrive, and once.

Hub, agents and edge share this process, so that what each link keeps for replay can be looked at; sender and receiver
have their own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.bench.measure import report, transfer
from tests.bench.processes import Way, load
from tests.in_loop import in_loop
from tests.tunnel.edge import Edge
from tests.tunnel.mesh import Mesh, behind_an_edge, eventually
from tunnel.congestion import MAX_FLIGHT
from tunnel.frames import MAX_PAYLOAD
from tunnel.ledger import CONTROL_FLIGHT, FRAME_COST

SAMPLE_S = 0.002
REPLAY_BOUND = MAX_FLIGHT + CONTROL_FLIGHT + 2 * (MAX_PAYLOAD + FRAME_COST)  # either may be passed by its last frame


@dataclass(slots=True)
class Kept:
    """The most that any link kept for replay, in bytes as the ledger counts them, and how often all were cut."""

    flight: int = 0
    total: int = 0
    cuts: int = 0
    outages: int = 0

    async def watch(self, mesh: Mesh) -> None:
        """Look at both ends of every link until cancelled."""
        links = [peer.link for peer in mesh.hub.peers]
        links += [link for member in mesh.members if (link := member.agent._link) is not None]
        assert len(links) == 2 * len(mesh.members)
        while True:
            for link in links:
                self.flight = max(self.flight, link._ledger.flight)
                self.total = max(self.total, link._ledger.flight + link._ledger.control)
            await asyncio.sleep(SAMPLE_S)

    async def cut(self, edge: Edge, every_s: float, times: int) -> None:
        """Cut all WebSockets so often, then let them be."""
        for _ in range(times):
            await asyncio.sleep(every_s)
            edge.cut()
            self.cuts += 1


@contextlib.contextmanager
def ending(*tasks: asyncio.Task[None]) -> Iterator[None]:
    """Cancel what goes on beside the block."""
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


async def transferred(folder: Path, size: int, every_s: float, times: int, rate: float) -> tuple[Kept, float]:
    """Send `size` bytes across while all is cut `times` times; asserts that they came once and whole, in `seconds`."""
    kept = Kept()
    async with behind_an_edge(folder) as (mesh, edge):
        edge.set_rate(rate)
        edge.set_delay(0.01)
        sender, receiver = await mesh.join(), await mesh.join()
        port = receiver.node.block.first
        entry, service = (member.machine.address_of(receiver.node.id) for member in (sender, receiver))
        way = Way("tunnel", (entry, port), (service, port))
        watching = asyncio.create_task(kept.watch(mesh))
        cutting = asyncio.create_task(kept.cut(edge, every_s, times))
        loop = asyncio.get_running_loop()
        began = loop.time()
        with ending(watching, cutting):
            with load("serve", way.service) as serving:
                await asyncio.to_thread(serving.says)
                assert await asyncio.to_thread(transfer, way, size) == [(size, True)]
            seconds = loop.time() - began
            assert not watching.done()
        kept.outages = sum(member.log.count("down") for member in mesh.members)
        assert mesh.log.count("left") == 0
        await eventually(lambda: all(peer.carrier is not None for peer in mesh.hub.peers))
    return kept, seconds


@pytest.mark.slow
@pytest.mark.bench
@pytest.mark.timeout(600)
@in_loop
async def test_a_gibibyte_survives_a_cut_every_two_seconds(tmp_path: Path) -> None:
    """Must show 2: 1 GiB at 40 MB/s and a round trip of 20 ms per link, cut every 2 s."""
    size = 1 << 30
    kept, seconds = await transferred(tmp_path, size, 2.0, 1000, 40e6)
    assert kept.cuts >= 10
    assert kept.total <= REPLAY_BOUND
    figures = {"bytes": size, "seconds": seconds, "mb_s": size / seconds / 1e6, "cuts": kept.cuts}
    report("transfer", **figures, outages=kept.outages, most_flight=kept.flight, most_replay=kept.total)


@in_loop
async def test_bytes_come_once_and_whole_through_cuts(tmp_path: Path) -> None:
    """16 MiB, cut five times 0.2 s apart: the SHA-256 is right, no byte is too many, replay stays under its bound."""
    kept, _ = await transferred(tmp_path, 16 << 20, 0.2, 5, 12e6)
    assert kept.cuts == 5
    assert kept.outages >= 2
    assert 0 < kept.total <= REPLAY_BOUND
