"""Which waiting trial goes to which slot, how many lie ahead of it, and what is taken back from whom.

1. Lost trials go first, each on a node where it was not lost if one is at work, and with nothing queued behind it:
   should its slot die, there is no doubt which trial was running. One that ran out of memory waits for a slot of
   the node with the most memory per slot (`NodeMemory`).
2. Then the lowest number of the models that may start (`ModelGuards`).
3. A slot gets enough ahead to cover its round trip (`Pace`), but no more than its share of what is left. Where
   configurations are proposed it gets one ahead and no more: a proposal is the better the later it is made, and one
   covers the round trip of any trial that is longer than it. What is taken back unstarted keeps its proposal.
4. A slot that finds nothing has the last unstarted trial that may run on it taken back from the slot with the longest
   way to go to it. One whose models have nothing waiting, while others have, makes room for a slot of theirs.
5. A proposal that an earlier trial of its pair has already is not run: its trial takes that one's result.
It changes slots, queues and guards, never a row: rows are `Scheduler`'s through `TrialBook`.
"""

from __future__ import annotations

import enum
import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

from raycolab.engine.book import TrialBook
from raycolab.engine.guards import ModelGuards, NodeGuards
from raycolab.engine.messages import NOTHING, Assignment, Plan, SetupStep, State, StudiesLike
from raycolab.engine.pace import MAX_AHEAD, Pace
from raycolab.trials import trial_seed

__all__ = ["Dispatch", "Held", "NodeMemory", "Slot", "SlotPhase"]

ASSUMED_ROUND_TRIP_S = 0.1  # until the slot has measured its own
_REPEATS_AT_ONCE = 16  # proposals in a row that may turn out to be repeats: each takes Optuna some milliseconds
_ANSWER_DUE_S = 2.0  # a slot that has not given back by then what it was asked for no longer counts as about to


class SlotPhase(enum.Enum):
    """Where a slot stands."""

    STARTING = "starting"  # it loads MAIN
    UP = "up"  # it takes trials
    LEAVING = "leaving"  # it runs its last one
    DYING = "dying"  # it is to end, and the driver has not said yet that it is gone


@dataclass(slots=True)
class Held:
    """One trial in one slot's hands."""

    trial: Assignment
    last: bool  # nothing may be queued behind it
    started_at: float | None = None  # the engine's clock
    revoked_at: float | None = None  # asked back, and not given back yet
    revoked_in: int = 0  # the first plan that left it out
    pruned: bool = False  # it may give up


@dataclass(slots=True)
class Slot:
    """One slot: its node, its phase, what it holds in the order given."""

    id: str
    node: str
    phase: SlotPhase = SlotPhase.STARTING
    round_trip_s: float = ASSUMED_ROUND_TRIP_S
    moved_at: float = 0.0  # when it was started, last reported, or got something to do
    models: frozenset[str] | None = None  # it runs trials of these; None: of any
    one_at_a_time: bool = False  # nothing may lie ahead of it
    for_one: bool = False  # it leaves with its first trial
    main_version: int = 1  # of the MAIN that it loads
    setup: SetupStep | None = None  # where it is in loading MAIN, as far as is known, ...
    setup_since: float = 0.0  # ... and since when
    held: dict[int, Held] = field(default_factory=dict)  # by ticket
    plan: int = 0  # the number of its plan, one more with each change
    heard: int = 0  # the number of the newest state heard

    def takes(self, model: str) -> bool:
        """Whether trials of the model may run in it."""
        return self.models is None or model in self.models

    @property
    def running(self) -> Held | None:
        """The trial it runs, as far as is known."""
        return next((held for held in self.held.values() if held.started_at is not None), None)

    @property
    def unstarted(self) -> list[Held]:
        """What lies ahead of it, in order."""
        return [held for held in self.held.values() if held.started_at is None]

    def revoke(self, wanted: Iterable[Held], now: float) -> None:
        """Leave these out of its plan; they stay in its hands until it says that it did not start them."""
        revoked = [held for held in wanted if held.revoked_at is None]
        self.plan += bool(revoked)
        for held in revoked:
            held.revoked_at, held.revoked_in = now, self.plan

    def given_back(self, state: State) -> list[Held]:
        """What was asked back and is not in its hands any more, as this state says."""
        return [
            held
            for held in self.unstarted
            if held.revoked_at is not None
            and held.revoked_in <= state.plan
            and held.trial.ticket not in state.unstarted
        ]

    def plan_after(self, state: State) -> Plan:
        """What a slot in this state should do."""
        if state.plan >= self.plan:
            return NOTHING
        hold = [held.trial for held in self.unstarted if held.revoked_at is None]
        return Plan(
            self.plan,
            hold=tuple(trial.ticket for trial in hold),
            new=tuple(trial for trial in hold if trial.ticket not in state.unstarted),
            prune=next((ticket for ticket, held in self.held.items() if held.pruned), None),
            ends=self.phase is SlotPhase.DYING,
        )


