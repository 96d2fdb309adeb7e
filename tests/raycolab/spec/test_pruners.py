"""Early stopping as declared: a pruner's name, a mapping with its options, W&B's hyperband."""

from __future__ import annotations

import subprocess
import sys
import warnings

import optuna
import pytest

from raycolab.spec.pruners import EarlyStop, make_pruner, read_early_stop, remembers
from raycolab.spec.values import ArgumentError


def _read(written: object) -> EarlyStop | None:
    return read_early_stop("early_terminate", written, {})


def _bands(**options: int | float | bool) -> EarlyStop:
    return EarlyStop("hyperband", {"eta": 3, "strict": True, **options})


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
        ({"type": "hyperband", "min_iter": 4}, _bands(min_iter=4)),
        ({"type": "hyperband", "min_iter": 4, "eta": 1.5, "strict": False}, _bands(min_iter=4, eta=1.5, strict=False)),
        ({"type": "hyperband", "max_iter": 27, "s": 2, "min_iter": 9}, _bands(max_iter=27, s=2)),
        (_bands(min_iter=4), _bands(min_iter=4)),
        ("asha", EarlyStop("successive_halving")),
        ({"type": "asha", "reduction_factor": 3}, EarlyStop("successive_halving", {"reduction_factor": 3})),
    ],
    ids=str,
)
def test_the_forms_of_early_terminate(written: object, meant: EarlyStop | None) -> None:
    """W&B's hyperband has its own options, with its defaults; max_iter goes before min_iter there."""
    assert _read(written) == meant


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


def test_a_pruner_whose_library_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Optuna would ask for it in the middle of the sweep."""
    monkeypatch.setitem(sys.modules, "scipy", None)  # Python's own way to say that there is none
    with pytest.raises(ArgumentError, match="wilcoxon needs scipy, which is not installed here; `pip install scipy`"):
        _read(EarlyStop("wilcoxon", {"p_threshold": 0.1}))


def test_which_pruners_remember() -> None:
    """Those whose rungs are noted when they are asked, also when wrapped."""
    kinds = [EarlyStop(kind) for kind in ("median", "hyperband", "successive_halving", "patient")]
    assert [remembers(kind) for kind in kinds] == [False, True, True, False]
    assert not remembers(_bands(min_iter=1))
    assert remembers(EarlyStop("patient", {"patience": 1, "wrapped_pruner": "hyperband"}))
