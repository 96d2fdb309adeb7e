"""Sweep files, ours and W&B's: what they declare, and the line and the sentence for what they get wrong."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycolab.errors import SweepFileError
from raycolab.spec.domains import Choice, Constant, Float, Integer
from raycolab.spec.file import SweepFile, load_sweep_file
from raycolab.spec.pruners import EarlyStop
from raycolab.spec.spec import Method
from raycolab.spec.yaml_text import YamlError, read_value, read_yaml
from raycolab.trials import Metric

Load = Callable[..., SweepFile]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Writes a text to sweep.yaml and loads it with the overrides given."""

    def load(text: str, *overrides: str) -> SweepFile:
        path = tmp_path / "sweep.yaml"
        path.write_text(text, encoding="utf-8")
        return load_sweep_file(path, overrides)

    return load


_OURS = """\
name: sample_experiment
main: notebooks/MAIN.ipynb
models:
  svc:
    C: {distribution: log_uniform_values, min: 1e-3, max: 1000.0}
    kernel: [rbf, poly]
  forest:
    max_depth: {min: 2, max: 8}
    opt: {parameters: {lr: 0.1}}
  dummy:
datasets: [iris, wine]
jobs_per_pair: 60
method: random
metric: {name: accuracy, goal: maximize}
seed: 3
timeout_s: 60
resources: {cpus: 1}
"""


def test_a_file_of_ours(load: Load, tmp_path: Path) -> None:
    """Every key, and each form of a parameter; the notebook lies relative to the file."""
    file = load(_OURS)
    spec = file.spec
    assert file.main_path == tmp_path / "notebooks" / "MAIN.ipynb"
    assert (spec.name, spec.datasets, spec.jobs_per_pair, spec.method, spec.metric, spec.seed, spec.timeout_s) == (
        ("sample_experiment", ("iris", "wine"), 60, Method.RANDOM, Metric("accuracy", "max"), 3, 60.0)
    )
    assert spec.models == {
        "svc": {"C": Float(1e-3, 1000.0, log=True), "kernel": Choice(("rbf", "poly"))},
        "forest": {"max_depth": Integer(2, 8), "opt/lr": Constant(0.1)},
        "dummy": {},
    }


_WANDB = """\
program: train.ipynb
method: random
metric:
  name: loss
run_cap: 7
parameters:
  lr: {min: 1e-5, max: 1e-1}
  epochs: {value: 3}
  optimizer:
    parameters:
      name: {values: [adam, sgd]}
"""


def test_a_plain_wandb_file(load: Load, tmp_path: Path) -> None:
    """One pair, run_cap trials, and W&B's default goal; the sweep is called as the file."""
    file = load(_WANDB)
    assert file.main_path == tmp_path / "train.ipynb"
    assert (file.spec.name, file.spec.pairs, file.spec.jobs_per_pair) == ("sweep", (("default", "default"),), 7)
    assert file.spec.metric == Metric("loss", "min")
    assert list(file.spec.models["default"]) == ["lr", "epochs", "optimizer/name"]


def test_a_wandb_file_with_bayes_and_hyperband(load: Load) -> None:
    """The forms of W&B's published schema, and its default goal."""
    stop = "early_terminate:\n  type: hyperband\n  s: 2\n  eta: 3\n  max_iter: 27\n  strict: true\n"
    spec = load(_WANDB.replace("random", "bayes") + stop).spec
    assert (spec.method, spec.run_cap, spec.jobs_per_pair) == (Method.BAYES, 7, 7)
    assert spec.early_stop == EarlyStop("hyperband", {"eta": 3, "strict": True, "s": 2, "max_iter": 27})


def test_the_later_keys_in_a_file_of_ours(load: Load) -> None:
    """Points flat or nested, a pruner by its name, how many failures are enough."""
    more = "max_failures: 5\nearly_terminate: median\npoints_to_evaluate: [{max_depth: 3, opt: {lr: 0.1}}, {C: 1}]\n"
    spec = load(_OURS + more).spec
    assert (spec.max_failures, spec.early_stop) == (5, EarlyStop("median"))
    assert spec.points_to_evaluate == ({"max_depth": 3, "opt/lr": 0.1}, {"C": 1})


def test_a_script_is_refused_and_main_replaces_it(load: Load, tmp_path: Path) -> None:
    """The sentence says how to go on, and what it says works; a Python file may be MAIN."""
    assert load(_WANDB.replace("train.ipynb", "train.py")).main_path == tmp_path / "train.py"
    script = _WANDB.replace("train.ipynb", "train.sh")
    with pytest.raises(SweepFileError) as caught:
        load(script)
    assert str(caught.value) == (
        "sweep.yaml line 1: main 'train.sh' is neither a notebook nor a Python file; raycolab calls its compute, so "
        "put the training into compute of a MAIN.ipynb and name that, or pass --set main=MAIN.ipynb"
    )
    replaced = load(script, "main=MAIN.ipynb")
    assert replaced.main_path == tmp_path / "MAIN.ipynb"
    assert replaced.spec.metric.mode == "min"
    assert load(_OURS, "program=other.ipynb").main_path == tmp_path / "other.ipynb"


