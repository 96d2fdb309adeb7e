"""Early stopping: one of Optuna's pruners by name, with its options, or W&B's hyperband.

`EarlyStop` is a plain value that the store keeps. A pruner of Optuna's is checked by building it when a sweep is
declared with one; nothing else here needs Optuna, which is slow to import. Which trial is pruned, the pruner decides;
what W&B's hyperband decides (wandb/sweeps, src/sweeps/hyperband_stopping.py) is `Bands`.
"""

from __future__ import annotations

import inspect
import json
import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from raycolab.spec.values import ArgumentError, Refusals, as_count, as_number, as_scalar, as_whole, within
from raycolab.text import did_you_mean, listed
from raycolab.trials import Scalar

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

__all__ = ["Bands", "EarlyStop", "bands_of", "make_pruner", "read_early_stop", "remembers"]

# An option that is a pruner itself: its name here.
_WRAPPED = "wrapped_pruner"
_REMEMBERING = frozenset({"successive_halving", "hyperband"})
# What people call Optuna's successive halving, which works asynchronously.
_COMMON_NAMES = {"asha": "successive_halving"}
# The keys of W&B's hyperband that are numbers, and how many bands there are where nothing ends them.
_WANDB_WHOLE = ("min_iter", "max_iter", "s")
_WANDB_KEYS = (*_WANDB_WHOLE, "eta", "strict")
_MOST_BANDS = 100


class EarlyStop(msgspec.Struct, frozen=True):
    """Which of Optuna's pruners ends trials early, or W&B's hyperband, which has other options than Optuna's."""

    # its name in lower case, words joined: median, successive_halving
    kind: str
    # as Optuna calls them, or W&B
    options: Mapping[str, Scalar] = {}

    def __str__(self) -> str:
        options = listed(f"{name}={json.dumps(value)}" for name, value in sorted(self.options.items()))
        return f"{self.kind}({options})" if options else self.kind


class Bands(NamedTuple):
    """W&B's hyperband: at each band, a trial ends that is not among the best 1/eta of those that came so far.

    A band is a number of reports, whatever their steps; those that are no finite number are left out.
    """

    counts: tuple[int, ...]
    eta: float
    # judged by the report at the band, else by the best so far
    strict: bool

    def ends(self, history: Sequence[float], histories: Iterable[Sequence[float]]) -> bool:
        """Whether a trial with this history ends, by those of all trials, its own among them; less is better."""
        band = max((count for count in self.counts if count <= len(history)), default=0)
        if not band:
            return False
        at_band = sorted(each[band - 1] for each in histories if len(each) >= band)
        judged = history[band - 1] if self.strict else min(history)
        return judged > at_band[int(len(at_band) * (1.0 / self.eta))]


def read_early_stop(key: str, value: object, _: Mapping[str, object]) -> EarlyStop | None:
    """The pruner that is named, its numbers of the types Optuna wants; ArgumentError for one that cannot be built."""
    if value is None:
        return None
    with within(prefix=f"{key}: "):
        return _built(value if isinstance(value, EarlyStop) else _written(value))


