"""Each argument of a declaration: what it may be, its default, and the sentence for anything else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest

import raycolab
from raycolab.errors import SpaceError, UsageError
from raycolab.spec.change import Change, compare
from raycolab.spec.domains import Choice, Constant
from raycolab.spec.file import load_sweep_file
from raycolab.spec.keys import (
    CONTRADICTS,
    ArgumentError,
    Key,
    SpaceArgumentError,
    keys_help,
    keys_table,
    settle_keys,
)
from raycolab.spec.spaces import uniform
from raycolab.spec.spec import SweepSpec
from raycolab.trials import Metric


class _Coloured(SweepSpec, frozen=True, kw_only=True):
    """A table with one key more."""

    colour: Annotated[str, Key("the colour of its bars", CONTRADICTS, aliases=("color",), default="blue")] = "blue"


def test_a_new_key_is_one_entry(tmp_path: Path) -> None:
    """Arguments, file, `--set`, JSON, fingerprint, comparison, help and the README's table know it by its entry."""
    red = _Coloured.from_arguments("s", color="red")
    assert red.colour == "red"
    (tmp_path / "sweep.yaml").write_text("main: MAIN.ipynb\nname: s\ncolour: red\n")
    assert load_sweep_file(tmp_path / "sweep.yaml", spec_type=_Coloured).spec == red
    green = load_sweep_file(tmp_path / "sweep.yaml", ["color=green"], _Coloured).spec
    assert compare(red, green) == Change((), ("colour was red and is now green",))
    assert _Coloured.from_json(red.to_json()) == red
    plain = _Coloured.from_arguments("s")
    assert plain.fingerprint() == SweepSpec.from_arguments("s").fingerprint() != red.fingerprint()
    assert "colour or color: the colour of its bars; default: blue" in keys_help(_Coloured)
    assert "| `colour`, `color` | the colour of its bars | blue | refused |  |" in keys_table(_Coloured)
    with pytest.raises(ArgumentError, match=r"unknown key 'colr' \(did you mean 'color'\?\)"):
        _Coloured.from_arguments("s", colr="red")


def test_the_readme_and_declare_have_the_table() -> None:
    """Word for word."""
    readme = (Path(__file__).parents[3] / "README.md").read_text("utf-8")
    assert f"<!-- the keys of a sweep -->\n{keys_table(SweepSpec)}\n<!-- end of the keys -->" in readme
    assert keys_help(SweepSpec) in (raycolab.declare.__doc__ or "")


def test_aliases_go_by_their_own_names_and_none_is_not_given() -> None:
    """num_samples is jobs_per_pair, space is parameters."""
    assert settle_keys(SweepSpec, {"num_samples": 3, "space": {}, "seed": None, "early_terminate": None}) == {
        "jobs_per_pair": 3,
        "parameters": {},
    }


def test_a_model_takes_the_shared_parameters_and_puts_its_own_before_them() -> None:
    """`parameters` is every model's."""
    assert SweepSpec.from_arguments("s", models={"a": {"x": 1}, "b": None}, space={"x": [5], "y": 2}).models == {
        "a": {"x": Constant(1), "y": Constant(2)},
        "b": {"x": Choice((5,)), "y": Constant(2)},
    }
    listed = SweepSpec.from_arguments("s", models=["a", "b"], parameters={"x": 1}).models
    assert listed == {"a": {"x": Constant(1)}, "b": {"x": Constant(1)}}


def test_without_models_and_datasets_there_is_one_pair() -> None:
    """Both are called default."""
    spec = SweepSpec.from_arguments("s", parameters={"x": 1})
    assert (spec.models, spec.datasets) == ({"default": {"x": Constant(1)}}, ("default",))


@pytest.mark.parametrize(
    ("metric", "mode", "meant"),
    [
        (None, None, Metric("metric", "max")),
        ("loss", "min", Metric("loss", "min")),
        ("accuracy", None, Metric("accuracy", "max")),
        ("loss", "minimize", Metric("loss", "min")),
        ({"name": "loss", "goal": "minimize"}, None, Metric("loss", "min")),
        ({"name": "loss", "goal": "minimize"}, "min", Metric("loss", "min")),
        ({"name": "f1"}, "max", Metric("f1", "max")),
        (Metric("loss", "min"), None, Metric("loss", "min")),
    ],
)
def test_a_metric_is_a_name_a_mapping_or_itself(metric: object, mode: object, meant: Metric) -> None:
    """W&B's goal and Ray Tune's mode say the same."""
    assert SweepSpec.from_arguments("s", metric=metric, mode=mode).metric == meant


