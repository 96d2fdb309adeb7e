"""What a hub costs as its mesh grows: memory, CPU, the time of a join, open streams, and nodes that come and go.

Every agent wants 4 ports (a block of 8). `apart` each is on a machine of its own, as it would be: but here a hundred
machines share these CPUs and one table of 80,000 listeners, so that a join takes as long as all of them need for it.
`crowded` all but the first two and whoever comes and goes are on one machine and need few listeners: that leaves what
the hub and the newcomer do.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.bench.measure import percentile, report
from tests.bench.processes import Child, Way, free_subnets, load

PORTS = 4
PER_PROCESS = 10


class Town:
    """A hub, and agents that come in groups, one process each."""

    def __init__(self, stack: contextlib.ExitStack, largest: int, *, crowded: bool) -> None:
        self.nodes: list[dict[str, Any]] = []  # in order of joining
        self._stack = stack
        hub_subnet, self._passer_subnet, *subnets = free_subnets(5 if crowded else largest + 2)
        self._subnets = [*subnets[:2], *[subnets[2]] * (largest - 2)] if crowded else subnets
        self.hub = stack.enter_context(_node("hub", [hub_subnet]))
        self.address = self.hub.says()["join_address"]

    def grow(self, size: int) -> None:
        """Let agents join until there are so many; the first two have a process each."""
        while len(self.nodes) < size:
            begin = len(self.nodes)
            end = min(size, begin + (1 if begin < 2 else PER_PROCESS))
            group = self._stack.enter_context(_node("agent", self._subnets[begin:end]))
            group.hears(self.address)
            self.nodes += group.says(300)["nodes"]

    def rss(self) -> int:
        """Bytes of memory of the hub."""
        return self.hub.rss()

    def cpu(self, seconds: float) -> float:
        """CPU seconds per second that the hub takes from now on."""
        before = self.hub.cpu_s()
        time.sleep(seconds)
        return (self.hub.cpu_s() - before) / seconds

    def join_s(self, joins: int) -> float:
        """How long one more takes to join, on a machine of its own: the median of so many that come and go."""
        took = []
        for _ in range(joins):
            with _node("agent", [self._passer_subnet]) as newcomer:
                newcomer.hears(self.address)
                took.append(float(newcomer.says()["nodes"][0]["join_s"]))
        return statistics.median(took)

    def way(self, source: int, target: int) -> Way:
        """From one agent's machine to a port of another's."""
        node, subnet = self.nodes[target], self.nodes[source]["subnet"]
        entry, service = (f"127.77.{each}.{node['node']}" for each in (subnet, node["subnet"]))
        return Way(f"{source} to {target}", (entry, node["first"]), (service, node["first"]))

    @contextlib.contextmanager
    def passing(self) -> Iterator[list[int]]:
        """A node joins and leaves, again and again; how often is in the list after the block."""
        times: list[int] = []
        with _node("passer", [self._passer_subnet]) as passer:
            passer.hears(self.address)
            yield times
            passer.end()
            times.append(passer.says()["times"])


@contextlib.contextmanager
def town(largest: int, *, crowded: bool) -> Iterator[Town]:
    """A hub that is to have so many agents, two at least."""
    with contextlib.ExitStack() as stack:
        yield Town(stack, largest, crowded=crowded)


def _node(role: str, subnets: list[int]) -> Child:
    return Child(["tests.bench.node", role, "--ports", str(PORTS), "--subnet", *map(str, subnets)])


def gaps(place: Town, seconds: float) -> dict[str, float]:
    """Round trips between the first two agents, in milliseconds: undisturbed, and while another comes and goes."""
    way = place.way(0, 1)
    found: dict[str, float] = {}
    with load("serve", way.service) as service:
        service.says()
        for name in ("still", "passing"):
            with contextlib.ExitStack() as stack:
                times = stack.enter_context(place.passing()) if name == "passing" else [0]
                ping = stack.enter_context(load("ping", way.entry, seconds=seconds))
                took = [each for _, each in ping.says(seconds + 60)["streams"][0]]
            found |= {f"{name}_p50_ms": percentile(took, 50) * 1000, f"{name}_max_ms": max(took) * 1000}
            found[f"{name}_times"] = times[0]
    return found


def stream_bytes(place: Town, streams: int) -> float:
    """What an open stream that is idle costs the hub, in bytes of memory."""
    sources = [index for index in range(len(place.nodes)) if index != 1][: max(1, streams // 200)]
    with contextlib.ExitStack() as stack:
        stack.enter_context(load("serve", place.way(0, 1).service)).says()
        before = place.rss()
        for source in sources:
            held = stack.enter_context(load("hold", place.way(source, 1).entry, streams=streams // len(sources)))
            assert held.says()["held"] == streams // len(sources)
        return (place.rss() - before) / streams


def grown(sizes: list[int], seconds: float, streams: int, joins: int, *, crowded: bool) -> dict[str, Any]:
    """The figures of a hub at each size, and of streams at the last."""
    figures: dict[str, Any] = {}
    with town(sizes[-1], crowded=crowded) as place:
        empty = place.rss()
        for size in sizes:
            place.grow(size)
            figures[f"at_{size}"] = {
                "hub_rss_mb": place.rss() / 1e6,
                "hub_kb_per_agent": (place.rss() - empty) / size / 1e3,
                "hub_cpu_percent_idle": place.cpu(seconds) * 100,
                "join_one_more_ms": place.join_s(joins) * 1000,
            }
            if size > 1:
                figures[f"at_{size}"] |= gaps(place, seconds)
        figures["hub_bytes_per_stream"] = stream_bytes(place, streams)
    return figures


@pytest.mark.bench
@pytest.mark.timeout(900)
@pytest.mark.parametrize("crowded", [False, True], ids=["apart", "crowded"])
def test_a_hub_with_a_hundred_agents(crowded: bool) -> None:
    """Must show 7: 1, 10 and 100 agents, then 2,000 open streams."""
    figures = grown([1, 10, 100], 20.0, 2000, 5, crowded=crowded)
    ratio = figures["at_100"]["join_one_more_ms"] / figures["at_10"]["join_one_more_ms"]
    report("growth, crowded" if crowded else "growth, apart", **figures, join_at_100_over_10=ratio)


def test_a_hub_with_eight_agents() -> None:
    """The bench in small: agents join, twenty streams stay open, a passer comes and goes beside a ping-pong."""
    figures = grown([1, 8], 0.3, 20, 1, crowded=False)
    assert figures["at_8"]["passing_times"] >= 1
    assert figures["at_8"]["hub_rss_mb"] > 0