def bands_of(early_stop: EarlyStop) -> Bands | None:
    """What W&B's hyperband looks at; None for a pruner of Optuna's."""
    options = early_stop.options
    if early_stop.kind != "hyperband" or options.keys().isdisjoint(_WANDB_KEYS):
        return None
    numbers = {name: as_number(value) for name, value in options.items() if name != "strict"}
    eta = numbers["eta"]
    counts: list[int] = []
    if "max_iter" in numbers:
        band: float = numbers["max_iter"]
        for _ in range(int(numbers["s"])):
            band /= eta
            if band < 1:
                break
            counts.append(int(band))
    else:
        band = numbers["min_iter"]
        while len(counts) < _MOST_BANDS and band < math.inf:
            counts.append(int(band))
            band *= eta
    return Bands(tuple(sorted(counts)), eta, bool(options["strict"]))


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
    return bool({early_stop.kind, early_stop.options.get(_WRAPPED)} & _REMEMBERING) and bands_of(early_stop) is None


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
    if kind == "hyperband" and not early_stop.options.keys().isdisjoint(_WANDB_KEYS):
        return _of_wandb(early_stop.options)
    with within("type"):
        if kind not in classes:
            hint = did_you_mean(kind, classes)
            raise ArgumentError(f"there is no pruner {kind!r}{hint}; the pruners are {listed(classes)}")
        if kind == "wilcoxon" and find_spec("scipy") is None:
            cure = "`pip install scipy`, or take median"
            raise ArgumentError(f"wilcoxon needs scipy, which is not installed here; {cure}")
    parameters = inspect.signature(classes[kind]).parameters
    options: dict[str, Scalar] = {}
    refusals = Refusals()
    for name, value in early_stop.options.items():
        with refusals.at(name):
            if name not in parameters:
                there_are = f"its options are {listed(parameters)}" if parameters else "it has none"
                hint = did_you_mean(name, parameters)
                raise ArgumentError(f"pruner {kind} has no option {name!r}{hint}; {there_are}")
            with within(prefix=f"pruner {kind}, {name}: "):
                options[name] = _option(name, str(parameters[name].annotation), value)
    refusals.raise_all()
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
        return EarlyStop(_COMMON_NAMES.get(value, value))
    if not isinstance(value, Mapping) or not isinstance(value.get("type"), str):
        form = "a pruner's name such as median, or a mapping such as {type: median, n_warmup_steps: 5}"
        raise ArgumentError(f"{form} is needed, not {value!r}")
    options: dict[str, Scalar] = {}
    refusals = Refusals()
    for name, given in value.items():
        if name != "type":
            with refusals.at(str(name), prefix=f"{name}: "):
                options[str(name)] = as_scalar(given)
    refusals.raise_all()
    kind = str(value["type"])
    return EarlyStop(_COMMON_NAMES.get(kind, kind), options)


def _of_wandb(given: Mapping[str, Scalar]) -> EarlyStop:
    """W&B's hyperband with its defaults; ArgumentError for what it would not run with, or would never end a trial."""
    options: dict[str, Scalar] = {"eta": 3, "strict": True}
    refusals = Refusals()
    for name, value in given.items():
        with refusals.at(name):
            if name in _WANDB_WHOLE:
                options[name] = as_count(name, value)
            elif name == "eta":
                with within(prefix="eta: "):
                    options[name] = as_number(value)
                if not as_number(value) > 1:
                    raise ArgumentError(f"eta is a number above 1, not {value!r}")
            elif name == "strict":
                if not isinstance(value, bool):
                    raise ArgumentError(f"strict is true or false, not {value!r}")
                options[name] = value
            else:
                cure = "remove it, or use the options of Optuna's hyperband alone"
                keys = f"the keys of W&B's hyperband, {listed(_WANDB_KEYS)}"
                raise ArgumentError(f"{name} cannot be combined with {keys}; {cure}")
    if "max_iter" in given and "s" not in given:
        refusals.add("W&B's hyperband needs s beside max_iter; add s, or remove max_iter", "max_iter")
    if given.keys().isdisjoint(("max_iter", "min_iter")):
        refusals.add("W&B's hyperband needs min_iter, or max_iter and s; add it")
    refusals.raise_all()
    if "max_iter" in options:
        # Which go before min_iter there.
        options.pop("min_iter", None)
    else:
        options.pop("s", None)
    found = EarlyStop("hyperband", options)
    bands = bands_of(found)
    if bands is None or not bands.counts:
        first, eta = options["max_iter"], options["eta"]
        problem = f"max_iter {first} is less than eta {eta}, so no trial would ever be stopped; raise it"
        raise ArgumentError(problem, ("max_iter",))
    return found
