"""Distributions of W&B, Optuna and Ray Tune mean what they mean in their own libraries."""

from __future__ import annotations

import importlib.util
import itertools
import math
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from statistics import NormalDist
from types import ModuleType

import numpy as np
import pytest
from optuna import distributions
from optuna._transform import _SearchSpaceTransform

from raycolab.errors import SpaceError
from raycolab.search import enumerate_trials
from raycolab.spec.domains import Beta, Choice, Constant, Domain, Float, Integer, Normal
from raycolab.spec.foreign import foreign_domain
from raycolab.spec.spaces import as_domain, as_space, constant
from raycolab.spec.spec import SweepSpec
from raycolab.spec.values import ArgumentError
from raycolab.spec.wandb import is_wandb_parameter, wandb_domain


@pytest.fixture(scope="module")
def tune() -> ModuleType:
    """The file of Ray Tune's search spaces alone: ray.tune itself needs packages that bare Ray does not bring."""
    ray = importlib.util.find_spec("ray")
    assert ray is not None
    assert ray.origin is not None
    path = Path(ray.origin).parent / "tune" / "search" / "sample.py"
    spec = importlib.util.spec_from_file_location("ray.tune.search.sample", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("fields", "domain"),
    [
        ({"value": 3}, Constant(3)),
        ({"distribution": "constant", "value": "a"}, Constant("a")),
        ({"values": [1, None]}, Choice((1, None))),
        ({"distribution": "categorical", "values": [1, 2]}, Choice((1, 2))),
        ({"values": ["a", "b"], "probabilities": [0.25, 0.75]}, Choice(("a", "b"), (0.25, 0.75))),
        ({"distribution": "categorical_w_probabilities", "values": [1], "probabilities": [1]}, Choice((1,), (1.0,))),
        ({"min": 1, "max": 5}, Integer(1, 5)),
        ({"min": 1, "max": 5.0}, Float(1.0, 5.0)),
        ({"distribution": "int_uniform", "min": 1, "max": 5.0}, Integer(1, 5)),
        ({"distribution": "uniform", "min": 1, "max": 5}, Float(1.0, 5.0)),
        ({"distribution": "q_uniform", "min": 0, "max": 10, "q": 5}, Float(0, 10, step=5)),
        ({"distribution": "q_uniform", "min": 0, "max": 3}, Float(0.0, 3.0, step=1.0)),
        ({"distribution": "log_uniform", "min": -1, "max": 0}, Float(math.exp(-1), 1.0, log=True)),
        ({"distribution": "log_uniform_values", "min": 1e-3, "max": 1}, Float(1e-3, 1.0, log=True)),
        (
            {"distribution": "q_log_uniform", "min": 0, "max": 2, "q": 2},
            Float(1.0, math.exp(2), log=True, step=2, law="wandb"),
        ),
        ({"distribution": "q_uniform", "min": 0.1, "max": 0.9, "q": 0.25}, Float(0.1, 0.9, step=0.25, law="wandb")),
        ({"distribution": "float", "min": 1, "max": 2.5, "step": 0.5}, Float(1, 2.5, step=0.5)),
        ({"distribution": "integer", "min": 1, "max": 64, "log": True}, Integer(1, 64, log=True)),
        ({"distribution": "q_log_uniform_values", "min": 32, "max": 256, "q": 8}, Float(32, 256, log=True, step=8)),
        ({"distribution": "inv_log_uniform", "min": 0, "max": 1}, Float(math.exp(-1), 1.0, log=True)),
        ({"distribution": "inv_log_uniform_values", "min": 0.1, "max": 1}, Float(0.1, 1.0, log=True)),
        ({"distribution": "normal"}, Normal(0.0, 1.0)),
        ({"distribution": "q_normal", "mu": 3, "q": 2}, Normal(3.0, 1.0, step=2)),
        ({"distribution": "log_normal", "sigma": 0.5}, Normal(0.0, 0.5, log=True)),
        ({"distribution": "q_log_normal"}, Normal(0.0, 1.0, log=True, step=1.0)),
        ({"distribution": "beta", "a": 2}, Beta(2.0, 1.0)),
        ({"distribution": "q_beta", "q": 0.1}, Beta(1.0, 1.0, step=0.1)),
    ],
    ids=str,
)
def test_each_distribution_with_wandbs_defaults(fields: dict[str, object], domain: Domain) -> None:
    """The distribution that is named or, without a name, the one W&B takes."""
    found = wandb_domain(fields)
    assert (found, str(found)) == (domain, str(domain))  # the text tells 1 from 1.0


def test_a_parameter_is_told_from_nested_names() -> None:
    """By the keys that only a parameter has."""
    assert is_wandb_parameter({"min": 0, "max": 1})
    assert not is_wandb_parameter({"a": 0, "b": 1})


