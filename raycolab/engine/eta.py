"""What people want to know of a sweep: when it will be done, what runs where, why it cannot go on. Changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from raycolab.engine.dispatch import Dispatch
from raycolab.engine.guards import ModelGuards
from raycolab.engine.pace import Pace
from raycolab.engine.slots import Held, SlotBoard
from raycolab.trials import Failure, TrialRow

__all__ = ["all_held", "eta_s", "nobody_has", "nowhere", "running_on"]


def eta_s(dispatch: Dispatch, slots: SlotBoard, models: ModelGuards, pace: Pace, now: float) -> float | None:
    """Seconds until the sweep is done, as far as measured; held models do not count."""
    waiting = dispatch.waiting()
    for model in models.held:
        waiting.pop(model, None)
    running: list[tuple[str, float]] = []
    for slot in slots:
        for held in slot.held.values():
            if held.started_at is None:
                waiting[held.model] = waiting.get(held.model, 0) + 1
            else:
                running.append((held.model, now - held.started_at))
    needed = [pace.eta_s(waiting, running, len(slots.at_work))]
    for kind, its_slots in Counter(slot.models for slot in slots.at_work if slot.models is not None).items():
        of_kind = {model: count for model, count in waiting.items() if model in kind}
        needed.append(pace.eta_s(of_kind, [(model, for_s) for model, for_s in running if model in kind], its_slots))
    return max((seconds for seconds in needed if seconds is not None), default=None)


def running_on(slots: SlotBoard, rows: Mapping[int, TrialRow]) -> dict[str, TrialRow]:
    """The trial that started last on each node where one runs."""
    latest: dict[str, Held] = {}
    for slot in slots:
        held = slot.running
        if held is not None and (slot.node not in latest or _begun(held) > _begun(latest[slot.node])):
            latest[slot.node] = held
    return {node: rows[held.number] for node, held in latest.items()}


def nowhere(sweep: str, node: str, failure: Failure) -> str:
    """The sentence for a MAIN that no node can set up."""
    return (
        f"MAIN's setup failed on every node, so no trial can run. On {node}: {failure.summary}. "
        f"Mend MAIN and submit the sweep again, or mend the nodes, then: raycolab resume {sweep}"
    )


def all_held(sweep: str, waiting: Mapping[str, int], held: Mapping[str, str]) -> str:
    """The sentence for a sweep whose remaining trials are all of held models."""
    count = sum(waiting.values())
    trials = "1 trial is" if count == 1 else f"{count} trials are"
    why = "; ".join(held[model] for model in waiting)
    return f"{trials} held: {why}. To try all the same: raycolab resume {sweep}"


def nobody_has(count: int, models: Iterable[str], asked: str, gpus: bool) -> str:
    """The sentence for trials that no node there is large enough for."""
    trials = "1 trial" if count == 1 else f"{count} trials"
    waits = f"{trials} of {', '.join(models)} need{'s' if count == 1 else ''} {asked} and no node here has that"
    cure = "a tab with a GPU (on Colab: Runtime > Change runtime type)" if gpus else "a larger machine"
    return f"{waits}; they wait until one does: join {cure}, or ask for less in the sweep's resources"


def _begun(held: Held) -> float:
    return held.started_at or 0.0
