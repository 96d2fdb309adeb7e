"""Values as columns: what goes in comes out, and is JSON and text that any database takes."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raycolab.store.rows import values_from_texts, values_to_text
from raycolab.trials import Scalar, Value

scalars: st.SearchStrategy[Scalar] = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.sampled_from(["nan", "x"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["float", "b"]), inner, max_size=2),
)


def same(left: Scalar, right: Scalar) -> bool:
    """Equal, of one type, with NaN equal to itself."""
    if isinstance(left, float) and math.isnan(left):
        return isinstance(right, float) and math.isnan(right)
    return left == right and type(left) is type(right)


@given(st.dictionaries(st.text(), scalars))
def test_scalars_round_trip_in_order(values: dict[str, Scalar]) -> None:
    """Any mapping of scalars comes back equal, types, order, NaN and infinities included."""
    found = values_from_texts([values_to_text(values)])[0]
    assert list(found) == list(values)
    assert all(same(values[name], found[name]) for name in values)


@given(st.dictionaries(st.sampled_from(["a", "float"]), values))
@example({"float": 0.5})
@example({"a": {"float": "nan"}, "float": [{"float": {"float": math.inf}}]})
def test_lists_and_dicts_round_trip(written: dict[str, Value]) -> None:
    """As JSON, also what looks like the form of a number that is not finite."""
    assert values_from_texts([values_to_text(written), None]) == [written, None]
    assert list(map(repr, values_from_texts([values_to_text(written)]))) == [repr(written)]


@given(st.lists(st.dictionaries(st.text(), scalars)))
def test_many_are_read_as_one_and_stay_apart(many: list[dict[str, Scalar]]) -> None:
    """As many mappings come back as were written, each its own."""
    found = values_from_texts(values_to_text(values) for values in many)
    assert [values_to_text(values) for values in found] == [values_to_text(values) for values in many]


@pytest.mark.parametrize(
    "text", ["[]", "3", "null", "{", "{},{}", "", '{"a":{"float":"many"}}', '{"a":{"float":{"b":1}}}']
)
def test_a_text_that_is_no_mapping_of_scalars_is_refused(text: str) -> None:
    """Alone and among others, also where all of them together would be JSON."""
    with pytest.raises((ValueError, KeyError)):
        values_from_texts(['{"a":{"float":"nan"}}', text, "{}"])


@given(st.dictionaries(st.text(), scalars))
def test_the_text_is_strict_ascii_json(values: dict[str, Scalar]) -> None:
    """So `jsonb` and `json_extract` read it, and no encoding can refuse it."""

    def refuse(token: str) -> None:
        raise AssertionError(token)

    text = values_to_text(values)
    assert text.isascii()
    json.loads(text, parse_constant=refuse)


def test_what_is_not_finite_is_an_object() -> None:
    """The form is documented: people query it."""
    assert (
        values_to_text({"a": math.nan, "b": -math.inf, "c": 1.0})
        == '{"a":{"float":"nan"},"b":{"float":"-inf"},"c":1.0}'
    )
