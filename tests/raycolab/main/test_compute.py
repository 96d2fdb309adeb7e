"""What `compute` takes, reports and returns: read from text and from the function, bound, checked, made plain."""

from __future__ import annotations

import ast
import decimal
import enum
import fractions
import functools
import math
import types
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import raycolab
from raycolab.errors import MainError
from raycolab.main.compute import (
    BadReturnError,
    ComputeSignature,
    TrialPruned,
    is_pruned,
    metrics_of,
    nested,
    read_signature,
    report,
    reporting,
    signature_of,
)
from raycolab.spec.spec import SweepSpec, check_fits
from raycolab.trials import Scalar, TrialState
from tests.raycolab.main.mains import ACCURACY, Load

# --- arguments -------------------------------------------------------------------------------------------------------


def read(*sources: str) -> ComputeSignature | None:
    """The signature in cells of these texts."""
    return read_signature([ast.parse(source) for source in sources])


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def compute(model, C): pass", ComputeSignature(("model", "C"), frozenset({"model", "C"}))),
        ("async def compute(a, b=1): pass", ComputeSignature(("a", "b"), frozenset({"a"}))),
        ("compute = lambda a, *, b, c=2: a", ComputeSignature(("a", "b", "c"), frozenset({"a", "b"}))),
        ("def compute(*args, **params): pass", ComputeSignature((), frozenset(), accepts_any=True)),
        ("def compute(config): pass", ComputeSignature(("config",), frozenset(), whole_config=True)),
        ("def compute(): pass", ComputeSignature((), frozenset())),
    ],
)
def test_text_and_function_tell_the_same(source: str, expected: ComputeSignature) -> None:
    """Every form of definition is read without running it, as Python itself would tell it."""
    assert read(source) == expected
    names: dict[str, object] = {}
    exec(source, names)
    function = names["compute"]
    assert callable(function)
    assert signature_of(function) == expected


@pytest.mark.parametrize(
    "source",
    [
        "from x import compute",
        "from x import train as compute",
        "compute = functools.partial(train, 1)",
        "compute, other = make()",
        "compute: object = make()",
        "for compute in jobs: pass",
        "with make() as compute: pass",
        "class compute:\n    def __call__(self): pass",
        "from x import *",
        "get_ipython().run_line_magic('run', 'train.py')",
    ],
)
def test_what_cannot_be_read_accepts_anything(source: str) -> None:
    """A `compute` that comes from elsewhere is known only once MAIN is loaded."""
    assert read(source) == ComputeSignature((), frozenset(), accepts_any=True)


def test_the_last_definition_wins() -> None:
    """Cells run in order, and a definition inside `if` or `try` at the top of a cell counts."""
    signature = read("def compute(a): pass", "try:\n    def compute(b): pass\nexcept ImportError:\n    pass", "x = 1")
    assert signature is not None
    assert signature.names == ("b",)
    assert read("def compute(a): pass", "from x import compute") == ComputeSignature((), frozenset(), accepts_any=True)
    assert read("from x import *", "def compute(a): pass") == ComputeSignature(("a",), frozenset({"a"}))


@pytest.mark.parametrize(
    "source", ["x = 1", "def f():\n    def compute(a): pass", "class A:\n    def compute(self): pass"]
)
def test_a_compute_out_of_reach_is_none(source: str) -> None:
    """A function's or a class's own `compute` is not the notebook's."""
    assert read(source) is None


def test_arguments_by_position_only_are_refused() -> None:
    """raycolab binds by name: `/` is named as what to remove."""
    with pytest.raises(MainError, match=r"takes `model`, `dataset` by position only.*remove the `/`"):
        read("def compute(model, dataset, /, C): pass")
    with pytest.raises(MainError, match="by position only"):
        signature_of(eval("lambda a, /: a"))


def test_a_signature_python_cannot_tell_accepts_anything() -> None:
    """Some callables written in C have none."""
    assert signature_of(max).accepts_any


def test_a_wrapped_function_keeps_its_signature() -> None:
    """A decorator with functools.wraps is looked through."""

    def plain(model: str, C: float) -> float:  # noqa: N803  # as sweeps name it
        return C

    @functools.wraps(plain)
    def wrapper(*args: object, **params: object) -> object:
        return plain(*args, **params)  # type: ignore[arg-type]

    assert signature_of(wrapper).names == ("model", "C")


