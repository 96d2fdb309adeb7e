"""Sweep files shaped after what people have: taken, taken with a note, or refused with all reasons at once.

What is said of each is said of the same keys in a call, `declare("sweep", **config)`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import raycolab
from raycolab.errors import SpaceError, SweepFileError
from raycolab.spec.domains import Beta, Choice, Constant, Domain, Float, GridSearch, Integer, Normal
from raycolab.spec.file import load_sweep_file
from raycolab.spec.keys import fields_of
from raycolab.spec.resources import resources_json
from raycolab.spec.spec import SweepSpec
from raycolab.spec.values import ArgumentError
from raycolab.spec.yaml_text import read_yaml
from tests.raycolab.spec.spaces import domains

_W = "program: train.ipynb\nmethod: random\n"
_NOT_USED = "not used, for they are W&B's: "

# A file, the note or "", and its parameters as they are told.
_TAKEN: dict[str, tuple[str, str, dict[str, str]]] = {
    "the example of W&B's documents": (
        "program: train.ipynb\nname: sweepdemo\nmethod: bayes\nmetric:\n  goal: minimize\n  name: validation_loss\n"
        "parameters:\n  learning_rate:\n    min: 0.0001\n    max: 0.1\n  batch_size:\n    values: [16, 32, 64]\n"
        "  epochs:\n    values: [5, 10, 15]\n  optimizer:\n    values: [adam, sgd]\n",
        "",
        {
            "learning_rate": "uniform(0.0001, 0.1)",
            "batch_size": "[16, 32, 64]",
            "epochs": "[5, 10, 15]",
            "optimizer": "['adam', 'sgd']",
        },
    ),
    "project and entity": (
        f"{_W}project: p\nentity: me\nparameters: {{x: {{value: 1}}}}\n",
        "project, entity",
        {"x": "1"},
    ),
    "a description": (f"{_W}description: |\n  a first try\n  of two lines\n", "description", {}),
    "a plain command": (
        f"{_W}command:\n  - ${{env}}\n  - ${{interpreter}}\n  - ${{program}}\n  - ${{args}}\n",
        "command",
        {},
    ),
    "a command of python3": (f"{_W}command: [python3, train.py, '${{args_no_hyphens}}']\n", "command", {}),
    "a local controller": (f"{_W}controller: {{type: local}}\n", "controller", {}),
    "Launch's keys": (
        f"{_W}job: me/p/job:v3\nscheduler:\n  job: me/p/s:latest\n  num_workers: 8\n  resource: local-process\n",
        "job, scheduler",
        {},
    ),
    "an image": (f"{_W}image_uri: repo/image:1\napiVersion: v1\nkind: sweep\n", "image_uri, apiVersion, kind", {}),
    "impute without bayes": (f"{_W}metric: {{name: loss, impute: worst}}\n", "metric.impute", {}),
    "run_cap": (f"{_W}run_cap: 20\nparameters: {{x: {{values: [1, 2]}}}}\n", "", {"x": "[1, 2]"}),
    "hyperband by max_iter": (f"{_W}early_terminate: {{type: hyperband, max_iter: 27, s: 2}}\n", "", {}),
    "hyperband by min_iter, not strict": (
        f"{_W}early_terminate:\n  type: hyperband\n  min_iter: 3\n  eta: 1.5\n  strict: false\n",
        "",
        {},
    ),
    "nested parameters": (
        f"{_W}parameters:\n  optimizer:\n    parameters:\n      name: {{values: [adam, sgd]}}\n      inner:\n"
        "        parameters:\n          lr: {min: 0.0, max: 1.0}\n",
        "",
        {"optimizer/name": "['adam', 'sgd']", "optimizer/inner/lr": "uniform(0.0, 1.0)"},
    ),
    "nested without parameters": (
        f"{_W}parameters:\n  opt: {{lr: 0.1, name: [a, b]}}\n",
        "",
        {"opt/lr": "0.1", "opt/name": "['a', 'b']"},
    ),
    "dotted names": (f"{_W}parameters:\n  model.lr: {{value: 0.1}}\n", "", {"model.lr": "0.1"}),
    "names with hyphens": (f"{_W}parameters:\n  batch-size: {{values: [1, 2]}}\n", "", {"batch-size": "[1, 2]"}),
    "lambda": (f"{_W}parameters:\n  lambda: {{min: 0.0, max: 1.0}}\n", "", {"lambda": "uniform(0.0, 1.0)"}),
    "a parameter called model": (
        f"{_W}parameters:\n  model: {{values: [resnet, vit]}}\n",
        "",
        {"model": "['resnet', 'vit']"},
    ),
    "a parameter called dataset": (f"{_W}parameters:\n  dataset: {{value: cifar}}\n", "", {"dataset": "'cifar'"}),
    "values that are lists": (
        f"{_W}parameters:\n  hidden: {{values: [[64, 32], [128]]}}\n  betas: {{value: [0.9, 0.999]}}\n",
        "",
        {"hidden": "[[64, 32], [128]]", "betas": "[0.9, 0.999]"},
    ),
    "values that are mappings": (
        f"{_W}parameters:\n  aug: {{values: [{{flip: true}}, {{}}]}}\n  loss: {{value: {{name: ce, w: 1}}}}\n",
        "",
        {"aug": "[{'flip': True}, {}]", "loss": "{'name': 'ce', 'w': 1}"},
    ),
    "exponents": (
        f"{_W}parameters:\n  lr: {{distribution: log_uniform, min: -9, max: -2}}\n",
        "",
        {"lr": "loguniform(0.00012340980408667956, 0.1353352832366127)"},
    ),
    "exponents above 0": (
        f"{_W}parameters:\n  n: {{distribution: log_uniform, min: 0.5, max: 3}}\n",
        "",
        {"n": "loguniform(1.6487212707001282, 20.085536923187668)"},
    ),
    "steps off the bounds": (
        f"{_W}parameters:\n  x: {{distribution: q_uniform, min: 0.1, max: 0.9, q: 0.25}}\n",
        "",
        {"x": "q_uniform(0.1, 0.9, 0.25)"},
    ),
    "a grid of q_uniform": (
        "program: train.ipynb\nmethod: grid\nparameters:\n  x: {distribution: q_uniform, min: 0, max: 1, q: 0.5}\n",
        "",
        {"x": "[0.0, 0.5]"},
    ),
    "weights": (
        f"{_W}parameters:\n  x: {{values: [1, 2], probabilities: [0.3, 0.7]}}\n",
        "",
        {"x": "[1, 2] with probabilities [0.3, 0.7]"},
    ),
    "1e-3 is a number": (f"{_W}parameters:\n  lr: {{min: 1e-5, max: 1e-1}}\n", "", {"lr": "uniform(1e-05, 0.1)"}),
    "true, null and quoted words": (
        f"{_W}parameters:\n  a: {{values: [true, false, null]}}\n  b: {{values: ['yes', 'no', 'on']}}\n",
        "",
        {"a": "[True, False, None]", "b": "['yes', 'no', 'on']"},
    ),
    "ratios are text": (
        f"{_W}parameters:\n  ratio: {{values: ['64:32', '128:64', 1:a]}}\n",
        "",
        {"ratio": "['64:32', '128:64', '1:a']"},
    ),
    "octal and hexadecimal": (f"{_W}parameters:\n  n: {{values: [0o10, 0x10]}}\n", "", {"n": "[8, 16]"}),
    "anchors": (
        f"{_W}parameters:\n  a: &range\n    min: 0.0\n    max: 1.0\n  b: *range\n  c:\n    <<: *range\n    max: 2.0\n",
        "",
        {"a": "uniform(0.0, 1.0)", "b": "uniform(0.0, 1.0)", "c": "uniform(0.0, 2.0)"},
    ),
    "JSON": (
        '{"program": "train.ipynb", "method": "grid",\n\t"parameters": {"x": {"values": ["\\ud83d\\ude00", 1e3]}}}',
        "",
        {"x": "['😀', 1000.0]"},
    ),
    "a byte order mark": (f"\ufeff{_W}parameters: {{x: {{value: 1}}}}\n", "", {"x": "1"}),
    "lines that end in CR LF": (
        f"{_W}parameters:\n  x:\n    values:\n      - 1\n      - 2\n".replace("\n", "\r\n"),
        "",
        {"x": "[1, 2]"},
    ),
    "a document's marks": (f"---\n{_W}# a comment\nparameters: {{x: 3}}\n...\n", "", {"x": "3"}),
    "ours": (
        "main: M.ipynb\nmodels: {svc: {C: {min: 0.1, max: 1.0}}, dummy: }\ndatasets: [iris]\n"
        "metric: {name: a, goal: maximize}\n",
        "",
        {"C": "uniform(0.1, 1.0)"},
    ),
    "what W&B has no word for": (
        "main: M.ipynb\nparameters:\n  a: {distribution: integer, min: 1, max: 64, log: true}\n"
        "  b: {distribution: float, min: 0.1, max: 0.5, step: 0.2}\n  c: {distribution: grid_search, values: [1, 2]}\n",
        "",
        {"a": "lograndint(1, 65)", "b": "quniform(0.1, 0.5, 0.2)", "c": "grid_search([1, 2])"},
    ),
    "an explicit null": ("main: M.ipynb\nparameters: {x: null, y: [~, 1]}\n", "", {"x": "None", "y": "[None, 1]"}),
}

# A file, and what is refused of it: the line, and what its sentence begins with.
_REFUSED: dict[str, tuple[str, list[tuple[int, str]]]] = {
    "all at once": (
        "program: train.ipynb\nmethod: randm\nmetric:\n  name: acc\n  target: 0.9\n  gaol: maximize\nrun_cap: 0\n"
        "parameters:\n  lr: {min: 0, mx: 1}\n  n: {distribution: q_uniform, min: 0}\n"
        "  p: {values: [1, 2], probabilities: [0.5, 0.6]}\n"
        "epochs: 3\nearly_terminate: {type: medain}\n",
        [
            (2, "unknown method 'randm' (did you mean 'random'?)"),
            (5, "metric.target is W&B's and ends the sweep at a value"),
            (6, "metric has no key 'gaol' (did you mean 'goal'?)"),
            (7, "run_cap is a whole number from 1"),
            (9, "parameter 'lr': unknown key 'mx' (did you mean 'max'?)"),
            (10, "parameter 'n': distribution q_uniform needs the key 'max'; add it"),
            (11, "parameter 'p': the probabilities add up to 1.1, not to 1; correct them"),
            (12, "unknown key 'epochs'"),
            (13, "early_terminate: there is no pruner 'medain' (did you mean 'median'?)"),
        ],
    ),
    "three parameters at once": (
        f"{_W}parameters:\n  lr: {{min: 0, mx: 1}}\n  n: {{distribution: q_uniform, min: 0}}\n"
        "  p: {values: [1, 2], probabilities: [0.5, 0.6]}\n",
        [
            (4, "parameter 'lr': unknown key 'mx' (did you mean 'max'?)"),
            (5, "parameter 'n': distribution q_uniform needs the key 'max'; add it"),
            (6, "parameter 'p': the probabilities add up to 1.1, not to 1; correct them"),
        ],
    ),
    "two models at once": (
        "main: M.ipynb\nmodels:\n  a:\n    x: {min: 3}\n  b:\n    y: {values: 3}\n",
        [
            (4, "the space of model 'a', parameter 'x': 'min' needs 'max' beside it"),
            (6, "the space of model 'b', parameter 'y': values is a list"),
        ],
    ),
    "arguments in a command": (
        f"{_W}command:\n  - python\n  - train.py\n  - --epochs=3\n  - ${{args}}\n",
        [
            (
                3,
                "command is W&B's command line of a script, and raycolab calls compute, which would not get '--ep",
            )
        ],
    ),
    "a target": (
        f"{_W}metric: {{name: a, goal: maximize, target: 0.9}}\n",
        [(3, "metric.target is W&B's and ends the sweep at a value")],
    ),
    "impute with bayes": (
        "program: t.ipynb\nmethod: bayes\nmetric: {name: a, impute: best, impute_while_running: latest}\n",
        [
            (3, "metric.impute is W&B's and gives the search a value"),
            (3, "metric.impute_while_running is W&B's and gives the search a value"),
        ],
    ),
    "several metrics": (f"{_W}metrics: [{{name: a}}, {{name: b}}]\n", [(3, "metrics is W&B's list of several goals")]),
    "a custom method": (
        "program: t.ipynb\nmethod: custom\nscheduler: {engine: optuna, source: s.py}\n",
        [
            (2, "method custom is W&B's"),
            (3, "scheduler is W&B's, and its source would decide what is tried; remove scheduler"),
        ],
    ),
    "Launch's settings": (
        "program: t.ipynb\nscheduler:\n  job: s:latest\n  settings:\n    method: grid\nparameters: {x: [1]}\n",
        [
            (
                2,
                "scheduler is W&B's, and its settings would decide what is tried; write method: grid as a key",
            )
        ],
    ),
    "a scheduler with a method": (
        "program: t.ipynb\nscheduler: {num_workers: 2, method: grid}\n",
        [
            (
                2,
                "scheduler is W&B's, and its method would decide what is tried; write method: grid as a key",
            )
        ],
    ),
    "a shell script": (
        "program: train.sh\nmethod: grid\n",
        [(1, "main 'train.sh' is neither a notebook nor a Python file")],
    ),
    "bounds that look like values": (
        f"{_W}parameters:\n  lr: {{distribution: log_uniform, min: 1e-5, max: 1e-1}}\n",
        [(4, "parameter 'lr': W&B's log_uniform takes exponents")],
    ),
    "a distribution that is missing": (
        f"{_W}parameters:\n  x: {{mu: 0, sigma: 1}}\n",
        [(4, "parameter 'x': 'mu', 'sigma' without a distribution")],
    ),
    "a slip of the pen": (
        f"{_W}parameters:\n  x: {{vals: [1, 2]}}\n",
        [(4, "parameter 'x': unknown key 'vals' (did you mean 'values'?)")],
    ),
    "nothing for a value": (
        f"{_W}parameters:\n  x:\n  y: {{value: }}\n",
        [(4, "x has no value; give it one"), (5, "value has no value; give it one")],
    ),
    "yes and no": (f"{_W}parameters:\n  x: {{values: [yes, no]}}\n", [(4, "W&B's reader takes yes for true")]),
    "a time": (f"{_W}parameters:\n  x: {{value: 1:30}}\n", [(4, "W&B's reader takes 1:30 for 90")]),
    "ratios": (f"{_W}parameters:\n  x: {{values: [64:32, 128:64]}}\n", [(4, "W&B's reader takes 64:32 for 3872")]),
    "a number with zeros before it": (
        f"{_W}parameters:\n  x: {{value: 007}}\n",
        [(4, "007 begins with 0; write 7 for the number")],
    ),
    "a tuple of Python": (
        f"{_W}parameters:\n  x: !!python/tuple [1, 2]\n",
        [(4, "the tag !!python/tuple is not one of YAML's core")],
    ),
    "a key twice": (f"{_W}method: grid\n", [(3, "the key 'method' stands twice, first on line 2")]),
    "hyperband without its end": (
        f"{_W}early_terminate: {{type: hyperband, min_iter: 5, max_iter: 100}}\n",
        [(3, "early_terminate: W&B's hyperband needs s beside max_iter")],
    ),
    "a model's name beside models": (
        "main: M.ipynb\nmodels: [a, b]\nparameters:\n  model: [x]\n",
        [(4, "parameter 'model': raycolab itself passes 'model' to compute")],
    ),
    "a grid over what is continuous": (
        "main: M.ipynb\nmethod: grid\nparameters:\n  x: {min: 0.0, max: 1.0}\n  y: {distribution: normal}\n",
        [(4, "parameter 'x': uniform(0.0, 1.0) is continuous"), (5, "parameter 'y': randn(0.0, 1.0) is continuous")],
    ),
}
# Where YAML itself is wrong there are no keys to call with.
_ONLY_IN_FILES = (
    "nothing for a value",
    "yes and no",
    "a time",
    "ratios",
    "a number with zeros before it",
    "a tuple of Python",
    "a key twice",
)


def test_there_are_sixty() -> None:
    """Or more."""
    assert len(_TAKEN) + len(_REFUSED) >= 60


def _written(folder: Path, text: str) -> Path:
    path = folder / "sweep.yaml"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("name", _TAKEN)
def test_what_is_taken(name: str, tmp_path: Path) -> None:
    """What cannot change a result is named in one line; a call with the same keys is the same sweep."""
    text, note, told = _TAKEN[name]
    file = load_sweep_file(_written(tmp_path, text))
    assert file.notes == ((f"{_NOT_USED}{note}",) if note else ())
    found = {key: str(domain) for space in file.spec.models.values() for key, domain in space.items()}
    assert found == told
    called = SweepSpec.declared({"name": "sweep", **read_yaml(text).data})
    assert (called.spec, called.notes) == (file.spec, file.notes)


@pytest.mark.parametrize("name", _REFUSED)
def test_what_is_refused(name: str, tmp_path: Path) -> None:
    """All of it at once, each with its line; a call with the same keys is refused by the same sentences."""
    text, expected = _REFUSED[name]
    with pytest.raises(SweepFileError) as caught:
        load_sweep_file(_written(tmp_path, text))
    lines = str(caught.value).splitlines()
    assert len(lines) == len(expected), lines
    for line, (number, begins) in zip(lines, expected, strict=True):
        assert line.startswith(f"sweep.yaml line {number}: {begins}"), line
    if name not in _ONLY_IN_FILES:
        with pytest.raises((ArgumentError, SpaceError)) as called:
            raycolab.declare(**{"name": "sweep", **read_yaml(text).data})  # type: ignore[arg-type]
        assert sorted(str(called.value).splitlines()) == sorted(line.split(": ", 1)[1] for line in lines)


def test_what_is_set_to_nothing_is_removed(tmp_path: Path) -> None:
    """As the cure of a refusal says."""
    path = _written(tmp_path, _REFUSED["arguments in a command"][0] + "description: a try\n")
    file = load_sweep_file(path, ["command=", "description="])
    assert file.notes == ()


def _text(value: object) -> str:
    """A value as YAML."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(key)}: {_text(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, float) and abs(value) == float("inf"):
        return ".inf" if value > 0 else "-.inf"
    return json.dumps(value)


