"""What an idle mesh of five joiners costs: bytes per second and joiner, both directions together, at the edge.

Counted is TCP's payload: WebSocket headers, inner TLS and pings are in it. One bench has the tunnel alone and programs
that chat as idle Ray does (about two small sends a second each way), the other has Ray.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator

import pytest

from raycolab.sandbox.sessions import probe
from tests.bench.measure import report
from tests.bench.processes import Child, Line, edge, free_subnets, load
from tests.integration.sessions import cluster
from tunnel.address import JoinAddress

LINE = Line(rate=math.inf, delay_s=0.05, buffer_bytes=1_000_000)


@contextlib.contextmanager
def chatting(joiners: int, chat: bool) -> Iterator[Child]:
    """So many joiners, each with a program that talks with one at the hub if it is to; gives the edge."""
    with contextlib.ExitStack() as stack:
        hub_subnet, *subnets = free_subnets(joiners + 1)
        hub = stack.enter_context(Child(["tests.bench.node", "hub", "--subnet", str(hub_subnet)]))
        said = hub.says()
        address = JoinAddress.parse(said["join_address"])
        at, counting = stack.enter_context(edge(address.url.removeprefix("ws://"), LINE))
        stack.enter_context(load("serve", (f"127.77.{hub_subnet}.{said['node']}", said["first"]))).says()
        agents = [
            stack.enter_context(Child(["tests.bench.node", "agent", "--subnet", str(subnet)])) for subnet in subnets
        ]
        for agent in agents:
            agent.hears(dataclasses.replace(address, url=f"ws://{at}").text)
        for agent in agents:
            agent.says()
        for subnet in subnets if chat else ():
            stack.enter_context(load("chat", (f"127.77.{subnet}.{said['node']}", said["first"]))).says()
        yield counting


def bytes_per_joiner(counting: Child, joiners: int, seconds: float, settle_s: float) -> dict[str, float]:
    """Bytes per second and joiner that an edge sees from now on, up and down, after a while to settle."""
    time.sleep(settle_s)
    counting.hears("stats")
    before = counting.says()
    time.sleep(seconds)
    counting.hears("stats")
    after = counting.says()
    assert after["connections"] == before["connections"] == joiners, "a link was lost meanwhile"
    found = {way: (after[f"bytes_{way}"] - before[f"bytes_{way}"]) / seconds / joiners for way in ("up", "down")}
    return {**found, "both": found["up"] + found["down"]}


@pytest.mark.bench
@pytest.mark.timeout(1500)
def test_five_idle_joiners_whose_programs_chat() -> None:
    """Must show 5 without Ray: ten minutes of chatter, and one minute in which nobody says anything."""
    with chatting(5, chat=False) as counting:
        silent = bytes_per_joiner(counting, 5, 60, 2)
    with chatting(5, chat=True) as counting:
        figures = bytes_per_joiner(counting, 5, 600, 5)
    report("idle", bytes_s_per_joiner=figures, silent_bytes_s_per_joiner=silent)


@pytest.mark.bench
@pytest.mark.ray
@pytest.mark.skipif(probe().kind is None, reason=probe().reason or "sessions can be made")
@pytest.mark.timeout(1500)
def test_five_idle_joiners_of_a_cluster() -> None:
    """Must show 5: a head and five joiners in sessions of their own, with real Ray and ten minutes of nothing to do."""
    with cluster() as town:
        town.start_head()
        for number in range(5):
            town.start_joiner(f"joiner-{number}", edge_delay_s=LINE.delay_s)
        town.wait_up(6, 400)
        time.sleep(60)  # Ray has more to say in its first minute
        seconds, before = 600, [edge.stats() for edge in town.edges.values()]
        time.sleep(seconds)
        after = [edge.stats() for edge in town.edges.values()]
    assert [each["connections"] for each in after] == [1] * 5
    each_way = {
        way: [
            (last[f"bytes_{way}"] - first[f"bytes_{way}"]) / seconds for first, last in zip(before, after, strict=True)
        ]
        for way in ("up", "down")
    }
    both = [up + down for up, down in zip(each_way["up"], each_way["down"], strict=True)]
    report("idle with Ray", bytes_s_per_joiner=sum(both) / 5, each=both, **each_way)


def test_chatter_is_counted_at_the_edge() -> None:
    """The bench in small: what two joiners' programs say crosses the edge, both ways."""
    with chatting(2, chat=True) as counting:
        figures = bytes_per_joiner(counting, 2, 1.5, 0.5)
    assert figures["up"] > 0
    assert figures["down"] > 0
