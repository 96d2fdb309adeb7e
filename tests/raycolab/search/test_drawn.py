"""Method random: a configuration is a function of seed, pair and index, the same for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycolab.search.enumeration import configuration_source
from raycolab.spec.domains import Domain
from raycolab.spec.spaces import as_space, choice, integer, loguniform, randn, uniform
from tests.raycolab.spec.spaces import domains

_SPACE = as_space({"C": loguniform(1e-3, 1e3), "kernel": choice(["rbf", "poly"]), "depth": integer(1, 99)})


def test_a_configuration_is_the_same_for_ever() -> None:
    """Pinned values: changing them would change every stored sweep that is extended."""
    drawn = configuration_source(0, "svc", "iris", _SPACE)
    assert drawn(0) == {"C": pytest.approx(0.0561757027636204), "kernel": "poly", "depth": 97}
    assert drawn(1) == {"C": pytest.approx(0.014460936434238415), "kernel": "rbf", "depth": 12}


def test_indices_can_be_asked_for_in_any_order() -> None:
    """The third is the third, whether or not the first was asked for."""
    ahead, again = configuration_source(3, "m", "d", _SPACE), configuration_source(3, "m", "d", _SPACE)
    assert [ahead(index) for index in (2, 0, 1)] == [again(2), again(0), again(1)]


@pytest.mark.parametrize(("seed", "model", "dataset"), [(1, "svc", "iris"), (0, "forest", "iris"), (0, "svc", "wine")])
def test_seed_model_and_dataset_each_change_the_draws(seed: int, model: str, dataset: str) -> None:
    """Pairs do not share their configurations."""
    one, other = configuration_source(0, "svc", "iris", _SPACE), configuration_source(seed, model, dataset, _SPACE)
    assert all(one(index)["C"] != other(index)["C"] for index in range(20))


def test_a_parameter_is_drawn_by_itself() -> None:
    """Order and neighbours do not matter: adding a parameter leaves the values of the others alone."""
    wide = configuration_source(0, "svc", "iris", dict(reversed([*_SPACE.items(), ("new", randn())])))
    narrow = configuration_source(0, "svc", "iris", _SPACE)
    for index in range(20):
        assert {name: wide(index)[name] for name in _SPACE} == narrow(index)


def test_draws_fill_the_domain_evenly() -> None:
    """A thousand draws of a uniform number have a tenth in every tenth, give or take."""
    drawn = configuration_source(0, "m", "d", as_space({"u": uniform(0, 10)}))
    tenths = [int(drawn(index)["u"]) for index in range(1000)]  # type: ignore[arg-type]
    assert all(70 <= tenths.count(tenth) <= 130 for tenth in range(10))


@given(domains, st.integers(0, 10**9), st.integers())
def test_any_domain_is_drawn_without_an_error(domain: Domain, index: int, seed: int) -> None:
    """Every index has a value, and asking twice gives the same."""
    drawn = configuration_source(seed, "m", "d", {"p": domain})
    assert repr(drawn(index)) == repr(drawn(index))
