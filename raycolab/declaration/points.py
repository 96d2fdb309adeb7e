"""The configurations that a sweep tries first: read, made flat, and held against the spaces of its models.

A point belongs to every model that has all of its parameters, and may leave parameters out; `raycolab.search` fills
them in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from raycolab.declaration.arguments import GIVEN_BY_US, ArgumentError
from raycolab.errors import SpaceError
from raycolab.scalar import as_scalar
from raycolab.space.admission import admitted
from raycolab.space.domain import Domain
from raycolab.spelling import did_you_mean, listed
from raycolab.trial import Config, Scalar

__all__ = ["points_of", "read_points"]

_KEY = "points_to_evaluate"


def read_points(value: object, models: Mapping[str, Mapping[str, Domain]]) -> tuple[Config, ...]:
    """The points, flat, as given; ArgumentError for one that no model can try."""
    if value is None:
        return ()
    if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
        raise ArgumentError((_KEY,), f"{_KEY} is a list of configurations, such as [{{x: 1}}], not {value!r}")
    points: list[Config] = []
    for index, written in enumerate(value):
        what = f"point {index + 1} of {_KEY}"
        if not isinstance(written, Mapping):
            raise ArgumentError((_KEY, str(index)), f"{what} is a mapping of names to values, not {written!r}")
        point: dict[str, Scalar] = {}
        for name, keys, scalar in _flat(written, "", (_KEY, str(index)), what):
            if name in point:
                raise ArgumentError(keys, f"{what} gives {name!r} twice; remove one")
            point[name] = scalar
        _check_point(point, index, what, models)
        points.append(point)
    return tuple(points)


def points_of(points: Sequence[Config], space: Mapping[str, Domain]) -> list[dict[str, Scalar]]:
    """The points that a model with this space tries, with the values as its domains give them."""
    return [
        {name: admitted(space[name], value) for name, value in point.items()}
        for point in points
        if point.keys() <= space.keys()
    ]


def _flat(
    written: Mapping[object, object], prefix: str, keys: tuple[str, ...], what: str
) -> Iterator[tuple[str, tuple[str, ...], Scalar]]:
    """Each flat name with the way to it and its value."""
    for key, value in written.items():
        here = (*keys, str(key))
        name = f"{prefix}{key}"
        if name in GIVEN_BY_US:
            raise ArgumentError(
                here,
                f"{what} names a {name}, and every point is tried with every pair; remove it, "
                f"or declare a sweep of that {name} alone",
            )
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}/", here, what)
            continue
        try:
            yield name, here, as_scalar(value)
        except SpaceError as error:
            raise ArgumentError(here, f"{what}, parameter {name!r}: {error}") from error


def _check_point(point: Config, index: int, what: str, models: Mapping[str, Mapping[str, Domain]]) -> None:
    known = list(dict.fromkeys(name for space in models.values() for name in space))
    for name in point:
        if name not in known:
            there_are = f"parameters are {listed(known)}" if known else "the sweep has none"
            raise ArgumentError(
                (_KEY, str(index), *name.split("/")),
                f"{what} names {name!r}{did_you_mean(name, known)}, which no model has; {there_are}",
            )
    trying = [model for model, space in models.items() if point.keys() <= space.keys()]
    if not trying:
        raise ArgumentError(
            (_KEY, str(index)),
            f"{what} fits no model, as none has all of {listed(point)}; give each model a point of its own",
        )
    for model in trying:
        for name, value in point.items():
            try:
                admitted(models[model][name], value)
            except SpaceError as error:
                of_model = f" of model {model!r}" if len(models) > 1 else ""
                raise ArgumentError(
                    (_KEY, str(index), *name.split("/")), f"{what}, parameter {name!r}{of_model}: {error}"
                ) from error
