"""YAML as data with lines: numbers as people write them, keys once, nothing without an end."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycolab.spec.file import YamlError, read_value, read_yaml


def test_every_key_has_its_line() -> None:
    """At any depth, counted from 1."""
    found = read_yaml("a: 1\nb:\n  c: {d: 2,\n    e: 3}\n")
    assert found.data == {"a": 1, "b": {"c": {"d": 2, "e": 3}}}
    assert found.lines == {("a",): 1, ("b",): 2, ("b", "c"): 3, ("b", "c", "d"): 3, ("b", "c", "e"): 4}


# Nine lines of text that mean a billion values.
LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("-1E5", -1e5),
        ("1.5e3", 1500.0),
        (".5E-1", 0.05),
        ("10", 10),
        ("'1e-3'", "1e-3"),
        ("", None),
        ("[1, a]", [1, "a"]),
    ],
)
def test_a_value_is_what_it_looks_like(text: str, value: object) -> None:
    """1e-3 is a number, although YAML 1.1 reads it as text."""
    found = read_value(text)
    assert (found, type(found)) == (value, type(value))


def test_merge_keys_bring_their_mapping_and_lines() -> None:
    """What a mapping says itself goes before what it merges, and the first merged goes before the second."""
    found = read_yaml("base: &b {x: 1, y: 2}\nother: &o {y: 3, z: 4}\nuse:\n  <<: [*b, *o]\n  x: 9\n")
    assert found.data["use"] == {"x": 9, "y": 2, "z": 4}
    assert found.lines["use", "x"] == 5
    assert found.lines["use", "z"] == 2


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "the key 'a' stands twice, first on line 1; remove one"),
        ("a: 1\n2: 3\n", 2, "the key '2' is not text; put it in quotes"),
        ("? [a]\n: 3\n", 1, "a key is text, not a list or a mapping"),
        ("- a\n", 1, "the file is not a mapping of keys to values; write lines such as method: random"),
        ("", 1, "the file is not a mapping of keys to values; write lines such as method: random"),
        ("a: [1\n", 2, "this is not YAML (expected ',' or ']', but got '<stream end>')"),
        ("models:\n\tsvc:\n", 2, "there is a tab where YAML wants spaces; put spaces in its place"),
        ("a: 1\nb: \x07\n", 2, "this is not YAML (it has a character that text files do not have)"),
        ("a: 1\n--- \nb: 2\n", 2, "this is not YAML (but found another document)"),
        ("a: !!python/object:os.system x\n", 1, "'x' is not a value that can be used here; put it in quotes"),
        ("a: 2026-02-31\n", 1, "'2026-02-31' is not a value that can be used here; put it in quotes"),
        ("a: &x\n  b: *x\n", 1, "this is nested more than 20 levels deep"),
        ("a: &x\n- *x\n- *x\n- *x\n", 1, "this is nested more than 20 levels deep"),
        (LAUGHS, 1, "this holds more than 200,000 values, its aliases written out"),
        ("a:\n  <<: 3\n", 2, "<< takes a mapping, such as *base"),
    ],
)
def test_what_is_refused(text: str, line: int, problem: str) -> None:
    """With its line, and what to do where that is known."""
    with pytest.raises(YamlError) as caught:
        read_yaml(text)
    assert (caught.value.line, caught.value.problem) == (line, problem)


@given(st.text(alphabet=st.sampled_from("ab:- \n[]{}&*!'\"#|>?%@`,1.<"), max_size=40))
def test_any_text_is_a_mapping_or_a_yaml_error(text: str) -> None:
    """Nothing else comes out of a file, whatever is in it."""
    with contextlib.suppress(YamlError):
        assert isinstance(read_yaml(text).data, dict)