def _form(domain: Domain) -> dict[str, Any]:
    """A domain as a sweep file has it."""
    match domain:
        case Constant(value):
            return {"value": value}
        case Choice(values, None):
            return {"values": list(values)}
        case Choice(values, probabilities):
            return {"values": list(values), "probabilities": probabilities}
        case GridSearch(values):
            return {"distribution": "grid_search", "values": list(values)}
        case Float(low, high, log, step, law):
            return {"distribution": "float", "min": low, "max": high, "log": log, "step": step, "law": law}
        case Integer(low, high, log, step, law):
            return {"distribution": "integer", "min": low, "max": high, "log": log, "step": step, "law": law}
        case Normal(mean, sd, log, step):
            law, numbers = "log_normal" if log else "normal", {"mu": mean, "sigma": sd}
        case Beta(a, b, step):
            law, numbers = "beta", {"a": a, "b": b}
    stepped = {"distribution": f"q_{law}", "q": step} if step is not None else {"distribution": law}
    return {**stepped, **numbers}


def _file(spec: SweepSpec) -> str:
    """A sweep file that says what a spec says."""
    data: dict[str, Any] = {"main": "M.ipynb"}
    for field, key in fields_of(type(spec)).items():
        if (value := getattr(spec, field)) is not None:
            data[key.name] = msgspec.to_builtins(value) if field not in ("models", "resources") else value
    data["models"] = {
        model: {name: _form(domain) for name, domain in space.items()} for model, space in spec.models.items()
    }
    data["resources"] = resources_json(spec.resources)
    if spec.early_stop is not None:
        data["early_terminate"] = {"type": spec.early_stop.kind, **spec.early_stop.options}
    return "".join(f"{key}: {_text(value)}\n" for key, value in data.items())


