"""Spaces as people write them: Ray Tune's functions, lists, constants, nested names, W&B's forms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from raycolab.errors import SpaceError
from raycolab.spec import spaces
from raycolab.spec.domains import Choice, Constant, Domain, Float, GridSearch, Integer, Normal
from raycolab.spec.spaces import as_domain, as_space


@pytest.mark.parametrize(
    ("written", "domain"),
    [
        (spaces.choice([1, "a", None]), Choice((1, "a", None))),
        (spaces.grid_search([0.1, 0.2]), GridSearch((0.1, 0.2))),
        (spaces.constant([1, (2, 3)]), Constant([1, [2, 3]])),
        (spaces.uniform(0, 1), Float(0.0, 1.0)),
        (spaces.quniform(0, 1, 0.25), Float(0.0, 1.0, step=0.25)),
        (spaces.loguniform(1e-3, 1e3), Float(1e-3, 1e3, log=True)),
        (spaces.randint(0, 10), Integer(0, 9)),
        (spaces.lograndint(1, 100), Integer(1, 99, log=True)),
        (spaces.integer(1, 10), Integer(1, 10)),
        (spaces.randn(1, 2), Normal(1.0, 2.0)),
        (spaces.uniform(np.float64(0), np.float64(1)), Float(0.0, 1.0)),
    ],
)
def test_each_function_means_its_domain(written: Domain, domain: Domain) -> None:
    """Ray Tune's names and bounds; `integer` includes its upper one."""
    assert written == domain


@pytest.mark.parametrize(
    ("written", "domain"),
    [
        (spaces.uniform(0, 1), Float(0.0, 1.0)),
        ([1, 2], Choice((1, 2))),
        ((1, 2), Constant([1, 2])),
        ([(1, 2), {"a": [3]}], Choice(([1, 2], {"a": [3]}))),
        ({"value": [1, 2]}, Constant([1, 2])),
        ({"values": [[1], {}]}, Choice(([1], {}))),
        (range(3), Choice((0, 1, 2))),
        (np.array([0.5, 1.0]), Choice((0.5, 1.0))),
        ("rbf", Constant("rbf")),
        (3, Constant(3)),
        (None, Constant(None)),
        ({"grid_search": [1, 2]}, GridSearch((1, 2))),
        ({"values": [1, 2]}, Choice((1, 2))),
        ({"min": 0.0, "max": 1}, Float(0.0, 1.0)),
    ],
    ids=str,
)
def test_each_form_of_a_parameter(written: object, domain: Domain) -> None:
    """A list is alternatives, a scalar a constant, a mapping Ray Tune's or W&B's."""
    assert as_domain(written) == domain


def test_nested_names_become_flat_in_the_order_written() -> None:
    """Plain nesting and W&B's `parameters` alike."""
    flat = as_space(
        {"b": 1, "optimizer": {"name": ["adam"], "inner": {"lr": 2}}, "a": {"parameters": {"x": {"value": 3}}}}
    )
    assert list(flat) == ["b", "optimizer/name", "optimizer/inner/lr", "a/x"]
    assert flat["a/x"] == Constant(3)


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: spaces.uniform("a", 1), "uniform: a number is needed, not 'a'"),  # type: ignore[arg-type]
        (lambda: spaces.randint(3, 3), "randint(3, 3) has no value: high is excluded and must be above low"),
        (lambda: spaces.lograndint(2, 1), "lograndint(2, 1) has no value: high is excluded and must be above low"),
        (lambda: spaces.integer(0.5, 3), "integer: a whole number is needed, not 0.5"),  # type: ignore[arg-type]
        (lambda: spaces.choice("abc"), "choice takes a list, such as choice([1, 2, 3]), not 'abc'"),
        (
            lambda: as_domain({1, 2}),
            "a set is not a search space; give a list of alternatives, one value, or a function of raycolab "
            "such as uniform(0, 1)",
        ),
        (
            lambda: as_domain(print),
            "a builtin_function_or_method is not a search space; give a list of alternatives, one value, or "
            "a function of raycolab such as uniform(0, 1)",
        ),
        (lambda: as_space({3: 1}), "parameter '3': its name is text and not empty; put it in quotes"),  # type: ignore[dict-item]
    ],
)
def test_a_malformed_parameter_is_refused_in_a_sentence(build: Callable[[], object], sentence: str) -> None:
    """The function as it was called, and the cure."""
    with pytest.raises(SpaceError) as caught:
        build()
    assert str(caught.value) == sentence
