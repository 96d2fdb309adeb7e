"""What a second declaration of the same name changes: additions go on, contradictions are refused.

Finished rows are never drawn again, so a change is an addition as long as it leaves the meaning of every row that may
exist alone.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from raycolab.errors import SweepChangedError
from raycolab.spec.domains import Choice, Constant, Domain
from raycolab.spec.resources import resources_json
from raycolab.spec.spec import SweepSpec
from raycolab.text import listed

__all__ = ["Change", "compare", "refuse_contradictions"]


@dataclass(frozen=True, slots=True)
class Change:
    """The difference between a stored spec and a new one, a line for each point."""

    extends: tuple[str, ...]  # to print; the new spec takes the old one's place
    contradictions: tuple[str, ...]  # to refuse

    @property
    def nothing(self) -> bool:
        """Whether both mean the same."""
        return not self.extends and not self.contradictions


def compare(old: SweepSpec, new: SweepSpec) -> Change:
    """What `new` changes about `old`; the order of models, datasets and parameters is no change."""
    extends: list[str] = []
    contradictions: list[str] = []
    for found, line in _differences(old, new):
        (extends if found else contradictions).append(line)
    return Change(tuple(extends), tuple(contradictions))


def refuse_contradictions(name: str, change: Change) -> None:
    """SweepChangedError with each contradiction on a line and the ways out, when there is one."""
    if change.contradictions:
        lines = "\n".join(f"  {line}" for line in change.contradictions)
        raise SweepChangedError(
            f"the sweep {name!r} exists and this declaration contradicts it:\n{lines}\n"
            f"Undo the change, declare under another name, or `raycolab delete {_quoted(name)}` first."
        )


def _differences(old: SweepSpec, new: SweepSpec) -> Iterator[tuple[bool, str]]:
    """Pairs of whether the difference is an addition, and its line."""
    yield from _count_difference("jobs_per_pair", old.jobs_per_pair, new.jobs_per_pair)
    yield from _count_difference("run_cap", old.run_cap, new.run_cap)
    yield from _name_differences("dataset", old.datasets, new.datasets)
    yield from _name_differences("model", tuple(old.models), tuple(new.models))
    for model in old.models:
        if model in new.models:
            yield from _space_differences(model, old.models[model], new.models[model])
    for key, before, after in (
        ("method", old.method.value, new.method.value),
        ("metric", old.metric.name, new.metric.name),
        ("mode", old.metric.mode, new.metric.mode),
        ("seed", old.seed, new.seed),
    ):
        if before != after:
            yield False, f"{key} was {before} and is now {after}"
    yield from _point_differences(old, new)
    if old.early_stop != new.early_stop:
        yield False, f"early_terminate was {_or_none(old.early_stop)} and is now {_or_none(new.early_stop)}"
    for key, was, now in (
        ("max_failures", old.max_failures, new.max_failures),
        ("max_concurrent_trials", old.max_concurrent_trials, new.max_concurrent_trials),
        ("time_budget_s", old.time_budget_s, new.time_budget_s),
        ("timeout_s", old.timeout_s, new.timeout_s),
        ("resources", resources_json(old.resources), resources_json(new.resources)),
    ):
        if was != now:
            yield True, f"{key} was {_or_none(was)} and is now {_or_none(now)}"


def _count_difference(key: str, old: int | None, new: int | None) -> Iterator[tuple[bool, str]]:
    if old != new:
        grows = (math.inf if new is None else new) > (math.inf if old is None else old)
        yield grows, f"{key} was {_or_all(old)} and is now {_or_all(new)}"


def _name_differences(what: str, old: tuple[str, ...], new: tuple[str, ...]) -> Iterator[tuple[bool, str]]:
    if added := [name for name in new if name not in old]:
        yield True, f"new {what}: {listed(added)}"
    if removed := [name for name in old if name not in new]:
        yield False, f"{what} no longer there: {listed(removed)}"


def _point_differences(old: SweepSpec, new: SweepSpec) -> Iterator[tuple[bool, str]]:
    before, after = (
        Counter(json.dumps(point, sort_keys=True) for point in spec.points_to_evaluate) for spec in (old, new)
    )
    for point in (after - before).elements():
        yield True, f"new point to evaluate, by the next configurations of each pair: {point}"
    for point in (before - after).elements():
        yield False, f"point to evaluate no longer there: {point}"


def _space_differences(model: str, old: Mapping[str, Domain], new: Mapping[str, Domain]) -> Iterator[tuple[bool, str]]:
    for name in old:
        if name not in new:
            yield False, f"model {model!r}: parameter {name!r} is no longer there"
        elif not _same(old[name], new[name]):
            added = _added_values(old[name], new[name])
            if added:
                yield True, f"model {model!r}: parameter {name!r} may now also be {listed(added)}"
            else:
                yield False, f"model {model!r}: parameter {name!r} was {old[name]} and is now {new[name]}"
    for name in new:
        if name not in old:
            yield False, f"model {model!r}: parameter {name!r} is new, and finished trials ran without it"


def _added_values(old: Domain, new: Domain) -> list[str]:
    """The values that were added at the end of a choice; none when anything else changed."""
    before, after = _alternatives(old), _alternatives(new)
    if before is None or after is None or after[: len(before)] != before:
        return []
    return after[len(before) :]


def _alternatives(domain: Domain) -> list[str] | None:
    if isinstance(domain, Constant):
        return [json.dumps(domain.value)]
    if isinstance(domain, Choice) and domain.probabilities is None:
        return [json.dumps(value) for value in domain.values]
    return None


def _same(old: Domain, new: Domain) -> bool:
    return json.dumps(old.to_json(), sort_keys=True) == json.dumps(new.to_json(), sort_keys=True)


def _or_all(count: int | None) -> str:
    return "unlimited" if count is None else str(count)


def _or_none(value: object) -> str:
    return "none" if value is None else str(value)


def _quoted(name: str) -> str:
    return f'"{name}"' if any(character in name for character in " \"'$`\\") else name