def test_overrides_replace_what_the_file_says(load: Load) -> None:
    """YAML values, dotted keys, and other words for the same key."""
    spec = load(
        _OURS,
        "num_samples=5",
        "metric.name=f1",
        "models.svc.C=[1e-3, 1]",
        "datasets=[digits]",
        "seed=",
        "models.forest.opt.parameters.lr=0.2",
    ).spec
    assert (spec.jobs_per_pair, spec.metric, spec.datasets, spec.seed) == (5, Metric("f1", "max"), ("digits",), 0)
    assert spec.models["svc"]["C"] == Choice((0.001, 1))
    assert spec.models["forest"]["opt/lr"] == Constant(0.2)
    assert load(_WANDB, "space.lr=3").spec.models["default"]["lr"] == Constant(3)


_REFUSED = [
    (
        "method: random\n",
        (),
        "sweep.yaml: it names no notebook; add main: MAIN.ipynb, the notebook that defines compute, or pass "
        "--set main=MAIN.ipynb",
    ),
    (
        "main: M.ipynb\nearly_terminate:\n  type: nop\n  patience: 3\n",
        (),
        "sweep.yaml line 4: early_terminate: pruner nop has no option 'patience'; it has none",
    ),
    (
        "main: M.ipynb\nearly_terminate: {type: median}\n",
        ("early_terminate.n_warmup=3",),
        "--set early_terminate.n_warmup=3: early_terminate: pruner median has no option 'n_warmup' (did you mean "
        "'n_warmup_steps'?); its options are n_startup_trials, n_warmup_steps, interval_steps, n_min_trials",
    ),
    (
        "main: M.ipynb\nparameters: {x: [1]}\npoints_to_evaluate:\n  - x: 1\n  - x: 2\n",
        (),
        "sweep.yaml line 5: point 2 of points_to_evaluate: parameter 'x': 2 is none of [1]",
    ),
    (
        "main: M.ipynb\nnum_samples: 0\n",
        (),
        "sweep.yaml line 2: jobs_per_pair is a whole number from 1 to 1,000,000, not 0",
    ),
    (
        "main: M.ipynb\nparameters:\n  lr:\n    min: 0\n    mx: 1\n",
        (),
        "sweep.yaml line 5: parameter 'lr': unknown key 'mx' (did you mean 'max'?); known are distribution, "
        "parameters, value, values, probabilities, min, max, mu, sigma, a, b, q, log, step, law",
    ),
    (
        "main: M.ipynb\nmodels:\n  svc:\n    lr:\n      vals: [3]\n",
        (),
        "sweep.yaml line 5: the space of model 'svc', parameter 'lr': unknown key 'vals' (did you mean 'values'?); "
        "known are distribution, parameters, value, values, probabilities, min, max, mu, sigma, a, b, q, log, step, "
        "law",
    ),
    (
        "main: M.ipynb\n",
        ("jobs_per_pair=0",),
        "--set jobs_per_pair=0: jobs_per_pair is a whole number from 1 to 1,000,000, not 0",
    ),
    ("main: M.ipynb\n", ("seed",), "--set seed: write key=value, with dots for nested keys, as in metric.name=f1"),
    (
        "main: M.ipynb\n",
        ("seed=[1",),
        "--set seed=[1: this is not YAML (expected ',' or ']', but got '<stream end>'); the value is YAML, "
        "quote it if need be",
    ),
    (
        "main: M.ipynb\nparameters:\n  x: [1]\n",
        ("parameters={x: {min: 2, max: 1}}",),
        "--set parameters={x: {min: 2, max: 1}}: parameter 'x': integer(2, 1) has no value: "
        "its low bound is above its high one; swap them",
    ),
    (
        "main: M.ipynb\nmetric: acc\n",
        ("metric.name=f1",),
        "--set metric.name=f1: metric is 'acc' in sweep.yaml, not a mapping; set it as a whole, --set metric=...",
    ),
]


@pytest.mark.parametrize(("text", "overrides", "sentence"), _REFUSED)
def test_what_is_refused(load: Load, text: str, overrides: tuple[str, ...], sentence: str) -> None:
    """The file, the line, the key and the cure; exit code 2."""
    with pytest.raises(SweepFileError) as caught:
        load(text, *overrides)
    assert str(caught.value) == sentence
    assert caught.value.exit_code == 2


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """With the path that was looked at."""
    with pytest.raises(SweepFileError, match=r"there is no sweep file .*nope\.yaml; check the path"):
        load_sweep_file(tmp_path / "nope.yaml")


