"""Early stopping: one of Optuna's pruners by name, with its options, or W&B's hyperband.

`EarlyStop` is a plain value that the store keeps. A pruner is checked by building it when a sweep is declared with one;
nothing else here needs Optuna, which is slow to import. Which trial is pruned, the pruner decides.
"""

from __future__ import annotations

import inspect
import json
import re
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

import msgspec

from raycolab.spec.values import ArgumentError, as_count, as_number, as_scalar, as_whole, within
from raycolab.text import did_you_mean, listed
from raycolab.trials import Scalar

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

__all__ = ["EarlyStop", "make_pruner", "read_early_stop", "remembers"]

# An option that is a pruner itself: its name here.
_WRAPPED = "wrapped_pruner"
_REMEMBERING = frozenset({"successive_halving", "hyperband"})
# The keys of W&B's hyperband, and the least number that each may be.
_WANDB_LEAST: Mapping[str, int] = {"min_iter": 1, "max_iter": 1, "s": 1, "eta": 2}
_WANDB_KEYS = (*_WANDB_LEAST, "strict")
# The default of W&B's schema.
_WANDB_ETA = 3


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
    with within(prefix=f"{key}: "):
        return _built(value if isinstance(value, EarlyStop) else _written(value))


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


def _built(early_stop: EarlyStop) -> EarlyStop:
    """The same, its numbers of the types Optuna wants, once it has been built."""
    kind, classes = early_stop.kind, _classes()
    with within("type"):
        if kind not in classes:
            hint = did_you_mean(kind, classes)
            raise ArgumentError(f"there is no pruner {kind!r}{hint}; the pruners are {listed(classes)}")
        if kind == "wilcoxon" and find_spec("scipy") is None:
            cure = "`pip install scipy`, or take median"
            raise ArgumentError(f"wilcoxon needs scipy, which is not installed here; {cure}")
    parameters = inspect.signature(classes[kind]).parameters
    options: dict[str, Scalar] = {}
    for name, value in early_stop.options.items():
        with within(name):
            if name not in parameters:
                there_are = f"its options are {listed(parameters)}" if parameters else "it has none"
                hint = did_you_mean(name, parameters)
                raise ArgumentError(f"pruner {kind} has no option {name!r}{hint}; {there_are}")
            with within(prefix=f"pruner {kind}, {name}: "):
                options[name] = _option(name, str(parameters[name].annotation), value)
    built = EarlyStop(kind, options)
    try:
        make_pruner(built)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{kind}: {str(error).rstrip('.')}", ("type",)) from error
    return built


def _option(name: str, annotation: str, value: Scalar) -> Scalar:
    """The value as the option's annotation in Optuna wants it, which building the pruner does not check."""
    if (value is None and "None" in annotation) or (value == "auto" and "str" in annotation):
        return value
    if name == _WRAPPED:
        if not isinstance(value, str):
            raise ArgumentError(f"the name of a pruner is needed, not {value!r}")
        return _built(EarlyStop(value)).kind
    with within(prefix='"auto" or ' if "str" in annotation else ""):
        return as_number(value) if "float" in annotation else as_whole(value)


def _written(value: object) -> EarlyStop:
    if isinstance(value, str):
        return EarlyStop(value)
    if not isinstance(value, Mapping) or not isinstance(value.get("type"), str):
        form = "a pruner's name such as median, or a mapping such as {type: median, n_warmup_steps: 5}"
        raise ArgumentError(f"{form} is needed, not {value!r}")
    options: dict[str, Scalar] = {}
    for name, given in value.items():
        if name != "type":
            with within(str(name), prefix=f"{name}: "):
                options[str(name)] = as_scalar(given)
    if value["type"] == "hyperband" and not options.keys().isdisjoint(_WANDB_KEYS):
        return _of_wandb(options)
    return EarlyStop(value["type"], options)


def _of_wandb(options: Mapping[str, Scalar]) -> EarlyStop:
    """W&B's hyperband: at its first step, and at eta times that one and so on, the best of every eta trials go on.

    That is one bracket of Hyperband, which Optuna calls successive halving. The first step is `min_iter`, or what is
    left of `max_iter` divided by eta `s` times (wandb/sweeps, src/sweeps/hyperband_stopping.py, where `strict` has no
    effect either).
    """
    numbers = {"eta": _WANDB_ETA}
    for name, value in options.items():
        with within(name):
            if name in _WANDB_LEAST:
                numbers[name] = as_count(name, value, _WANDB_LEAST[name])
            elif name != "strict":
                cure = "remove it, or use the options of Optuna's hyperband alone"
                keys = f"the keys of W&B's hyperband, {listed(_WANDB_KEYS)}"
                raise ArgumentError(f"{name} cannot be combined with {keys}; {cure}")
            elif not isinstance(value, bool):
                raise ArgumentError(f"strict is true or false, not {value!r}")
    eta = numbers["eta"]
    if "max_iter" in numbers and "s" in numbers:
        first, rounds = numbers["max_iter"], numbers["s"]
        if first < eta:
            problem = f"max_iter {first} is less than eta {eta}, so no trial would ever be stopped; raise it"
            raise ArgumentError(problem, ("max_iter",))
        while rounds > 0 and first >= eta:
            first, rounds = first // eta, rounds - 1
    elif "min_iter" in numbers:
        first = numbers["min_iter"]
    else:
        raise ArgumentError("W&B's hyperband needs min_iter, or max_iter and s; add it")
    return EarlyStop("successive_halving", {"min_resource": first, "reduction_factor": eta})
