"""What a second declaration of the same name changes: additions extend the sweep, contradictions are refused.

Finished rows are never drawn again, so a change is an addition as long as it leaves the meaning of every row that may
exist alone. Which of the meanings below a change of a key has stands in the table of keys.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from raycolab.errors import SweepChangedError
from raycolab.spec.domains import Choice, Constant, Domain, domain_json
from raycolab.spec.keys import Difference, OnChange, fields_of
from raycolab.spec.resources import Resources, resources_json
from raycolab.text import listed
from raycolab.trials import Config, Metric

if TYPE_CHECKING:
    from raycolab.spec.spec import SweepSpec

__all__ = [
    "CONTRADICTS",
    "DATASETS",
    "EXTENDS",
    "HARMLESS",
    "METRIC",
    "MODELS",
    "POINTS",
    "RESOURCES",
    "Change",
    "compare",
    "refuse_contradictions",
]


@dataclass(frozen=True, slots=True)
class Change:
    """The difference between a stored spec and a new one, one line for each point."""

    # to print; the new spec takes the old one's place
    extends: tuple[str, ...]
    # to refuse
    contradictions: tuple[str, ...]

    @property
    def nothing(self) -> bool:
        """Whether both mean the same."""
        return not self.extends and not self.contradictions


def compare(old: SweepSpec, new: SweepSpec) -> Change:
    """What `new` changes about `old`; the order of models, datasets and parameters is no change."""
    found = [
        difference
        for field, key in fields_of(type(new)).items()
        if key.change.differences is not None
        for difference in key.change.differences(key.name, getattr(old, field), getattr(new, field))
    ]
    return Change(
        tuple(line for extends, line in found if extends), tuple(line for extends, line in found if not extends)
    )


def refuse_contradictions(name: str, change: Change) -> None:
    """SweepChangedError, where there are contradictions, with one line for each and the ways out."""
    if change.contradictions:
        lines = "\n".join(f"  {line}" for line in change.contradictions)
        quoted = f'"{name}"' if any(character in name for character in " \"'$`\\") else name
        raise SweepChangedError(
            f"the sweep {name!r} exists and this declaration contradicts it:\n{lines}\n"
            f"Undo the change, declare it under another name, or run `raycolab delete {quoted}` first."
        )


def _differences(key: str, old: object, new: object, *, extends: bool) -> Iterator[Difference]:
    """One line where the two are not the same."""
    if old != new:
        was, now = ("none" if value is None else value for value in (old, new))
        yield extends, f"{key} was {was} and is now {now}"


def _number(key: str, old: int | None, new: int | None) -> Iterator[Difference]:
    if old != new:
        grows = (math.inf if new is None else new) > (math.inf if old is None else old)
        was, now = ("unlimited" if count is None else count for count in (old, new))
        yield grows, f"{key} was {was} and is now {now}"


def _names(key: str, old: Iterable[str], new: Iterable[str]) -> Iterator[Difference]:
    what = key.removesuffix("s")
    if added := [name for name in new if name not in old]:
        yield True, f"new {what}: {listed(added)}"
    if removed := [name for name in old if name not in new]:
        yield False, f"{what} no longer there: {listed(removed)}"


def _models(
    key: str, old: Mapping[str, Mapping[str, Domain]], new: Mapping[str, Mapping[str, Domain]]
) -> Iterator[Difference]:
    yield from _names(key, old, new)
    for model in old:
        if model in new:
            yield from _space(f"model {model!r}", old[model], new[model])


def _space(of_model: str, old: Mapping[str, Domain], new: Mapping[str, Domain]) -> Iterator[Difference]:
    for name, before in old.items():
        after = new.get(name)
        if after is None:
            yield False, f"{of_model}: parameter {name!r} is no longer there"
        elif _text(domain_json(before)) != _text(domain_json(after)):
            listed_before, listed_now = _alternatives(before), _alternatives(after)
            if listed_before and listed_before == listed_now[: len(listed_before)] != listed_now:
                added = listed(listed_now[len(listed_before) :])
                yield True, f"{of_model}: parameter {name!r} may now also be {added}"
            else:
                yield False, f"{of_model}: parameter {name!r} was {before} and is now {after}"
    for name in new:
        if name not in old:
            yield False, f"{of_model}: parameter {name!r} is new, and finished trials ran without it"


def _alternatives(domain: Domain) -> list[str]:
    """The values of a list or a constant; none of any other domain."""
    if isinstance(domain, Constant) or (isinstance(domain, Choice) and domain.probabilities is None):
        return [_text(value) for value in domain.grid()]
    return []


def _points(_: str, old: Sequence[Config], new: Sequence[Config]) -> Iterator[Difference]:
    before, after = (Counter(_text(point) for point in points) for points in (old, new))
    for point in (after - before).elements():
        yield True, f"new point to evaluate, by the next configurations of each pair: {point}"
    for point in (before - after).elements():
        yield False, f"point to evaluate no longer there: {point}"


def _metric(key: str, old: Metric, new: Metric) -> Iterator[Difference]:
    yield from _differences(key, old.name, new.name, extends=False)
    yield from _differences("mode", old.mode, new.mode, extends=False)


def _resources(key: str, old: Mapping[str, Resources], new: Mapping[str, Resources]) -> Iterator[Difference]:
    yield from _differences(key, resources_json(old), resources_json(new), extends=True)


def _text(value: object) -> str:
    """The value as JSON, which tells 1, 1.0 and true apart."""
    return json.dumps(value, sort_keys=True)


CONTRADICTS = OnChange("refused", partial(_differences, extends=False))
"""Rows that exist would mean something else."""

EXTENDS = OnChange("may grow", _number)
"""A number that may be larger than it was and not smaller; None is the largest."""

HARMLESS = OnChange("counts from now on", partial(_differences, extends=True))
"""Rows that exist mean what they meant."""

MODELS = OnChange("more models, and more values at the end of a list", _models)
DATASETS = OnChange("more of them", _names)
METRIC = OnChange("refused", _metric)
RESOURCES = OnChange("counts from now on", _resources)
POINTS = OnChange("more of them", _points)
