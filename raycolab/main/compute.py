"""What goes into `compute` and what comes out: its arguments, its reports, its metrics. Calling it is `runtime`.

`compute(model, dataset, **params)`, or any subset of these names, or one `config` dict; arguments are bound by name. A
number that it returns is the sweep's metric; a dict of scalars holds the metric among others. Whatever leaves is plain:
str, int, float, bool or None of exactly these types. numpy's scalars and 0-d tensors are numbers, and a number that no
float can hold is infinite. NaN and infinities are numbers too: the trial is complete, and never the best.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import inspect
import math
import numbers
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from raycolab.errors import MainError
from raycolab.main.source import bound_names, executed, magics
from raycolab.trials import Config, Metric, Scalar

__all__ = [
    "BadReturnError",
    "ComputeSignature",
    "Sink",
    "TrialPruned",
    "is_pruned",
    "metrics_of",
    "nested",
    "read_signature",
    "report",
    "reporting",
    "scalar_of",
    "signature_of",
]

MAX_STEPS = 1 << 63  # what a database's whole numbers hold
_CONFIG = "config"


# --- arguments -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ComputeSignature:
    """The arguments `compute` can be given by name."""

    names: tuple[str, ...]  # in order, as written
    required: frozenset[str]  # those without a default; `config` is not among them where `whole_config` holds
    accepts_any: bool = False  # has **kwargs, or cannot be read without running MAIN
    whole_config: bool = False  # a parameter `config` takes the configuration as one dict
    is_decorated: bool = False  # the names are those of what a decorator wraps, which may supply and take others

    def arguments(self, model: str, dataset: str, config: Config) -> dict[str, object]:
        """The keyword arguments of one trial; `a/b` arrives nested, as `a={"b": ...}`.

        `model` and `dataset` are given where they are asked for, every parameter of the configuration always, and one
        that is called so goes before. Lists and dicts are the trial's own.
        The one dict of `whole_config` holds the parameters, and `model` and `dataset` unless they have names of
        their own; a space with a parameter called `config` binds that instead.
        """
        parameters = nested(config)
        pair = {key: each for key, each in (("model", model), ("dataset", dataset)) if key not in parameters}
        if self.whole_config and _CONFIG not in parameters:
            whole = parameters | {key: value for key, value in pair.items() if key not in self.names}
            given = {key: value for key, value in (parameters | pair).items() if key in self.names}
            return given | {_CONFIG: whole}
        return parameters | {key: value for key, value in pair.items() if self.accepts_any or key in self.names}


def nested(config: Config) -> dict[str, object]:
    """`{"a/b": 1, "c": 2}` as `{"a": {"b": 1}, "c": 2}`."""
    result: dict[str, object] = {}
    for name, value in config.items():
        *outer, last = name.split("/")
        place = result
        for part in outer:
            inner = place.setdefault(part, {})
            if not isinstance(inner, dict):
                raise ValueError(f"the configuration gives {part!r} a value and also {name!r} inside it")
            place = inner
        place[last] = copy.deepcopy(value)
    return result


def signature_of(compute: Callable[..., object], written: ComputeSignature | None = None) -> ComputeSignature:
    """The signature of a loaded `compute`; one that Python does not know accepts anything.

    What a decorator made counts by what it takes itself. Where that is anything, the names are those of what it wraps,
    or of the definition as `written` in MAIN.
    """
    own = _parameters(compute, follow_wrapped=False)
    if own is not None and not own.accepts_any:
        return own.signature()
    if hasattr(compute, "__wrapped__"):
        wrapped = _parameters(compute, follow_wrapped=True)
        inner = None if wrapped is None else wrapped.signature(is_decorated=True)
    else:
        inner = written if written is not None and written.is_decorated else None
    if own is None or inner is None:
        return inner or (_ANYTHING if own is None else own.signature())
    outer = own.signature()
    names = tuple(dict.fromkeys([*outer.names, *inner.names]))
    return replace(inner, names=names, required=outer.required, whole_config=_CONFIG in names)


@dataclass(frozen=True, slots=True)
class _Parameters:
    """What a callable takes."""

    by_position_only: Sequence[str]
    by_name: Mapping[str, bool]  # whether it has a default
    accepts_any: bool  # has **kwargs

    def signature(self, *, is_decorated: bool = False) -> ComputeSignature:
        """As it can be called by name; MainError where it cannot. A decorator may supply what is needed."""
        names = tuple(self.by_name)
        if is_decorated:
            return ComputeSignature(names, frozenset(), self.accepts_any, _CONFIG in names, is_decorated=True)
        if self.by_position_only:
            raise MainError(
                f"`compute` takes {', '.join(f'`{name}`' for name in self.by_position_only)} by position only, and"
                " raycolab gives every argument by name: remove the `/` from its signature."
            )
        required = {name for name, has_default in self.by_name.items() if not has_default}
        return ComputeSignature(names, frozenset(required - {_CONFIG}), self.accepts_any, _CONFIG in names)


def _parameters(compute: Callable[..., object], *, follow_wrapped: bool) -> _Parameters | None:
    """What a callable takes, itself or what its decorators wrap; None where Python does not know."""
    try:
        parameters = inspect.signature(compute, follow_wrapped=follow_wrapped).parameters.values()
    except (TypeError, ValueError):  # callables written in C
        return None
    kinds = inspect.Parameter
    return _Parameters(
        [item.name for item in parameters if item.kind is kinds.POSITIONAL_ONLY],
        {
            item.name: item.default is not kinds.empty
            for item in parameters
            if item.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
        },
        any(item.kind is kinds.VAR_KEYWORD for item in parameters),
    )


def read_signature(trees: Iterable[ast.Module]) -> ComputeSignature | None:
    """The signature of the last `compute` that running these cells in order defines; None where none does.

    A `compute` that is imported, assigned or comes with `import *` or `%run` accepts anything until it is loaded.
    Raises MainError for one that takes arguments by position only.
    """
    found: ast.arguments | None = None
    decorated = False
    by_lambda: ast.arguments | None = None  # of an assignment, whose target comes next
    somehow = certain = False
    for node in (node for tree in trees for node in executed(tree, into_classes=False)):
        match node:
            case ast.FunctionDef(name="compute") | ast.AsyncFunctionDef(name="compute"):
                found, certain, decorated = node.args, True, bool(node.decorator_list)
            case ast.Assign(targets=[ast.Name(id="compute")], value=ast.Lambda(args=arguments)):
                by_lambda = arguments
            case ast.alias(name="*"):
                somehow = True
            case ast.Module():
                somehow = somehow or any(magic.name in ("run", "load") for magic in magics(node))
            case _ if "compute" in bound_names(node):
                found, by_lambda, certain, decorated = by_lambda, None, True, False
    if found is not None:
        return _written(found).signature(is_decorated=decorated)
    return _ANYTHING if certain or somehow else None


_ANYTHING = ComputeSignature((), frozenset(), accepts_any=True)


def _written(arguments: ast.arguments) -> _Parameters:
    plain = arguments.args
    required = plain[: max(len(plain) - len(arguments.defaults), 0)]
    by_name = {item.arg: item not in required for item in plain}
    for item, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        by_name[item.arg] = default is not None
    return _Parameters([item.arg for item in arguments.posonlyargs], by_name, arguments.kwarg is not None)


# --- reports ---------------------------------------------------------------------------------------------------------

Sink = Callable[[int, float], bool]
"""Takes (step, value); True: the trial is to end."""


class TrialPruned(Exception):  # noqa: N818 - Optuna's name for it
    """The sweep has seen enough of this trial; let it through, or catch it to clean up and raise it again."""


# One trial runs in a process at a time.
_sink: Sink | None = None
_last: float | None = None


def report(step: int, value: float) -> None:
    """Tell the sweep the metric after `step` (counted from 0 or 1, as you like); raises TrialPruned to end the trial.

    It returns at once: whether the trial is to end is learnt later and raised by the next report. A step reported twice
    has the later value. Nothing happens where no sweep runs the trial, so MAIN stays the notebook it was. TypeError
    where `step` is not a whole number or `value` not a number.
    """
    number = scalar_of(value)
    if not isinstance(step, numbers.Integral) or not 0 <= step < MAX_STEPS:
        raise TypeError(
            f"report(step, value) takes a whole number from 0 to {MAX_STEPS - 1} as the step, not {step!r}."
        )
    if isinstance(number, str) or number is None:
        raise TypeError(f"report(step, value) takes one number as the value, not {type(value).__name__}.")
    if _sink is None:
        return
    global _last
    _last = float(number)
    if _sink(int(step), _last):
        raise TrialPruned(f"pruned after step {step}")


@contextlib.contextmanager
def reporting(sink: Sink | None) -> Iterator[Callable[[], float | None]]:
    """Have `report` call `sink` in the block; gives a function for the value reported last, None before the first."""
    global _sink, _last
    _sink, _last = sink, None
    try:
        yield lambda: _last
    finally:
        _sink = None


def is_pruned(error: BaseException) -> bool:
    """Whether an exception means that the trial was pruned: ours, or the one of Optuna that code brings along."""
    kind = type(error)
    return isinstance(error, TrialPruned) or (kind.__name__, kind.__module__) == ("TrialPruned", "optuna.exceptions")


# --- metrics ---------------------------------------------------------------------------------------------------------


class BadReturnError(Exception):
    """`compute` returned something no metric can be read from; the text names it and what to return."""


def metrics_of(value: object, metric: Metric) -> dict[str, Scalar]:
    """The metrics in what `compute` returned, the sweep's own always among them."""
    wanted = f"return the number {metric.name!r}, or a dict of numbers that has it"
    if not isinstance(value, Mapping):
        number = scalar_of(value)
        if not _is_number(number):
            raise BadReturnError(f"compute returned {_described(value)}; {wanted}.")
        return {metric.name: number}
    metrics: dict[str, Scalar] = {}
    for name, item in value.items():
        if not isinstance(name, str):
            raise BadReturnError(f"compute returned a dict with the key {name!r}; {wanted}, its keys being strings.")
        scalar = scalar_of(item)
        if scalar is None and item is not None:
            raise BadReturnError(f"compute returned {_described(item)} as {name!r}; {wanted}, each value one number.")
        metrics[str.__str__(name)] = scalar
    if metric.name not in metrics:
        names = ", ".join(repr(name) for name in metrics) or "nothing"
        raise BadReturnError(f"compute returned a dict without {metric.name!r} (it has {names}); {wanted}.")
    if not _is_number(metrics[metric.name]):
        raise BadReturnError(f"compute returned {_described(value[metric.name])} as {metric.name!r}; {wanted}.")
    return metrics


