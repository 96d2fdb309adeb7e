"""The declaration of a sweep, checked and frozen: what is searched, over which pairs, how, and for which metric.

A spec is a value. It is made from arguments (`SweepSpec.from_arguments`) or from the JSON that the store keeps; its
fingerprint tells whether two declarations mean the same. `check_fits` holds it against the arguments of `compute`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from raycolab.errors import SpaceError
from raycolab.spec import keys
from raycolab.spec.domains import Domain, admitted, domain_from_json
from raycolab.spec.keys import DEFAULT_JOBS_PER_PAIR, DEFAULT_NAME, GIVEN_BY_US, ArgumentError, Method
from raycolab.spec.pruners import EarlyStop, read_early_stop
from raycolab.spec.resources import Resources, read_resources, resources_json
from raycolab.spec.values import as_scalar
from raycolab.text import did_you_mean, listed
from raycolab.trials import Config, Metric, Scalar

__all__ = ["ComputeSignature", "Method", "SweepSpec", "check_fits", "points_of", "read_points"]

# Not in fingerprints made before there were any.
_LATER_FIELDS = ("points_to_evaluate", "early_stop", "max_failures", "max_concurrent_trials", "time_budget_s")


class ComputeSignature(Protocol):
    """The arguments of MAIN's `compute`, as far as a space has to fit them."""

    @property
    def names(self) -> tuple[str, ...]:
        """Its named parameters."""

    @property
    def required(self) -> frozenset[str]:
        """Those without a default."""

    @property
    def accepts_any(self) -> bool:
        """Whether it takes `**anything`."""

    @property
    def whole_config(self) -> bool:
        """Whether it takes the configuration as one dict, in a parameter `config` that is not among the required."""


