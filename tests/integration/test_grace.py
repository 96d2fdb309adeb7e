"""Outages longer than the grace period, and heads that die in one: what is lost, and how it comes back by itself."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from tests.integration.outage_stage import SHARED_GRACE_S, NodeWatch, Sweep, behind_edges
from tests.integration.sessions import Cluster, until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

GRACE_S = 4
DEAD_S = 90.0  # after the head gave the node up, in which Ray is to call it dead


@pytest.fixture(scope="module")
def three() -> Iterator[Cluster]:
    """A head with a short grace period and two joiners, each behind its own edge."""
    with behind_edges({"RAYCOLAB_GRACE_S": str(GRACE_S)}) as made:
        yield made


@pytest.fixture
def patient() -> Iterator[Cluster]:
    """The same with the default grace period."""
    with behind_edges() as made:
        yield made


def test_a_node_past_the_grace_comes_back_as_a_new_one(edged: Cluster) -> None:
    """Its trials run elsewhere, and it rejoins at once under another Ray id."""
    with NodeWatch(edged) as watch:
        old = watch.latest().alive["joiner-1"]
        sweep = Sweep(edged, "lost", trials=30, trial_s=0.5)
        until(lambda: "joiner-1" in {each.node for each in sweep.attempts()}, 60, sweep.attempts)
        edged.edges["tab-1"].tell("blackhole on", "cut")
        gone = given_up_at(edged, SHARED_GRACE_S + 20)
        edged.edges["tab-1"].tell("blackhole off")
        until_back(edged, watch, old)
        sweep.wait(120)
        assert_lost_and_run_elsewhere(sweep, gone)
        assert watch.ids_of()["joiner-2"] == {watch.latest().alive["joiner-2"]}
    edged.end()  # the last that needs it


@pytest.mark.slow
def test_joiners_in_the_dark_take_up_a_head_that_was_restarted(three: Cluster) -> None:
    """The head is killed while nothing passes to its joiners: they come back to the next one, and the sweep goes on."""
    sweep = Sweep(three, "again", trials=30, trial_s=0.5, held=3)
    sweep.wait_complete(6)
    for edge in three.edges.values():
        edge.tell("blackhole on")
    assert three.head is not None
    three.head.end()
    sweep.process.communicate(timeout=60)
    assert sweep.complete < sweep.trials
    sweep.release()
    three.start_head("head-again")
    for edge in three.edges.values():
        edge.tell("blackhole off")
    three.wait_up(3)
    sweep.submit()
    sweep.wait(120)
    assert sweep.complete == sweep.trials
    finished = [each.trial for each in sweep.attempts() if each.outcome == "COMPLETE"]
    assert sorted(finished) == list(range(sweep.trials))
    assert_works(three, "after-the-restart")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_node_past_the_whole_grace_is_dead_and_comes_back(patient: Cluster) -> None:
    """At full length: nothing passes until the head gives it up and Ray calls it dead; then it comes back by itself."""
    with NodeWatch(patient) as watch:
        old = watch.latest().alive["joiner-1"]
        sweep = Sweep(patient, "lost", trials=440, trial_s=1.0)
        until(lambda: "joiner-1" in {each.node for each in sweep.attempts()}, 60, sweep.attempts)
        patient.edges["tab-1"].tell("blackhole on")
        gone = given_up_at(patient, 240)
        dead = watch.when_dead(old, DEAD_S)
        patient.edges["tab-1"].tell("blackhole off")
        back = until_back(patient, watch, old)
        sweep.wait(300)
        report(sweep, watch, gone=gone, dead=dead, back=back)
        assert_lost_and_run_elsewhere(sweep, gone)
        assert_works(patient, "after")
        assert watch.ids_of()["joiner-2"] == {watch.latest().alive["joiner-2"]}


def given_up_at(three: Cluster, timeout_s: float) -> float:
    """Wait until the head gives joiner-1 up; returns when it says it did."""

    def lines() -> list[str]:
        logs = (path.read_text() for path in three.folder.glob("rc-*/supervisor.log"))
        return [line for log in logs for line in log.splitlines() if "joiner-1 left: it was away" in line]

    until(lines, timeout_s, lambda: "the head does not give joiner-1 up")
    return datetime.strptime(lines()[0][:23], "%Y-%m-%d %H:%M:%S,%f").timestamp()


def until_back(three: Cluster, watch: NodeWatch, old: str) -> float:
    """Wait until the joiner is up again as another Ray node; returns when Ray first saw that one."""
    three.wait_up(3)
    until(lambda: watch.ids_of()["joiner-1"] - {old}, 60, lambda: "Ray does not show the joiner's new node")
    new = next(iter(watch.ids_of()["joiner-1"] - {old}))
    assert new in watch.latest().ids
    return next(sight.at for sight in watch.sights() if new in sight.ids)


def assert_lost_and_run_elsewhere(sweep: Sweep, gone: float) -> None:
    """What joiner-1 ran was queued again when the head gave it up, and ended on other nodes; all are COMPLETE once."""
    attempts = sweep.attempts()
    lost = [each for each in attempts if each.outcome == "LOST"]
    assert lost
    assert {each.node for each in lost} == {"joiner-1"}
    assert all(each.ended_at >= gone for each in lost)
    finished = {each.trial: each for each in attempts if each.outcome == "COMPLETE"}
    assert len(attempts) == len(finished) + len(lost) == sweep.trials + len(lost)
    assert all(finished[each.trial].node != "joiner-1" for each in lost)


def assert_works(three: Cluster, name: str) -> None:
    """Every node runs trials of the next sweep."""
    after = Sweep(three, name, trials=60, trial_s=0.5, slots=3)
    after.wait(120)
    after.assert_each_ran_once()
    assert {each.node for each in after.attempts()} == {"head", "joiner-1", "joiner-2"}


def report(sweep: Sweep, watch: NodeWatch, *, gone: float, dead: float, back: float) -> None:
    """Print what was seen as one JSON line; seconds count from when the head gave the node up."""
    lost = [each for each in sweep.attempts() if each.outcome == "LOST"]
    seen: dict[str, Any] = {
        "trials": sweep.trials,
        "attempts": len(sweep.attempts()),
        "lost": len(lost),
        "queued_again_s": [round(each.ended_at - gone, 2) for each in lost],
        "dead_in_ray_s": round(dead - gone, 1),
        "new_in_ray_s": round(back - gone, 1),
        "ray_ids": {name: len(ids) for name, ids in watch.ids_of().items()},
    }
    sys.stdout.write(json.dumps(seen) + "\n")
