"""The trials of a sweep, numbered: every pair's first configuration, then every pair's second, and so on.

Numbers are for life. A sweep that is declared larger gets rows behind those it has; which rows are there decides where
each pair goes on, so that enumerating twice adds nothing. Points to evaluate are the first that each pair tries.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter

from raycolab.spec.domains import Constant, Domain, GridSearch, value_key
from raycolab.spec.readers import points_of
from raycolab.spec.spec import Method, SweepSpec
from raycolab.trials import Config, TrialRow, Value

__all__ = ["enumerate_trials", "grid_configurations", "random_search", "remaining_points"]

Pair = tuple[str, str]

Entry = tuple[int, Pair, Config | None]
"""A configuration with its pair and its index there."""

Present = list[Config | None]
"""The configurations of a pair's rows, in their order."""


def enumerate_trials(spec: SweepSpec, existing: Sequence[TrialRow] = ()) -> list[TrialRow]:
    """The rows to add to the existing ones, PENDING; a repeat within its pair has `same_as` set to the first such row.

    random: pairs x jobs_per_pair rows in all; grid: each pair's grid, jobs_per_pair of it at most; bayes: as random,
    and without configurations, which the search proposes when they are needed; run_cap at most.
    """
    # The number of the first row with a configuration in its pair.
    first: dict[tuple[Pair, str], int] = {}
    present: dict[Pair, Present] = defaultdict(list)
    for row in sorted(existing, key=lambda row: row.number):
        pair = (row.model, row.dataset)
        present[pair].append(row.config)
        first.setdefault((pair, _key(row.config)), row.number)
    following = max((row.number for row in existing), default=-1) + 1
    room = None if spec.run_cap is None else max(0, spec.run_cap - len(existing))
    rows: list[TrialRow] = []
    for _, pair, config in itertools.islice(_missing(spec, present), room):
        number = following + len(rows)
        earlier = number if config is None else first.setdefault((pair, _key(config)), number)
        rows.append(TrialRow(number, *pair, config, same_as=None if earlier == number else earlier))
    return rows


def _missing(spec: SweepSpec, present: Mapping[Pair, Present]) -> Iterator[Entry]:
    """What has no row yet, index by index over all pairs; a tie goes to the pair that is declared first."""
    source = _grid if spec.method is Method.GRID else _drawn
    return heapq.merge(*(source(spec, pair, present.get(pair, [])) for pair in spec.pairs), key=itemgetter(0))


def _drawn(spec: SweepSpec, pair: Pair, present: Present) -> Iterator[Entry]:
    """A point takes the draw of its index and puts its own values into it. With method bayes nothing is drawn yet."""
    space = spec.models[pair[0]]
    configuration = random_search(spec.seed, *pair, space)
    points = iter(remaining_points(points_of(spec.points_to_evaluate, space), present))
    for index in range(len(present), spec.jobs_of(pair[0])):
        yield index, pair, None if spec.method is Method.BAYES else configuration(index) | next(points, {})


def _grid(spec: SweepSpec, pair: Pair, present: Present) -> Iterator[Entry]:
    had = Counter(_key(config) for config in present)
    index = len(present)
    space = spec.models[pair[0]]
    for config in _points_first(space, points_of(spec.points_to_evaluate, space)):
        if index == spec.jobs_per_pair:
            return
        key = _key(config)
        if had[key]:
            had[key] -= 1
        else:
            yield index, pair, config
            index += 1


def _points_first(space: Mapping[str, Domain], points: Sequence[Config]) -> Iterator[Config]:
    """The grid, each of its configurations once: first one for each point, then the others."""
    taken: Counter[str] = Counter()
    for point in points:
        narrowed = {name: Constant(point[name]) if name in point else domain for name, domain in space.items()}
        for config in grid_configurations(narrowed):
            if not taken[_key(config)]:
                taken[_key(config)] = 1
                yield config
                break
    for config in grid_configurations(space):
        if taken[_key(config)]:
            taken[_key(config)] -= 1
        else:
            yield config


def _key(config: Config | None) -> str:
    return value_key(config)


def grid_configurations(space: Mapping[str, Domain]) -> Iterator[dict[str, Value]]:
    """Every combination, in the order declared; SpaceError where a domain has no end."""
    names = tuple(space)
    for values in itertools.product(*(domain.grid() for domain in space.values())):
        yield dict(zip(names, values, strict=True))


def remaining_points(points: Sequence[Mapping[str, Value]], tried: Sequence[Config | None]) -> list[dict[str, Value]]:
    """The points, in order, that no configuration stands for; each configuration stands for one point at most."""
    left = [config for config in tried if config is not None] if points else []
    missing: list[dict[str, Value]] = []
    for point in points:
        standing = next((index for index, config in enumerate(left) if _agrees(point, config)), None)
        if standing is None:
            missing.append(dict(point))
        else:
            del left[standing]
    return missing


def _agrees(point: Mapping[str, Value], config: Config) -> bool:
    """Whether the configuration has the point's values, told apart as JSON does."""
    return all(name in config and value_key(config[name]) == value_key(value) for name, value in point.items())


# Of a float's mantissa.
_BITS = 53
_BYTES = 8


def random_search(
    seed: int, model: str, dataset: str, space: Mapping[str, Domain]
) -> Callable[[int], dict[str, Value]]:
    """A function that gives the pair's configuration of an index, counted from 0."""
    # One hash per parameter over the canonical JSON of (seed, model, dataset, parameter), finished with the index.
    begun = [
        (name, domain, hashlib.sha256(json.dumps([seed, model, dataset, name]).encode()))
        for name, domain in space.items()
    ]

    def configuration(index: int) -> dict[str, Value]:
        suffix = b"%d" % index
        config: dict[str, Value] = {}
        # The combinations of grid_searches take turns, the first of them the fastest, as Ray Tune has it.
        turn = index
        for name, domain, start in begun:
            if isinstance(domain, GridSearch):
                turn, place = divmod(turn, len(domain.values))
                config[name] = domain.values[place]
                continue
            digest = start.copy()
            digest.update(suffix)
            bits = int.from_bytes(digest.digest()[:_BYTES], "big") >> (8 * _BYTES - _BITS)
            config[name] = domain.at(bits / (1 << _BITS))
        return config

    return configuration
