"""The scheduler of one sweep as a sans-I/O core: events with `now` go in, commands come out.

    Scheduler     the whole: which trial runs where, what is written, when the sweep is finished
    TrialBook     the rows: every state change of a trial and its attempts, and what is committed of them
    Aftermath     what becomes of trials that ended or whose slot is gone, and who is blamed
    Dispatch      which waiting trial goes to which slot, how many lie ahead, what is taken back
    PendingQueue  the trials that wait, lowest number first, per model
    SlotBoard     the slots and the trials each holds
    ModelGuards   one smoke trial per model; a model that only fails is held
    NodeGuards    a node that cannot set up, or fails what others finish, is benched
    Budget        a sweep with too many FAILED trials, or whose time is over, is held
    NodeMemory    where a trial that ran out of memory is tried once more
    Muster        nothing is given out before the expected slots are up
    overdue       trials and setups that take too long
    Pace          measured durations: how much work to keep ahead, when the sweep will be done

Nothing here knows Ray, a clock, a socket or a thread; `raycolab.engine` drives it.
"""

from __future__ import annotations

from raycolab.schedule.commands import (
    Assign,
    Assignment,
    Bench,
    Command,
    Finished,
    Kill,
    LossCause,
    Prune,
    Retire,
    Revoke,
    ScheduleOptions,
    StudiesLike,
    Write,
)
from raycolab.schedule.scheduler import Scheduler

__all__ = [
    "Assign",
    "Assignment",
    "Bench",
    "Command",
    "Finished",
    "Kill",
    "LossCause",
    "Prune",
    "Retire",
    "Revoke",
    "ScheduleOptions",
    "Scheduler",
    "StudiesLike",
    "Write",
]