def test_what_cannot_be_a_sweep_file_is_refused(tmp_path: Path) -> None:
    """A folder, bytes that are not text, a huge file."""
    with pytest.raises(SweepFileError, match="cannot be read: Is a directory"):
        load_sweep_file(tmp_path)
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SweepFileError, match="is not text in UTF-8; is it a sweep file"):
        load_sweep_file(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_bytes(b" " * 1_000_001)
    for endless in (tmp_path / "b.yaml", Path("/dev/zero")):
        with pytest.raises(SweepFileError, match="is larger than 1,000,000 bytes; is it a sweep file"):
            load_sweep_file(endless)


def test_a_sentence_has_an_end(load: Load) -> None:
    """Whatever it quotes."""
    with pytest.raises(SweepFileError) as caught:
        load(f"main: M.ipynb\nmodels: {'x' * 100_000}\n")
    assert str(caught.value).startswith("sweep.yaml line 2: models is a list of names")
    assert len(str(caught.value)) == 600


def test_the_example_is_a_sweep_file() -> None:
    """examples/sweep.yaml is ours and loads."""
    example = Path(__file__).parents[3] / "examples" / "sweep.yaml"
    file = load_sweep_file(example)
    assert file.main_path == example.parent / "MAIN.ipynb"
    assert file.spec.jobs_per_pair == 60


def test_every_key_has_its_line() -> None:
    """At any depth, counted from 1."""
    data, lines, _ = read_yaml("a: 1\nb:\n  c: {d: 2,\n    e: 3}\n")
    assert data == {"a": 1, "b": {"c": {"d": 2, "e": 3}}}
    assert lines == {("a",): 1, ("b",): 2, ("b", "c"): 3, ("b", "c", "d"): 3, ("b", "c", "e"): 4}


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
        ("0o17", 15),
        ("0x1F", 31),
        ("-.inf", -float("inf")),
        ("TRUE", True),
        ("~", None),
        ("'on'", "on"),
        ("2026-02-31", "2026-02-31"),
        ("!!str 3", "3"),
        ("!!float 3", 3.0),
        ('"\\ud83d\\ude00"', "\U0001f600"),
        ("", None),
        ("[1, a]", [1, "a"]),
    ],
)
def test_a_value_is_what_it_looks_like(text: str, value: object) -> None:
    """By YAML 1.2: 1e-3 is a number, a date is text; two escapes of JSON's are one character."""
    found = read_value(text)
    assert (found, type(found)) == (value, type(value))


def test_merge_keys_bring_their_mapping_and_lines() -> None:
    """What a mapping says itself goes before what it merges, and the first merged goes before the second."""
    data, lines, _ = read_yaml("base: &b {x: 1, y: 2}\nother: &o {y: 3, z: 4}\nuse:\n  <<: [*b, *o]\n  x: 9\n")
    assert data["use"] == {"x": 9, "y": 2, "z": 4}
    assert lines["use", "x"] == 5
    assert lines["use", "z"] == 2


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
        *[
            (
                f"a: {tag} {value}\n",
                1,
                f"the tag {tag} is not one of YAML's core; remove it, and write a list that is one value as "
                "{value: [...]}",
            )
            for tag, value in [
                ("!!python/object:os.system", "x"),
                ("!!python/tuple", "[1, 2]"),
                ("!!set", "{a, b}"),
                ("!!timestamp", "2026-02-03"),
                ("!ours", "3"),
            ]
        ],
        ("a: on\n", 1, "W&B's reader takes on for true, YAML 1.2 does not; write true or 'on', as you mean"),
        ("a: [1, No]\n", 1, "W&B's reader takes No for false, YAML 1.2 does not; write false or 'No', as you mean"),
        ("a: 1:30\n", 1, "W&B's reader takes 1:30 for 90, YAML 1.2 does not; write 90 or '1:30', as you mean"),
        ("a: 1_000\n", 1, "W&B's reader takes 1_000 for 1000, YAML 1.2 does not; write 1000 or '1_000', as you mean"),
        ("a: 0b11\n", 1, "W&B's reader takes 0b11 for 3, YAML 1.2 does not; write 3 or '0b11', as you mean"),
        ("a: 007\n", 1, "007 begins with 0; write 7 for the number, '007' for text"),
        ("a: 010\n", 1, "010 begins with 0; write 8 or 10 for the number, '010' for text"),
        ("a: &x\n  b: *x\n", 1, "this is nested more than 20 levels deep"),
        ("a: &x\n- *x\n- *x\n- *x\n", 1, "this is nested more than 20 levels deep"),
        (LAUGHS, 1, "this holds more than 200,000 values, its aliases written out"),
        ("a:\n  <<: 3\n", 2, "<< takes a mapping, such as *base"),
    ],
)
def test_yaml_that_is_refused(text: str, line: int, problem: str) -> None:
    """With its line, and what to do where that is known."""
    with pytest.raises(YamlError) as caught:
        read_yaml(text)
    assert (caught.value.line, caught.value.problem) == (line, problem)


@given(st.text(alphabet=st.sampled_from("ab:- \n[]{}&*!'\"#|>?%@`,1.<"), max_size=40))
def test_any_text_is_a_mapping_or_a_yaml_error(text: str) -> None:
    """Nothing else comes out of a file, whatever is in it."""
    with contextlib.suppress(YamlError):
        assert isinstance(read_yaml(text).data, dict)
