"""The engine: the scheduler's driver, one detached Ray actor on the head node.

    actor        the actor: the slots' calls, the queue of sweeps, what people ask
    sweep_run    one sweep at work: gives the scheduler its events, carries out its commands
    scheduler    what becomes of each trial: events in, plans and commands out
    book         the rows, and how much of them is committed
    dispatch     which waiting trial goes to which slot, and what is taken back
    guards       what keeps one mistake from wasting a sweep
    pace         how long trials take, and how many must lie ahead of a slot
    messages     what slot and engine say to each other, and what the scheduler asks of others
    slot         the slot task: MAIN loaded, trials run, and the slot's half of the protocol
    pull         notebooks that pull trials by themselves
    fleet        which slots to start on which node, and when again
    commit       the one thread that writes to the store, in groups
    control      the line to the head's supervisor
    start        the actor on a running Ray

`python -m raycolab.engine` starts the actor on a running Ray.
"""

from __future__ import annotations

__all__ = ["ENGINE_NAME", "ENGINE_NAMESPACE"]

ENGINE_NAME = "raycolab-engine"
ENGINE_NAMESPACE = "raycolab"
