"""Two hops on loopback: the tunnel beside OpenSSH, a bare relay, and loopback itself, in one run and by turns.

`cpu_s_per_gib` and `ping_idle_cpu_ms` count the relays in between (user and system), not the client and the service.
What of a ping is not their CPU is the load's, the kernel's, and waiting for a core.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.measure import connects, goodput, percentile, pings, report, together, transfer
from tests.bench.openssh import missing, openssh
from tests.bench.processes import Way, load, tunnel
from tests.bench.relay import bare_relay, loopback

GIB = 1 << 30


@contextlib.contextmanager
def every_way(folder: Path) -> Iterator[list[Way]]:
    """All ways at once, each with a service behind it."""
    with contextlib.ExitStack() as stack:
        ways = [stack.enter_context(way) for way in (tunnel(), bare_relay(), loopback())]
        if not missing():
            ways.append(stack.enter_context(openssh(folder)))
        for way in ways:
            stack.enter_context(load("serve", way.service)).says()
        yield ways


def figures_of(way: Way, seconds: float, skip_s: float) -> dict[str, float]:
    """One repetition of everything across one way; milliseconds, MB/s, CPU seconds per GiB."""
    figures: dict[str, float] = {}
    for streams in (1, 8):
        before = way.cpu_s()
        (rates, count) = goodput(way, seconds, skip_s, streams=streams)
        figures[f"mb_s_{streams}"] = sum(rates) / 1e6
        figures[f"cpu_s_per_gib_{streams}"] = (way.cpu_s() - before) * GIB / count
    before = way.cpu_s()
    idle = pings(way, seconds / 2)
    figures["ping_idle_p50_ms"] = percentile(idle, 50) * 1000
    figures["ping_idle_cpu_ms"] = (way.cpu_s() - before) / len(idle) * 1000
    _, beside = together(way, seconds, skip_s)
    figures["ping_bulk_p50_ms"] = percentile(beside, 50) * 1000
    figures["ping_bulk_p99_ms"] = percentile(beside, 99) * 1000
    figures["connect_p50_ms"] = percentile(connects(way, seconds / 2), 50) * 1000
    return figures


def medians(repetitions: list[dict[str, float]]) -> dict[str, float]:
    """The middle of each figure."""
    return {name: statistics.median(each[name] for each in repetitions) for name in repetitions[0]}


@pytest.mark.bench
@pytest.mark.timeout(900)
def test_the_tunnel_beside_openssh_and_a_bare_relay(tmp_path: Path) -> None:
    """Must show 6: five repetitions by turns, the median of each figure, and the tunnel's over the others'."""
    with every_way(tmp_path / "ssh") as ways:
        repetitions = [{way.name: figures_of(way, 3, 0.5) for way in ways} for _ in range(5)]
    found = {name: medians([each[name] for each in repetitions]) for name in repetitions[0]}
    for other in ("openssh", "relay"):
        if other in found:
            ratios = {name: found["tunnel"][name] / value for name, value in found[other].items()}
            report(f"loopback: tunnel over {other}", **ratios)
    report("loopback", **found)


def test_every_way_carries_the_bytes(tmp_path: Path) -> None:
    """The bench in small: what is compared delivers the same bytes, and every figure of it is there."""
    with every_way(tmp_path / "ssh") as ways:
        for way in ways:
            assert transfer(way, 1_000_000, streams=2) == [(1_000_000, True)] * 2
        figures = figures_of(ways[0], 0.4, 0.05)
    assert all(value > 0 for value in figures.values())
