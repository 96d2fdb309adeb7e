"""The table of keys: what a key may be, its other words and its default, and the texts that come out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest

import raycolab
from raycolab.spec.change import CONTRADICTS, Change, compare
from raycolab.spec.domains import Choice, Constant
from raycolab.spec.file import load_sweep_file
from raycolab.spec.keys import Key, keys_help, keys_table, settle_keys
from raycolab.spec.spec import SweepSpec
from raycolab.spec.values import ArgumentError, Refusals
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
    written = {"num_samples": 3, "space": {}, "seed": None, "early_terminate": None, "project": None, "entity": "me"}
    assert settle_keys(SweepSpec, written, Refusals()) == ({"jobs_per_pair": 3, "parameters": {}}, ["entity"])


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


@pytest.mark.parametrize("name", ["", " ", " a", "a\nb", "x" * 121, 3, None])
def test_a_sweeps_name_is_one_printable_line(name: object) -> None:
    """It stands in tables and commands."""
    with pytest.raises(ArgumentError, match="a sweep's name is"):
        SweepSpec.from_arguments(name)  # type: ignore[arg-type]
