"""Optuna's pruners by name, their options checked before a sweep begins. Which trial is pruned, they decide."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Mapping
from importlib.util import find_spec

from optuna import pruners

from raycolab.errors import SpaceError, UsageError
from raycolab.spec.pruners import EarlyStop
from raycolab.spec.values import as_number, as_whole
from raycolab.text import did_you_mean, listed
from raycolab.trials import Scalar

__all__ = ["PrunerError", "checked", "make_pruner", "pruner_names", "remembers"]

_WRAPPED = "wrapped_pruner"  # an option that is a pruner itself: its name here
_REMEMBERING = frozenset({"successive_halving", "hyperband"})


class PrunerError(UsageError):
    """There is no such pruner, or its options cannot be used; `option` names the one, None means the pruner."""

    def __init__(self, problem: str, option: str | None = None) -> None:
        super().__init__(problem)
        self.option = option


def pruner_names() -> tuple[str, ...]:
    """The names of the pruners that the installed Optuna has."""
    return tuple(_classes())


def checked(early_stop: EarlyStop) -> EarlyStop:
    """The same, its numbers of the types Optuna wants; PrunerError where it cannot be made."""
    found = EarlyStop(early_stop.kind, _checked_options(early_stop))
    make_pruner(found)
    return found


def make_pruner(early_stop: EarlyStop) -> pruners.BasePruner:
    """A new pruner of Optuna's; PrunerError where it cannot be made."""
    options: dict[str, object] = dict(_checked_options(early_stop))
    if _WRAPPED in _parameters(early_stop.kind):
        inner = options.get(_WRAPPED)
        options[_WRAPPED] = None if inner is None else make_pruner(EarlyStop(str(inner)))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is experimental, which a name in a sweep need not hear
            return _classes()[early_stop.kind](**options)
    except (TypeError, ValueError) as error:
        raise PrunerError(f"{early_stop.kind}: {str(error).rstrip('.')}") from error


def remembers(early_stop: EarlyStop) -> bool:
    """Whether what it decides hangs on what it was asked before, and not on the reported values alone."""
    return bool({early_stop.kind, early_stop.options.get(_WRAPPED)} & _REMEMBERING)


def _classes() -> dict[str, type[pruners.BasePruner]]:
    found = {}
    for name in pruners.__all__:
        if name.endswith("Pruner") and name != "BasePruner":
            words = re.findall(r"[A-Z][a-z]*", name.removesuffix("Pruner"))
            found["_".join(words).lower()] = getattr(pruners, name)
    return dict(sorted(found.items()))


def _parameters(kind: str) -> Mapping[str, inspect.Parameter]:
    if kind not in _classes():
        hint = did_you_mean(kind, _classes())
        raise PrunerError(f"there is no pruner {kind!r}{hint}; pruners are {listed(_classes())}")
    if kind == "wilcoxon" and find_spec("scipy") is None:
        raise PrunerError("wilcoxon needs scipy, which is not installed here; `pip install scipy`, or take median")
    parameters = inspect.signature(_classes()[kind]).parameters
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: parameter for name, parameter in parameters.items() if parameter.kind in named}


def _checked_options(early_stop: EarlyStop) -> dict[str, Scalar]:
    parameters = _parameters(early_stop.kind)
    for name in early_stop.options:
        if name not in parameters:
            there_are = f"its options are {listed(parameters)}" if parameters else "it has none"
            hint = did_you_mean(name, parameters)
            raise PrunerError(f"pruner {early_stop.kind} has no option {name!r}{hint}; {there_are}", name)
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name != _WRAPPED and name not in early_stop.options:
            raise PrunerError(f"pruner {early_stop.kind} needs the option {name}; add it")
    return {
        name: _checked_option(early_stop.kind, name, str(parameters[name].annotation), value)
        for name, value in early_stop.options.items()
    }


def _checked_option(kind: str, name: str, annotation: str, value: Scalar) -> Scalar:
    """The value as the option's annotation in Optuna wants it."""
    if name == _WRAPPED and isinstance(value, str):
        return checked(EarlyStop(value)).kind
    if (value is None and "None" in annotation) or (value == "auto" and "str" in annotation):
        return value
    if name == _WRAPPED:
        raise PrunerError(f"pruner {kind}: {name} is the name of a pruner, not {value!r}", name)
    try:
        return as_number(value) if "float" in annotation else as_whole(value)
    except SpaceError as error:
        also = ' or "auto"' if "str" in annotation else ""
        what = "a number" if "float" in annotation else "a whole number"
        raise PrunerError(f"pruner {kind}: {name} is {what}{also}, not {value!r}", name) from error