_specs = st.fixed_dictionaries(
    {
        "models": st.dictionaries(
            st.text("abyn0", min_size=1, max_size=4),
            st.dictionaries(
                st.text("abyn01/", min_size=1, max_size=5).map(lambda name: f"p{name}".rstrip("/")), domains, max_size=3
            ),
            min_size=1,
            max_size=2,
        ),
        "datasets": st.lists(st.sampled_from(["yes", "1e3", "d", "null"]), min_size=1, max_size=2, unique=True),
        "method": st.sampled_from(["random", "bayes"]),
        "metric": st.sampled_from(["acc", "on"]),
        "mode": st.sampled_from(["max", "min"]),
        "seed": st.integers(-(2**70), 2**70),
        "jobs_per_pair": st.integers(1, 9),
    },
    optional={
        "run_cap": st.integers(1, 9),
        "timeout_s": st.floats(0.1, 1e9),
        "resources": st.sampled_from([{"gpus": 0.5}, {"cpus": 2, "memory": "4GB", "fresh_process": True}]),
        "early_terminate": st.sampled_from(["median", "asha", {"type": "hyperband", "min_iter": 3, "eta": 1.5}]),
        "max_failures": st.integers(1, 9),
        "points_to_evaluate": st.just([{}]),
    },
)


@given(_specs)
def test_a_spec_written_as_a_file_is_the_same_spec(
    tmp_path_factory: pytest.TempPathFactory, written: dict[str, Any]
) -> None:
    """Down to the types of its numbers."""
    try:
        spec = SweepSpec.from_arguments("s", **written)
    except ArgumentError:
        return  # such as names that stand in each other's way
    again = load_sweep_file(_written(tmp_path_factory.getbasetemp(), _file(spec))).spec
    assert again.to_json() == spec.to_json()
