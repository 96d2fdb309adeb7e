"""Which waiting trial goes to which slot, how many lie ahead of it, and what is taken back from whom.

1. Lost trials go first, each on a node where it was not lost if one is at work, and with nothing queued behind it:
   should its slot die, there is no doubt which trial was running. One that ran out of memory waits for a slot of
   the node with the most memory per slot (`NodeMemory`).
2. Then the lowest number of the models that may start (`ModelGuards`).
3. A slot gets enough ahead to cover its round trip (`Pace`), but no more than its share of what is left. Where
   configurations are proposed it gets one ahead and no more: a proposal is the better the later it is made, and one
   covers the round trip of any trial that is longer than it. What is taken back unstarted keeps its proposal.
4. A slot that finds nothing takes back the last unstarted trial that may run on it, from the slot with the longest
   way to go to it. One whose models have nothing waiting, while others have, makes room for a slot of theirs.
5. A proposal that an earlier trial of its pair has already is not run: its trial takes that one's result.
It changes slots, queues and guards, never a row: rows are `Scheduler`'s through `TrialBook`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from raycolab.engine.book import TrialBook
from raycolab.engine.guards import ModelGuards, NodeGuards
from raycolab.engine.messages import Assign, Assignment, Revoke, StudiesLike
from raycolab.engine.pace import MAX_AHEAD, Pace
from raycolab.engine.slots import Held, Slot, SlotBoard, SlotPhase

__all__ = ["Dispatch", "NodeMemory", "PendingQueue"]

_REPEATS_AT_ONCE = 16  # proposals in a row that may turn out to be repeats: each takes Optuna some milliseconds
_ANSWER_DUE_S = 2.0  # a slot that has not answered a revoke by then no longer counts as about to


class Dispatch:
    """The trials that wait, and their way to the slots."""

    def __init__(
        self,
        book: TrialBook,
        slots: SlotBoard,
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
        self._pending = PendingQueue()
        # Trials that were lost before, with their models, in the order of their loss.
        self._again: dict[int, str] = {}
        # Slots that may have room since the last `feed`.
        self._hungry: dict[str, None] = {}
        self._last_ticket = 0

    def __iter__(self) -> Iterator[int]:
        """The numbers of all trials that wait."""
        yield from self._again
        yield from self._pending

    # ----- what waits -----

    def add(self, number: int) -> None:
        """The trial waits."""
        model = self._book.rows[number].model
        if self._book.lost_on(number):
            self._again[number] = model
        else:
            self._pending.add(number, model)

    def clear(self) -> None:
        """Nothing waits any more."""
        self._again.clear()
        self._pending.clear()

    def waiting(self) -> dict[str, int]:
        """How many trials of each model wait."""
        counts = {model: self._pending.count(model) for model in self._pending.models}
        for model in self._again.values():
            counts[model] = counts.get(model, 0) + 1
        return counts

    # ----- giving out -----

    def hungry(self, slot: Slot) -> None:
        """The slot may have room, or has made it for another."""
        if slot.phase is SlotPhase.UP and self.max_concurrent is None:
            self._hungry[slot.id] = None
        else:
            self.all_hungry()

    def all_hungry(self) -> None:
        """Something changed that may give any slot a trial."""
        for slot in self._slots.up:
            self._hungry[slot.id] = None

    def feed(self, now: float) -> list[Assign]:
        """Give every slot that has nothing one trial, then fill those that may have room, the emptiest first."""
        hungry, self._hungry = self._hungry, {}
        known = [slot for slot_id in hungry if (slot := self._slots.get(slot_id)) is not None]
        slots = sorted((slot for slot in known if self.usable(slot)), key=lambda slot: len(slot.held))
        if not slots:
            return []
        shares = {models: self._share(models) for models in {slot.models for slot in slots}}
        given: dict[str, list[Assignment]] = {slot.id: [] for slot in slots}
        for is_first in (True, False):
            for slot in slots:
                if slot.held or self._may_begin():
                    given[slot.id] += self._fill(slot, 1 if is_first else shares[slot.models], now)
        return [Assign(slot_id, tuple(assignments)) for slot_id, assignments in given.items() if assignments]

    def usable(self, slot: Slot) -> bool:
        """Whether trials may go to the slot at all."""
        return slot.phase is SlotPhase.UP and slot.node not in self._nodes.benched

    def retire(self, slot: Slot, now: float) -> list[Revoke]:
        """The slot gets nothing more; ask it for what it has not started."""
        if slot.phase is SlotPhase.DYING:
            return []
        slot.phase = SlotPhase.LEAVING
        return self.take_back(slot, slot.unstarted, now)

    def surplus(self) -> list[Slot]:
        """Slots that have nothing to do and whose models have nothing waiting, while others have."""
        idle = [slot for slot in self._slots.up if slot.models is not None and not slot.held]
        waiting = {model for model in self.waiting() if model not in self._models.held} if idle else set()
        return [slot for slot in idle if waiting and not any(map(slot.takes, waiting))]

    def _may_begin(self) -> bool:
        """Whether one more slot may have trials."""
        most = self.max_concurrent
        return most is None or sum(bool(slot.held) for slot in self._slots) < most

    def _share(self, models: frozenset[str] | None) -> int:
        """How many trials a slot for these models may hold so that the others get as many."""
        slots = [slot for slot in self._slots.up if slot.models == models and self.usable(slot)]
        open_count = sum(models is None or model in models for model in self._again.values())
        open_count += sum(len(slot.held) for slot in slots)
        for model in self._pending.models:
            if models is not None and model not in models:
                continue
            if self._models.may_start_all(model):
                open_count += 0 if model in self._models.held else self._pending.count(model)
            else:
                open_count += self._models.may_start(model)
        return max(1, -(-open_count // max(1, len(slots))))

    def _fill(self, slot: Slot, share: int, now: float) -> list[Assignment]:
        """Give the slot what it should hold more."""
        given: list[Assignment] = []
        if slot.phase is not SlotPhase.UP:
            return given
        share = 1 if slot.one_at_a_time or slot.for_one else share
        most = 1 if self._book.is_proposed else MAX_AHEAD
        if slot.held and (len(slot.held) > most or next(reversed(slot.held.values())).last):
            return given
        unstarted = [held.model for held in slot.held.values() if held.started_at is None]
        ahead_s = sum((self._pace.short_s(model) or 0.0) * unstarted.count(model) for model in set(unstarted))
        ahead = len(unstarted) - (len(unstarted) == len(slot.held))  # the first is as good as running
        cover_s = self._pace.cover_s(slot.round_trip_s)
        while not slot.held or (len(slot.held) < share and (ahead < 1 or (ahead < most and ahead_s < cover_s))):
            held = self._next_for(slot, now)
            if held is None:
                break
            if not slot.held:
                slot.moved_at = now
            slot.held[held.ticket] = held
            given.append(self._assignment(held))
            short_s = self._pace.short_s(held.model)
            ahead += 1
            ahead_s += cover_s if short_s is None else short_s  # while nothing is measured one ahead is enough
            if held.last:
                break
        if slot.for_one and slot.held:
            slot.phase = SlotPhase.LEAVING
        return given

    def _next_for(self, slot: Slot, now: float) -> Held | None:
        """Take the next trial for this slot out of those that wait; None when there is none for it."""
        for number, model in self._again.items():
            if slot.takes(model) and self._models.may_start(model) and not self._awaits_another(slot, number):
                del self._again[number]
                return self._hand_out(number, model, now, last=True)
        ready = [
            model
            for model in self._pending.models
            if slot.takes(model)
            and self._models.may_start(model)
            and not self._elsewhere(slot, model, self._models.avoid(model))
        ]
        if not ready:
            return None
        for _ in range(_REPEATS_AT_ONCE):
            model = min(ready, key=self._pending.first)
            number = self._pending.pop(model)
            if not self._repeats(number):
                return self._hand_out(number, model, now, last=False)
            if not self._pending.count(model):
                ready.remove(model)
            if not ready:
                return None
        self.hungry(slot)
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
            nodes = {each.node for each in self._slots if each.takes(model)}
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
            for other in self._slots.at_work
        )

    def _hand_out(self, number: int, model: str, now: float, last: bool) -> Held:
        self._last_ticket += 1
        self._models.given_out(model, number, now)
        return Held(self._last_ticket, number, model, last)

    def _assignment(self, held: Held) -> Assignment:
        row = self._book.rows[held.number]
        config = row.config if self._studies is None else self._studies.propose(row)
        return Assignment(held.ticket, held.number, held.model, row.dataset, config or {})

    # ----- taking back -----

    def take_back(self, slot: Slot, wanted: Iterable[Held], now: float) -> list[Revoke]:
        """Ask the slot for these trials, but for those already asked for."""
        asked = [held for held in wanted if held.revoking_since is None]
        if not asked:
            return []
        for held in asked:
            held.revoking_since = now
        return [Revoke(slot.id, tuple(held.ticket for held in asked))]

    def rob(self, now: float) -> list[Revoke]:
        """For each slot with nothing to do take one trial back from the slot with the longest way to it."""
        idle = [slot for slot in self._slots if not slot.held and self.usable(slot)]
        if not idle or not self._may_begin():
            return []
        due = now - _ANSWER_DUE_S
        wanted = len(idle) - sum(
            held.revoking_since is not None and held.revoking_since > due
            for slot in self._slots
            for held in slot.held.values()
        )
        revokes: list[Revoke] = []
        while wanted > 0:
            ways = [
                (self._way_to_last(slot, now), slot, held) for slot in self._slots.up for held in self._loot(slot, idle)
            ]
            way, victim, held = max(ways, key=lambda each: each[0], default=(0.0, None, None))
            if victim is None or held is None or way <= 0:
                break
            revokes += self.take_back(victim, [held], now)
            wanted -= 1
        return revokes

    def _loot(self, slot: Slot, idle: Sequence[Slot]) -> Iterable[Held]:
        """The last trial of the slot that it has not started, was not asked for, and one of the idle slots may run.

        One that waits for a certain node would only go back and forth.
        """
        free = (held for held in reversed(slot.unstarted) if held.revoking_since is None)
        return islice((held for held in free if any(self._may_run(each, held) for each in idle)), 1)

    def _may_run(self, slot: Slot, held: Held) -> bool:
        """Whether the trial may go to this slot, should it wait again."""
        if not slot.takes(held.model):
            return False
        if self._book.lost_on(held.number):
            return not self._awaits_another(slot, held.number)
        return not self._elsewhere(slot, held.model, self._models.avoid(held.model))

    def _way_to_last(self, slot: Slot, now: float) -> float:
        """Seconds the slot will need to its last trial; 0 when taking that is not worth it.

        A slot that has not moved for longer than its trials take is expected to stay so for as long again.
        """
        if slot.running is None and len(slot.held) == 1 and now - slot.moved_at < _ANSWER_DUE_S:
            return 0.0
        before = len(slot.held) - 1
        work = sum(self._pace.mean_s(held.model) or 1.0 for held in list(slot.held.values())[:before])
        way = max(work, now - slot.moved_at)
        return way if way > slot.round_trip_s else 0.0


class PendingQueue:
    """One heap of trial numbers per model; a number is in it once or not at all."""

    def __init__(self) -> None:
        self._heaps: dict[str, list[int]] = {}
        self._model_of: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._model_of)

    def __contains__(self, number: int) -> bool:
        return number in self._model_of

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._model_of))

    @property
    def models(self) -> list[str]:
        """The models that have trials waiting."""
        return [model for model, heap in self._heaps.items() if heap]

    def count(self, model: str) -> int:
        """How many trials of the model wait."""
        return len(self._heaps.get(model, ()))

    def add(self, number: int, model: str) -> None:
        """The trial waits, in its place by number."""
        if number not in self._model_of:
            self._model_of[number] = model
            heapq.heappush(self._heaps.setdefault(model, []), number)

    def first(self, model: str) -> int:
        """The model's next trial; KeyError or IndexError when it has none."""
        return self._heaps[model][0]

    def pop(self, model: str) -> int:
        """Take the model's next trial out."""
        number = heapq.heappop(self._heaps[model])
        del self._model_of[number]
        return number

    def clear(self) -> None:
        """Nothing waits any more."""
        self._heaps.clear()
        self._model_of.clear()


class NodeMemory:
    """The memory of each node, shared by the slots it has."""

    def __init__(self) -> None:
        self._bytes: dict[str, int] = {}
        # The most slots seen at once: one that is just being replaced leaves no room to the others.
        self._slots: dict[str, int] = {}

    def node_up(self, node: str, memory_bytes: int | None) -> None:
        """The node has so much memory; None where that is not known."""
        if memory_bytes is not None:
            self._bytes[node] = memory_bytes

    def node_lost(self, node: str) -> None:
        """The node is gone; one of the same name may be another machine."""
        self._bytes.pop(node, None)
        self._slots.pop(node, None)

    def slots_on(self, node: str, count: int) -> None:
        """The node has so many slots now."""
        self._slots[node] = max(count, self._slots.get(node, 1))

    def roomiest(self, nodes: Iterable[str]) -> frozenset[str]:
        """Those of the nodes with the most memory per slot; none where it is known of none."""
        share = {node: self._bytes[node] / self._slots.get(node, 1) for node in nodes if node in self._bytes}
        most = max(share.values(), default=0.0)
        return frozenset(node for node, room in share.items() if room == most)