class Dispatch:
    """The trials that wait, and their way to the slots."""

    def __init__(
        self,
        book: TrialBook,
        slots: dict[str, Slot],
        models: ModelGuards,
        nodes: NodeGuards,
        pace: Pace,
        memory: NodeMemory,
        studies: StudiesLike | None,
    ) -> None:
        self._book = book
        self._slots = slots
        self._models = models
        self._nodes = nodes
        self._pace = pace
        self._memory = memory
        self._studies = studies
        self.max_concurrent: int | None = None  # slots that may have trials at the same time
        self.seed: int | None = None  # the sweep's; None where trials are to leave random numbers alone
        # The others, the lowest number of each model first.
        self._pending: dict[str, list[int]] = {}
        # Trials that were lost before, with their models, in the order of their loss.
        self._again: dict[int, str] = {}
        # Slots that may have room since the last `assign`.
        self._needing: dict[str, None] = {}
        self._last_ticket = 0

    def __iter__(self) -> Iterator[int]:
        """The numbers of all trials that wait."""
        yield from self._again
        yield from sorted(chain.from_iterable(self._pending.values()))

    @property
    def up(self) -> list[Slot]:
        """The slots that take trials."""
        return [slot for slot in self._slots.values() if slot.phase is SlotPhase.UP]

    @property
    def at_work(self) -> list[Slot]:
        """The slots that take trials or run their last one."""
        return [slot for slot in self._slots.values() if slot.phase in (SlotPhase.UP, SlotPhase.LEAVING)]

    # ----- what waits -----

    def add(self, number: int) -> None:
        """The trial waits."""
        model = self._book.rows[number].model
        if self._book.lost_on(number):
            self._again[number] = model
        else:
            heapq.heappush(self._pending.setdefault(model, []), number)

    def clear(self) -> None:
        """Nothing waits any more."""
        self._again.clear()
        self._pending.clear()

    def waiting(self) -> dict[str, int]:
        """How many trials of each model wait."""
        counts = {model: len(numbers) for model, numbers in self._pending.items() if numbers}
        for model in self._again.values():
            counts[model] = counts.get(model, 0) + 1
        return counts

    # ----- giving out -----

    def needs_work(self, slot: Slot) -> None:
        """The slot may have room, or has made it for another."""
        if slot.phase is SlotPhase.UP and self.max_concurrent is None:
            self._needing[slot.id] = None
        else:
            self.all_need_work()

    def all_need_work(self) -> None:
        """Something changed that may give any slot a trial."""
        for slot in self.up:
            self._needing[slot.id] = None

    def assign(self, now: float) -> bool:
        """Give every slot that has nothing one trial, then fill those that may have room, the emptiest first.

        Whether any was given out.
        """
        needing, self._needing = self._needing, {}
        known = [slot for slot_id in needing if (slot := self._slots.get(slot_id)) is not None]
        slots = sorted((slot for slot in known if self.usable(slot)), key=lambda slot: len(slot.held))
        shares = {models: self._share(models) for models in {slot.models for slot in slots}}
        before = self._last_ticket
        for is_first in (True, False):
            for slot in slots:
                if slot.held or self._may_begin():
                    self._fill(slot, 1 if is_first else shares[slot.models], now)
        return self._last_ticket > before

    def usable(self, slot: Slot) -> bool:
        """Whether trials may go to the slot at all."""
        return slot.phase is SlotPhase.UP and slot.node not in self._nodes.benched

    def retire(self, slot: Slot, now: float) -> None:
        """The slot gets nothing more, and gives back what it has not started."""
        if slot.phase is not SlotPhase.DYING:
            slot.phase = SlotPhase.LEAVING
            slot.revoke(slot.unstarted, now)

    def surplus(self) -> list[Slot]:
        """Slots that have nothing to do and whose models have nothing waiting, while others have."""
        idle = [slot for slot in self.up if slot.models is not None and not slot.held]
        waiting = {model for model in self.waiting() if model not in self._models.held} if idle else set()
        return [slot for slot in idle if waiting and not any(map(slot.takes, waiting))]

    def _may_begin(self) -> bool:
        """Whether one more slot may have trials."""
        most = self.max_concurrent
        return most is None or sum(bool(slot.held) for slot in self._slots.values()) < most

    def _share(self, models: frozenset[str] | None) -> int:
        """How many trials a slot for these models may hold so that the others get as many."""
        slots = [slot for slot in self.up if slot.models == models and self.usable(slot)]
        open_count = sum(models is None or model in models for model in self._again.values())
        open_count += sum(len(slot.held) for slot in slots)
        for model, numbers in self._pending.items():
            if not numbers or (models is not None and model not in models):
                continue
            if self._models.may_start_all(model):
                open_count += 0 if model in self._models.held else len(numbers)
            else:
                open_count += self._models.may_start(model)
        return max(1, -(-open_count // max(1, len(slots))))

    def _fill(self, slot: Slot, share: int, now: float) -> None:
        """Give the slot what it should hold more."""
        if slot.phase is not SlotPhase.UP:
            return
        share = 1 if slot.one_at_a_time or slot.for_one else share
        most = 1 if self._book.is_proposed else MAX_AHEAD
        if slot.held and (len(slot.held) > most or next(reversed(slot.held.values())).last):
            return
        unstarted = [held.trial.model for held in slot.unstarted]
        ahead_s = sum((self._pace.short_s(model) or 0.0) * unstarted.count(model) for model in set(unstarted))
        ahead = len(unstarted) - (len(unstarted) == len(slot.held))  # the first is as good as running
        cover_s = self._pace.cover_s(slot.round_trip_s)
        given = False
        while not slot.held or (len(slot.held) < share and (ahead < 1 or (ahead < most and ahead_s < cover_s))):
            held = self._next_for(slot, now)
            if held is None:
                break
            if not slot.held:
                slot.moved_at = now
            slot.held[held.trial.ticket] = held
            given = True
            short_s = self._pace.short_s(held.trial.model)
            ahead += 1
            ahead_s += cover_s if short_s is None else short_s  # while nothing is measured one ahead is enough
            if held.last:
                break
        slot.plan += given
        if slot.for_one and slot.held:
            slot.phase = SlotPhase.LEAVING

    def _next_for(self, slot: Slot, now: float) -> Held | None:
        """Take the next trial for this slot out of those that wait; None when there is none for it."""
        for number, model in self._again.items():
            if slot.takes(model) and self._models.may_start(model) and not self._awaits_another(slot, number):
                del self._again[number]
                return self._hand_out(number, model, now, last=True)
        ready = [
            model
            for model, numbers in self._pending.items()
            if numbers
            and slot.takes(model)
            and self._models.may_start(model)
            and not self._elsewhere(slot, model, self._models.avoid(model))
        ]
        if not ready:
            return None
        for _ in range(_REPEATS_AT_ONCE):
            model = min(ready, key=lambda each: self._pending[each][0])
            number = heapq.heappop(self._pending[model])
            if not self._repeats(number):
                return self._hand_out(number, model, now, last=False)
            if not self._pending[model]:
                ready.remove(model)
            if not ready:
                return None
        self.needs_work(slot)
        return None

    def _repeats(self, number: int) -> bool:
        """Propose the trial's configuration if it has none; whether it needs no run because an earlier one has it."""
        row = self._book.rows[number]
        if row.config is not None or self._studies is None:
            return False
        if not self._book.propose(number, self._studies.propose(row)):
            return False
        self._studies.repeated(number)
        return True

    def _awaits_another(self, slot: Slot, number: int) -> bool:
        """Whether a trial that was lost before waits for a slot of another node."""
        lost_on = self._book.lost_on(number)
        model = self._book.rows[number].model
        if self._book.ran_out_of_memory(number):
            nodes = {each.node for each in self._slots.values() if each.takes(model)}
            roomiest = self._memory.roomiest(nodes - self._nodes.benched.keys())
            if roomiest:
                return slot.node not in (roomiest - lost_on or roomiest)
        return self._elsewhere(slot, model, lost_on)

    def _elsewhere(self, slot: Slot, model: str, avoid: frozenset[str]) -> bool:
        """Whether the slot's node is to be avoided and another one is at work for the model."""
        if slot.node not in avoid:
            return False
        return any(
            other.node not in avoid and other.node not in self._nodes.benched and other.takes(model)
            for other in self.at_work
        )

    def _hand_out(self, number: int, model: str, now: float, last: bool) -> Held:
        self._last_ticket += 1
        self._models.given_out(model, number, now)
        row = self._book.rows[number]
        config = row.config if self._studies is None else self._studies.propose(row)
        trial = Assignment(
            *(self._last_ticket, number, model, row.dataset, config or {}),
            seed=None if self.seed is None else trial_seed(self.seed, number),
            attempt=row.attempts + 1,
        )
        return Held(trial, last)

    # ----- taking back -----

    def steal(self, now: float) -> None:
        """For each slot with nothing to do take one trial back from the slot with the longest way to it."""
        idle = [slot for slot in self._slots.values() if not slot.held and self.usable(slot)]
        if not idle or not self._may_begin():
            return
        due = now - _ANSWER_DUE_S
        wanted = len(idle) - sum(
            held.revoked_at is not None and held.revoked_at > due
            for slot in self._slots.values()
            for held in slot.held.values()
        )
        while wanted > 0:
            ways = [
                (self._way_to_last(slot, now), slot, held) for slot in self.up for held in self._stealable(slot, idle)
            ]
            way, victim, held = max(ways, key=lambda each: each[0], default=(0.0, None, None))
            if victim is None or held is None or way <= 0:
                break
            victim.revoke([held], now)
            wanted -= 1

    def _stealable(self, slot: Slot, idle: Sequence[Slot]) -> Iterable[Held]:
        """The last trial of the slot that it has not started, was not asked for, and one of the idle slots may run.

        One that waits for a certain node would only go back and forth.
        """
        free = (held for held in reversed(slot.unstarted) if held.revoked_at is None)
        return islice((held for held in free if any(self._may_run(each, held) for each in idle)), 1)

    def _may_run(self, slot: Slot, held: Held) -> bool:
        """Whether the trial may go to this slot, should it wait again."""
        if not slot.takes(held.trial.model):
            return False
        if self._book.lost_on(held.trial.number):
            return not self._awaits_another(slot, held.trial.number)
        return not self._elsewhere(slot, held.trial.model, self._models.avoid(held.trial.model))

    def _way_to_last(self, slot: Slot, now: float) -> float:
        """Seconds the slot will need to its last trial; 0 when taking that is not worth it.

        A slot that has not moved for longer than its trials take is expected to stay so for as long again.
        """
        if slot.running is None and len(slot.held) == 1 and now - slot.moved_at < _ANSWER_DUE_S:
            return 0.0
        before = len(slot.held) - 1
        work = sum(self._pace.mean_s(held.trial.model) or 1.0 for held in list(slot.held.values())[:before])
        way = max(work, now - slot.moved_at)
        return way if way > slot.round_trip_s else 0.0


class NodeMemory:
    """The memory of each node, shared by the slots it has."""

    def __init__(self) -> None:
        self._bytes: dict[str, int] = {}
        # The most slots seen at once: one that is just being replaced leaves no room to the others.
        self._slots: dict[str, int] = {}

    def node_up(self, node: str, memory_bytes: int | None) -> None:
        """The node has this much memory; None where that is not known."""
        if memory_bytes is not None:
            self._bytes[node] = memory_bytes

    def node_lost(self, node: str) -> None:
        """The node is gone; one of the same name may be another machine."""
        self._bytes.pop(node, None)
        self._slots.pop(node, None)

    def slots_on(self, node: str, count: int) -> None:
        """The node has this many slots now."""
        self._slots[node] = max(count, self._slots.get(node, 1))

    def roomiest(self, nodes: Iterable[str]) -> frozenset[str]:
        """Those of the nodes with the most memory per slot; none where it is known of none."""
        share = {node: self._bytes[node] / self._slots.get(node, 1) for node in nodes if node in self._bytes}
        most = max(share.values(), default=0.0)
        return frozenset(node for node, room in share.items() if room == most)
