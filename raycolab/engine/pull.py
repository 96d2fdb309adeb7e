"""Notebooks that pull trials of one sweep by themselves: what each of them holds, and how long it may be silent.

A puller asks, is given one trial, and says how it ended. Each time it asks it is a new slot of the scheduler, which
goes when the trial has ended: so nothing waits in front of a notebook that does not ask. A puller that holds a trial
is heard of every few seconds, whatever its notebook does; after `LEASE_S` without a word the trial goes to another.
Runs on the engine's event loop.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from raycolab.engine.dispatch import Slot
from raycolab.engine.messages import Assignment, LossCause
from raycolab.engine.scheduler import Scheduler
from raycolab.trials import Outcome

__all__ = ["HOLD_S", "LEASE_S", "Pullers"]

# A puller that asks waits for a trial this long at most, then it asks again.
HOLD_S = 10.0
# A puller that is silent for this long has lost its trial.
LEASE_S = 60.0


@dataclass(slots=True)
class _Pull:
    """One puller from the moment it asks until its trial has ended."""

    slot: str
    heard_at: float
    given: asyncio.Event = field(default_factory=asyncio.Event)  # it has a trial, or is not to wait any more
    assignment: Assignment | None = None
    prune: bool = False


class Pullers:
    """Those of one sweep at work."""

    def __init__(
        self,
        scheduler: Scheduler,
        acting: Callable[[], AbstractContextManager[None]],
        now: Callable[[], float],
        *,
        hold_s: float = HOLD_S,
    ) -> None:
        """One that asks is kept waiting for `hold_s` at most; `now` is a clock that never jumps.

        Within `acting()` the scheduler is told things; at its end what it commands is carried out.
        """
        self._hold_s = hold_s
        self._scheduler = scheduler
        self._acting = acting
        self._pulls: dict[str, _Pull] = {}
        # The ticket of the last result that counted, by puller: an answer that was lost is asked for again.
        self._counted: dict[str, int] = {}
        self._now = now
        self._heard_at = now()

    def silent_s(self, now: float) -> float:
        """How long nobody has been heard of; 0 while one asks or holds a trial."""
        return 0.0 if self._pulls else now - self._heard_at

    # ----- what pullers say -----

    async def pull(self, puller: str, node: str, main_version: int = 1) -> Assignment | None:
        """The trial that the puller holds, or the next one; None when there was none for too long."""
        pull = self._pulls.get(puller)
        if pull is None:
            pull = self._enlist(puller, node, main_version)
        self._hear(pull)
        try:
            async with asyncio.timeout(self._hold_s):
                await pull.given.wait()
        except TimeoutError:
            if self._pulls.get(puller) is pull and pull.assignment is None:
                self._dismiss(puller, LossCause.ENDED, "it asks no more")
        self._hear(pull)
        return pull.assignment

    def push(self, puller: str, ticket: int, outcome: Outcome) -> bool:
        """The puller's trial ended; False when it was not the puller's any more. Said again it changes nothing."""
        pull = self._held(puller, ticket)
        if pull is None:
            return self._counted.get(puller) == ticket
        self._counted[puller] = ticket
        with self._acting():
            self._scheduler.finished(pull.slot, ticket, outcome, self._now())
        self._dismiss(puller, LossCause.ENDED, "its trial ended")
        return True

    def heartbeat(self, puller: str, ticket: int, points: Iterable[tuple[int, float]]) -> tuple[bool, bool]:
        """The puller lives, its trial has come to these (step, value): whether it still holds it, and should prune."""
        pull = self._held(puller, ticket)
        if pull is None:
            return False, False
        self._hear(pull)
        with self._acting():
            for step, value in points:
                self._scheduler.reported(pull.slot, ticket, step, value, self._now())
        return True, pull.prune

    def put_down(self, puller: str) -> None:
        """The puller's notebook ends: what it holds goes to another."""
        if puller in self._pulls:
            self._dismiss(puller, LossCause.NODE, "the notebook that pulled it ended")

    # ----- what the scheduler and the clock say -----

    def see_plans(self) -> bool:
        """Give those that wait what their slots should hold now; whether any trial has started so.

        A trial counts as started as it is given out, so that none is ever asked back.
        """
        given = False
        for pull in self._pulls.values():
            slot = self._scheduler.slots.get(pull.slot)
            held = next(iter(slot.held.values()), None) if slot is not None else None
            if held is None:
                continue
            pull.prune = held.pruned
            if pull.assignment is None:
                pull.assignment = held.trial
                self._scheduler.started(pull.slot, held.trial.ticket, self._now())
                pull.given.set()
                given = True
        return given

    def kill(self, slot: str, reason: str) -> None:
        """Nobody can end a notebook's cell: what it holds is not its own any more."""
        for puller, pull in self._pulls.items():
            if pull.slot == slot:
                loop = asyncio.get_running_loop()
                loop.call_soon(self._dismiss_if, puller, pull, LossCause.KILLED, reason)

    def tick(self, now: float) -> None:
        """Take their trials from those that have been silent for too long."""
        for puller, pull in list(self._pulls.items()):
            if now - pull.heard_at >= LEASE_S:
                reason = f"the notebook that pulled it was not heard of for {LEASE_S:.0f} s"
                self._dismiss(puller, LossCause.NODE, reason)

    def end(self) -> None:
        """The sweep is over: nobody waits any more."""
        for pull in self._pulls.values():
            pull.given.set()
        self._pulls.clear()

    # ----- inside -----

    def _enlist(self, puller: str, node: str, main_version: int) -> _Pull:
        now = self._now()
        pull = self._pulls[puller] = _Pull(f"pull.{uuid.uuid4().hex[:12]}", now)
        with self._acting():
            self._scheduler.slot_starting(Slot(pull.slot, node, one_at_a_time=True, main_version=main_version), now)
            self._scheduler.slot_up(pull.slot, now)
        return pull

    def _held(self, puller: str, ticket: int) -> _Pull | None:
        pull = self._pulls.get(puller)
        holds = pull is not None and pull.assignment is not None and pull.assignment.ticket == ticket
        return pull if holds else None

    def _hear(self, pull: _Pull) -> None:
        pull.heard_at = self._heard_at = self._now()

    def _dismiss_if(self, puller: str, pull: _Pull, cause: LossCause, reason: str) -> None:
        if self._pulls.get(puller) is pull:
            self._dismiss(puller, cause, reason)

    def _dismiss(self, puller: str, cause: LossCause, reason: str) -> None:
        pull = self._pulls.pop(puller)
        pull.given.set()
        with self._acting():
            self._scheduler.slot_down(pull.slot, cause, self._now(), reason)