SUPPLIES = """
import functools
def with_data(function):
    {wraps}
    def wrapper(*args, **kwargs):
        return function({first}*args, **kwargs)
    return wrapper
@with_data
def compute({parameters}):
    return {result}
"""


@pytest.mark.parametrize("wraps", ["@functools.wraps(function)", ""])
@pytest.mark.parametrize(
    ("first", "parameters", "result"),
    [
        ("[1, 2], ", "data, C", "C * len(data)"),
        ("[1, 2], ", "data, /, C", "C * len(data)"),
        ("[1, 2], ", "data, config", "config['C'] * len(data)"),
        ("[1, 2], ", "data, model, C", "C * len(data) * (model == 'svc')"),
        ("", "C, *, rest=0, data=(1, 2)", "C * len(data)"),
        ("", "dataset, **params", "params['C'] * len(dataset) / 2"),
    ],
)
def test_compute_behind_a_decorator_that_supplies_an_argument(
    load: Load, wraps: str, first: str, parameters: str, result: str
) -> None:
    """It is not asked of the sweep, what compute itself takes is given, and a sweep of this space is accepted."""
    cell = SUPPLIES.format(wraps=wraps, first=first, parameters=parameters, result=result)
    spec = SweepSpec.from_arguments("s", parameters={"C": [1, 2]}, metric="accuracy")
    written = read(cell)
    assert written is not None
    check_fits(spec, written)
    runtime = load(cell)
    runtime.setup()
    outcome = runtime.compute("svc", "ab12", {"C": 3}, ACCURACY)
    assert (outcome.failure, outcome.metrics) == (None, {"accuracy": 6})


def test_a_decorator_counts_by_what_it_takes_itself(load: Load) -> None:
    """What it turns away never reaches compute, whatever compute takes; one that changes nothing is looked through."""
    runtime = load(
        "def for_all(function):\n    return lambda C: function('m', 'd', C)\n"
        "@for_all\ndef compute(model, dataset, C):\n    return C"
    )
    runtime.setup()
    assert runtime.compute("svc", "iris", {"C": 2}, ACCURACY).metrics == {"accuracy": 2}
    runtime = load("import functools\n@functools.cache\ndef compute(C):\n    return C")
    runtime.setup()
    assert runtime.compute("svc", "iris", {"C": 2}, ACCURACY).metrics == {"accuracy": 2}
    same = "@(lambda function: function)\ndef compute(a): pass"
    written = read(same)
    assert written == ComputeSignature(("a",), frozenset(), is_decorated=True)
    names: dict[str, Any] = {}
    exec(same, names)
    assert signature_of(names["compute"], written) == ComputeSignature(("a",), frozenset({"a"}))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def compute(model, C, opt): pass", {"model": "m", "C": 1, "opt": {"lr": 2}}),
        ("def compute(C, opt): pass", {"C": 1, "opt": {"lr": 2}}),
        ("def compute(dataset, **p): pass", {"model": "m", "dataset": "d", "C": 1, "opt": {"lr": 2}}),
        ("def compute(config): pass", {"config": {"model": "m", "dataset": "d", "C": 1, "opt": {"lr": 2}}}),
        ("def compute(model, config): pass", {"model": "m", "config": {"dataset": "d", "C": 1, "opt": {"lr": 2}}}),
        ("def compute(config, C): pass", {"C": 1, "config": {"model": "m", "dataset": "d", "C": 1, "opt": {"lr": 2}}}),
    ],
)
def test_arguments_are_bound_by_name(source: str, expected: dict[str, object]) -> None:
    """model and dataset where asked for, parameters always, nested names nested, or all of it as one dict."""
    signature = read(source)
    assert signature is not None
    assert signature.arguments("m", "d", {"C": 1, "opt/lr": 2}) == expected


def test_a_parameter_named_model_is_the_configurations() -> None:
    """Where a sweep has no models it may have a parameter of that name."""
    for source in ("def compute(model, x): ...", "def compute(**anything): ...", "def compute(config): ..."):
        signature = read_signature([ast.parse(source)])
        assert signature is not None
        given = signature.arguments("default", "d", {"model": "vit", "x": 1})
        assert given.get("config", given)["model"] == "vit"  # type: ignore[index]


