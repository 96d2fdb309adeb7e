"""Sweeps through outages shorter than the grace period: nobody but the tunnel notices. Real Ray, an edge per joiner."""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence

import pytest

from tests.integration.outage_stage import NodeWatch, Sweep, behind_edges
from tests.integration.sessions import Cluster, until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

STEADY_S = 3.0  # between one black hole and the next


@pytest.fixture(scope="module")
def three() -> Iterator[Cluster]:
    """A head and two joiners with the default grace period, each joiner behind its own edge, all up."""
    with behind_edges() as made:
        yield made


def cut_for(three: Cluster, seconds: float, every_s: float) -> int:
    """Cut both joiners' WebSockets in turn, each one every `every_s`; returns how many were cut."""
    turns = round(seconds / every_s) * len(three.edges)
    for edge in itertools.islice(itertools.cycle(three.edges.values()), turns):
        until(lambda edge=edge: edge.stats()["open"] == 1, 30, lambda edge=edge: edge.stats())
        edge.tell("cut")
        time.sleep(every_s / len(three.edges))
    return turns


def black_hole(three: Cluster, names: Sequence[str], seconds: float, *, broken: bool = False) -> None:
    """Let nothing pass for so long to and from these joiners; `broken`: their connections are not there any more."""
    for name in names:
        three.edges[name].tell("blackhole on", *(["cut"] if broken else []))
    time.sleep(seconds)
    for name in names:
        three.edges[name].tell("blackhole off")


def test_a_sweep_through_cuts_and_black_holes(edged: Cluster) -> None:
    """Cut again and again, then dark for 3 and 6 s: each trial ran once, and Ray's nodes are the same ones."""
    before = processes(edged)
    with NodeWatch(edged) as watch:
        sweep = Sweep(edged, "short", trials=60, trial_s=1.0, slots=3, held=3)
        sweep.wait_complete(3)
        cuts = cut_for(edged, 15.0, every_s=2.0)
        black_hole(edged, ["tab-1"], 3.0)
        time.sleep(1.0)
        black_hole(edged, ["tab-1", "tab-2"], 6.0, broken=True)
        see_through(edged, watch, sweep, before, cuts)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_sweep_through_minutes_of_cuts_and_black_holes(three: Cluster) -> None:
    """At full length: cut every 3 s for two minutes, then dark for 10, 30, 90 and 115 s."""
    before = processes(three)
    with NodeWatch(three) as watch:
        sweep = Sweep(three, "long", trials=1000, trial_s=1.0, slots=3, held=3)
        sweep.wait_complete(3)
        cuts = cut_for(three, 120.0, every_s=3.0)
        for seconds in (10.0, 30.0, 90.0, 115.0):
            black_hole(three, ["tab-1", "tab-2"], seconds)
            time.sleep(STEADY_S)
        see_through(three, watch, sweep, before, cuts)


@pytest.mark.slow
def test_a_sweep_that_is_submitted_in_the_dark(three: Cluster) -> None:
    """Nothing passes to the joiners: the head runs it alone, to its end; after the outage all run the next one."""
    for edge in three.edges.values():
        edge.tell("blackhole on")
    sweep = Sweep(three, "dark", trials=8, trial_s=0.3)
    sweep.wait(60)
    for edge in three.edges.values():
        edge.tell("blackhole off")
    sweep.assert_each_ran_once()
    assert {each.node for each in sweep.attempts()} == {"head"}
    after = Sweep(three, "light", trials=24, trial_s=0.5, slots=3)
    after.wait(60)
    after.assert_each_ran_once()
    assert {each.node for each in after.attempts()} == {"head", "joiner-1", "joiner-2"}


def processes(three: Cluster) -> set[int]:
    """The joiners' supervisors and raylets."""
    raylets = [each for tab in three.joiners.values() for each in tab.processes() if each.name() == "raylet"]
    return {each.pid for each in [*raylets, *(tab.supervisor() for tab in three.joiners.values())]}


def see_through(three: Cluster, watch: NodeWatch, sweep: Sweep, before: set[int], cuts: int) -> None:
    """The outages are over in mid-sweep: wait for its end, print what was seen, and see that nobody noticed."""
    during = sweep.complete
    assert during < sweep.trials
    sweep.release()
    sweep.wait(180)
    alive = watch.latest().alive
    report(three, watch, sweep, cuts=cuts, complete_when_outages_ended=during)
    assert sum(edge.stats()["connections"] for edge in three.edges.values()) >= cuts + len(three.edges)
    sweep.assert_each_ran_once()
    assert {row["node"] for row in three.rows(sweep.name)} == alive.keys() == {"head", "joiner-1", "joiner-2"}
    assert len({sight.ids for sight in watch.sights()}) == 1
    assert processes(three) == before
    assert len(before) == 2 * len(three.joiners)


def report(three: Cluster, watch: NodeWatch, sweep: Sweep, **figures: object) -> None:
    """Print what was seen as one JSON line."""
    attempts = sweep.attempts()
    seen = {
        "trials": len({each.trial for each in attempts}),
        "attempts": len(attempts),
        "runs": len(sweep.runs()),
        **figures,
        "connections": [edge.stats()["connections"] for edge in three.edges.values()],
        "longest_pause_s": {name: round(sweep.longest_pause_s(tab), 1) for name, tab in three.joiners.items()},
        "ray_ids": {name: len(ids) for name, ids in watch.ids_of().items()},
    }
    sys.stdout.write(json.dumps(seen) + "\n")
