"""Who runs a sweep: at most one head, by a row that it renews and that another may take over once it is stale.

Inside transactions that somebody else began. A claim is also a fence: `hold` locks its row until the commit of the
rows it protects, so a head that slept through its own claim's end cannot write over the one that took over.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from raycolab.errors import ClusterError, UnknownSweepError
from raycolab.store.tables import heads, sweeps
from raycolab.text import duration_text, utc_seconds, utc_text

__all__ = ["ClaimLostError", "Deleted", "hold", "leave", "take"]

Deleted = Callable[[int], UnknownSweepError]
"""Makes the error for a sweep, by its id, that is no longer there."""


class ClaimLostError(ClusterError):
    """Another head runs this sweep now, or its claim was released; nothing was written, and repeating does not help."""


def take(
    connection: Connection, sweep_id: int, owner: str, machine: str, now: float, stale_s: float, deleted: Deleted
) -> str | None:
    """None once the sweep is `owner`'s at `now`, else a sentence about who has it."""
    mine = {"owner": owner, "machine": machine, "heartbeat": utc_text(now)}
    is_stale = heads.c.heartbeat < utc_text(now - stale_s)
    free = (heads.c.owner == owner) | is_stale
    for _ in range(2):  # the second time, the head that was faster stands there
        if connection.execute(update(heads).where(heads.c.sweep_id == sweep_id, free).values(mine)).rowcount:
            return None
        if (sentence := _who_has(connection, sweep_id, now, stale_s)) is not None:
            return sentence
        try:
            with connection.begin_nested():
                connection.execute(insert(heads), {"sweep_id": sweep_id, **mine})
        except IntegrityError:
            continue
        return None
    raise deleted(sweep_id)


def hold(connection: Connection, sweep_id: int, owner: str, now: float | None, deleted: Deleted) -> None:
    """Locks the owner's claim, renewed at `now`, until the transaction ends; ClaimLostError when it is not theirs."""
    mine = (heads.c.sweep_id == sweep_id) & (heads.c.owner == owner)
    if now is None:
        if connection.execute(select(heads.c.owner).where(mine).with_for_update()).one_or_none() is not None:
            return
    elif connection.execute(update(heads).where(mine).values(heartbeat=utc_text(now))).rowcount:
        return
    if connection.execute(select(sweeps.c.id).where(sweeps.c.id == sweep_id)).one_or_none() is None:
        raise deleted(sweep_id)
    machine = connection.execute(select(heads.c.machine).where(heads.c.sweep_id == sweep_id)).scalar_one_or_none()
    by = "it was released" if machine is None else f"the head on {machine} has taken it over"
    raise ClaimLostError(f"this head no longer runs the sweep: {by}. What was committed before stands.")


def leave(connection: Connection, sweep_id: int, owner: str) -> None:
    """Gives the sweep free, if it is the owner's."""
    connection.execute(delete(heads).where(heads.c.sweep_id == sweep_id, heads.c.owner == owner))


def _who_has(connection: Connection, sweep_id: int, now: float, stale_s: float) -> str | None:
    statement = select(sweeps.c.name, heads.c.machine, heads.c.heartbeat).join(heads, heads.c.sweep_id == sweeps.c.id)
    found = connection.execute(statement.where(sweeps.c.id == sweep_id)).one_or_none()
    if found is None:
        return None
    heard_s = max(now - utc_seconds(found.heartbeat), 0.0)
    return (
        f"the sweep '{found.name}' is being run by the head on {found.machine}, last heard of {duration_text(heard_s)} "
        f"ago: stop it there, or wait until it has been silent for {duration_text(stale_s)}."
    )