def scalar_of(value: object) -> Scalar:
    """The plain scalar `value` stands for; None where it stands for none."""
    if type(value).__name__ == "str_" or _is_zero_dimensional(value):
        value = value.item() if hasattr(value, "item") else value.numpy().item()  # type: ignore[attr-defined]
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)  # a class of MAIN's own, such as a string enumeration, stays in its process
    if isinstance(value, numbers.Real) or type(value).__name__ == "Decimal":
        return _plain_number(value)
    return None


def _plain_number(value: object) -> int | float:
    """A Real or a Decimal as an int or a float, infinite where no float can hold it."""
    try:
        nearest = float(value)  # type: ignore[arg-type]  # also Fraction, and whatever registers as Real
    except OverflowError:
        return math.copysign(math.inf, 1 if value > 0 else -1)  # type: ignore[operator]  # they compare with numbers
    return int(value) if isinstance(value, numbers.Integral) else nearest


def _is_number(scalar: Scalar) -> bool:
    return isinstance(scalar, bool | int | float)


def _is_zero_dimensional(value: object) -> bool:
    """numpy's scalars and arrays and the tensors of every framework that have one value and no axis."""
    shape = getattr(value, "shape", None)
    try:
        return shape is not None and len(shape) == 0 and (hasattr(value, "item") or hasattr(value, "numpy"))
    except (TypeError, ValueError):  # a shape that is not known, or not a shape
        return False


def _described(value: object) -> str:
    """`None`, `the text 'abc'`, `a numpy.ndarray of shape (3,)`."""
    if value is None:
        return "None"
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    kind = type(value)
    is_plain = kind.__module__ in ("builtins", "__main__")
    name = kind.__qualname__ if is_plain else f"{kind.__module__}.{kind.__qualname__}"
    shape = getattr(value, "shape", None)
    size = f" of length {len(value)}" if isinstance(value, list | tuple | set) else ""
    article = "an" if name[0] in "aeiouAEIOU" else "a"
    return f"{article} {name}" + (f" of shape {tuple(shape)}" if isinstance(shape, tuple) else size)