def test_a_list_is_the_trials_own() -> None:
    """What compute does to it is nothing to the next trial, nor to the row."""
    signature = read_signature([ast.parse("def compute(h): ...")])
    assert signature is not None
    config: dict[str, Any] = {"h": [1, {"a": 2}]}
    signature.arguments("m", "d", config)["h"].append(3)  # type: ignore[attr-defined]
    assert config == {"h": [1, {"a": 2}]}


def test_a_parameter_named_config_is_bound_as_any_other() -> None:
    """Where the space has a `config` of its own, `compute` gets that one."""
    signature = read("def compute(config): pass")
    assert signature is not None
    assert signature.arguments("m", "d", {"config/a": 1}) == {"config": {"a": 1}}


_PARTS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join)


@given(st.dictionaries(_PARTS, st.none() | st.integers() | st.text(max_size=3)))
def test_nesting_loses_nothing(config: dict[str, Scalar]) -> None:
    """Flattening what `nested` made gives the configuration back, unless one name is inside another."""
    clash = any(other.startswith(f"{name}/") for name in config for other in config)
    if clash:
        return
    flat: dict[str, object] = {}

    def flatten(prefix: str, value: object) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                flatten(f"{prefix}/{name}" if prefix else name, inner)
        else:
            flat[prefix] = value

    flatten("", nested(config))
    assert flat == dict(config)


def test_a_name_with_a_value_and_names_inside_it_is_refused() -> None:
    """`a` and `a/b` cannot both be given."""
    with pytest.raises(ValueError, match="'a' a value and also 'a/b'"):
        nested({"a": 1, "a/b": 2})


# --- reports --------------------------------------------------------------------------------------------------------

TRAIN = """
import raycolab
def compute(model, dataset, steps):
    for step in range(steps):
        raycolab.report(step, step / 10)
    return 1.0
"""


def test_by_hand_it_does_nothing() -> None:
    """MAIN runs outside of a sweep as it is."""
    assert raycolab.report is report
    report(0, 0.5)


def test_a_sweep_hears_each_step() -> None:
    """Whole steps, and numbers of whatever kind as floats; the last value is remembered."""
    told: list[tuple[int, float]] = []

    def sink(step: int, value: float) -> bool:
        told.append((step, value))
        return False

    with reporting(sink) as last:
        assert last() is None
        report(0, 1)
        report(np.int64(1), np.float32(0.5))  # type: ignore[arg-type]
        report(2, math.inf)
        assert last() == math.inf
    report(3, 0.0)
    assert told == [(0, 1.0), (1, 0.5), (2, math.inf)]


@pytest.mark.parametrize(
    ("step", "value", "words"),
    [
        (-1, 0.5, "a whole number from 0 to"),
        (0.5, 0.5, "whole number"),
        (0, "good", "one number"),
        (0, [1.0], "one number"),
    ],
)
def test_what_is_no_number_is_said_also_by_hand(step: object, value: object, words: str) -> None:
    """A mistake shows where the notebook is written, not on a worker."""
    with pytest.raises(TypeError, match=words):
        report(step, value)  # type: ignore[arg-type]


def test_a_trial_that_is_pruned_ends_at_its_report(load: Load) -> None:
    """PRUNED, with the value it reported last, and no failure; the next trial starts afresh."""
    runtime = load(TRAIN)
    runtime.setup()
    outcome = runtime.compute("m", "d", {"steps": 9}, ACCURACY, sink=lambda step, value: step == 3)
    assert (outcome.state, outcome.metrics, outcome.failure) == (TrialState.PRUNED, {"accuracy": 0.3}, None)
    outcome = runtime.compute("m", "d", {"steps": 9}, ACCURACY, sink=lambda step, value: False)
    assert (outcome.state, outcome.metrics) == (TrialState.COMPLETE, {"accuracy": 1.0})


def test_code_that_brings_optuna_s_exception_is_pruned_too(load: Load) -> None:
    """As objectives written for Optuna raise it by themselves; without a report there is no value."""
    runtime = load("import optuna\ndef compute(model, dataset):\n    raise optuna.TrialPruned()\n")
    runtime.setup()
    outcome = runtime.compute("m", "d", {}, ACCURACY)
    assert (outcome.state, outcome.metrics) == (TrialState.PRUNED, {})
    assert is_pruned(TrialPruned())
    assert not is_pruned(ValueError())


# --- metrics ---------------------------------------------------------------------------------------------------------


