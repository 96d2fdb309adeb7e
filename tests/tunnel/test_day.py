"""24 hours on the sans-I/O core with a fake clock: two agents, their links, the hub's router; no drift, no growth.

A heartbeat stream lives all day, short streams come and go, and every few minutes a link is cut, or stalls, for 1 to
115 s. What is counted after two hours is counted again at the end; in CI that is after four.
"""

from __future__ import annotations

import gc
import math
import random
import sys
from dataclasses import dataclass

import pytest

from tests.tunnel.switched import Switched
from tunnel.keepalive import PING_EVERY_S, SILENCE_S
from tunnel.link import Link
from tunnel.nodes import NodeId
from tunnel.window import INITIAL_WINDOW

HOUR_S = 3600.0
BEAT_S = 10.0  # of the heartbeat stream
BEATS_PER_STREAM = 5  # most of a minute apart
LONGEST_OUTAGE_S = 115.0
NOISE_OBJECTS = 50  # that the collector sees
NOISE_BLOCKS = 1500  # of memory: the interpreter's own caches fill up in some hours; 8,000 beats would leave more


@dataclass(frozen=True, slots=True)
class Count:
    """What there is at one moment of the day."""

    tables: tuple[int, ...]
    objects: int
    blocks: int


class Day:
    """The hub, an agent whose programs speak, an agent that echoes, and an unreliable network."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.core = Switched()
        self.start = self.core.now
        self.one, self.two = self.core.join(), self.core.join()
        self.core.settle()
        self.beating = self.core.members[self.one].open(self.two, 10_016)
        self.beats = 0
        self.outages = 0
        self.mended_at = {self.one: self.core.now, self.two: self.core.now}
        self.pings_due = 0
        self.heard = 0  # beats that came back and were looked at

    @property
    def links(self) -> list[Link]:
        """Both ends of both links."""
        return [end.link for member in self.core.members.values() for end in member.joined.ends]

    def until(self, hours: float) -> None:
        """Go on until this many hours have passed since the start."""
        while self.core.now < self.start + hours * HOUR_S:
            for _ in range(self.random.randrange(12, 60)):
                self._beat()
            self._outage()

    def _beat(self) -> None:
        speaker = self.core.members[self.one]
        speaker.link.send(self.beating, b"%08d" % self.beats)
        self.beats += 1
        if self.beats % BEATS_PER_STREAM == 0:
            short = speaker.open(self.two, 10_017)
            speaker.link.send(short, b"x" * self.random.choice([1, 900, 3 * INITIAL_WINDOW]))
            speaker.link.finish(short)
        self.core.wait(BEAT_S)

    def _outage(self) -> None:
        """One link has no network for a while, with a beat in the middle of it; then all that was said has come."""
        away = self.random.choice([self.one, self.two])
        length_s = self.random.uniform(1.0, LONGEST_OUTAGE_S)
        self.outages += 1
        if self.random.random() < 0.5:
            self._lost(away)
        else:
            self.core.members[away].stalled = True
        self._wait_away(away, length_s / 2)
        self.core.members[self.one].link.send(self.beating, b"%08d" % self.beats)
        self.beats += 1
        self._wait_away(away, length_s / 2)
        if self.core.members[away].up:  # nobody noticed
            self.core.members[away].stalled = False
            self.core.settle()
        else:
            self.core.resume(away)
            self.mended_at[away] = self.core.now
        self.core.wait(1)
        self._all_came()

    def _wait_away(self, away: NodeId, seconds: float) -> None:
        was_up = self.core.members[away].up
        self.core.wait(seconds)
        if was_up and not self.core.members[away].up:
            self._count_pings(away)

    def _lost(self, away: NodeId) -> None:
        self._count_pings(away)
        self.core.cut(away)

    def _count_pings(self, node_id: NodeId) -> None:
        """A WebSocket ended: it had a ping at once, and one each PING_EVERY_S."""
        self.pings_due += 1 + math.floor((self.core.now - self.mended_at[node_id]) / PING_EVERY_S)

    def _all_came(self) -> None:
        answers = self.core.members[self.one].answers
        echoed = answers[self.beating]
        first = self.beats - len(echoed) // 8
        assert echoed == b"".join(b"%08d" % number for number in range(first, self.beats))
        assert first == self.heard
        self.heard = self.beats
        echoed.clear()
        assert list(answers) == [self.beating], "short streams that did not end"

    def count(self) -> Count:
        """Sizes of every table, objects and blocks of memory."""
        self.core.wait(PING_EVERY_S + 1)
        tables = [self.core.router.stream_count, len(self.core.router._legs)]
        for link in self.links:
            ledger = link._ledger
            tables += [len(link.streams), len(ledger._sent), len(ledger._replay), ledger.flight, ledger.control]
            tables += [len(link._control), link._control_bytes, len(link._opening), len(link._granting)]
            tables += [len(link._unsequenced), len(link._queue._fresh), len(link._queue._others)]
            tables += [link.budget.reserved, sum(stream.window.size for stream in link.streams.values())]
        gc.collect()
        return Count(tuple(tables), len(gc.get_objects()), sys.getallocatedblocks())


@pytest.mark.parametrize("hours", [4, pytest.param(24, marks=pytest.mark.slow)])
def test_a_day_leaves_no_trace(hours: int) -> None:
    """Pings as many as they should be, deadlines where they should be, and everything as large as after two hours."""
    day = Day(seed=3)
    day.until(2)
    before = day.count()
    day.until(hours)
    after = day.count()
    assert day.core.now >= day.start + hours * HOUR_S
    assert day.outages > 6 * hours
    assert day.core.members[day.one].resets == 0
    assert after.tables == before.tables
    assert after.objects - before.objects < NOISE_OBJECTS
    assert after.blocks - before.blocks < NOISE_BLOCKS
    for node_id in (day.one, day.two):
        day._count_pings(node_id)
    pings = sum(member.link._keepalive._token for member in day.core.members.values())
    assert abs(pings / day.pings_due - 1) < 0.01, (pings, day.pings_due)
    for member in day.core.members.values():
        assert 0 < member.link.next_deadline() - day.core.now <= PING_EVERY_S
        assert 0 < member.joined.hub.link.next_deadline() - day.core.now <= 2 * PING_EVERY_S + SILENCE_S
