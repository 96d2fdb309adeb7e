"""Early stopping: one of Optuna's pruners by name, with its options, or W&B's hyperband.

`EarlyStop` is a plain value that the store keeps. A pruner is checked by building it when a sweep is declared with one;
nothing else here needs Optuna, which is slow to import. Which trial is pruned, the pruner decides.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import re
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

import msgspec

from raycolab.errors import SpaceError
from raycolab.spec.domains import as_number, as_scalar, as_whole
from raycolab.spec.keys import ArgumentError
from raycolab.text import did_you_mean, listed
from raycolab.trials import Scalar

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

__all__ = ["EarlyStop", "make_pruner", "read_early_stop", "remembers"]

_FORM = "a pruner's name such as median, or a mapping such as {type: median, n_warmup_steps: 5}"
# An option that is a pruner itself: its name here.
_WRAPPED = "wrapped_pruner"
_REMEMBERING = frozenset({"successive_halving", "hyperband"})
_WANDB_KEYS = ("min_iter", "max_iter", "s", "eta", "strict")
# The default of W&B's schema.
_WANDB_ETA = 3

Options = Mapping[str, Scalar]


class EarlyStop(msgspec.Struct, frozen=True):
    """Which of Optuna's pruners ends trials early."""

    # its name in lower case, words joined: median, successive_halving
    kind: str
    # of the pruner, as Optuna calls them
    options: Mapping[str, Scalar] = {}

    def __str__(self) -> str:
        options = listed(f"{name}={json.dumps(value)}" for name, value in sorted(self.options.items()))
        return f"{self.kind}({options})" if options else self.kind


def read_early_stop(key: str, value: object, _: Mapping[str, object]) -> EarlyStop | None:
    """The pruner that is named, its numbers of the types Optuna wants; ArgumentError for one that cannot be built."""
    if value is None:
        return None
    return _built(key, value if isinstance(value, EarlyStop) else _written(key, value))


def make_pruner(early_stop: EarlyStop) -> BasePruner:
    """A new pruner of Optuna's; TypeError or ValueError, in Optuna's words, for one that cannot be built."""
    pruner, options = _classes()[early_stop.kind], dict[str, object](early_stop.options)
    if _WRAPPED in inspect.signature(pruner).parameters:
        inner = options.get(_WRAPPED)
        options[_WRAPPED] = None if inner is None else make_pruner(EarlyStop(str(inner)))
    inspect.signature(pruner).bind(**options)
    with warnings.catch_warnings():
        # That a pruner is experimental is no news to who named it.
        warnings.simplefilter("ignore")
        return pruner(**options)


def remembers(early_stop: EarlyStop) -> bool:
    """Whether what it decides hangs on what it was asked before, and not on the reported values alone."""
    return bool({early_stop.kind, early_stop.options.get(_WRAPPED)} & _REMEMBERING)


def _classes() -> dict[str, type[BasePruner]]:
    """The pruners of the installed Optuna, by their names here."""
    from optuna import pruners

    found = {}
    for name in pruners.__all__:
        if name.endswith("Pruner") and name != "BasePruner":
            words = re.findall(r"[A-Z][a-z]*", name.removesuffix("Pruner"))
            found["_".join(words).lower()] = getattr(pruners, name)
    return dict(sorted(found.items()))


def _built(key: str, early_stop: EarlyStop) -> EarlyStop:
    """The same, its numbers of the types Optuna wants, once it has been built."""
    kind, classes = early_stop.kind, _classes()
    if kind not in classes:
        raise ArgumentError(
            (key, "type"),
            f"{key}: there is no pruner {kind!r}{did_you_mean(kind, classes)}; the pruners are {listed(classes)}",
        )
    if kind == "wilcoxon" and find_spec("scipy") is None:
        raise ArgumentError(
            (key, "type"),
            f"{key}: wilcoxon needs scipy, which is not installed here; `pip install scipy`, or take median",
        )
    parameters = inspect.signature(classes[kind]).parameters
    options: dict[str, Scalar] = {}
    for name, value in early_stop.options.items():
        if name not in parameters:
            there_are = f"its options are {listed(parameters)}" if parameters else "it has none"
            hint = did_you_mean(name, parameters)
            raise ArgumentError((key, name), f"{key}: pruner {kind} has no option {name!r}{hint}; {there_are}")
        options[name] = _option(key, kind, name, str(parameters[name].annotation), value)
    built = EarlyStop(kind, options)
    try:
        make_pruner(built)
    except (TypeError, ValueError) as error:
        raise ArgumentError((key, "type"), f"{key}: {kind}: {str(error).rstrip('.')}") from error
    return built


