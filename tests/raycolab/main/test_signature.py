"""What `compute` takes, read from text and from the function, and how a trial's arguments are bound."""

from __future__ import annotations

import ast
import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycolab.errors import MainError
from raycolab.main.signature import ComputeSignature, nested, read_signature, signature_of
from raycolab.trials import Scalar


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
        ("@decorated\ndef compute(a): pass", ComputeSignature(("a",), frozenset({"a"}))),
    ],
)
def test_text_and_function_tell_the_same(source: str, expected: ComputeSignature) -> None:
    """Every form of definition is read without running it, as Python itself would tell it."""
    assert read(source) == expected
    names: dict[str, object] = {"decorated": lambda function: function}
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
