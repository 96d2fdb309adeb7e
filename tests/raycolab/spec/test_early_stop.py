"""Early stopping as declared: a pruner's name, a mapping with its options, W&B's hyperband; all else is refused."""

from __future__ import annotations

import subprocess
import sys

import pytest

from raycolab.spec.keys import ArgumentError
from raycolab.spec.pruners import EarlyStop, read_early_stop


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (None, None),
        ("median", EarlyStop("median")),
        ({"type": "hyperband"}, EarlyStop("hyperband")),
        ({"type": "median", "n_warmup_steps": 5}, EarlyStop("median", {"n_warmup_steps": 5})),
        (EarlyStop("nop"), EarlyStop("nop")),
        (
            {"type": "hyperband", "max_resource": 27, "reduction_factor": 3},
            EarlyStop("hyperband", {"max_resource": 27, "reduction_factor": 3}),
        ),
        (
            {"type": "hyperband", "min_iter": 4},
            EarlyStop("successive_halving", {"min_resource": 4, "reduction_factor": 3}),
        ),
        (
            {"type": "hyperband", "min_iter": 4, "max_iter": 100, "eta": 2.0, "strict": False},
            EarlyStop("successive_halving", {"min_resource": 4, "reduction_factor": 2}),
        ),
        (
            {"type": "hyperband", "max_iter": 27, "s": 2, "eta": 3},
            EarlyStop("successive_halving", {"min_resource": 3, "reduction_factor": 3}),
        ),
        (
            {"type": "hyperband", "max_iter": 10, "s": 9},
            EarlyStop("successive_halving", {"min_resource": 1, "reduction_factor": 3}),
        ),
    ],
    ids=str,
)
def test_the_forms_of_early_terminate(written: object, meant: EarlyStop | None) -> None:
    """W&B's hyperband is one bracket, whose first step is min_iter, or max_iter divided by eta s times."""
    assert read_early_stop(written) == meant


@pytest.mark.parametrize(
    ("written", "key", "sentence"),
    [
        (
            3,
            None,
            "early_terminate is a pruner's name such as median, or a mapping such as "
            "{type: median, n_warmup_steps: 5}, not 3",
        ),
        (
            {"n_warmup_steps": 5},
            None,
            "early_terminate needs the key type; write a pruner's name such as median, or a mapping such as "
            "{type: median, n_warmup_steps: 5}",
        ),
        ({"type": "median", "a": [1]}, "a", "early_terminate, a: a value of type list cannot be stored as one cell"),
        ({"type": "medain"}, "type", "early_terminate: there is no pruner 'medain' (did you mean 'median'?);"),
        (
            {"type": "median", "interval_steps": 0},
            "type",
            "early_terminate: median: Pruning interval steps must be at least 1",
        ),
        (
            {"type": "hyperband", "min_iter": 1, "max_resource": 3},
            "max_resource",
            "early_terminate: max_resource does not stand beside the keys of W&B's hyperband, min_iter, max_iter, s, "
            "eta, strict; remove it, or use the options of Optuna's hyperband alone",
        ),
        ({"type": "hyperband", "min_iter": 0}, "min_iter", "early_terminate: min_iter is at least 1, not 0"),
        (
            {"type": "hyperband", "s": "x", "max_iter": 9},
            "s",
            "early_terminate: s is a whole number, not 'x'",
        ),
        (
            {"type": "hyperband", "s": 1, "max_iter": 2},
            "max_iter",
            "early_terminate: max_iter 2 is less than eta 3, so no trial would ever be stopped; raise it",
        ),
        (
            {"type": "hyperband", "min_iter": 1, "strict": 1},
            "strict",
            "early_terminate: strict is true or false, not 1",
        ),
    ],
    ids=str,
)
def test_what_is_refused(written: object, key: str | None, sentence: str) -> None:
    """With the way to the key."""
    with pytest.raises(ArgumentError) as caught:
        read_early_stop(written)
    assert str(caught.value).startswith(sentence)
    assert caught.value.path == (("early_terminate",) if key is None else ("early_terminate", key))


def test_json_and_text() -> None:
    """What the store keeps, and what a person reads in a difference."""
    early_stop = EarlyStop("percentile", {"percentile": 25, "n_warmup_steps": 2})
    assert EarlyStop.from_json(early_stop.to_json()) == early_stop
    assert str(early_stop) == "percentile(n_warmup_steps=2, percentile=25)"
    assert str(EarlyStop("median")) == "median"


def test_optuna_is_imported_only_for_a_sweep_with_early_stopping() -> None:
    """It is slow to import, and a kernel declares many sweeps."""
    code = (
        "import sys; from raycolab.spec.spec import SweepSpec; from raycolab.search import enumerate_trials;"
        "enumerate_trials(SweepSpec.from_arguments('s', method='bayes')); print('optuna' in sys.modules);"
        "SweepSpec.from_arguments('s', early_terminate='median'); print('optuna' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
