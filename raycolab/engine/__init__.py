"""The engine: the scheduler's driver, one detached Ray actor on the head node.

    actor        the actor: the slots' calls, the queue of sweeps, what people ask
    sweep_run    one sweep at work: carries out the scheduler's commands
    slot_line    the engine's end of the line to one slot
    fleet        which slots to start on which node, and when again
    cluster_view which nodes Ray has, and what the end of a slot task means
    commit       the one thread that writes to the store, in groups
    control      the line to the head's supervisor
    progress     what is told of a sweep
    slot         the slot task: MAIN loaded, trials pulled and run
    slot_desk    the slot's two threads and what passes between them
    slot_words   what slot and engine say to each other
    mailbox      their messages, each delivered once and in order

`python -m raycolab.engine` starts the actor on a running Ray.
"""

from __future__ import annotations

__all__ = ["ENGINE_NAME", "ENGINE_NAMESPACE"]

ENGINE_NAME = "raycolab-engine"
ENGINE_NAMESPACE = "raycolab"