_REFUSED: list[tuple[dict[str, object], tuple[str, ...], str]] = [
    (
        {"jobs_per_par": 3},
        ("jobs_per_par",),
        "unknown key 'jobs_per_par' (did you mean 'jobs_per_pair'?); allowed are method, models, "
        "parameters, datasets, run_cap, jobs_per_pair, metric, mode, seed, timeout_s, resources, points_to_evaluate, "
        "early_terminate, max_failures, max_concurrent_trials, time_budget_s",
    ),
    (
        {"num_samples": 1, "jobs_per_pair": 1},
        ("jobs_per_pair",),
        "num_samples and jobs_per_pair mean the same; give one of them",
    ),
    (
        {"time_budget_s": -3},
        ("time_budget_s",),
        "time_budget_s is a number of seconds above 0, not -3.0; remove it for no limit",
    ),
    (
        {"method": "randm"},
        ("method",),
        "unknown method 'randm' (did you mean 'random'?); methods are grid, random, bayes",
    ),
    ({"jobs_per_pair": 0}, ("jobs_per_pair",), "jobs_per_pair is a whole number from 1 to 1,000,000, not 0"),
    ({"jobs_per_pair": 1.5}, ("jobs_per_pair",), "jobs_per_pair: a whole number is needed, not 1.5"),
    ({"seed": "x"}, ("seed",), "seed: a number is needed, not 'x'"),
    ({"timeout_s": 0}, ("timeout_s",), "timeout_s is a number of seconds above 0, not 0.0; remove it for no limit"),
    (
        {"metric": {"name": "a", "gaol": "max"}},
        ("metric", "gaol"),
        "metric has no key 'gaol' (did you mean 'goal'?); its keys are name and goal",
    ),
    ({"metric": {"name": "a"}}, ("metric",), "metric 'a' has no goal; say goal: maximize or goal: minimize"),
    (
        {"metric": {"name": "a", "goal": "maximize"}, "mode": "min"},
        ("metric",),
        "metric 'a' has goals that contradict each other; say goal: maximize or goal: minimize",
    ),
    ({"metric": {"name": "a", "goal": "max!"}}, ("metric", "goal"), "goal is maximize or minimize, not 'max!'"),
    (
        {"metric": {"goal": "maximize"}},
        ("metric", "name"),
        "a metric's name is text and not empty, not None; put it in quotes",
    ),
    ({"mode": "up"}, ("mode",), "mode is max or min, not 'up'"),
    ({"datasets": "iris"}, ("datasets",), "datasets is a list of names, such as [first, second], not 'iris'"),
    ({"datasets": ["iris", "iris"]}, ("datasets",), "datasets names 'iris' twice; remove one"),
    ({"datasets": []}, ("datasets",), "datasets is empty; name at least one dataset, or leave the key out"),
    ({"models": {}}, ("models",), "models is empty; name at least one model, or leave the key out"),
    (
        {"models": {"a\n": {}}},
        ("models", "a\n"),
        "a model's name is one printable line of at most 120 characters, no spaces around it, not 'a\\n'",
    ),
]


@pytest.mark.parametrize(("arguments", "path", "sentence"), _REFUSED)
def test_what_is_refused(arguments: dict[str, object], path: tuple[str, ...], sentence: str) -> None:
    """The key, what is wrong with it, and what to do."""
    with pytest.raises(ArgumentError) as caught:
        SweepSpec.from_arguments("name", **arguments)
    assert (str(caught.value), caught.value.path) == (sentence, path)
    assert isinstance(caught.value, UsageError)
    assert caught.value.exit_code == 2


_REFUSED_SPACES: list[tuple[dict[str, object], tuple[str, ...], str]] = [
    (
        {"models": {"svc": {"C": []}}},
        ("models", "svc", "C"),
        "the space of model 'svc', parameter 'C': a choice needs at least one value, and this one is empty",
    ),
    (
        {"models": {"svc": 3}},
        ("models", "svc"),
        "the space of model 'svc', parameters are a mapping of names to values, not 3",
    ),
    ({"parameters": [1]}, ("parameters",), "parameters are a mapping of names to values, not [1]"),
    (
        {"models": {"svc": {"C": uniform(0, 1)}}, "method": "grid"},
        ("models", "svc", "C"),
        "the space of model 'svc', parameter 'C': uniform(0.0, 1.0) is continuous and method grid needs "
        "alternatives; give a list such as [1, 2, 3], or use method random",
    ),
    (
        {"models": ["svc"], "parameters": {"C": uniform(0, 1)}, "method": "grid"},
        ("parameters", "C"),
        "parameter 'C': uniform(0.0, 1.0) is continuous and method grid needs alternatives; give a list "
        "such as [1, 2, 3], or use method random",
    ),
    (
        {"parameters": {"model": ["a"]}},
        ("parameters", "model"),
        "parameter 'model': raycolab itself passes 'model' to compute; list the alternatives under models, "
        "or rename it",
    ),
]


@pytest.mark.parametrize(("arguments", "path", "sentence"), _REFUSED_SPACES)
def test_a_space_that_is_refused(arguments: dict[str, object], path: tuple[str, ...], sentence: str) -> None:
    """A SpaceError that names model and parameter."""
    with pytest.raises(SpaceArgumentError) as caught:
        SweepSpec.from_arguments("name", **arguments)
    assert (str(caught.value), caught.value.path) == (sentence, path)
    assert isinstance(caught.value, SpaceError)


@pytest.mark.parametrize("name", ["", " ", " a", "a\nb", "x" * 121, 3, None])
def test_a_sweeps_name_is_one_printable_line(name: object) -> None:
    """It stands in tables and commands."""
    with pytest.raises(ArgumentError, match="a sweep's name is"):
        SweepSpec.from_arguments(name)  # type: ignore[arg-type]
