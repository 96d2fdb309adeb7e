"""Every distribution of W&B's published schema is a domain, and every slip is named by its key."""

from __future__ import annotations

import math

import pytest

from raycolab.spec.domains import Beta, Choice, Constant, Domain, Float, Integer, Normal
from raycolab.spec.wandb import WandbKeyError, is_wandb_parameter, wandb_domain


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
        ({"distribution": "q_log_uniform", "min": 0, "max": 2, "q": 2}, Float(2, 6, log=True, step=2)),
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
    assert not is_wandb_parameter({"mu": 0, "sigma": 1})


@pytest.mark.parametrize(
    ("fields", "key", "sentence"),
    [
        (
            {"distribution": "log_unform", "min": 1, "max": 2},
            "distribution",
            "unknown distribution 'log_unform' (did you mean 'log_uniform'?); known are constant, ",
        ),
        ({"min": 0, "mx": 1}, "mx", "unknown key 'mx' (did you mean 'max'?); known are "),
        ({"min": 0}, "min", "'min' needs 'max' beside it; add it, or give values: [...]"),
        ({"max": 0}, "max", "'max' needs 'min' beside it; add it, or give values: [...]"),
        ({"values": [1], "q": 2}, "q", "distribution categorical has no key 'q'; its keys are values"),
        ({"values": 3}, "values", "values is a list, such as [1, 2, 3], not 3"),
        (
            {"values": [1], "probabilities": 1},
            "probabilities",
            "probabilities is a list with one number per value, not 1",
        ),
        ({"distribution": "uniform", "min": 0}, "distribution", "distribution uniform needs the key 'max'; add it"),
        (
            {"distribution": "int_uniform", "min": 0.5, "max": 2},
            "min",
            "min: a whole number is needed, not 0.5; for numbers with a fraction use distribution: uniform",
        ),
        ({"min": "a", "max": 2}, "min", "min: a number is needed, not 'a'"),
        (
            {"distribution": "log_uniform", "min": 0.001, "max": 0.1},
            "distribution",
            "W&B's log_uniform takes exponents, min: 0.001 means exp(0.001), and these bounds look like the "
            "values themselves; write distribution: log_uniform_values",
        ),
        (
            {"distribution": "q_log_uniform", "min": 1, "max": 1000},
            "distribution",
            "W&B's q_log_uniform takes exponents, min: 1.0 means exp(1.0), and these bounds look like the "
            "values themselves; write distribution: q_log_uniform_values",
        ),
        (
            {"parameters": {}, "min": 3},
            "parameters",
            "a mapping with parameters: {...} has no other key; remove the others",
        ),
    ],
    ids=str,
)
def test_a_slip_is_named_by_its_key(fields: dict[str, object], key: str, sentence: str) -> None:
    """The key to point at, what is wrong with it, and the cure."""
    with pytest.raises(WandbKeyError) as caught:
        wandb_domain(fields)
    assert caught.value.key == key
    assert str(caught.value).startswith(sentence)