class ZeroDimensional:
    """What a 0-d tensor of another framework looks like: no `item`, but `numpy()`."""

    shape = ()

    def numpy(self) -> object:
        """As numpy's scalar."""
        return np.float32(0.5)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 1),
        (0.5, 0.5),
        (True, True),
        (np.float64(0.5), 0.5),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array(0.5), 0.5),
        (ZeroDimensional(), 0.5),
        (fractions.Fraction(1, 2), 0.5),
        (decimal.Decimal("0.5"), 0.5),
        (math.inf, math.inf),
        (10**300, 10**300),
        (enum.IntEnum("Level", ["LOW"]).LOW, 1),  # type: ignore[attr-defined]
    ],
)
def test_a_number_of_any_kind_is_the_metric(value: object, expected: float) -> None:
    """Python's, numpy's and 0-d tensors' numbers become plain ones."""
    metrics = metrics_of(value, ACCURACY)
    assert metrics == {"accuracy": expected}
    assert type(metrics["accuracy"]) is type(expected)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_number_that_no_float_holds_is_infinite(sign: int) -> None:
    """As the metric, beside it, of any kind and in a report: what reads it later has nothing to stumble over."""
    huge = sign * 10**400
    side = {"side": huge, "exact": fractions.Fraction(huge), "decimal": decimal.Decimal(huge), "boxed": np.array(huge)}
    metrics = metrics_of({"accuracy": huge, **side}, ACCURACY)
    assert metrics == dict.fromkeys(("accuracy", *side), sign * math.inf)
    assert metrics_of(huge, ACCURACY) == {"accuracy": sign * math.inf}
    with reporting(lambda step, value: False) as last:
        report(0, huge)
        assert last() == sign * math.inf


def test_nothing_of_mains_own_classes_leaves_compute() -> None:
    """A string enumeration as a value and as a key: plain text of exactly that type."""
    status = enum.StrEnum("Status", ["OK"])
    metrics = metrics_of({"accuracy": 1.0, status.OK: status.OK}, ACCURACY)  # type: ignore[attr-defined]
    assert metrics == {"accuracy": 1.0, "ok": "ok"}
    assert [type(each) for pair in metrics.items() for each in pair] == [str, float, str, str]


def test_nan_is_a_number() -> None:
    """A diverged model is a result."""
    (value,) = metrics_of(np.float32("nan"), ACCURACY).values()
    assert isinstance(value, float)
    assert math.isnan(value)


def test_a_dict_holds_the_metric_among_side_values() -> None:
    """Numbers, texts and None beside the metric are kept, as plain scalars, in any mapping."""
    given = {"accuracy": np.float64(0.5), "epochs": np.int32(3), "note": np.str_("ok"), "best": None}
    expected = {"accuracy": 0.5, "epochs": 3, "note": "ok", "best": None}
    assert metrics_of(given, ACCURACY) == expected
    assert metrics_of(types.MappingProxyType(given), ACCURACY) == expected


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (None, "compute returned None; return the number 'accuracy', or a dict of numbers that has it."),
        ("0.5", "compute returned the text '0.5'; return"),
        (np.zeros(3), r"compute returned a numpy.ndarray of shape \(3,\); return"),
        (np.zeros(1), r"of shape \(1,\)"),
        ([0.5], "compute returned a list of length 1; return"),
        ((0.5, 0.1), "compute returned a tuple of length 2; return"),
        (1 + 2j, "compute returned a complex; return"),
        (object(), "compute returned an object; return"),
        ({}, r"compute returned a dict without 'accuracy' \(it has nothing\); return"),
        ({"loss": 1}, r"without 'accuracy' \(it has 'loss'\); return"),
        ({"accuracy": None}, "compute returned None as 'accuracy'; return"),
        ({"accuracy": "high"}, "compute returned the text 'high' as 'accuracy'; return"),
        ({"accuracy": [1]}, "compute returned a list of length 1 as 'accuracy'; return"),
        ({"accuracy": 1, "curve": np.zeros(2)}, r"a numpy.ndarray of shape \(2,\) as 'curve'; return .* one number"),
        ({"accuracy": 1, 2: 3}, "a dict with the key 2; return .* keys being strings"),
    ],
)
def test_anything_else_is_a_sentence(value: object, sentence: str) -> None:
    """What came back is named, and what to return."""
    with pytest.raises(BadReturnError, match=sentence):
        metrics_of(value, ACCURACY)
