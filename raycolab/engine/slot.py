"""The slot task: one Ray worker process that loads MAIN once and runs the trials the engine gives it.

The main thread runs MAIN; two line threads talk to the engine (`ray.get` on a task's main thread would release the
slot's CPU). A slot lives for one sweep: `max_calls=1` ends its process, so no MAIN leaks into the next.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError

from raycolab.engine.mailbox import Inbox, Outbox
from raycolab.engine.messages import Assignment
from raycolab.engine.slot_words import (
    Call,
    End,
    Ended,
    EngineWord,
    GaveBack,
    Give,
    PruneIt,
    Ready,
    Reply,
    Reported,
    SetupBroke,
    SlotWord,
    Started,
    TakeBack,
)
from raycolab.main.notebook import MainNotebook
from raycolab.main.runtime import MainRuntime, SetupFailed
from raycolab.node.trial_sign import TrialSign
from raycolab.trials import Metric, trial_title

__all__ = ["MAX_CALLS", "SlotDesk", "run_slot"]

_LAST_REPORTS_S = 30.0  # a slot that is to end waits so long for the engine to have its reports
_RETRY_S = 1.0  # before a call is repeated while the engine cannot be reached

_log = logging.getLogger(__name__)


@ray.remote(max_calls=1, max_retries=0)
def run_slot(engine: Any, slot: str, main: str, metric: Metric, lock_dir: str) -> None:
    """Load `main` (a MainNotebook's JSON) and run trials until the engine says End."""
    # Ray's workers answer SIGTERM, which they get when their node ends, with a SystemExit in the midst of the trial: it
    # would count as the trial's own failure.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    desk = SlotDesk(slot)
    for number in range(MAX_CALLS):
        threading.Thread(target=_carry, args=(engine, desk), name=f"raycolab-line-{number}", daemon=True).start()
    runtime = MainRuntime(MainNotebook.from_json(main), lock_dir=Path(lock_dir))
    try:
        setup = runtime.setup()
    except SetupFailed as error:
        desk.report(SetupBroke(error.failure))
        desk.close(_LAST_REPORTS_S)
        return
    desk.report(Ready({cell.index: cell.seconds for cell in setup.cells}))
    sign = TrialSign.of(os.environ)
    while (trial := desk.take()) is not None:
        sign.show(trial_title(trial.number, trial.model, trial.dataset))
        outcome = runtime.compute(trial.model, trial.dataset, trial.config, metric, sink=desk.reported)
        sign.clear()
        desk.report(Ended(trial.ticket, outcome))
    desk.close(_LAST_REPORTS_S)


def _carry(engine: Any, desk: SlotDesk) -> None:
    """Carry calls to the engine and its answers back until the slot closes."""
    while (call := desk.next_call()) is not None:
        begun = time.monotonic()
        try:
            reply = ray.get(engine.sync.remote(call))
        except ActorUnavailableError:
            desk.failed()
            time.sleep(_RETRY_S)
        except Exception as error:
            # The engine is gone, or cannot be spoken to, and nobody will take a result: the CPU is worth more than the
            # trial, which the end of this process gives to another slot.
            _log.warning("slot %s ends, it has no engine: %r", call.slot, error)
            os._exit(1)
        else:
            desk.answered(reply, time.monotonic() - begun)


MAX_CALLS = 2  # calls to the engine under way at once: one waits for work, one carries a report
MAX_POINTS = 1000  # of a trial that reports faster than the line carries; the latest are kept
_SMOOTHING = 0.3  # weight of the newest round trip


class SlotDesk:
    """Work that came, reports that wait, and how they travel."""

    def __init__(self, slot: str) -> None:
        self._slot = slot
        self._changed = threading.Condition()
        self._work: deque[Assignment] = deque()
        self._reports: Outbox[SlotWord] = Outbox()
        self._words: Inbox[EngineWord] = Inbox()
        self._ticket: int | None = None  # of the trial that runs
        self._pruned = False  # it is to end
        self._ended = False  # the engine wants no more of this slot
        self._closed = False  # the trial thread has nothing more to say
        self._calls = 0
        self._under_way = 0
        self._failed = False
        self._round_trip_s: float | None = None

    # ----- the trial thread -----

    def take(self) -> Assignment | None:
        """The next trial, reported as started; None when the slot is to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._work or self._ended)
            if self._ended:
                return None
            assignment = self._work.popleft()
            self._ticket, self._pruned = assignment.ticket, False
            self._put(Started(assignment.ticket))
            return assignment

    def reported(self, step: int, value: float) -> bool:
        """The trial that runs has come so far; True when the engine wants no more of it."""
        with self._changed:
            if self._ticket is not None:
                points: tuple[tuple[int, float], ...] = ((step, value),)
                last = self._reports.last_unsent()
                if isinstance(last, Reported) and last.ticket == self._ticket:
                    self._reports.drop_last_unsent()
                    points = last.points[1 - MAX_POINTS :] + points
                self._put(Reported(self._ticket, points))
            return self._pruned

    def report(self, word: SlotWord) -> None:
        """Say this to the engine, soon."""
        with self._changed:
            last = self._reports.last_unsent()
            if isinstance(word, Ended) and isinstance(last, Started) and last.ticket == word.ticket:
                self._reports.drop_last_unsent()  # that it ended says that it started
            self._put(word)

    def close(self, timeout_s: float) -> None:
        """Wait until the engine has every report, for so long at most, and let the line threads end."""
        with self._changed:
            self._changed.wait_for(lambda: self._reports.is_empty, timeout_s)
            self._closed = True
            self._changed.notify_all()

    # ----- the line threads -----

    def next_call(self) -> Call | None:
        """Wait until a call is due and give it; None when the slot has closed.

        One is always under way, to bring work, until the engine wants no more; another as soon as there is something
        to report.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._is_call_due())
            if self._closed:
                return None
            self._calls += 1
            self._under_way += 1
            after_failure, self._failed = self._failed, False
            batch = self._reports.take(self._words.received)
            return Call(self._slot, self._calls, batch, self._round_trip_s, after_failure)

    def answered(self, reply: Reply, elapsed_s: float) -> None:
        """A call came back after so long."""
        with self._changed:
            self._under_way -= 1
            self._reports.acknowledged(reply.batch.received)
            round_trip_s = max(elapsed_s - reply.held_s, 0.0)
            before = self._round_trip_s
            self._round_trip_s = round_trip_s if before is None else before + (round_trip_s - before) * _SMOOTHING
            for word in self._words.take(reply.batch.first, reply.batch.messages):
                self._obey(word)
            self._changed.notify_all()

    def failed(self) -> None:
        """A call failed: what it carried, and what its answer held, must travel again."""
        with self._changed:
            self._under_way -= 1
            self._reports.send_again()
            self._failed = True
            self._changed.notify_all()

    # ----- inside, with the lock -----

    def _is_call_due(self) -> bool:
        if self._reports.has_unsent:
            return self._under_way < MAX_CALLS
        return self._under_way == 0 and not self._ended

    def _put(self, word: SlotWord) -> None:
        self._reports.put(word)
        self._changed.notify_all()

    def _obey(self, word: EngineWord) -> None:
        match word:
            case Give(assignments):
                self._work.extend(assignments)
            case PruneIt(ticket):
                self._pruned = self._pruned or ticket == self._ticket
            case TakeBack(tickets):
                back = tuple(each.ticket for each in self._work if each.ticket in tickets)
                self._work = deque(each for each in self._work if each.ticket not in back)
                self._reports.put(GaveBack(back))
            case End():
                self._ended = True
