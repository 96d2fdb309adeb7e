"""Blows against a cluster at work, in a random order that a seed repeats: what is killed, when, and what comes back.

When a blow falls is decided by how many trials are COMPLETE, never by time, so that a slow machine gets as many. A
trial may be lost three times before it is LOST: blows lie so far apart that what one hit is done before the next, but
for some that come in twos, the second while what the first broke is not mended.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import psutil

from tests.integration.outage_stage import Attempt, Sweep
from tests.integration.sessions import Cluster, Tab, until, words_of

__all__ = ["JOINERS", "Blow", "Chaos", "Kind", "plan"]

JOINERS = 2
SLOTS = 1 + JOINERS  # a CPU each
_HANG_S = 120.0  # nothing a blow breaks takes so long to mend
_CUT_OFF = 3  # what `submit` ends with when the head is gone


class Kind(StrEnum):
    """What is killed."""

    SLOT = "slot"  # a process that runs trials
    RAY = "ray"  # Ray on a joiner, which starts it again
    JOINER = "joiner"  # a joiner's whole session; another joiner comes later
    ENGINE = "engine"  # the scheduler's actor, which Ray starts again
    HEAD = "head"  # the head; another one is started on its data directory
    STOP = "stop"  # nothing: `raycolab down`, then everything is started again


_AT_RISK = {Kind.SLOT: 1, Kind.RAY: 1, Kind.JOINER: 1, Kind.ENGINE: SLOTS, Kind.HEAD: SLOTS, Kind.STOP: SLOTS}


@dataclass(frozen=True, slots=True)
class Blow:
    """One kill."""

    kind: Kind
    complete: int  # falls when so many trials are COMPLETE
    in_twos: bool  # right behind the one before


def plan(rng: random.Random, trials: int, counts: Mapping[Kind, int], twos: int) -> list[Blow]:
    """So many blows of each kind over the first nine tenths of the trials, `twos` of them right behind another."""
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    rng.shuffle(kinds)
    # A trial may be hit twice by a pair, and by a stop alone, while its node and then its head end. Never three times.
    may_follow = [
        at for at in range(1, len(kinds)) if kinds[at - 1] is not Kind.STOP and kinds[at] not in (Kind.HEAD, Kind.STOP)
    ]
    behind: set[int] = set()
    for at in rng.sample(may_follow, len(may_follow)):
        if len(behind) < twos and not behind & {at - 1, at + 1}:
            behind.add(at)
    step = trials * 0.9 / (len(kinds) - len(behind))
    assert step > SLOTS, "what a blow hit would not be done before the next"
    blows: list[Blow] = []
    moment = 0
    for at, kind in enumerate(kinds):
        if at not in behind:
            complete = round(step * moment + rng.uniform(1, step - SLOTS))
            moment += 1
        blows.append(Blow(kind, complete, at in behind))
    return blows


class Chaos:
    """Carries the blows out against one sweep."""

    def __init__(self, on: Cluster, sweep: Sweep, rng: random.Random) -> None:
        self.done: list[tuple[Kind, str]] = []
        # Attempts that were COMPLETE in the store before some blow.
        self.kept: set[Attempt] = set()
        # What `submit` said whenever it was cut off.
        self.cut_off: list[str] = []
        self._cluster = on
        self._sweep = sweep
        self._rng = rng
        self._tabs = 1 + JOINERS

    def strike(self, blow: Blow) -> None:
        """Wait for its moment, then for a victim, and kill it."""
        if not blow.in_twos:
            self.until_complete(blow.complete)
            assert self._ended() == [], self.story()
            self._fill_up()
        self.kept.update(each for each in self._sweep.attempts() if each.outcome == "COMPLETE")
        match blow.kind:
            case Kind.SLOT:
                what = self._kill(self._everyone(), "ray::raycolab-slot ")
            case Kind.RAY:
                what = self._kill(list(self._cluster.joiners.values()), "/raylet ")
            case Kind.ENGINE:
                what = self._kill([self._head], "ray::Engine")
            case Kind.JOINER:
                what = self._rng.choice(sorted(self._cluster.joiners))
                self._cluster.joiners.pop(what).end()
            case Kind.HEAD:
                what = self._end_head()
            case Kind.STOP:
                what = self._stop()
        self.done.append((blow.kind, what))

    def until_complete(self, count: int) -> None:
        """Wait until so many trials are COMPLETE."""

        def there() -> bool:
            self._submit_again()
            return self._sweep.complete >= count

        until(there, _HANG_S, self.story)

    def until_over(self) -> int:
        """Wait until `submit` ends, unless only its head did; its exit code."""

        def over() -> bool:
            self._submit_again()
            return self._sweep.process.poll() is not None

        until(over, _HANG_S, self.story)
        return int(self._sweep.process.returncode)

    def struck(self) -> dict[str, int]:
        """Blows by kind."""
        return {kind.value: count for kind, count in Counter(kind for kind, _ in self.done).items()}

    @property
    def at_risk(self) -> int:
        """The attempts that the blows can have cost."""
        return sum(_AT_RISK[kind] for kind, _ in self.done)

    def story(self) -> str:
        """What happened, for whoever reads a failure."""
        blows = "\n".join(f"{kind}: {what}" for kind, what in self.done)
        said = "\n".join(f"--- {tab.name}\n{tab.said()[-2000:]}" for tab in self._everyone())
        unfinished = [each for each in self._sweep.attempts() if each.outcome != "COMPLETE"]
        return f"{self._sweep.complete} COMPLETE after\n{blows}\n{said}\nattempts: {unfinished}"

    # ----- blows -----

    def _kill(self, tabs: list[Tab], words: str) -> str:
        """SIGKILL one process of these sessions whose command line has these words, once there is one."""
        found: list[tuple[Tab, psutil.Process]] = []

        def there() -> bool:
            found[:] = [(tab, each) for tab in tabs for each in tab.processes() if words in words_of(each)[:200]]
            return bool(found)

        until(there, _HANG_S, lambda: f"no {words!r} runs: {self.story()}")
        tab, victim = self._rng.choice(found)
        what = f"{words_of(victim)[:60]} ({victim.pid}) in {tab.name}"
        victim.kill()
        return what

    def _end_head(self) -> str:
        """End the head's session, or kill its supervisor or Ray's head in it; then start a head again."""
        how = self._rng.choice(["session", "supervisor", "gcs_server"])
        if how == "supervisor":
            self._head.supervisor().kill()
        elif how == "gcs_server":
            self._kill([self._head], "/gcs_server ")
        if how != "session":
            assert self._head.process is not None
            self._head.process.wait(60)
        self._head.end()
        self._cluster.start_head(self._next_tab("head"))
        return how

    def _stop(self) -> str:
        """`raycolab down` ends the head and the joiners that it reaches; then all is started as on the first day."""
        linked = sum(node["state"] != "away" for node in self._cluster.status()["nodes"])
        down = self._cluster.raycolab("down")
        assert down.returncode == 0, down.stderr
        # A joiner without a link cannot be told: it waits for the next head.
        until(
            lambda: len(self._ended()) >= linked, _HANG_S, lambda: f"{linked} were there before `down`: {self.story()}"
        )
        codes = {}
        for tab in self._ended():
            assert tab.process is not None
            codes[tab.name] = tab.process.returncode, tab.said()
            tab.end()
            self._cluster.joiners.pop(tab.name, None)
        assert {code for code, _ in codes.values()} == {0}, f"{codes}\n{self.story()}"
        self._cluster.start_head(self._next_tab("head"))
        self._fill_up()
        return f"{len(codes)} ended"

    # ----- inside -----

    @property
    def _head(self) -> Tab:
        assert self._cluster.head is not None
        return self._cluster.head

    def _everyone(self) -> list[Tab]:
        return [self._head, *self._cluster.joiners.values()]

    def _ended(self) -> list[Tab]:
        return [tab for tab in self._everyone() if tab.process is not None and tab.process.poll() is not None]

    def _fill_up(self) -> None:
        """Start joiners for those that are gone; from when they have joined on nothing but `down` may end them."""
        while len(self._cluster.joiners) < JOINERS:
            tab = self._cluster.start_joiner(self._next_tab("tab"))
            until(lambda tab=tab: "joined as" in tab.said(), _HANG_S, self.story)

    def _next_tab(self, name: str) -> str:
        self._tabs += 1
        return f"{name}-{self._tabs}"

    def _submit_again(self) -> None:
        """What a person does who sees `submit` end with its head."""
        if self._sweep.process.poll() == _CUT_OFF:
            _, said = self._sweep.process.communicate()
            self.cut_off.append(said.strip().rpartition("\n")[2])
            self._sweep.submit()
