"""A declared sweep: defaults, JSON, fingerprint, and whether its space fits `compute`."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycolab.errors import SpaceError
from raycolab.search import enumerate_trials
from raycolab.spec.change import compare
from raycolab.spec.domains import Domain
from raycolab.spec.keys import keys_of
from raycolab.spec.spec import StoredSpecError, SweepSpec, check_fits
from raycolab.spec.values import ArgumentError
from tests.raycolab.spec.spaces import domains, wild_numbers, wild_parameters

_GOLDEN: list[dict[str, Any]] = json.loads(Path(__file__).with_name("golden_sweeps.json").read_text("utf-8"))
# Arguments of a declaration, the way to what is wrong with them, and what the sentence about it begins with.
_REFUSED = json.loads(Path(__file__).with_name("refused_sweeps.json").read_text("utf-8"))
_names = st.text("abcxyz_0", min_size=1, max_size=6)
_spaces = st.dictionaries(_names.map(lambda name: f"p_{name}"), domains, max_size=3)


@pytest.mark.parametrize(
    ("arguments", "jobs"),
    [
        ({}, 10),
        ({"method": "bayes"}, 10),
        ({"method": "bayes", "run_cap": 7}, 7),
        ({"method": "grid"}, None),
        ({"method": "grid", "jobs_per_pair": 4}, 4),
        ({"run_cap": 7}, 7),
        ({"run_cap": 7, "datasets": ["a", "b"]}, 4),
        ({"run_cap": 7, "jobs_per_pair": 2}, 2),
    ],
)
def test_jobs_per_pair_when_it_is_not_said(arguments: dict[str, object], jobs: int | None) -> None:
    """Ten draws, the whole of a grid, or enough for run_cap."""
    assert SweepSpec.from_arguments("s", **arguments).jobs_per_pair == jobs


@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        ({"models": ["a", "b"], "datasets": ["c", "d"], "jobs_per_pair": 3}, 12),
        ({"models": ["a", "b"], "jobs_per_pair": 3, "run_cap": 5}, 5),
        ({"models": {"a": {"x": [1, 2], "y": [1, 2, 3]}, "b": {"x": 1}}, "method": "grid"}, 7),
        ({"models": {"a": {"x": [1, 2], "y": [1, 2, 3]}, "b": {"x": 1}}, "method": "grid", "jobs_per_pair": 4}, 5),
    ],
)
def test_the_size_is_that_of_the_enumeration(arguments: dict[str, object], size: int) -> None:
    """Known without a row being made."""
    spec = SweepSpec.from_arguments("s", **arguments)
    assert spec.size == size == len(enumerate_trials(spec))


@pytest.mark.parametrize(
    ("arguments", "path", "trials"),
    [
        ({"models": ["a", "b"], "jobs_per_pair": 10**6}, "jobs_per_pair", "2,000,000"),
        (
            {"method": "grid", "parameters": {f"p{n}": list(range(10)) for n in range(400)}},
            "method",
            f"1{',000' * 133}".replace("1,", "10,", 1),
        ),
    ],
)
def test_a_sweep_of_more_trials_than_can_be_kept(arguments: dict[str, object], path: str, trials: str) -> None:
    """Is refused at once; run_cap makes it possible."""
    with pytest.raises(ArgumentError) as caught:
        SweepSpec.from_arguments("s", **arguments)
    assert caught.value.path == (path,)
    assert str(caught.value) == (
        f"this sweep has {trials} trials and at most 1,000,000 are possible; lower jobs_per_pair, or set run_cap"
    )
    assert SweepSpec.from_arguments("s", **arguments, run_cap=7).size == 7


@pytest.mark.parametrize(("arguments", "path", "sentence"), _REFUSED)
def test_what_is_refused(arguments: dict[str, object], path: str, sentence: str) -> None:
    """With the way to the value that is wrong, what is wrong with it, and what to do."""
    with pytest.raises(ArgumentError) as caught:
        SweepSpec.from_arguments("s", **arguments)
    assert (".".join(caught.value.path), str(caught.value)[: len(sentence)]) == (path, sentence)
    assert isinstance(caught.value, SpaceError) or not path.startswith("parameters")
    assert caught.value.exit_code == 2


@given(st.dictionaries(_names, _spaces, min_size=1, max_size=3), st.integers(), st.none() | st.floats(0.1, 100))
def test_json_gives_the_same_spec_back(
    models: dict[str, dict[str, Domain]], seed: int, timeout_s: float | None
) -> None:
    """The JSON is canonical: reading and writing it again changes nothing, orders included."""
    spec = SweepSpec.from_arguments("s", models=models, seed=seed, timeout_s=timeout_s)
    again = SweepSpec.from_json(spec.to_json())
    assert again.to_json() == spec.to_json()
    assert again.fingerprint() == spec.fingerprint()
    assert [list(space) for space in again.models.values()] == [list(space) for space in models.values()]


def test_a_spec_of_before_some_keys_is_read() -> None:
    """With the fingerprint it had."""
    plain = SweepSpec.from_arguments("s", parameters={"x": [1]})
    older = {
        key: value
        for key, value in json.loads(plain.to_json()).items()
        if key not in ("points_to_evaluate", "early_stop", "max_failures", "max_concurrent_trials", "time_budget_s")
    }
    assert SweepSpec.from_json(json.dumps(older)) == plain
    assert plain.fingerprint() == "b7f65a1d7314612308f542da5df9616c60e90d4c90728872cec4bd1ebcb9a16c"


def test_the_fingerprint_is_of_the_meaning() -> None:
    """Name and order do not count; every value does."""

    def fingerprint(name: str = "s", **arguments: object) -> str:
        declared: dict[str, object] = {"models": {"a": {"x": 1, "y": 2}, "b": {}}, "datasets": ["d", "e"]}
        return SweepSpec.from_arguments(name, **(declared | arguments)).fingerprint()

    same = fingerprint("other", models={"b": {}, "a": {"y": 2, "x": 1}}, datasets=["e", "d"])
    assert fingerprint() == same
    different = [
        fingerprint(models={"a": {"x": 1, "y": 2.0}, "b": {}}),
        fingerprint(datasets=["d"]),
        fingerprint(jobs_per_pair=11),
        fingerprint(seed=1),
        fingerprint(metric="loss"),
        fingerprint(mode="min"),
        fingerprint(timeout_s=5),
        fingerprint(run_cap=3, jobs_per_pair=10),
        fingerprint(method="bayes"),
        fingerprint(points_to_evaluate=[{"x": 1}]),
        fingerprint(early_terminate="median"),
        fingerprint(max_failures=3),
        fingerprint(max_concurrent_trials=3),
        fingerprint(time_budget_s=3),
        fingerprint(resources={"gpus": 0.5}),
    ]
    assert len({fingerprint(), *different}) == 1 + len(different)


@pytest.mark.parametrize("golden", _GOLDEN, ids=lambda golden: str(golden["name"]))
def test_a_spec_is_stored_as_ever(golden: dict[str, Any]) -> None:
    """Text and fingerprint byte for byte: databases hold them, and a second declaration is held against them.

    `changed` names what had another law before: what is declared today contradicts the stored sweep there alone.
    """
    stored = SweepSpec.from_json(golden["json"])
    assert (stored.to_json(), stored.fingerprint()) == (golden["json"], golden["fingerprint"])
    spec = SweepSpec.from_arguments(golden["name"], **golden["arguments"])
    changed = golden.get("changed", [])
    if not changed:
        assert (spec.to_json(), spec.fingerprint()) == (golden["json"], golden["fingerprint"])
    assert (spec.fingerprint() != golden["fingerprint"]) == bool(changed)
    change = compare(stored, spec)
    assert not change.extends
    assert [line.partition(" was ")[0].split()[-1].strip("'") for line in change.contradictions] == changed


_json_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-3, 3), st.floats(), st.sampled_from(["", "choice", "x", "random"])
    ),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["kind", "low", "x"]), inner, max_size=2)
    ),
    max_leaves=4,
)


_written_values = st.recursive(
    st.none()
    | st.booleans()
    | wild_numbers
    | st.sampled_from(["", "median", "hyperband", "x", "4GB", "default", "grid"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["type", "name", "goal", "x", "cpus", "memory", "default", "s"]), inner, max_size=2
        )
    ),
    max_leaves=4,
)


@given(
    st.dictionaries(st.sampled_from([key.name for key in keys_of(SweepSpec)[2:]]), _written_values, max_size=2),
    st.none() | wild_parameters,
)
def test_whatever_is_given_is_a_spec_or_one_error(arguments: dict[str, object], parameter: object) -> None:
    """No value of any key makes any other, and what is accepted can be stored."""
    space = {} if parameter is None else {"parameters": {"x": parameter}}
    with contextlib.suppress(ArgumentError):
        spec = SweepSpec.from_arguments("s", **(arguments | space))
        assert SweepSpec.from_json(spec.to_json()).to_json() == spec.to_json()


@st.composite
def _damaged(draw: st.DrawFn) -> str:
    """A stored sweep, one value of which is another."""
    data = inner = json.loads(draw(st.sampled_from(_GOLDEN))["json"])
    while True:
        key = draw(st.sampled_from(sorted(inner) if isinstance(inner, dict) else range(len(inner))))
        if not (isinstance(inner[key], dict | list) and inner[key] and draw(st.booleans())):
            inner[key] = draw(_json_values)
            return json.dumps(data)
        inner = inner[key]


@given(_damaged() | st.text(max_size=20))
def test_a_damaged_text_is_a_spec_or_one_error(text: str) -> None:
    """Nothing else comes out of a database, whatever happened to it."""
    with contextlib.suppress(StoredSpecError):
        SweepSpec.from_json(text)


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("seed", "0", "Expected `int`, got `str` - at `$.seed`"),
        ("seed", True, "Expected `int`, got `bool` - at `$.seed`"),
        ("colour", "red", "Object contains unknown field `colour`"),
        ("models", [["m", [["x", {"kind": "flat"}]]]], "Invalid value 'flat' - at `$.models[0][1][0][1].kind`"),
        ("models", [["m", [["x", {"kind": "float", "low": 2, "high": 1}]]]], "uniform(2, 1) needs its low bound below"),
    ],
)
def test_what_a_database_holds_is_read_strictly(key: str, value: object, problem: str) -> None:
    """With the place in the text, and whose turn it is."""
    stored = json.loads(_GOLDEN[0]["json"]) | {key: value}
    with pytest.raises(StoredSpecError) as caught:
        SweepSpec.from_json(json.dumps(stored))
    assert str(caught.value).startswith(f"the database holds a sweep that cannot be read ({problem}")
    assert str(caught.value).endswith("); it is damaged, or a newer raycolab wrote it")


@dataclass(frozen=True)
class _Signature:
    names: tuple[str, ...] = ()
    required: frozenset[str] = frozenset()
    accepts_any: bool = False
    whole_config: bool = False
    is_decorated: bool = False


_SPEC = SweepSpec.from_arguments(
    "s", models={"svc": {"gama": 1, "C": 2}, "net": {"gamma": 1, "C": 2, "opt": {"lr": 3}}}
)


@pytest.mark.parametrize(
    "signature",
    [
        _Signature(accepts_any=True),
        _Signature(("config",), whole_config=True),
        _Signature(("model", "C", "gama", "gamma", "opt", "other"), frozenset({"model", "C"})),
        _Signature(("dataset", "C", "config"), frozenset({"C", "dataset"}), whole_config=True),
    ],
)
def test_a_space_that_fits(signature: _Signature) -> None:
    """Named arguments, any, or one config; model and dataset as it likes; nested names by their first part."""
    check_fits(_SPEC, signature)


def test_a_parameter_that_compute_does_not_take() -> None:
    """Named with its model, a near miss, and both cures."""
    with pytest.raises(SpaceError) as caught:
        check_fits(_SPEC, _Signature(("model", "C", "gamma", "opt")), main="MAIN.ipynb")
    assert str(caught.value) == (
        "compute of MAIN.ipynb has no parameter 'gama' that the space of model 'svc' gives (did you mean 'gamma'?); "
        "rename it in the sweep or add it to compute."
    )
    assert caught.value.exit_code == 2


def test_an_argument_that_no_space_gives() -> None:
    """Named for the model that lacks it, also where compute takes anything else."""
    with pytest.raises(SpaceError) as caught:
        check_fits(_SPEC, _Signature(("opt",), frozenset({"opt"}), accepts_any=True), main="MAIN.ipynb")
    assert str(caught.value) == (
        "compute of MAIN.ipynb needs 'opt', which the space of model 'svc' does not give; "
        "add it to the sweep or give it a default in compute."
    )


def test_every_misfit_has_its_line() -> None:
    """All are told at once; a sweep without models speaks of the sweep."""
    spec = SweepSpec.from_arguments("s", parameters={"a": 1, "config": 2})
    with pytest.raises(SpaceError) as caught:
        check_fits(spec, _Signature(("b", "config"), frozenset({"b"}), whole_config=True))
    assert str(caught.value).splitlines() == [
        "compute of MAIN has no parameter 'a' that the sweep gives; rename it in the sweep or add it to compute.",
        "compute of MAIN needs 'b', which the sweep does not give; "
        "add it to the sweep or give it a default in compute.",
    ]


def test_a_text_with_half_a_character_is_refused() -> None:
    """No file and no database could keep it."""
    with pytest.raises(ArgumentError, match=r"half a character, at the end of '.*caf\\udcff': remove it"):
        SweepSpec.from_arguments("s", models={"svc": {"x": ["caf\udcff"]}})