@pytest.mark.parametrize("fields", [{"mu": 0, "sigma": 1}, {"vals": [1]}, {"vaules": [1]}, {"q": 1}])
def test_a_slip_of_the_pen_is_no_nested_name(fields: dict[str, object]) -> None:
    """What only a parameter of W&B's has, and a lone key that is nearly one."""
    assert is_wandb_parameter(fields)
    with pytest.raises(ArgumentError, match=r"did you mean 'value|without a distribution; add distribution: normal"):
        wandb_domain(fields)


@pytest.mark.parametrize(
    ("written", "domain"),
    [
        (distributions.FloatDistribution(0, 1), Float(0.0, 1.0)),
        (distributions.FloatDistribution(1e-3, 1, log=True), Float(1e-3, 1.0, log=True)),
        (distributions.FloatDistribution(0.1, 0.85, step=0.25), Float(0.1, 0.85, step=0.25, law="optuna")),
        (distributions.FloatDistribution(2, 2), Constant(2.0)),
        (distributions.IntDistribution(1, 9), Integer(1, 9)),
        (distributions.IntDistribution(1, 9, step=4), Integer(1, 9, step=4)),
        (distributions.IntDistribution(1, 64, log=True), Integer(1, 64, log=True, law="optuna")),
        (distributions.CategoricalDistribution(("a", None, 3)), Choice(("a", None, 3))),
    ],
    ids=str,
)
def test_an_optuna_distribution(written: object, domain: Domain) -> None:
    """Bounds included, steps counted from low."""
    assert foreign_domain(written) == domain


def test_an_old_optuna_distribution_counts_as_what_it_derives_from() -> None:
    """Optuna's deprecated classes are subclasses of the three."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        old = distributions.IntUniformDistribution(1, 5)
    assert foreign_domain(old) == Integer(1, 5)


@pytest.mark.parametrize(
    ("function", "arguments", "domain"),
    [
        ("uniform", (0, 1), Float(0.0, 1.0)),
        ("loguniform", (1e-3, 1), Float(1e-3, 1.0, log=True)),
        ("quniform", (0, 1, 0.25), Float(0.0, 1.0, step=0.25)),
        ("qloguniform", (1, 9, 1), Float(1.0, 9.0, log=True, step=1.0)),
        ("randint", (0, 10), Integer(0, 9)),
        ("lograndint", (1, 10), Integer(1, 9, log=True)),
        ("qrandint", (0, 10, 5), Integer(0, 10, step=5)),
        ("qrandint", (0, 10, 1), Integer(0, 9)),
        ("qrandint", (1, 11, 5), Integer(5, 10, step=5)),
        ("qlograndint", (1, 100, 10), Integer(10, 100, log=True, step=10)),
        ("randn", (1, 2), Normal(1.0, 2.0)),
        ("qrandn", (1, 2, 0.5), Normal(1.0, 2.0, step=0.5)),
        ("choice", ([1, "a"],), Choice((1, "a"))),
    ],
)
def test_a_ray_tune_object(tune: ModuleType, function: str, arguments: tuple[object, ...], domain: Domain) -> None:
    """Upper bounds of whole numbers excluded, except where they are quantized."""
    assert foreign_domain(getattr(tune, function)(*arguments)) == domain


_UNITS = np.array([(index + 0.5) / 20_001 for index in range(20_001)])


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("uniform", (-1, 1)),
        ("loguniform", (1e-4, 1)),
        ("quniform", (0, 1, 0.25)),
        ("quniform", (-3, 9, 1)),
        ("qloguniform", (1, 9, 1)),
        ("qloguniform", (0.1, 0.9, 0.1)),
        ("randint", (0, 5)),
        ("lograndint", (1, 5)),
        ("qrandint", (0, 10, 5)),
        ("qrandint", (1, 11, 5)),
        ("qlograndint", (1, 40, 10)),
        ("randn", (1, 2)),
        ("qrandn", (1, 2, 0.5)),
        ("choice", (["a", [1, 2], {"b": None}],)),
    ],
)
def test_the_values_are_ray_tunes(tune: ModuleType, function: str, arguments: tuple[object, ...]) -> None:
    """At each of 20,001 quantiles, but for ties."""

    class Quantiles(tune._BackwardsCompatibleNumpyRng):  # type: ignore[misc, name-defined]  # of another module
        """Draws every quantile in turn, where Ray Tune asks for as many numbers by chance."""

        def __init__(self) -> None: ...

        def uniform(self, low: float, high: float, size: int) -> object:
            return low + (high - low) * _UNITS

        def integers(self, low: int, high: int, size: int) -> object:
            return low + np.floor((high - low) * _UNITS).astype(int)

        def normal(self, mean: float, sd: float, size: int) -> object:
            return np.array([NormalDist(mean, sd).inv_cdf(unit) for unit in _UNITS])

        def choice(self, indices: list[int], size: int) -> object:
            return [int(unit * len(indices)) for unit in _UNITS]

    written = getattr(tune, function)(*arguments)
    theirs = written.sample(size=len(_UNITS), random_state=Quantiles())
    domain = as_domain(written)
    assert _different(theirs, [domain.at(unit) for unit in _UNITS.tolist()]) <= 2


def _different(theirs: Iterable[object], ours: Iterable[object]) -> int:
    def same(their: object, our: object) -> bool:
        is_number = isinstance(our, int | float)
        return their == pytest.approx(our, rel=1e-9, abs=1e-12) if is_number else their == our

    return sum(not same(their, our) for their, our in zip(theirs, ours, strict=True))


@pytest.mark.parametrize(
    "distribution",
    [
        distributions.FloatDistribution(0, 1),
        distributions.FloatDistribution(1e-3, 1, log=True),
        distributions.FloatDistribution(0.1, 0.85, step=0.25),
        distributions.FloatDistribution(-1, 1, step=0.1),
        distributions.IntDistribution(1, 9),
        distributions.IntDistribution(1, 9, step=4),
        distributions.IntDistribution(1, 64, log=True),
        distributions.IntDistribution(3, 5, log=True),
    ],
    ids=str,
)
def test_the_values_are_optunas(distribution: distributions.BaseDistribution) -> None:
    """At 2,001 quantiles of what its random sampler draws uniformly, but for ties."""
    transform = _SearchSpaceTransform({"x": distribution})
    ((low, high),) = transform.bounds
    units = _UNITS[::10].tolist()
    theirs = [transform.untransform(np.array([low + unit * (high - low)]))["x"] for unit in units]
    domain = as_domain(distribution)
    assert _different(theirs, [domain.at(unit) for unit in units]) <= 2


def test_beside_ray_tunes_objects_a_bare_list_is_refused(tune: ModuleType) -> None:
    """It is one value there; so is a mapping that looks like W&B's. A tuple is one value in both."""
    space = {
        "eta": tune.loguniform(1e-4, 1e-1),
        "eval_metric": ["logloss", "error"],
        "clip": {"min": -1, "max": 1},
        "betas": (0.9, 0.999),
        "nested": {"deep": [1]},
    }
    with pytest.raises(SpaceError) as caught:
        as_space(space)
    assert str(caught.value).splitlines() == [
        "parameter 'eval_metric': a list beside Ray Tune's objects is one value there and alternatives here; write "
        "raycolab.constant([...]) for the one, raycolab.choice([...]) for the others",
        "parameter 'clip': a mapping beside Ray Tune's objects is one value there and W&B's form of a parameter here; "
        "write raycolab.constant({...}) for the one, a function such as raycolab.uniform for the other",
        "parameter 'nested/deep': a list beside Ray Tune's objects is one value there and alternatives here; write "
        "raycolab.constant([...]) for the one, raycolab.choice([...]) for the others",
    ]
    cured = space | {"eval_metric": constant(["logloss", "error"]), "clip": constant({"min": -1, "max": 1})}
    found = as_space(cured | {"nested": 3})
    assert found["eval_metric"] == Constant(["logloss", "error"])
    assert found["clip"] == Constant({"min": -1, "max": 1})
    assert found["betas"] == Constant([0.9, 0.999])


