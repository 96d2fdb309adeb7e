"""Optuna's pruners have names, and their options are checked with a sentence."""

from __future__ import annotations

import sys
import warnings

import optuna
import pytest

from raycolab.search.pruners import PrunerError, checked, make_pruner, pruner_names, remembers
from raycolab.spec.pruners import EarlyStop


def test_every_pruner_of_optuna_has_a_name() -> None:
    """In lower case, words joined; the base class is none."""
    assert {*pruner_names()} >= {"median", "percentile", "hyperband", "successive_halving", "threshold", "patient"}
    assert {*pruner_names()} >= {"wilcoxon", "nop"}
    assert "base" not in pruner_names()


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
    assert repr(checked(EarlyStop("median", given))) == repr(EarlyStop("median", made))


@pytest.mark.parametrize(
    ("early_stop", "option", "sentence"),
    [
        (
            EarlyStop("medain"),
            None,
            "there is no pruner 'medain' (did you mean 'median'?); pruners are hyperband, median, ",
        ),
        (
            EarlyStop("median", {"n_warmup": 3}),
            "n_warmup",
            "pruner median has no option 'n_warmup' (did you mean 'n_warmup_steps'?); its options are "
            "n_startup_trials, n_warmup_steps, interval_steps, n_min_trials",
        ),
        (EarlyStop("nop", {"a": 3}), "a", "pruner nop has no option 'a'; it has none"),
        (EarlyStop("percentile"), None, "pruner percentile needs the option percentile; add it"),
        (EarlyStop("percentile", {"percentile": 101}), None, "percentile: "),
        (EarlyStop("threshold"), None, "threshold: Either lower or upper must be specified"),
        (
            EarlyStop("median", {"n_warmup_steps": 2.5}),
            "n_warmup_steps",
            "pruner median: n_warmup_steps is a whole number, not 2.5",
        ),
        (
            EarlyStop("median", {"n_warmup_steps": True}),
            "n_warmup_steps",
            "pruner median: n_warmup_steps is a whole number, not True",
        ),
        (
            EarlyStop("hyperband", {"max_resource": "all"}),
            "max_resource",
            "pruner hyperband: max_resource is a whole number or \"auto\", not 'all'",
        ),
        (EarlyStop("threshold", {"upper": "x"}), "upper", "pruner threshold: upper is a number, not 'x'"),
        (
            EarlyStop("patient", {"patience": 1, "wrapped_pruner": 3}),
            "wrapped_pruner",
            "pruner patient: wrapped_pruner is the name of a pruner, not 3",
        ),
        (EarlyStop("patient", {"patience": 1, "wrapped_pruner": "x"}), None, "there is no pruner 'x'; pruners are "),
    ],
    ids=str,
)
def test_what_cannot_be_made(early_stop: EarlyStop, option: str | None, sentence: str) -> None:
    """The option where there is one, what is wrong, and what there is."""
    with pytest.raises(PrunerError) as caught:
        checked(early_stop)
    assert str(caught.value).startswith(sentence)
    assert caught.value.option == option
    assert caught.value.exit_code == 2


def test_a_pruner_whose_library_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Optuna would ask for it in the middle of the sweep."""
    monkeypatch.setitem(sys.modules, "scipy", None)  # Python's own way to say that there is none
    with pytest.raises(PrunerError) as caught:
        checked(EarlyStop("wilcoxon", {"p_threshold": 0.1}))
    assert str(caught.value) == (
        "wilcoxon needs scipy, which is not installed here; `pip install scipy`, or take median"
    )


def test_which_pruners_remember() -> None:
    """Those whose rungs are noted when they are asked, also when wrapped."""
    kinds = [EarlyStop(kind) for kind in ("median", "hyperband", "successive_halving", "patient")]
    assert [remembers(kind) for kind in kinds] == [False, True, True, False]
    assert remembers(EarlyStop("patient", {"patience": 1, "wrapped_pruner": "hyperband"}))