@dataclass(frozen=True, slots=True)
class SweepSpec:
    """A sweep as declared."""

    name: str
    models: Mapping[str, Mapping[str, Domain]]  # each model's space, flat names, in the order declared
    datasets: tuple[str, ...]
    method: Method
    jobs_per_pair: int | None  # None: all of a grid
    run_cap: int | None  # trials in all, at most
    metric: Metric
    seed: int
    timeout_s: float | None  # of one trial
    resources: Mapping[str, Resources]  # of one trial of each model
    points_to_evaluate: tuple[Config, ...] = ()  # what each pair tries first; names that are missing are filled in
    early_stop: EarlyStop | None = None  # None: every trial runs to its end
    max_failures: int | None = None  # FAILED trials after which the sweep is held
    max_concurrent_trials: int | None = None  # that run at the same time; None: as many as there are slots
    time_budget_s: float | None = None  # after its first trial; then the sweep is held

    @classmethod
    def from_arguments(cls, name: str, **arguments: object) -> SweepSpec:
        """The spec that a declaration's arguments mean; ArgumentError, a UsageError, for what is wrong with them.

        Arguments are the keys of the sweep file: models datasets parameters (or space) jobs_per_pair (or num_samples)
        run_cap method metric mode seed timeout_s resources points_to_evaluate early_terminate max_failures
        max_concurrent_trials time_budget_s. None is the same as not given. Defaults: method random with 10 jobs per
        pair, as bayes has, grid with all of its grid; metric "metric", mode "max"; seed 0; no timeout, no early
        stopping.
        """
        given = keys.settle_keys(arguments)
        method = keys.read_method(given.get("method"))
        models = keys.read_models(given.get("models"), given.get("parameters"))
        datasets = keys.read_datasets(given.get("datasets"))
        run_cap = keys.read_count("run_cap", given.get("run_cap"))
        jobs = keys.read_count("jobs_per_pair", given.get("jobs_per_pair"))
        if jobs is None and method is not Method.GRID:
            pairs = len(models) * len(datasets)
            jobs = DEFAULT_JOBS_PER_PAIR if run_cap is None else math.ceil(run_cap / pairs)
        spec = cls(
            name=keys.read_name(name),
            models=models,
            datasets=datasets,
            method=method,
            jobs_per_pair=jobs,
            run_cap=run_cap,
            metric=keys.read_metric(given.get("metric"), given.get("mode")),
            seed=keys.read_seed(given.get("seed")),
            timeout_s=keys.read_seconds("timeout_s", given.get("timeout_s")),
            resources=read_resources(given.get("resources"), models),
            points_to_evaluate=read_points(given.get("points_to_evaluate"), models),
            early_stop=read_early_stop(given.get("early_terminate")),
            max_failures=keys.read_count("max_failures", given.get("max_failures")),
            max_concurrent_trials=keys.read_count("max_concurrent_trials", given.get("max_concurrent_trials")),
            time_budget_s=keys.read_seconds("time_budget_s", given.get("time_budget_s")),
        )
        for model, space in models.items():
            keys.check_parameters(model, space, method, given.get("models"))
        keys.check_size(spec.size, given.get("jobs_per_pair"))
        keys.check_text(spec.to_json())
        return spec

    @property
    def size(self) -> int:
        """How many trials there are in all."""
        of_pairs = [
            math.prod(len(domain.grid()) for domain in space.values()) if self.method is Method.GRID else math.inf
            for space in self.models.values()
        ]
        jobs = math.inf if self.jobs_per_pair is None else self.jobs_per_pair
        size = sum(min(of_pair, jobs) for of_pair in of_pairs) * len(self.datasets)
        return int(min(size, math.inf if self.run_cap is None else self.run_cap))

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Every (model, dataset), models first, in the order declared."""
        return tuple((model, dataset) for model in self.models for dataset in self.datasets)

    def to_json(self) -> str:
        """The spec as canonical JSON; `from_json` is its inverse."""
        return _canonical(self._fields())

    @classmethod
    def from_json(cls, text: str) -> SweepSpec:
        """The spec that `to_json` wrote."""
        fields: dict[str, Any] = json.loads(text)
        models = {
            model: {name: domain_from_json(domain) for name, domain in space} for model, space in fields.pop("models")
        }
        early_stop = fields.pop("early_stop", None)  # specs of 0.1 lack the last five fields
        return cls(
            models=models,
            datasets=tuple(fields.pop("datasets")),
            method=Method(fields.pop("method")),
            metric=Metric(**fields.pop("metric")),
            points_to_evaluate=tuple(fields.pop("points_to_evaluate", ())),
            early_stop=None if early_stop is None else EarlyStop.from_json(early_stop),
            resources=read_resources(fields.pop("resources"), models),
            **fields,
        )

    def fingerprint(self) -> str:
        """SHA-256, hex, of what the spec means; its name and the order of what it lists do not count."""
        fields = self._fields()
        del fields["name"]
        fields["models"] = {model: dict(space) for model, space in self._spaces()}
        fields["datasets"] = sorted(self.datasets)
        for key in _LATER_FIELDS:
            if not fields[key]:
                del fields[key]
        return hashlib.sha256(_canonical(fields).encode()).hexdigest()

    def _fields(self) -> dict[str, object]:
        return {
            "name": self.name,
            "models": self._spaces(),
            "datasets": self.datasets,
            "method": self.method,
            "jobs_per_pair": self.jobs_per_pair,
            "run_cap": self.run_cap,
            "metric": {"name": self.metric.name, "mode": self.metric.mode},
            "seed": self.seed,
            "timeout_s": self.timeout_s,
            "resources": resources_json(self.resources),
            "points_to_evaluate": [dict(point) for point in self.points_to_evaluate],
            "early_stop": None if self.early_stop is None else self.early_stop.to_json(),
            "max_failures": self.max_failures,
            "max_concurrent_trials": self.max_concurrent_trials,
            "time_budget_s": self.time_budget_s,
        }

    def _spaces(self) -> list[tuple[str, list[tuple[str, dict[str, object]]]]]:
        """Lists of pairs, so that sorting the keys of the JSON leaves the declared order alone."""
        return [
            (model, [(name, domain.to_json()) for name, domain in space.items()])
            for model, space in self.models.items()
        ]


def check_fits(spec: SweepSpec, signature: ComputeSignature, *, main: str = "MAIN") -> None:
    """SpaceError, one sentence a line, when `compute` does not take what a space gives or needs what none gives.

    A nested name counts by its first part; `model` and `dataset` are given to whoever takes them; one `config` takes
    any names. `main` is how the notebook is called in the sentences.
    """
    problems: list[str] = []
    for model, space in spec.models.items():
        giver = "the sweep" if tuple(spec.models) == (DEFAULT_NAME,) else f"the space of model {model!r}"
        given = {name.split("/")[0] for name in space}
        if not signature.accepts_any and ("config" in given or not signature.whole_config):
            problems += [
                f"compute of {main} has no parameter {name!r} that {giver} gives"
                f"{did_you_mean(name, set(signature.names) - given)}; rename it in the sweep or add it to compute."
                for name in sorted(given - set(signature.names))
            ]
        problems += [
            f"compute of {main} needs {name!r}, which {giver} does not give; "
            "add it to the sweep or give it a default in compute."
            for name in sorted(signature.required - given - set(GIVEN_BY_US))
        ]
    if problems:
        raise SpaceError("\n".join(problems))


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


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
        for name, where, scalar in _flat(written, "", (_KEY, str(index)), what):
            if name in point:
                raise ArgumentError(where, f"{what} gives {name!r} twice; remove one")
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
    written: Mapping[object, object], prefix: str, names: tuple[str, ...], what: str
) -> Iterator[tuple[str, tuple[str, ...], Scalar]]:
    """Each flat name with the way to it and its value."""
    for key, value in written.items():
        here = (*names, str(key))
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