def _option(key: str, kind: str, name: str, annotation: str, value: Scalar) -> Scalar:
    """The value as the option's annotation in Optuna wants it, which building the pruner does not check."""
    if (value is None and "None" in annotation) or (value == "auto" and "str" in annotation):
        return value
    if name == _WRAPPED:
        what = "the name of a pruner"
        if isinstance(value, str):
            return _built(key, EarlyStop(value)).kind
    else:
        what = "a number" if "float" in annotation else "a whole number"
        with contextlib.suppress(SpaceError):
            return as_number(value) if "float" in annotation else as_whole(value)
    also = ' or "auto"' if "str" in annotation else ""
    raise ArgumentError((key, name), f"{key}: pruner {kind}: {name} is {what}{also}, not {value!r}")


def _written(key: str, value: object) -> EarlyStop:
    if isinstance(value, str):
        return EarlyStop(value)
    if not isinstance(value, Mapping):
        raise ArgumentError((key,), f"{key} is {_FORM}, not {value!r}")
    kind = value.get("type")
    if not isinstance(kind, str):
        raise ArgumentError((key,), f"{key} needs the key type; write {_FORM}")
    options: dict[str, Scalar] = {}
    for name, given in value.items():
        if name == "type":
            continue
        try:
            options[str(name)] = as_scalar(given)
        except SpaceError as error:
            raise ArgumentError((key, str(name)), f"{key}, {name}: {error}") from error
    if kind == "hyperband" and not options.keys().isdisjoint(_WANDB_KEYS):
        return _of_wandb(key, options)
    return EarlyStop(kind, options)


def _of_wandb(key: str, options: Options) -> EarlyStop:
    """W&B's hyperband: at its first step, and at eta times that one and so on, the best of every eta trials go on.

    That is one bracket of Hyperband, which Optuna calls successive halving. The first step is `min_iter`, or what is
    left of `max_iter` divided by eta `s` times (wandb/sweeps, src/sweeps/hyperband_stopping.py, where `strict` has no
    effect either).
    """
    for name in options:
        if name not in _WANDB_KEYS:
            raise ArgumentError(
                (key, name),
                f"{key}: {name} cannot be combined with the keys of W&B's hyperband, {listed(_WANDB_KEYS)}; remove it, "
                "or use the options of Optuna's hyperband alone",
            )
    strict = options.get("strict", True)
    if not isinstance(strict, bool):
        raise ArgumentError((key, "strict"), f"{key}: strict is true or false, not {strict!r}")
    eta = _whole(key, options, "eta", 2) if "eta" in options else _WANDB_ETA
    if "max_iter" in options and "s" in options:
        first, rounds = _whole(key, options, "max_iter", 1), _whole(key, options, "s", 1)
        if first < eta:
            raise ArgumentError(
                (key, "max_iter"),
                f"{key}: max_iter {first} is less than eta {eta}, so no trial would ever be stopped; raise it",
            )
        while rounds > 0 and first >= eta:
            first, rounds = first // eta, rounds - 1
    elif "min_iter" in options:
        first = _whole(key, options, "min_iter", 1)
    else:
        raise ArgumentError((key,), f"{key}: W&B's hyperband needs min_iter, or max_iter and s; add it")
    return EarlyStop("successive_halving", {"min_resource": first, "reduction_factor": eta})


def _whole(key: str, options: Options, name: str, least: int) -> int:
    try:
        number = as_whole(options[name])
    except SpaceError as error:
        raise ArgumentError((key, name), f"{key}: {name} is a whole number, not {options[name]!r}") from error
    if number < least:
        raise ArgumentError((key, name), f"{key}: {name} is at least {least}, not {number}")
    return number