def test_grid_search_tries_all_for_each_sample(tune: ModuleType) -> None:
    """Two samples of two grid_searches are twice all of their combinations, each with its own draw of the rest."""
    space = {"a": {"grid_search": [1, 2]}, "b": {"grid_search": ["x", "y", "z"]}, "lr": tune.uniform(0, 1)}
    spec = SweepSpec.from_arguments("s", parameters=space, num_samples=2)
    configs = [row.config or {} for row in enumerate_trials(spec)]
    assert spec.size == len(configs) == 12
    assert Counter((config["a"], config["b"]) for config in configs) == dict.fromkeys(
        itertools.product([1, 2], ["x", "y", "z"]), 2
    )
    assert len({config["lr"] for config in configs}) == 12
    assert SweepSpec.from_arguments("s", parameters=space).size == 6
    assert SweepSpec.from_arguments("s", parameters={"a": {"grid_search": [1, 2]}}, method="grid").size == 2
    grown = enumerate_trials(SweepSpec.from_arguments("s", parameters=space, num_samples=3), enumerate_trials(spec))
    assert [row.number for row in grown] == list(range(12, 18))


def test_sample_from_is_refused_with_the_cure(tune: ModuleType) -> None:
    """A function cannot be drawn again from a seed and an index."""
    with pytest.raises(SpaceError, match=r"sample_from draws by calling a function, .*; compute the value in compute"):
        foreign_domain(tune.sample_from(lambda config: 1))


def test_no_multiple_between_the_bounds_is_refused(tune: ModuleType) -> None:
    """Ray Tune finds this when it samples, we when it is declared."""
    with pytest.raises(SpaceError, match="there is no multiple of 5 between 1 and 4; take a smaller one"):
        foreign_domain(tune.qrandint(1, 4, 5))


def test_anything_else_is_not_foreign() -> None:
    """Other objects are left to whoever asked."""
    assert foreign_domain(3) is None
    assert foreign_domain(object()) is None


def test_neither_library_is_imported() -> None:
    """Reading a space costs no import of Optuna or Ray."""
    code = "import sys, raycolab.spec.spaces; sys.exit('optuna' in sys.modules or 'ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
