"""The slots of a sweep and the trials each one holds, by ticket.

It records; `Scheduler` decides. A slot is STARTING while it loads MAIN, UP while it takes trials, LEAVING while it
runs its last one, DYING from the moment it is to end until the driver says that it is gone.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["Held", "Slot", "SlotBoard", "SlotPhase"]

ASSUMED_ROUND_TRIP_S = 0.1  # until the slot has measured its own


class SlotPhase(enum.Enum):
    """Where a slot stands."""

    STARTING = "starting"
    UP = "up"
    LEAVING = "leaving"
    DYING = "dying"


@dataclass(slots=True)
class Held:
    """One trial in one slot's hands."""

    ticket: int
    number: int
    model: str
    last: bool  # nothing may be queued behind it
    started_at: float | None = None  # the engine's clock
    revoking_since: float | None = None  # asked back, not answered yet
    pruned: bool = False  # its slot was told that it may give up


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
    held: dict[int, Held] = field(default_factory=dict)

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


class SlotBoard:
    """All slots that are known and not gone."""

    def __init__(self) -> None:
        self._slots: dict[str, Slot] = {}
        # A slot's id has one life: reports that come after it change nothing.
        self._gone: set[str] = set()

    def __iter__(self) -> Iterator[Slot]:
        return iter(self._slots.values())

    def get(self, slot_id: str) -> Slot | None:
        """The slot, or None when it is gone or was never known."""
        return self._slots.get(slot_id)

    def __bool__(self) -> bool:
        return bool(self._slots)

    def add(self, slot: Slot) -> bool:
        """A new slot; False when it is known already, or gone."""
        if slot.id in self._slots or slot.id in self._gone:
            return False
        self._slots[slot.id] = slot
        return True

    def remove(self, slot_id: str) -> Slot | None:
        """Forget the slot and return it with what it held; None when it was not known."""
        self._gone.add(slot_id)
        return self._slots.pop(slot_id, None)

    def held(self, slot_id: str, ticket: int) -> Held | None:
        """What the slot holds under this ticket; None for whatever is stale."""
        slot = self._slots.get(slot_id)
        return None if slot is None else slot.held.get(ticket)

    @property
    def up(self) -> list[Slot]:
        """The slots that take trials."""
        return [slot for slot in self._slots.values() if slot.phase is SlotPhase.UP]

    @property
    def at_work(self) -> list[Slot]:
        """The slots that take trials or run their last one."""
        return [slot for slot in self._slots.values() if slot.phase in (SlotPhase.UP, SlotPhase.LEAVING)]

    @property
    def holds_any(self) -> bool:
        """Whether any trial is in any slot's hands."""
        return any(slot.held for slot in self._slots.values())
