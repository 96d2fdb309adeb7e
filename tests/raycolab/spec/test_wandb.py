"""W&B's parameters, grids and hyperband mean what they mean to W&B's own code, whose answers are recorded."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from raycolab.search.enumeration import grid_configurations
from raycolab.spec.domains import value_key
from raycolab.spec.pruners import bands_of, read_early_stop
from raycolab.spec.spaces import Method, as_space
from raycolab.spec.values import ArgumentError
from raycolab.spec.wandb import unused_key, wandb_domain
from tests.raycolab.spec.wandb_oracle import (
    GRIDS,
    HYPERBANDS,
    PARAMETERS,
    RECORD,
    UNITS,
    histories,
    is_continuous,
    runs_of,
)

_RECORDED: dict[str, Any] = json.loads(RECORD.read_text("utf-8"))


def _close(our: object, their: object) -> bool:
    """Equal, but for W&B's binary dust."""
    if type(our) is type(their) and isinstance(our, int | float) and isinstance(their, int | float):
        return math.isclose(our, their, rel_tol=1e-7, abs_tol=1e-12)
    return our == their


@pytest.mark.parametrize(
    ("parameter", "recorded"), list(zip(PARAMETERS, _RECORDED["parameters"], strict=True)), ids=str
)
def test_every_distribution_has_the_values_of_wandbs(parameter: dict[str, Any], recorded: list[Any]) -> None:
    """In steps each value at the same of 20,001 quantiles, but for one that is a tie; else at each hundredth."""
    domain = wandb_domain(parameter)
    if is_continuous(parameter):
        assert all(_close(domain.at(unit), their) for unit, their in zip(UNITS[::100], recorded, strict=True))
        return
    ours = runs_of(domain.at(unit) for unit in UNITS)
    assert len(ours) == len(recorded)
    for (our, count), (their, their_count) in zip(ours, recorded, strict=True):
        assert _close(our, their)
        assert abs(count - their_count) <= 2


@pytest.mark.parametrize(("parameters", "recorded"), list(zip(GRIDS, _RECORDED["grids"], strict=True)), ids=str)
def test_a_grid_has_the_combinations_of_wandbs(parameters: dict[str, Any], recorded: list[Any]) -> None:
    """q_uniform from min in steps of q, without max."""
    found = list(grid_configurations(as_space(parameters, Method.GRID)))
    assert len(found) == len(recorded)
    for our, their in zip(sorted(found, key=value_key), sorted(recorded, key=value_key), strict=True):
        assert our.keys() == their.keys()
        assert all(_close(our[name], their[name]) for name in our)


@pytest.mark.parametrize(("setting", "recorded"), list(zip(HYPERBANDS, _RECORDED["hyperbands"], strict=True)), ids=str)
def test_hyperband_ends_whom_wandbs_ends(setting: dict[str, Any], recorded: dict[str, Any]) -> None:
    """By the same bands, which end with `s` and `max_iter`; strict or not."""
    stop = {key: value for key, value in setting.items() if key not in ("goal", "seed")}
    early = read_early_stop("early_terminate", {"type": "hyperband", **stop}, {})
    assert early is not None
    bands = bands_of(early)
    assert bands is not None
    assert list(bands.counts) == recorded["bands"]
    sign = 1 if setting["goal"] == "minimize" else -1
    known = [[sign * value for value in run if math.isfinite(value)] for run in histories(setting["seed"])]
    assert [index for index, history in enumerate(known) if bands.ends(history, known)] == recorded["ended"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("description", "a try"),
        ("project", "p"),
        ("controller", {"type": "local"}),
        ("command", ["${env}", "${interpreter}", "${program}", "${args}"]),
        ("command", ["${env}", "python3", "-m", "train.py", "${args_no_boolean_flags}"]),
        ("command", "python train.py ${args}"),
        ("scheduler", {"job": "me/jobs/x:latest", "num_workers": 8, "resource": "local-process"}),
        ("scheduler", {"engine": "wandb"}),
    ],
)
def test_what_cannot_change_a_result_is_not_used(key: str, value: object) -> None:
    """Whose account it is, who starts it and how."""
    assert unused_key(key, value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("command", ["${program}", "--fast", "${args}"]),
        ("command", ["python", "train.py", "${envvar:SEED}"]),
        ("scheduler", {"engine": "ax"}),
        ("scheduler", {"num_workers": 2, "settings": {"pruner": "median"}}),
        ("metrics", []),
    ],
)
def test_what_can_change_a_result_is_refused(key: str, value: object) -> None:
    """By its key, which is said to be W&B's."""
    with pytest.raises(ArgumentError, match=f"{key} is W&B's") as caught:
        unused_key(key, value)
    assert caught.value.path == (key,)


def test_our_own_keys_and_nobodys_are_left_alone() -> None:
    """To whoever asked."""
    assert not unused_key("method", "grid")
    assert not unused_key("colour", "red")


def test_a_value_of_weight_0_is_no_part_of_a_grid() -> None:
    """W&B refuses weights there."""
    space = as_space({"x": {"values": [1, 2, 3], "probabilities": [0.5, 0, 0.5]}}, Method.GRID)
    assert space["x"].grid() == [1, 3]


@pytest.mark.parametrize(
    ("low", "high", "accepted"), [(0.5, 3, True), (-9, -1, True), (0.1, 1, False), (1e-5, 10, False), (1, 100, False)]
)
def test_exponents_that_look_like_values(low: float, high: float, accepted: bool) -> None:
    """Within one power of e, over decades, or larger than anybody searches."""
    fields = {"distribution": "log_uniform", "min": low, "max": high}
    if accepted:
        assert wandb_domain(fields)
    else:
        with pytest.raises(ArgumentError, match="look like the values themselves"):
            wandb_domain(fields)
