"""Every domain has an Optuna distribution that holds its values, and a way to Optuna's parameters and back."""

from __future__ import annotations

import math
from dataclasses import replace

import optuna
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler
from optuna.trial import create_trial

from raycolab.errors import SpaceError
from raycolab.search import enumerate_trials
from raycolab.search.distributions import SearchSpace, optuna_distribution, optuna_value
from raycolab.search.studies import Studies
from raycolab.spec.domains import Beta, Choice, Constant, Domain, Float, GridSearch, Integer, Normal, admitted
from raycolab.spec.spec import SweepSpec
from raycolab.trials import TrialState
from tests.raycolab.spec.spaces import domains, units, wild_parameters

optuna.logging.set_verbosity(optuna.logging.ERROR)
# What all are tried of is not searched.
searched = domains.filter(lambda domain: not isinstance(domain, GridSearch))


@given(searched, units)
@example(Beta(1.0, 0.5, None), 1 - 1e-16)
def test_a_value_goes_to_optuna_and_comes_back(domain: Domain, unit: float) -> None:
    """A restored trial stands where the value was; what is searched by quantile is as close as floats are."""
    value = domain.at(unit)
    space = SearchSpace({"p": domain})
    params = space.params({"p": value})
    create_trial(params=params, distributions=space.distributions, value=0.0)  # raises for what is outside
    back = space.config(params)["p"]
    if isinstance(domain, Normal | Beta):
        assert isinstance(back, float)
        # Where the density is 0 or infinite, only one of the two says that they are the same but for rounding.
        assert math.isclose(back, value, rel_tol=1e-12) or math.isclose(
            domain_cdf(domain, back), domain_cdf(domain, value), abs_tol=1e-9
        )
    else:
        assert repr(back) == repr(value)


def domain_cdf(domain: Domain, value: object) -> float:
    """Where a value of a continuous domain lies in it, as Optuna is told."""
    assert isinstance(value, int | float)
    unit = SearchSpace({"p": domain}).params({"p": value})["p"]
    assert isinstance(unit, float)
    return unit


@given(domains, units)
def test_the_distribution_for_people_holds_every_value(domain: Domain, unit: float) -> None:
    """A study that is shown has the values themselves."""
    create_trial(
        params={"p": optuna_value(domain.at(unit))}, distributions={"p": optuna_distribution(domain)}, value=0.0
    )


@given(searched, st.integers(0, 2**32 - 1))
def test_what_optuna_draws_is_a_value_of_the_domain(domain: Domain, seed: int) -> None:
    """Rounded and typed as the domain does it."""
    space = SearchSpace({"p": domain})
    study = optuna.create_study(sampler=RandomSampler(seed=seed))
    value = space.config(study.ask(fixed_distributions=space.distributions).params)["p"]
    assert repr(admitted(domain, value)) == repr(value)


@settings(max_examples=60, deadline=None)
@given(wild_parameters, st.integers(0, 10))
def test_whatever_is_not_refused_can_be_searched(written: dict[str, object], seed: int) -> None:
    """Optuna proposes values of the domain, from the start and once it has learnt, and shows them in a study."""
    try:
        spec = SweepSpec.from_arguments("s", method="bayes", parameters={"x": written}, seed=seed, jobs_per_pair=13)
    except SpaceError:
        return
    rows = enumerate_trials(spec)
    studies = Studies(spec, rows)
    domain = spec.models["default"]["x"]
    for row in rows:
        config = studies.propose(row)
        assert repr(admitted(domain, config["x"])) == repr(config["x"])
        ended = replace(row, config=config, state=TrialState.COMPLETE, metrics={"metric": row.number % 5})
        studies.ended(ended)
        rows[row.number] = ended
        create_trial(params={"p": config["x"]}, distributions={"p": optuna_distribution(domain)}, value=0.0)
    again = Studies(spec, rows)
    again.propose(replace(rows[0], number=99, config=None))


@pytest.mark.parametrize(
    ("domain", "searched", "shown"),
    [
        (Float(0.0, 1.0), FloatDistribution(0, 1), FloatDistribution(0, 1)),
        (Float(1.0, 9.0, log=True), FloatDistribution(1, 9, log=True), FloatDistribution(1, 9, log=True)),
        (Float(0, 10, step=5), IntDistribution(0, 2), FloatDistribution(0, 10, step=5)),
        (Float(32, 256, log=True, step=8), FloatDistribution(0, 1), FloatDistribution(32, 256, log=True)),
        (Integer(1, 9), IntDistribution(1, 9), IntDistribution(1, 9)),
        (Integer(1, 8, step=2), IntDistribution(1, 7, step=2), IntDistribution(1, 7, step=2)),
        (Integer(1, 9, log=True), IntDistribution(1, 9, log=True), IntDistribution(1, 9, log=True)),
        (Integer(0, 2**63 - 1), FloatDistribution(0, 1), IntDistribution(0, 2**63 - 1)),
        (Choice(("a", "b")), CategoricalDistribution((0, 1)), CategoricalDistribution(("a", "b"))),
        (Choice(("a", "b"), (0, 1)), CategoricalDistribution((0,)), CategoricalDistribution(("b",))),
        (Beta(2.0, 2.0, step=0.5), FloatDistribution(0, 1), FloatDistribution(0, 1)),
    ],
    ids=repr,
)
def test_optunas_own_laws_where_it_has_them(
    domain: Domain, searched: optuna.distributions.BaseDistribution, shown: optuna.distributions.BaseDistribution
) -> None:
    """The rest is searched by quantile and shown as a range."""
    assert SearchSpace({"p": domain}).distributions == {"p": searched}
    assert optuna_distribution(domain) == shown


def test_constants_are_not_asked_for_and_are_there() -> None:
    """In the order of the space."""
    space = SearchSpace({"a": Constant(None), "b": Integer(1, 1), "c": Constant("x")})
    assert list(space.distributions) == ["b"]
    assert list(space.config({"b": 1}).items()) == [("a", None), ("b", 1), ("c", "x")]


def test_one_true_and_one_are_three_categories() -> None:
    """Optuna's equality would make them one; a value that stands twice is one."""
    space = SearchSpace({"p": Choice((1, 1.0, True, 1))})
    assert space.distributions["p"] == CategoricalDistribution((0, 1, 2))
    assert [space.params({"p": value})["p"] for value in (1, 1.0, True)] == [0, 1, 2]


def test_large_whole_numbers_are_whole_to_the_last_digit() -> None:
    """Where Optuna, which counts in floats, would refuse or round them."""
    space = SearchSpace({"p": Integer(0, 2**63 - 1)})
    assert 0 <= space.config({"p": 1.0})["p"] < 2**63  # type: ignore[operator]
    create_trial(params=space.params({"p": 2**63 - 1}), distributions=space.distributions, value=0.0)
