"""What takes too long: a trial past `timeout_s`, a setup past `setup_timeout_s`. It tells when; `Scheduler` acts."""

from __future__ import annotations

from collections.abc import Iterable

from raycolab.schedule.commands import ScheduleOptions
from raycolab.schedule.slots import Slot, SlotPhase
from raycolab.trial import ErrorKind, Failure

__all__ = ["deadline_of", "first_deadline", "setup_failure", "trial_failure"]


def deadline_of(slot: Slot, options: ScheduleOptions) -> float | None:
    """When the slot is to be killed, should it do then what it does now; None for never."""
    match slot.phase:
        case SlotPhase.STARTING:
            return None if options.setup_timeout_s is None else slot.moved_at + options.setup_timeout_s
        case SlotPhase.UP | SlotPhase.LEAVING if options.timeout_s is not None:
            running = slot.running
            return None if running is None or running.started_at is None else running.started_at + options.timeout_s
    return None


def first_deadline(slots: Iterable[Slot], options: ScheduleOptions) -> float | None:
    """The first of the slots' deadlines."""
    deadlines = [deadline_of(slot, options) for slot in slots]
    return min((deadline for deadline in deadlines if deadline is not None), default=None)


def trial_failure(options: ScheduleOptions) -> Failure:
    """What a trial that ran too long fails with."""
    sentence = f"the trial ran longer than timeout_s = {options.timeout_s:g} s and was killed"
    return Failure(ErrorKind.TIMEOUT, "TimeoutError", sentence)


def setup_failure(options: ScheduleOptions) -> Failure:
    """What a node is blamed with whose slot never came to the end of MAIN."""
    sentence = f"MAIN's cells had not come to their end after setup_timeout_s = {options.setup_timeout_s:g} s"
    return Failure(ErrorKind.SETUP, "TimeoutError", sentence)
