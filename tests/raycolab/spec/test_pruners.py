"""Early stopping as declared: a pruner's name, a mapping with its options, W&B's hyperband; all else is refused."""

from __future__ import annotations

import subprocess
import sys
import warnings

import optuna
import pytest

from raycolab.spec.keys import ArgumentError
from raycolab.spec.pruners import EarlyStop, make_pruner, read_early_stop, remembers


def _read(written: object) -> EarlyStop | None:
    return read_early_stop("early_terminate", written, {})


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
    assert _read(written) == meant


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
        ({"type": "median", "a": [1]}, "a", "early_terminate, a: a value of type list cannot be stored in one cell"),
        (
            {"type": "median", "interval_steps": 0},
            "type",
            "early_terminate: median: Pruning interval steps must be at least 1",
        ),
        (
            {"type": "hyperband", "min_iter": 1, "max_resource": 3},
            "max_resource",
            "early_terminate: max_resource cannot be combined with the keys of W&B's hyperband, min_iter, max_iter, s, "
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
        _read(written)
    assert str(caught.value).startswith(sentence)
    assert caught.value.path == (("early_terminate",) if key is None else ("early_terminate", key))


def test_a_pruner_in_words() -> None:
    """What a person reads in a difference."""
    assert str(EarlyStop("percentile", {"percentile": 25, "n_warmup_steps": 2})) == (
        "percentile(n_warmup_steps=2, percentile=25)"
    )
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


def test_a_pruner_is_made_with_its_options_and_without_a_warning() -> None:
    """Optuna calls some experimental, which is no news to who named one."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = make_pruner(EarlyStop("patient", {"patience": 2, "wrapped_pruner": "median"}))
    assert isinstance(found, optuna.pruners.PatientPruner)


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ({"n_warmup_steps": 5.0}, {"n_warmup_steps": 5}),
        ({"n_startup_trials": 3, "n_min_trials": 2}, {"n_startup_trials": 3, "n_min_trials": 2}),
        ({}, {}),
    ],
)
def test_whole_numbers_are_whole(given: dict[str, float], made: dict[str, int]) -> None:
    """As YAML or JSON may not have kept them."""
    assert repr(_read(EarlyStop("median", given))) == repr(EarlyStop("median", made))


@pytest.mark.parametrize(
    ("early_stop", "option", "sentence"),
    [
        (
            EarlyStop("medain"),
            None,
            "there is no pruner 'medain' (did you mean 'median'?); the pruners are hyperband, median, ",
        ),
        (
            EarlyStop("median", {"n_warmup": 3}),
            "n_warmup",
            "pruner median has no option 'n_warmup' (did you mean 'n_warmup_steps'?); its options are "
            "n_startup_trials, n_warmup_steps, interval_steps, n_min_trials",
        ),
        (EarlyStop("nop", {"a": 3}), "a", "pruner nop has no option 'a'; it has none"),
        (EarlyStop("percentile"), None, "percentile: missing a required argument: 'percentile'"),
        (EarlyStop("percentile", {"percentile": 101}), None, "percentile: "),
        (EarlyStop("threshold"), None, "threshold: Either lower or upper must be specified"),
        (
            EarlyStop("median", {"n_warmup_steps": 2.5}),
            "n_warmup_steps",
            "pruner median: n_warmup_steps is a whole number, not 2.5",
        ),
        (
            EarlyStop("hyperband", {"max_resource": "all"}),
            "max_resource",
            "pruner hyperband: max_resource is a whole number or \"auto\", not 'all'",
        ),
        (
            EarlyStop("patient", {"patience": 1, "wrapped_pruner": 3}),
            "wrapped_pruner",
            "pruner patient: wrapped_pruner is the name of a pruner, not 3",
        ),
        (
            EarlyStop("patient", {"patience": 1, "wrapped_pruner": "x"}),
            None,
            "there is no pruner 'x'; the pruners are ",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_made(early_stop: EarlyStop, option: str | None, sentence: str) -> None:
    """The option where there is one, what is wrong, and what there is."""
    with pytest.raises(ArgumentError) as caught:
        _read(early_stop)
    assert str(caught.value).startswith(f"early_terminate: {sentence}")
    assert caught.value.path == ("early_terminate", option or "type")


def test_a_pruner_whose_library_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Optuna would ask for it in the middle of the sweep."""
    monkeypatch.setitem(sys.modules, "scipy", None)  # Python's own way to say that there is none
    with pytest.raises(ArgumentError, match="wilcoxon needs scipy, which is not installed here; `pip install scipy`"):
        _read(EarlyStop("wilcoxon", {"p_threshold": 0.1}))


def test_which_pruners_remember() -> None:
    """Those whose rungs are noted when they are asked, also when wrapped."""
    kinds = [EarlyStop(kind) for kind in ("median", "hyperband", "successive_halving", "patient")]
    assert [remembers(kind) for kind in kinds] == [False, True, True, False]
    assert remembers(EarlyStop("patient", {"patience": 1, "wrapped_pruner": "hyperband"}))
