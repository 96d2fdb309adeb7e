"""The trials of a sweep, numbered: every pair's first configuration, then every pair's second, and so on.

Numbers are for life. A sweep that is declared larger gets rows behind those it has; which rows are there decides where
each pair goes on, so that enumerating twice adds nothing.
"""

from __future__ import annotations

import heapq
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter

from raycolab.declaration.spec import Method, SweepSpec
from raycolab.search.drawn import configuration_source
from raycolab.search.grid import grid_configurations
from raycolab.trial import Config, Scalar, TrialRow

__all__ = ["enumerate_trials"]

Pair = tuple[str, str]
Entry = tuple[int, Pair, dict[str, Scalar]]  # a configuration and its index in its pair


def enumerate_trials(spec: SweepSpec, existing: Sequence[TrialRow] = ()) -> list[TrialRow]:
    """The rows to add to the existing ones, PENDING; a repeat within its pair has `same_as` set to the first such row.

    random: pairs x jobs_per_pair rows in all; grid: each pair's grid, jobs_per_pair of it at most; run_cap at most.
    """
    first: dict[tuple[Pair, str], int] = {}  # the number of the first row with a configuration in its pair
    present: dict[Pair, list[str]] = defaultdict(list)
    for row in sorted(existing, key=lambda row: row.number):
        pair = (row.model, row.dataset)
        key = _key(row.config)
        present[pair].append(key)
        first.setdefault((pair, key), row.number)
    following = max((row.number for row in existing), default=-1) + 1
    room = None if spec.run_cap is None else max(0, spec.run_cap - len(existing))
    rows: list[TrialRow] = []
    for _, pair, config in itertools.islice(_missing(spec, present), room):
        number = following + len(rows)
        earlier = first.setdefault((pair, _key(config)), number)
        rows.append(TrialRow(number, *pair, config, same_as=None if earlier == number else earlier))
    return rows


def _missing(spec: SweepSpec, present: Mapping[Pair, list[str]]) -> Iterator[Entry]:
    """What has no row yet, index by index over all pairs; a tie goes to the pair that is declared first."""
    source = _drawn if spec.method is Method.RANDOM else _gridded
    return heapq.merge(*(source(spec, pair, present.get(pair, [])) for pair in spec.pairs), key=itemgetter(0))


def _drawn(spec: SweepSpec, pair: Pair, present: list[str]) -> Iterator[Entry]:
    configuration = configuration_source(spec.seed, *pair, spec.models[pair[0]])
    for index in range(len(present), spec.jobs_per_pair or 0):
        yield index, pair, configuration(index)


def _gridded(spec: SweepSpec, pair: Pair, present: list[str]) -> Iterator[Entry]:
    had = Counter(present)
    index = len(present)
    for config in grid_configurations(spec.models[pair[0]]):
        if index == spec.jobs_per_pair:
            return
        key = _key(config)
        if had[key]:
            had[key] -= 1
        else:
            yield index, pair, config
            index += 1


def _key(config: Config | None) -> str:
    return json.dumps(config, sort_keys=True)
